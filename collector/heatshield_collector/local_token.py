"""The token that a collector leaves in its data folder for the command line of its own user."""

import os
import secrets
import tempfile
from pathlib import Path

from heatshield import names

__all__ = ["leave_token"]


def leave_token(data: Path) -> str:
    """Write a new token into the data folder, for its owner alone (mode 0600), and return it.

    It is new at each start, so a copy of the folder, a backup for instance, proves nothing.

    Raises:
        OSError: if the folder can't be written to.
    """
    # The port is that of a collector that was killed; nobody is to be sent the new token there.
    (data / names.ADMIN_PORT_FILE).unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    descriptor, fresh = tempfile.mkstemp(dir=data, prefix=".")  # it makes files of mode 0600
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    Path(fresh).replace(data / names.ADMIN_TOKEN_FILE)
    return token
