"""Errors of the commands: each is one line on stderr and an exit code.

Exit codes of every command:

* 0: success.
* 1: failure: no collector answers, the collector refuses, or the request or breaker is not found.
* 2: wrong usage.
* 126, 127: ``heatshield run`` can't start the command (not executable, not found).

::

    CliError
    +-- CollectorUnreachable    no collector answers: start one, or correct the endpoint
    +-- ApiError                the collector answered with an error
"""

__all__ = ["ApiError", "CliError", "CollectorUnreachable"]


class CliError(Exception):
    """A command failed. The message tells the user what to do.

    Attributes:
        exit_code: exit code of the process.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CollectorUnreachable(CliError):  # noqa: N818  named after the event, as BreakerOpen is
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
