"""Whether a request is a call, by the name of the call: for gateways, and callers, of a service.

A service's own router knows the call of a request. A gateway before the service, or a caller of it,
sees only method and path, and the names of calls that breakers hold: ``POST /users/{id}/stickers``
as FastAPI, Flask, Django, aiohttp and routers of other languages write it, or
``package.Service/Method`` over gRPC. What a name can't be understood as, no request is: then
nothing is refused here, and the service itself decides.

Names come from telemetry, so their length, and the time that a match takes, are bounded: no part of
a name is ever run as a regular expression.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from heatshield.call_key import LONGEST

__all__ = ["best_match", "matches"]

MAX_PATH: Final = 8_192
"""Characters of a path that is looked at; a longer one is no call. The usual limit of servers."""

_SEGMENT_MOST: Final = 128
"""Characters of a parameter that shares its segment with others: bounds what is tried."""

_MOST_MIXED: Final = 2
"""Parameters in one segment; a template with more is not understood."""

_MOST_DEEP: Final = 2
"""Parameters of a template that may hold slashes."""

_WORD: Final = re.compile(
    r"""
      <(?P<angle>[^<>]*)>                            # Flask, Django: <int:id>, <path:rest>
    | \{(?P<brace>(?:[^{}]|\{[^{}]*\})*)\}           # FastAPI, aiohttp, Go: {id}, {rest:path}
    | (?<=/):(?P<colon>[A-Za-z_]\w*)                 # Express, Rails: :id
    | (?<=/)\*(?P<star>\w*|\*)(?=/|$)                # Gin, Rails: *rest, **
    """,
    re.VERBOSE,
)
_VIEW: Final = re.compile(r" \([^()]*\)$")
"""How a call is told whose template says nothing: ``GET /<path:page> (shop-page)``."""

_REGEX_HINT: Final = re.compile(r"\(\?P<|\$$|\\Z$")
_REGEX_REST: Final = re.compile(r"[\\*+?|\[\](){}]")
"""Of a regular expression that is left once groups are taken out: it is not understood."""

_DIGITS: Final = "[0-9]"
_ANY: Final = "[^/]"
_CLASSES: Final = {"int": _DIGITS, "uuid": "[0-9A-Fa-f-]", "slug": "[-A-Za-z0-9_]"}
"""The characters that frameworks' converters take, as a class; of all others, any but a slash."""

_DEEP: Final = "."
"""Class of a parameter that may hold slashes."""


class _Parameter(NamedTuple):
    characters: str


