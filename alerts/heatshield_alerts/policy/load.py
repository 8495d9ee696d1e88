"""A policy file → a checked policy.

YAML, read as strictly as rule files are: an unknown or repeated key, a number out of range, a
pattern that stands for nothing is a :class:`PolicyError` that names the file, the line and, for a
word, the nearest known one. All errors are told at once. A policy half of which is ignored in
silence protects nobody.
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeVar

import yaml

from heatshield.call_key import is_plain
from heatshield.contract import DeclaredLimit
from heatshield.declared_limit import LimitPer, LimitUnit, is_name
from heatshield_alerts.action_labels import LADDERS, nearest
from heatshield_alerts.duration import parse_duration_s
from heatshield_alerts.policy.model import (
    CEILINGS,
    MAX_LIMITS,
    LadderFor,
    Policy,
    RulesPolicy,
)
from heatshield_alerts.policy.pattern import Pattern
from heatshield_alerts.rules.document import compose_document

__all__ = ["MAX_FILE_BYTES", "PolicyError", "load_file", "load_text"]

MAX_FILE_BYTES: Final = 2**20
"""A larger file is no policy."""

MAX_PATTERNS: Final = 1_000
MAX_PATTERN_LENGTH: Final = 512
MAX_ID_LENGTH: Final = 64

_SECTIONS: Final = ("rules", "limits")
_COUNTS: Final = ("users_at_most", "entries_at_most", "new_per_minute")
_SHARES: Final = ("user_share", "traffic_share")
_RULES_KEYS: Final = (
    *("never_calls", "never_users", *_COUNTS, *_SHARES, "reject_at_once_over_s", "ladders"),
)
_LIMIT_KEYS: Final = ("id", "per", "unit", "rate_per_s", "burst", "service", "call", "user")
_ABOUT: Final = ("service", "call", "user")
_LADDERS: Final = tuple(name for name in LADDERS if name != "trickle")  # a rule says its rate

T = TypeVar("T")


class PolicyError(ValueError):
    """A policy file that can't be used; says where and what to do, an error on each line.

    Attributes:
        errors: each by itself.
    """

    def __init__(self, errors: Collection[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


def load_file(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: if it can't be read or used.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PolicyError([f"{path}: {error.strerror or error}"]) from error
    return load_text(content, str(path))


def load_text(text: str | bytes, file: str = "policy") -> Policy:
    """Read the text of a policy file; ``file`` names it in errors.

    Raises:
        PolicyError: if it can't be used.
    """
    if len(text) > MAX_FILE_BYTES:
        raise PolicyError([f"{file}: larger than {MAX_FILE_BYTES} bytes"])
    try:
        node = compose_document(text.decode() if isinstance(text, bytes) else text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyError([f"{file}: {_one_line(error)}"]) from error
    if node is None:
        # An editor that has only begun to write leaves this behind, too.
        raise PolicyError([f"{file}: is empty; say `rules: {{}}` for a policy that says nothing"])
    reader = _Reader(file)
    policy = reader.policy(node)
    if reader.errors:
        raise PolicyError(reader.errors)
    return policy


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + str(getattr(error, "problem", None) or error).partition("\n")[0]


class _Reader:
    """Reads one document; goes on after an error, so that all are told."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.errors: list[str] = []

    def policy(self, node: yaml.Node) -> Policy:
        fields = self._mapping(node, _SECTIONS, "the policy")
        rules, limits = fields.get("rules"), fields.get("limits")
        return Policy(
            RulesPolicy() if rules is None else self._rules(rules),
            () if limits is None else self._limits(limits),
        )

    # -- what rules may do --------------------------------------------------------------------

    def _rules(self, node: yaml.Node) -> RulesPolicy:
        fields = self._mapping(node, _RULES_KEYS, "rules")
        said: dict[str, object] = {}
        for name in _COUNTS:
            if name in fields:
                said[name] = self._count(fields[name], name)
        for name in _SHARES:
            if name in fields:
                said[name] = self._number(fields[name], name, most=CEILINGS[name])
        if "reject_at_once_over_s" in fields:
            said["reject_at_once_over_s"] = self._seconds(fields["reject_at_once_over_s"])
        calls = self._patterns(fields.get("never_calls"), "never_calls")
        for pattern, line in calls:
            self._check_call(pattern, line)
        users = self._patterns(fields.get("never_users"), "never_users")
        return RulesPolicy(
            never_calls=tuple(pattern for pattern, _ in calls),
            never_users=tuple(pattern for pattern, _ in users),
            ladders=self._ladders(fields.get("ladders")),
            **{name: value for name, value in said.items() if value is not None},  # type: ignore[arg-type]
        )

    def _seconds(self, node: yaml.Node) -> float | None:
        """A number of seconds, or a duration such as ``500ms``."""
        text = self._text(node, "reject_at_once_over_s")
        try:
            return parse_duration_s(text)
        except ValueError:
            return self._number(node, "reject_at_once_over_s")

    def _ladders(self, node: yaml.Node | None) -> tuple[LadderFor, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.MappingNode):
            self._err(node, "ladders: is a mapping of service/call to a ladder")
            return ()
        found = []
        for key, value in node.value:
            pattern, ladder = self._pattern(key, "ladders"), self._text(value, "ladders")
            if ladder not in _LADDERS:
                said = f"ladders: {ladder!r} is no ladder{nearest(ladder, _LADDERS)}"
                self._err(value, said)
            elif pattern is not None:
                self._check_call(pattern, key)
                found.append(LadderFor(pattern, ladder))
        return tuple(found)

    def _check_call(self, pattern: Pattern, node: yaml.Node) -> None:
        if "/" not in pattern.text and "*" not in pattern.text:
            text = f"{pattern.text!r} is no call: say service/call, such as 'shop/POST /orders'"
            self._err(node, f"{text}, or 'shop/*' for all calls of a service")

    # -- limits -------------------------------------------------------------------------------

    def _limits(self, node: yaml.Node) -> tuple[DeclaredLimit, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._err(node, "limits: is a list")
            return ()
        if len(node.value) > MAX_LIMITS:
            self._err(node, f"limits: {len(node.value)} of them; at most {MAX_LIMITS}")
            return ()
        found: dict[str, DeclaredLimit] = {}
        for one in node.value:
            limit = self._limit(one)
            if limit is None:
                continue
            if limit.id in found:
                self._err(one, f"limit {limit.id}: the id is repeated")
            found[limit.id] = limit
        return tuple(found.values())

    def _limit(self, node: yaml.Node) -> DeclaredLimit | None:
        before = len(self.errors)
        fields = self._mapping(node, _LIMIT_KEYS, "a limit")
        for name in ("id", "per", "unit", "rate_per_s"):
            if name not in fields and len(self.errors) == before:
                self._err(node, f"a limit: {name} is missing")
        if len(self.errors) > before:
            return None
        name = self._text(fields["id"], "id")
        if not is_name(name) or len(name) > MAX_ID_LENGTH:
            self._err(
                fields["id"], f"id {name!r} is no name of lower-case letters, digits, '-', '_', '.'"
            )
        per = self._one_of(fields["per"], "per", list(LimitPer))
        unit = self._one_of(fields["unit"], "unit", list(LimitUnit))
        rate = self._number(fields["rate_per_s"], "rate_per_s", least=1e-3, most=1e15)
        burst = self._number(fields["burst"], "burst", most=1e15) if "burst" in fields else 0.0
        about = {part: self._text(fields[part], part) if part in fields else "" for part in _ABOUT}
        for part, text in about.items():
            if text and (not is_plain(text) or set(text) & set("*?")):
                said = "is matched exactly: leave it out for every one"
                self._err(fields[part], f"{part} {text!r} {said}")
        if len(self.errors) > before or rate is None or burst is None:
            return None
        return DeclaredLimit(
            name, LimitPer(per), LimitUnit(unit), rate, burst,
            service=about["service"], call=about["call"], user=about["user"],
        )  # fmt: skip

    # -- scalars and lists --------------------------------------------------------------------

    def _patterns(self, node: yaml.Node | None, name: str) -> list[tuple[Pattern, yaml.Node]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self._err(node, f"{name}: is a list")
            return []
        if len(node.value) > MAX_PATTERNS:
            self._err(node, f"{name}: {len(node.value)} patterns; at most {MAX_PATTERNS}")
            return []
        found = [(self._pattern(one, name), one) for one in node.value]
        return [(pattern, one) for pattern, one in found if pattern is not None]

    def _pattern(self, node: yaml.Node, name: str) -> Pattern | None:
        text = self._text(node, name)
        if not text or len(text) > MAX_PATTERN_LENGTH:
            self._err(node, f"{name}: a pattern has 1 to {MAX_PATTERN_LENGTH} characters")
            return None
        return Pattern(text)

    def _one_of(self, node: yaml.Node, name: str, known: Collection[str]) -> str:
        text = self._text(node, name)
        if text not in [str(one) for one in known]:
            self._err(node, f"{name} {text!r} is unknown{nearest(text, known)}")
        return text

    def _count(self, node: yaml.Node, name: str) -> int | None:
        found = self._number(node, name, most=CEILINGS[name])
        if found is not None and found != int(found):
            self._err(node, f"{name}: {found:g} is no whole number")
            return None
        return None if found is None else int(found)

    def _number(
        self, node: yaml.Node, name: str, least: float = 0.0, most: float = math.inf
    ) -> float | None:
        text = self._text(node, name)
        is_plain_scalar = isinstance(node, yaml.ScalarNode) and node.style is None
        try:
            found = float(text) if is_plain_scalar else math.nan
        except ValueError:
            found = math.nan
        if math.isnan(found):
            self._err(node, f"{name}: {text!r} is no number")
            return None
        if not least <= found <= most or math.isinf(found):
            bounds = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
            self._err(node, f"{name}: {text} is out of range; it may be {bounds}")
            return None
        return found

    def _text(self, node: yaml.Node, name: str) -> str:
        if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":null"):
            return str(node.value)
        self._err(node, f"{name}: needs a value, and only one")
        return ""

    def _mapping(self, node: yaml.Node, known: Collection[str], name: str) -> dict[str, yaml.Node]:
        """The fields of a mapping that are known; null is an empty one."""
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
            return {}
        if not isinstance(node, yaml.MappingNode):
            self._err(node, f"{name}: is a mapping of {', '.join(known)}")
            return {}
        fields = {}
        for key, value in node.value:
            word = str(key.value)
            if word in known:
                fields[word] = value
            else:
                self._err(key, f"{name}: unknown key {word!r}{nearest(word, known)}")
        return fields

    def _err(self, node: yaml.Node, text: str) -> None:
        line = f"{self._file}: line {node.start_mark.line + 1}: {text}"
        if line not in self.errors:
            self.errors.append(line)
