"""What heatshield promises to type checkers, on a file of a user's."""

import ast
import subprocess
import sys
from pathlib import Path

import heatshield

USER_SERVICE = Path(__file__).parents[1] / "typing" / "user_service.py"


def test_a_users_file_passes_mypy_strict(tmp_path):
    """Without this project's own settings, from another folder: as the user has it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
            *("--cache-dir", str(tmp_path / "cache"), str(USER_SERVICE)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_that_file_uses_every_public_name():
    used = {
        name
        for node in ast.walk(ast.parse(USER_SERVICE.read_text(encoding="utf-8")))
        for name in (getattr(node, "attr", None), getattr(node, "id", None))
    }
    assert set(heatshield.__all__) <= used