class _Template(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    literals: int
    deep: int


def matches(call: str, method: str, path: str) -> bool:
    """Whether a request is this call.

    A ``HEAD`` is a ``GET``, too: where it has no handler of its own, it runs that of ``GET``.

    Args:
        call: the name of a server's call, such as ``GET /users/{id}`` or ``shop.Cart/Add``.
        method: of HTTP; that of gRPC is ``POST``.
        path: of the request, as it came: encoded or not, with a query or without.
    """
    template = _parse(call)
    if template is None or len(path) > MAX_PATH:
        return False
    if method != template.method and not (method == "HEAD" and template.method == "GET"):
        return False
    plain = path.partition("?")[0].partition("#")[0]
    if template.pattern.fullmatch(plain) is not None:
        return True
    # Routers look at the decoded path; or else one encoded letter would lead past a breaker.
    return "%" in plain and template.pattern.fullmatch(unquote(plain)) is not None


def best_match(calls: Iterable[str], method: str, path: str) -> str | None:
    """The call among ``calls`` that a request is; of several, the one that says most.

    That is how routers with literal routes first decide: ``GET /users/me`` is no
    ``GET /users/{id}`` where both are known. ``None``: it is none of them.
    """
    found = [call for call in calls if matches(call, method, path)]
    return max(found, key=_says, default=None)


def _says(call: str) -> tuple[int, int, str]:
    template = _parse(call)
    return (0, 0, call) if template is None else (template.literals, -template.deep, call)


@lru_cache(maxsize=4_096)
def _parse(call: str) -> _Template | None:
    """The call's name, understood; ``None`` where it can't be."""
    if len(call) > LONGEST:
        return None
    method, space, template = call.partition(" ")
    if not space:  # over gRPC: the path of package.Service/Method
        is_rpc = "/" in method.strip("/")
        name = "/" + method.removeprefix("/")
        return _Template("POST", re.compile(re.escape(name)), len(name), 0) if is_rpc else None
    template = _VIEW.sub("", template)
    if not template.startswith("/"):
        return None
    parts = _parts_of_regex(template) if _REGEX_HINT.search(template) else _parts_of(template)
    return None if parts is None else _compiled(method, parts)


_Part = str | _Parameter


def _parts_of(template: str) -> list[_Part]:
    """Literals and parameters, in their order."""
    parts: list[_Part] = []
    end = 0
    for word in _WORD.finditer(template):
        parts += [template[end : word.start()]] if word.start() > end else []
        last = word.end() == len(template)
        parts.append(_Parameter(_characters(word, is_last=last)))
        end = word.end()
    return parts + ([template[end:]] if end < len(template) else [])


def _characters(word: re.Match[str], *, is_last: bool) -> str:
    """The class of characters that a parameter takes."""
    angle, brace, star = word["angle"], word["brace"], word["star"]
    if star is not None:
        return _DEEP
    if angle is not None:
        converter, colon, _ = angle.rpartition(":")
        kind = converter.partition("(")[0] if colon else ""
    elif brace is not None:
        name, _, kind = brace.partition(":")
        # {rest...} of Go, {rest+} of API gateways. Starlette leaves the converter out of what it
        # says of a route, so there a name such as file_path is all that tells.
        deep = name.endswith(("...", "+")) or (is_last and name.endswith("path"))
        kind = "path" if deep or kind.startswith((".*", ".+")) else kind
    else:
        return _ANY
    return _DEEP if kind == "path" else _CLASSES.get(kind, _ANY)


def _parts_of_regex(template: str) -> list[_Part] | None:
    """The same of a route that is a regular expression, as Django's ``re_path`` has it.

    A group is a parameter. What else only a regular expression can say is not understood.
    """
    text = template.replace("^", "").removesuffix("$").removesuffix("\\Z")
    parts: list[_Part] = []
    while "(" in text:
        literal, _, rest = text.partition("(")
        group = _group_in(rest)
        if group is None or rest[len(group) + 1 :].startswith(("?", "*", "+", "{")):
            return None
        text = rest[len(group) + 1 :]
        is_deep = "." in re.sub(r"\\.|\[[^\]]*\]", "", group)
        parts += [literal, _Parameter(_DEEP if is_deep else _ANY)]
    parts.append(text)
    plain: list[_Part] = []
    for part in parts:
        literal_or_none = part if isinstance(part, _Parameter) else _unescaped(part)
        if literal_or_none is None:
            return None
        plain += [literal_or_none] if literal_or_none else []
    return plain


def _group_in(text: str) -> str | None:
    """What stands before the parenthesis that closes, or ``None`` where none does."""
    depth, is_escaped = 1, False
    for at, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0:
                return text[:at]
    return None


def _unescaped(text: str) -> str | None:
    """A literal of a regular expression as plain text; ``None`` if it is no literal."""
    bare = re.sub(r"\\[^A-Za-z0-9]", "", text)
    return None if _REGEX_REST.search(bare) else re.sub(r"\\([^A-Za-z0-9])", r"\1", text)


def _compiled(method: str, parts: list[_Part]) -> _Template | None:
    """A pattern that takes time in proportion to the path, as far as it can.

    A parameter that fills its segment takes all of it and gives nothing back. A segment that
    holds more is short (:data:`_SEGMENT_MOST`) and, once it fits, is not tried again.
    """
    segments: list[list[_Part]] = [[]]
    for part in parts:
        if isinstance(part, _Parameter):
            segments[-1].append(part)
            continue
        first, *more = part.split("/")
        segments[-1] += [first] if first else []
        segments += [[piece] if piece else [] for piece in more]
    deep = sum(part == _Parameter(_DEEP) for part in parts)
    if deep > _MOST_DEEP:
        return None
    compiled = []
    for segment in segments:
        pattern = _segment(segment)
        if pattern is None:
            return None
        compiled.append(pattern)
    literals = sum(len(part) for part in parts if isinstance(part, str))
    return _Template(method, re.compile("/".join(compiled), re.DOTALL), literals, deep)


def _segment(parts: list[_Part]) -> str | None:
    parameters = [part for part in parts if isinstance(part, _Parameter)]
    if not parameters:
        return re.escape("".join(part for part in parts if isinstance(part, str)))
    if any(one.characters == _DEEP for one in parameters):
        if len(parameters) > 1:
            return None
        return "".join(
            _DEEP + "+" if isinstance(one, _Parameter) else re.escape(one) for one in parts
        )
    if len(parts) == 1:
        return parameters[0].characters + "++"
    if len(parameters) > _MOST_MIXED:
        return None
    inner = "".join(
        f"{one.characters}{{1,{_SEGMENT_MOST}}}" if isinstance(one, _Parameter) else re.escape(one)
        for one in parts
    )
    return f"(?>{inner}(?=/|\\Z))"
