"""Secrets that a text assigns to a name: ``password=x``, ``"token": "x"``, ``--secret x``. Pure.

Texts assign in many ways: settings, JSON within JSON, forms (``user[password]=x``), connection
strings (``;Password=x;``), Python's dictionaries and tuples of headers, command lines. All of them
have a name, something between, and a value. So names are looked for, whether one is secret is asked
of whoever knows names, and the value of one that is gives way, in whatever quotes it stands.
"""

import re
from collections.abc import Callable, Iterator
from re import Match
from typing import Final

__all__ = ["without_assigned"]

_NAME: Final = re.compile(
    r"""(?<![\w])(?P<name>
        (?:(?:api|secret|access|private|signing|auth)\ )? [A-Za-z_][\w.\-\[\]%]{0,127}+ )
    (?P<between>
          >(?=[^<\s])
        | \\*["']?\]?\s{0,4}+(?:=>|:=|[=:]+)\s{0,4}+
        | (?<!,)\\*["']\s{0,4}+,\s{0,4}+(?=b?\\*["']) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FLAG: Final = re.compile(
    r"""(?<![\w-])--(?P<name>[A-Za-z][\w.-]{1,63}+)(?P<between>(?:["'],)?[ \t]{1,4}+)(?!-)"""
)
_GLUED: Final = r"(?:\w[^\s,;)}\]&<>]*+)?+"
"""What goes on right after a quote was not its end: texts are escaped once and again."""

_DOUBLE: Final = rf'b?"(?:[^"\\]|\\.)*+(?:"|\Z){_GLUED}'
_SINGLE: Final = rf"b?'(?:[^'\\]|\\.)*+(?:'|\Z){_GLUED}"
_QUOTED: Final = rf"""(?:{_DOUBLE} | {_SINGLE} | \\++"[^"]*+(?:"|\Z) | \\++'[^']*+(?:'|\Z))"""

_QUOTED_VALUE: Final = re.compile(
    rf"""{_QUOTED}
    | \[(?:[^\]"']|{_QUOTED})*+(?:\]|\Z) | \{{(?:[^}}"']|{_QUOTED})*+(?:\}}|\Z)
    | \((?:[^)"']|{_QUOTED})*+(?:\)|\Z)
    | [A-Za-z_][\w.]{{0,63}}+\(\s*+{_QUOTED}[^)]*+(?:\)|\Z)""",
    re.VERBOSE | re.DOTALL,
)
"""In quotes, or in brackets that may hold some: ``{'password': ['x']}``, ``Secret('x')``."""

_BARE_VALUE: Final = re.compile(
    r"""(?:(?:bearer|basic|digest|token)[ ]+)?
    (?:[^\s&;,)}\]"'<>] | ,(?!\s|[\w.-]{1,64}+[=:]|\Z) | [)}\]](?![\s,;.)}\]"']|\Z))++""",
    re.VERBOSE | re.IGNORECASE,
)
"""Up to what ends it; a comma or bracket within a value is part of it."""

_ELEMENT: Final = re.compile(r"[^<]++")
"""The text of an element of XML, whose name is the tag's."""

_PLACEHOLDERS: Final = frozenset({"?", "(?)", "{id}"})
"""What stands in a shape where a value was."""

_SOURCE_LINE: Final = '  File "'
"""How the line above a stack's line of source begins."""

_MOST_LOOKED_BACK: Final = 512


def without_assigned(
    text: str, is_secret: Callable[[str], bool], shown: str, *, source: bool = False
) -> str:
    """A text with ``shown`` for every value that it assigns to a secret name.

    Args:
        text: anything.
        is_secret: whether what is called so is a secret.
        shown: what stands for a value.
        source: whether only what is in quotes is a value, as in a query or a program.
    """
    if "--" in text and not source:
        text = "".join(_pieces(text, _FLAG, is_secret, shown, source=False))
    return "".join(_pieces(text, _NAME, is_secret, shown, source=source))


def _pieces(
    text: str, names: re.Pattern[str], is_secret: Callable[[str], bool], shown: str, *, source: bool
) -> Iterator[str]:
    at = 0
    found = names.search(text)
    while found is not None:
        end = found.end()
        if (
            is_secret(found["name"])
            and not text.startswith(shown, end)  # it is taken out already
            and (value := _value(found, source=source)) is not None
        ):
            yield text[at:end]
            yield shown
            at = end = value.end()
        found = names.search(text, end)
    yield text[at:]


def _value(name: Match[str], *, source: bool) -> Match[str] | None:
    """The value of a name; ``None`` if there is none, or if it is an expression of source code."""
    text, start, before = (
        name.string,
        name.end(),
        name.string[max(0, name.start() - 1) : name.start()],
    )
    if name["between"] == ">":
        return _ELEMENT.match(text, start) if before == "<" else None
    if name["between"] == ":" and before == "/":
        return None  # a verb of an address: ``/v1/token:refresh``
    found = _QUOTED_VALUE.match(text, start)
    if found is None and not source and not _in_source(text, name.start()):
        found = _BARE_VALUE.match(text, start)
    return None if found is None or found[0] in _PLACEHOLDERS else found


def _in_source(text: str, at: int) -> bool:
    """Whether a place is in a line of source that a stack quotes: it says names, not values."""
    least = max(0, at - _MOST_LOOKED_BACK)
    line = text.rfind("\n", least, at)
    if line < 0:
        return False
    above = text.rfind("\n", least, line) + 1
    return text.startswith(_SOURCE_LINE, above)
