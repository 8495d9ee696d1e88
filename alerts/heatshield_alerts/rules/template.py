"""Templates in labels and annotations: the part of Go's text/template that alert rules use.

``{{ $labels.user }}``, ``{{ $value }}`` (also ``.Labels.user``, ``.Value``), texts and numbers,
pipelines, and the functions ``printf``, ``humanize``, ``humanizePercentage``,
``humanizeDuration``, ``toUpper``, ``toLower``, ``title``. A template is checked when it is made; a
label that an alert does not have is the empty text. Everything else is refused by name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from heatshield_alerts.rules.number import HUMANIZERS, plain, printf, verbs

__all__ = ["Template", "TemplateError"]

Term: TypeAlias = str | float
_Action: TypeAlias = tuple[tuple[str, ...], ...]

_ACTION: Final = re.compile(r"\{\{(-\s)?((?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}])*?)(\s-)?\}\}")
_TOKEN: Final = re.compile(r"\s*(\"(?:\\.|[^\"\\])*\"|`[^`]*`|\||[^\s|\"`]+)")
_LABEL: Final = re.compile(r"(?:\$labels|\.Labels)\.([a-zA-Z_][a-zA-Z0-9_]*)")
_VALUES: Final = ("$value", ".Value")
_TEXT_FUNCTIONS: Final = {"toUpper": str.upper, "toLower": str.lower, "title": str.title}
_ESCAPES: Final = {"n": "\n", "t": "\t"}


class TemplateError(ValueError):
    """A template that can't be used; names the part."""


@dataclass(frozen=True, slots=True)
class Template:
    """A checked template.

    Args:
        text: its source.

    Raises:
        TemplateError: if it uses what is not supported.
    """

    text: str
    _pieces: tuple[str | _Action, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pieces", tuple(_split(self.text)))
        _render(self._pieces, {}, 0.0)  # what fails for one alert fails for all

    def render(self, labels: Mapping[str, str], value: float) -> str:
        """The text for one alert."""
        return _render(self._pieces, labels, value)


def _split(text: str) -> list[str | _Action]:
    pieces: list[str | _Action] = []
    at, trims_next = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trims_next else before
        pieces.append(before.rstrip() if found[1] else before)
        pieces.append(_read(found[2]))
        at, trims_next = found.end(), bool(found[3])
    rest = text[at:]
    pieces.append(rest.lstrip() if trims_next else rest)
    if any("{{" in piece for piece in pieces if isinstance(piece, str)):
        raise TemplateError(f"unclosed or unreadable {{{{ in {text!r}")
    return pieces


def _read(action: str) -> _Action:
    """An action's commands, each a tuple of tokens."""
    commands: list[list[str]] = [[]]
    at = 0
    action = action.rstrip()
    while at < len(action):
        found = _TOKEN.match(action, at)
        if found is None:
            raise TemplateError(f"unreadable {action[at:]!r} in {{{{{action}}}}}")
        at = found.end()
        if found[1] == "|":
            commands.append([])
        else:
            commands[-1].append(found[1])
    if not all(commands):
        raise TemplateError(f"empty command in {{{{{action}}}}}")
    return tuple(tuple(command) for command in commands)


def _render(pieces: Sequence[str | _Action], labels: Mapping[str, str], value: float) -> str:
    texts = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        piped: list[Term] = []
        for command in piece:
            piped = [_run(command, piped, labels, value)]
        texts.append(piped[0] if isinstance(piped[0], str) else plain(piped[0]))
    return "".join(texts)


def _run(
    command: tuple[str, ...], piped: list[Term], labels: Mapping[str, str], value: float
) -> Term:
    head, *rest = command
    arguments = [*(_term(token, labels, value) for token in rest), *piped]
    if head == "printf":
        if not rest or rest[0][0] not in '"`':
            raise TemplateError("printf takes a quoted format first; a label is no format")
        return _printf(str(arguments[0]), arguments[1:])
    if head in HUMANIZERS or head in _TEXT_FUNCTIONS:
        if len(arguments) != 1:
            raise TemplateError(f"{head} takes 1 argument, not {len(arguments)}")
        if head in HUMANIZERS:
            return HUMANIZERS[head](_number(head, arguments[0]))
        return _TEXT_FUNCTIONS[head](_text(head, arguments[0]))
    if arguments:
        raise TemplateError(f"{head!r} is not a supported function")
    return _term(head, labels, value)


def _printf(pattern: str, values: list[Term]) -> str:
    try:
        wanted = verbs(pattern)
    except ValueError as error:
        raise TemplateError(str(error)) from error
    if len(wanted) != len(values):
        raise TemplateError(f"printf {pattern!r} takes {len(wanted)} values, not {len(values)}")
    for verb, value in zip(wanted, values, strict=True):
        if verb != "v" and isinstance(value, str) is not (verb == "s"):
            raise TemplateError(f"printf %{verb} does not take {value!r}")
    return printf(pattern, *values)


def _term(token: str, labels: Mapping[str, str], value: float) -> Term:
    if token in _VALUES:
        return value
    label = _LABEL.fullmatch(token)
    if label:
        return labels.get(label[1], "")
    if token.startswith("`"):
        return token[1:-1]
    if token.startswith('"'):
        return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), token[1:-1])
    try:
        return float(token)
    except ValueError:
        raise TemplateError(f"{token!r} is not supported") from None


def _number(function: str, term: Term) -> float:
    if isinstance(term, str):
        raise TemplateError(f"{function} takes a number, not {term!r}")
    return term


def _text(function: str, term: Term) -> str:
    if not isinstance(term, str):
        raise TemplateError(f"{function} takes a text, not {term!r}")
    return term
