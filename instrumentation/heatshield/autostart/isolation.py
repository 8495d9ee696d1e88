"""Commands that ``heatshield run`` can't reach into, told by their words before they start.

Python reads ``PYTHONPATH`` unless it is told to mind no environment (``-E``), to be isolated
(``-I``) or to import no ``site`` (``-S``); and who sets the variable anew overwrites ours.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["obstacle"]

_INTERPRETER: Final = re.compile(r"(python|pypy)[\d.]*t?(\.exe)?")
_RESETS_PATH: Final = re.compile(r"\bPYTHONPATH=(?!\S*\$\{?PYTHONPATH)")
_DEAF: Final = "EIS"
_WITH_ARGUMENT: Final = "WX"
_PROGRAM: Final = "cm"
"""After ``-c`` and ``-m`` the words are the program's."""

MAX_SHEBANG: Final = 256
"""Bytes of a script's first line that Linux looks at."""


def obstacle(program: str, arguments: Sequence[str]) -> str | None:
    """Why a command will run without instrumentation, as a sentence's beginning; or ``None``.

    Args:
        program: the path of what is to be executed; a script's first line is read.
        arguments: its own.
    """
    words = [*_interpreter_of(program), program, *arguments]
    for word in words:
        if _RESETS_PATH.search(word):
            return "the command sets PYTHONPATH anew"
    for place, word in enumerate(words):
        if _INTERPRETER.fullmatch(Path(word).name):
            flag = _deaf_flag(words[place + 1 :])
            return None if flag is None else f"python -{flag} does not read PYTHONPATH"
    return None


def _deaf_flag(words: Sequence[str]) -> str | None:
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in {"-", "--"}:
            return None
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for place, flag in enumerate(word[1:], 2):
            if flag in _DEAF:
                return flag
            if flag in _PROGRAM:
                return None
            if flag in _WITH_ARGUMENT:
                if place == len(word):
                    next(rest, None)
                break
    return None


def _interpreter_of(program: str) -> list[str]:
    with suppress(OSError, ValueError):
        with Path(program).open("rb") as file:
            line = file.readline(MAX_SHEBANG)
        if line.startswith(b"#!"):
            return shlex.split(line[2:].decode("utf-8", "replace"))
    return []
