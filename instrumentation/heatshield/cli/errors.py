"""What a command can fail with: one line for people on stderr, and an exit code for scripts.

Exit codes of every command:

* 0: done.
* 1: could not be done: no collector answers, it refused, what was asked for is not there.
* 2: the command was called wrongly.
* 126, 127: ``heatshield run`` could not start the command (not executable, not found).

::

    CliError
    +-- CollectorUnreachable    nothing answers there: start a collector, or name the right one
    +-- ApiError                the collector answered, with an error
"""

__all__ = ["ApiError", "CliError", "CollectorUnreachable"]


class CliError(Exception):
    """A command could not do what it was asked to. The text is for people and says what to do.

    Attributes:
        exit_code: what the process exits with.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CollectorUnreachable(CliError):  # noqa: N818  names what happened, as BreakerOpen does
    """No collector answers at the endpoint."""

    def __init__(self, endpoint: str, cause: str) -> None:
        super().__init__(
            f"no collector answers at {endpoint}: start one with `heatshield up` ({cause})"
        )
        self.endpoint = endpoint
        self.cause = cause


class ApiError(CliError):
    """The collector answered with an error.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
