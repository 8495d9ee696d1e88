"""Whether one log line repeats another, or only quotes it.

A record that a handler hands on to another library may be formatted on its way: time, level and
logger before the text, fields or a stack behind it, or all of it as JSON. A handler that has
something to say about a record (``could not ship: bought seven``) quotes its text among words of
its own.
"""

import json
import re
from typing import Final

__all__ = ["repeats"]

SURE_LENGTH: Final = 8
"""Characters of a text that is hardly part of another by chance."""

_BRACKETS: Final = re.compile(r"\[[^\[\]]*\]|<[^<>]*>")
"""What a format has in brackets may be anything: a process, a module, the service's name."""

_PATH: Final = re.compile(r"\S+[./_:]\S+|\b\w*\d\w*\b|\S*-?[Tt]hread\S*")
"""A logger, a file, a place in the code, a time, a process, a thread."""

_WORD: Final = re.compile(r"[^\W\d_]{2,}")

_FORMAT_WORD: Final = re.compile(
    r"trace|debug|info|success|notice|warn|warning|err|error|fatal|critical|exception|"
    r"mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|utc|gmt|am|pm|"
    r"event|message|msg|text|level|levelname|severity|logger|name|time|timestamp|asctime|ts",
    re.IGNORECASE,
)
"""Words of formats, of levels and dates."""

_BEHIND: Final = re.compile(
    r"""[\s'"\])}|,;]*                                # what closes a text
    (?:[\w.\-@]+=(?:'[^']*'|"[^"]*"|\S*)[\s,]*)*      # fields
    (?:\n.*)?                                         # a stack""",
    re.VERBOSE | re.DOTALL,
)

_TEXT_KEYS: Final = ("event", "message", "msg", "text")
"""Where JSON has the text of a record."""


def repeats(line: str, text: str, loggers: str = "") -> bool:
    """Whether ``line`` is ``text``, perhaps formatted.

    Args:
        line: what is written, perhaps by a formatter.
        text: of the record that is handled meanwhile.
        loggers: names that may stand in the line.
    """
    if line == text:
        return True
    if line.startswith("{"):
        return _is_json_of(line, text)
    if not text or (len(text) < SURE_LENGTH and not line.endswith(text)):
        return False
    before, found, behind = line.partition(text)
    return bool(found) and _is_format(before, loggers) and _BEHIND.fullmatch(behind) is not None


def _is_json_of(line: str, text: str) -> bool:
    try:
        fields = json.loads(line)
    except ValueError:
        return False
    if not isinstance(fields, dict):
        return False
    within = fields.get("record")  # loguru's
    found = [fields.get(key) for key in _TEXT_KEYS]
    return text in found or (isinstance(within, dict) and within.get("message") == text)


def _is_format(before: str, loggers: str) -> bool:
    """Whether the beginning of a line is made by a format, and is no sentence."""
    for pattern in (_BRACKETS, _PATH):
        before = pattern.sub(" ", before)
    own = _WORD.findall(loggers)
    return all(word in own or _FORMAT_WORD.fullmatch(word) for word in _WORD.findall(before))
