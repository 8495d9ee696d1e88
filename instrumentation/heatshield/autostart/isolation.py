"""Recognises commands that ``heatshield run`` can't instrument, by their arguments.

Python does not run our ``sitecustomize`` if it ignores the environment (``-E``), is isolated
(``-I``) or does not import ``site`` (``-S``); a command that sets ``PYTHONPATH`` removes it.
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
_ISOLATING_FLAGS: Final = "EIS"
_WITH_ARGUMENT: Final = "WX"
_PROGRAM: Final = "cm"
"""Flags ``-c`` and ``-m``: all arguments after them are the program's."""

MAX_SHEBANG: Final = 256
"""Bytes of a script's first line that Linux reads."""


def obstacle(program: str, arguments: Sequence[str]) -> str | None:
    """Return why a command will run without instrumentation, as the start of a sentence.

    ``None`` means that there is no known obstacle.

    Args:
        program: path of the executable; of a script the first line is read.
        arguments: the program's arguments.
    """
    words = [*_interpreter_of(program), program, *arguments]
    for word in words:
        if _RESETS_PATH.search(word):
            return "the command replaces PYTHONPATH"
    for place, word in enumerate(words):
        if _INTERPRETER.fullmatch(Path(word).name):
            flag = _isolating_flag(words[place + 1 :])
            return None if flag is None else f"python -{flag} does not read PYTHONPATH"
    return None


def _isolating_flag(words: Sequence[str]) -> str | None:
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in {"-", "--"}:
            return None
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, None)
            continue
        for place, flag in enumerate(word[1:], 2):
            if flag in _ISOLATING_FLAGS:
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
