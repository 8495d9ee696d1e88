"""A committer that keeps what it is given, and a counter that keeps what was refused."""

from heatshield_collector.intake.payload import Accepted, Payload


class RecordingCommitter:
    """Answers as told: ``answer`` is returned, or raised when it is an exception."""

    def __init__(self, answer: Accepted | BaseException | None = None) -> None:
        self.answer = answer or Accepted()
        self.payloads: list[Payload] = []
        self.refused_causes: list[str] = []

    async def submit(self, payload: Payload) -> Accepted:
        self.payloads.append(payload)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def refused(self, cause: str) -> None:
        self.refused_causes.append(cause)
