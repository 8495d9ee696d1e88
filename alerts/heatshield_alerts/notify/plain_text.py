"""Texts from outside as a chat, a pager or a mail may show them.

User ids come from requests. In a message one must not notify a whole channel (``<!channel>``,
``@here``), hide a link behind another text, make a line of its own, or turn the text around
(U+202E).
"""

import re
import unicodedata
from typing import Final

__all__ = ["MAX_FIELD", "MAX_SENTENCE", "quoted", "unmarked"]

MAX_FIELD: Final = 200
"""Characters of a text shown; user ids come from outside."""

MAX_SENTENCE: Final = 600
"""The same of a sentence in which several of them stand."""

_LINE_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MENTION: Final = re.compile(
    r"(?<![A-Za-z0-9])@|@(?=(?:here|channel|everyone|all|room)\b)", re.IGNORECASE
)
"""Not the @ of a mail address, which many user ids are."""
_ANGLES: Final = str.maketrans({"<": "‹", ">": "›"})  # noqa: RUF001 - meant so
_FORMATS: Final = ("Cf", "Cs", "Co", "Cn")
"""Categories of characters that are not seen, or change how others are: bidirectional controls,
zero-width ones, lone surrogates, private and unassigned ones."""


def unmarked(text: str, most: int = MAX_FIELD) -> str:
    """On one line, without mentions, marked-up links and characters that are not seen.

    Args:
        text: from outside.
        most: characters that are shown.
    """
    line = _LINE_BREAKS.sub(" ", text)
    seen = "".join("\ufffd" if unicodedata.category(one) in _FORMATS else one for one in line)
    bare = _MENTION.sub("＠", seen.translate(_ANGLES)).replace("](", "] (")  # noqa: RUF001 - the full-width @ is meant
    return bare if len(bare) <= most else f"{bare[: most - 1]}…"


def quoted(text: str, most: int = MAX_FIELD) -> str:
    """A text that comes wholly from outside: nothing in it becomes a link, either."""
    return unmarked(text, most).replace("://", "[:]//")
