"""Prometheus rule files → checked rules.

The format is Prometheus' own, and texts are read as there (:mod:`.document`): groups with a
``name`` and an ``interval``, alerting rules with ``alert``, ``expr``, ``for``,
``keep_firing_for``, ``labels``, ``annotations``. Reading is strict: an unknown or repeated key, a
broken expression, duration or template is a :class:`RuleError` that names file, group, rule and,
for a key, the nearest known one; a rule that is ignored in silence protects nothing. Recording
rules are refused: there is no store of series here for their result.
"""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from heatshield_alerts.action_labels import check_action_label, nearest
from heatshield_alerts.duration import parse_duration_s
from heatshield_alerts.promql.expression import Expression, parse
from heatshield_alerts.rules.document import Scalar, read_document
from heatshield_alerts.rules.template import Template

__all__ = [
    "DEFAULT_INTERVAL_S",
    "SHIPPED_RULES",
    "AlertRule",
    "RuleError",
    "RuleGroup",
    "load_file",
    "load_text",
]

SHIPPED_RULES: Final = Path(__file__).with_name("heatshield.yaml")
"""The rules that come with heatshield."""

DEFAULT_INTERVAL_S: Final = 0.25
"""Evaluation interval of a group that names none: one pane of the detector's sketches. Prometheus'
default of 1 m is far from cutting a user within a second."""

T = TypeVar("T")

_GROUP_KEYS: Final = ("name", "interval", "limit", "rules")
_RULE_KEYS: Final = ("alert", "expr", "for", "keep_firing_for", "labels", "annotations")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class RuleError(ValueError):
    """A rule file that can't be used; says where and what to do."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One alerting rule.

    Attributes:
        name: becomes the label ``alertname``.
        expression: what holds for each series it returns.
        text: the expression as it was written.
        for_s: seconds it must hold before the alert fires.
        keep_firing_for_s: seconds the alert keeps firing after it stopped to hold.
        labels: added to each alert.
        annotations: for people, and links.
        limit: alerts it may have; 0 is no limit. More is an error and changes nothing.
    """

    name: str
    expression: Expression
    text: str = ""
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    labels: Mapping[str, Template] = field(default_factory=dict)
    annotations: Mapping[str, Template] = field(default_factory=dict)
    limit: int = 0


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that are evaluated together, in order, every ``interval_s`` seconds."""

    name: str
    interval_s: float
    rules: tuple[AlertRule, ...]
    file: str = ""


def load_file(path: Path) -> tuple[RuleGroup, ...]:
    """Read a rule file.

    Raises:
        RuleError: if it can't be read or used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: {error}") from error
    return load_text(text, str(path))


def load_text(text: str, file: str = "rules") -> tuple[RuleGroup, ...]:
    """Read the text of a rule file; ``file`` names it in errors.

    Raises:
        RuleError: if it can't be used.
    """
    try:
        document = read_document(text)
    except yaml.YAMLError as error:
        raise RuleError(f"{file}: {error}") from error
    fields = _mapping({} if _is_null(document) else document, ("groups",), file)
    groups = tuple(
        _group(group, f"{file}: group {number}", file)
        for number, group in enumerate(_list(fields, "groups", file), 1)
    )
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise RuleError(f"{file}: group name {name!r} is repeated")
    return groups


def _group(value: Any, where: str, file: str) -> RuleGroup:
    fields = _mapping(value, _GROUP_KEYS, where)
    if _is_null(fields.get("name")):
        raise RuleError(f"{where}: name is missing")
    name = _text(fields, "name", where)
    where = f"{file}: group {name!r}"
    limit = _limit(fields, where)
    interval_s = _duration(fields, "interval", 0.0, where) or DEFAULT_INTERVAL_S
    rules = tuple(
        _rule(rule, f"{where}, rule {number}", limit)
        for number, rule in enumerate(_list(fields, "rules", where), 1)
    )
    return RuleGroup(name, interval_s, rules, file)


def _limit(fields: Mapping[str, Any], where: str) -> int:
    """The group's limit; 0 or less is none, as in Prometheus."""
    value = fields.get("limit")
    if _is_null(value):
        return 0
    if isinstance(value, Scalar):
        with suppress(ValueError, OverflowError):
            return max(0, value.as_int())
    raise RuleError(f"{where}: limit {value!r} is not a count")


def _rule(value: Any, where: str, limit: int) -> AlertRule:
    if isinstance(value, dict) and "record" in value:
        raise RuleError(f"{where}: recording rules are not supported, only alerts ({value})")
    fields = _mapping(value, _RULE_KEYS, where)
    name = _text(fields, "alert", where)
    where = f"{where} ({name})"
    text = _text(fields, "expr", where)
    return AlertRule(
        name=name,
        expression=_checked(parse, text, f"{where}: expr"),
        text=text,
        for_s=_duration(fields, "for", 0.0, where),
        keep_firing_for_s=_duration(fields, "keep_firing_for", 0.0, where),
        labels=_checked_templates(fields, "labels", where),
        annotations=_checked_templates(fields, "annotations", where),
        limit=limit,
    )


def _checked_templates(fields: Mapping[str, Any], key: str, where: str) -> dict[str, Template]:
    templates = _templates(fields, key, where)
    for name, template in templates.items():
        try:
            check_action_label(name, template.text)
        except ValueError as error:
            raise RuleError(f"{where}: {key}: {name}: {error}") from error
    return templates


def _templates(fields: Mapping[str, Any], key: str, where: str) -> dict[str, Template]:
    values = fields.get(key)
    if _is_null(values):
        return {}
    if not isinstance(values, dict):
        raise RuleError(f"{where}: {key} is not a mapping")
    templates = {}
    for name, value in values.items():
        if _is_null(name):
            continue
        if not isinstance(name, str) or not _LABEL_NAME.fullmatch(name) or name == "__name__":
            raise RuleError(f"{where}: {key}: {name!r} is not a label name")
        text = "" if _is_null(value) else _scalar(value, name, f"{where}: {key}")
        # A plain text: it becomes a key of JSON, which takes nothing else.
        templates[str(name)] = _checked(Template, text, f"{where}: {key}: {name}")
    return templates


def _duration(fields: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = fields.get(key)
    if _is_null(value):
        return default
    return _checked(parse_duration_s, _scalar(value, key, where), f"{where}: {key}")


def _checked(read: Callable[[str], T], text: str, where: str) -> T:
    """What ``read`` makes of ``text``; its ValueError becomes ours."""
    try:
        return read(text)
    except ValueError as error:
        raise RuleError(f"{where}: {error}") from error


def _mapping(value: Any, known: Collection[str], where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RuleError(f"{where}: expected a mapping, found {value!r}")
    for key in value:
        if key not in known:
            raise RuleError(f"{where}: unknown key {key!r}{nearest(str(key), known)}")
    return value


def _list(fields: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = fields.get(key)
    if _is_null(value):
        return []
    if not isinstance(value, list):
        raise RuleError(f"{where}: {key} is not a list")
    return [one for one in value if not _is_null(one)]


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    """A text that must be there. One that is written ``null`` is that text, as in Prometheus."""
    value = fields.get(key)
    if not isinstance(value, Scalar) or not value:
        raise RuleError(f"{where}: {key} is missing or not a text: {value!r}")
    return str(value)


def _scalar(value: Any, key: str, where: str) -> str:
    if not isinstance(value, Scalar):
        raise RuleError(f"{where}: {key} is not a text: {value!r}")
    return str(value)


def _is_null(value: Any) -> bool:
    """Whether a field is missing or null, which are the same."""
    return value is None or (isinstance(value, Scalar) and value.is_null)
