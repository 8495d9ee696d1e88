"""The simplest ack: it keeps what it is told, on the thread that tells it."""

from heatshield_collector.intake.payload import Accepted, IntakeError


class RecordingAck:
    """``answers`` has every answer that was given; there should be one."""

    def __init__(self) -> None:
        self.answers: list[Accepted | IntakeError] = []

    def accept(self, accepted: Accepted) -> None:
        self.answers.append(accepted)

    def refuse(self, error: IntakeError) -> None:
        self.answers.append(error)
