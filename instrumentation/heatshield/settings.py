"""Settings: flags over environment over ``heatshield.toml`` over defaults, into one frozen object.

A settings class is a frozen dataclass whose fields have types from ``str, int, float, bool,
tuple[str, ...]`` and optionals of these. It belongs to a section of the file; its environment
variables are ``HEATSHIELD_<FIELD>`` for the section ``service`` and
``HEATSHIELD_<SECTION>_<FIELD>`` for any other. An unknown key anywhere is an error that names the
nearest known one, because a misspelt setting that is silently ignored protects no user.
"""

import dataclasses
import difflib
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from heatshield.contract import MAX_WORKERS
from heatshield.names import DEFAULT_ENDPOINT, DEFAULT_KILL_SWITCH_FILE

__all__ = ["ServiceSettings", "SettingsError", "load", "number_range", "setting"]

FILE_NAME: Final = "heatshield.toml"
ENVIRONMENT_PREFIX: Final = "HEATSHIELD_"
SECTIONS: Final = ("service", "collector", "cli")
CONFIG_KEY: Final = "HEATSHIELD_CONFIG"
"""Environment variable that names another file than ``./heatshield.toml``."""

SIGNAL_NAME: Final = r"SIGUSR[12]|SIGRTMIN\+([1-9]|1[0-9]|2[0-9])"
"""Signals that mean nothing by themselves."""

HEADER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""RFC 9110's token: names of headers, of cookies too."""


T = TypeVar("T")


class SettingsError(ValueError):
    """A setting is unknown or has a wrong value; says which, where and what to do."""


class _Rules(NamedTuple):
    """Which values of the right kind are good."""

    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    pattern: str = ""


def setting(
    default: T,
    text: str,
    choices: tuple[str, ...] = (),
    *,
    least: float | None = None,
    most: float | None = None,
    pattern: str = "",
) -> T:
    """A field of a settings class.

    Args:
        default: its value if it is not set.
        text: its help.
        choices: the only values of a text, if there are some.
        least: smallest number allowed, if there is a bound.
        most: largest number allowed, if there is a bound.
        pattern: regular expression of a text, if not every text is good.
    """
    rules = _Rules(choices, least, most, pattern)
    return field(default=default, metadata={"help": text, "rules": rules, **rules._asdict()})


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What an instrumented service can set; ``heatshield.instrument(**these)``."""

    service: str = setting("", "name of this service; OTEL_SERVICE_NAME counts too")
    endpoint: str = setting(DEFAULT_ENDPOINT, "address of the collector")
    token: str = setting("", "bearer token that the collector requires, if it has one")
    breaker_key: str = setting(
        "", "public key (base64) that breakers must be signed by; needs heatshield[signed]"
    )
    tenant: str = setting("default", "tenant that this service belongs to")
    enabled: bool = setting(True, "false: instrument() does nothing at all")
    enforce: bool = setting(
        True, "local kill switch: false refuses no call, whatever the collector grants"
    )
    kill_switch_file: str = setting(
        DEFAULT_KILL_SWITCH_FILE,
        "file that, while it exists, has this process refuse no call; empty: none",
    )
    kill_switch_signal: str = setting(
        "",
        "signal that toggles the kill switch, e.g. SIGUSR2 or SIGRTMIN+1; empty: none",
        pattern=SIGNAL_NAME,
    )
    workers: int = setting(
        1,
        "requests this process can compute at once; its share of capacity",
        least=1,
        most=MAX_WORKERS,
    )
    user_header: str = setting(
        "", "request header that names the acting user, e.g. x-user-id", pattern=HEADER_NAME
    )
    user_path_parameter: str = setting("", "path parameter that names the acting user")
    user_jwt_claim: str = setting("", "claim of a bearer token that names the user (unverified)")
    user_cookie: str = setting("", "cookie that names the acting user", pattern=HEADER_NAME)
    user_query: str = setting("", "query parameter that names the acting user")
    user_scope: bool = setting(
        False, "true: the user that the framework has authenticated, e.g. Django's request.user"
    )
    user_thrift_field: str = setting(
        "", "argument of Thrift calls that names the acting user, e.g. user or context.user.id"
    )
    edge: bool = setting(
        False,
        "true where strangers call: start new traces, ignore trace context and baggage that arrive",
    )
    propagate_to: tuple[str, ...] = setting(
        (),
        "hosts that get trace context and user with a call, e.g. shop,*.internal; empty: all",
    )
    user_baggage: bool = setting(
        True, "false at an edge: ignore the user that an incoming baggage header names"
    )
    user_key: str = setting(
        "", "key of HMAC-SHA256 pseudonyms; if set, no raw user id leaves the process"
    )
    redaction: bool = setting(
        True, "false: send passwords, tokens, cookies and SQL literals as they come"
    )
    redact: tuple[str, ...] = setting(
        (), "further parameters, headers and fields whose values are not sent, e.g. iban,x-pin"
    )
    b3: str = setting("multi", "B3 headers sent beside W3C's", choices=("multi", "single", "off"))
    excluded_paths: tuple[str, ...] = setting((), "request paths that make no spans, by prefix")
    disabled: tuple[str, ...] = setting((), "integrations to leave out, e.g. redis,httpx")
    console_ids: bool = setting(False, "add trace id and user to console log lines too")
    log_level: str = setting(
        "info",
        "least level of log records that are sent",
        choices=("trace", "debug", "info", "warning", "error", "critical"),
    )
    log_rate: float = setting(
        1_000.0,
        "log records sent per second and call site; 0 sends all",
        least=0,
        most=1_000_000,
    )
    flush_interval_s: float = setting(
        0.2, "seconds after which a batch goes out", least=0.001, most=3_600
    )
    batch_records: int = setting(
        512, "records that send a batch before its time", least=1, most=65_536
    )
    queue_records: int = setting(
        8_192,
        "records kept while the collector is away; more are dropped",
        least=1,
        most=10_000_000,
    )
    export_timeout_s: float = setting(
        5.0, "seconds to wait for the collector's answer", least=0.01, most=600
    )
    charge_reports: bool = setting(
        True, "false: tell no costs of users in reports; the collector charges spans instead"
    )
    trace_ratio: float = setting(
        1.0,
        "part of all traces whose spans are sent, the same ones by every service; failures and"
        " what is far slower than usual are sent in any case. Needs charge_reports",
        least=0,
        most=1,
    )
    metrics_interval_s: float = setting(
        10.0,
        "seconds between snapshots of the metrics sent to the collector; 0: none are sent",
        least=0,
        most=3_600,
    )
    metrics_path: str = setting(
        "", "path at which FastAPI and Starlette answer with the metrics, e.g. /metrics"
    )
    metrics_port: int = setting(
        0, "port on which the metrics are served beside the service; 0: none", least=0, most=65_535
    )
    metrics_host: str = setting(
        "127.0.0.1", "address that metrics_port listens on; 0.0.0.0 lets other machines scrape"
    )
    local_breakers: bool = setting(
        False,
        "true: refuse calls to a peer that fails too often or is too slow, for all users, here",
    )
    local_breaker_slow_s: float = setting(
        60.0, "seconds after which a call is slow to a local breaker", least=0.001, most=3_600
    )
    deadlines: bool = setting(
        True,
        "false: neither send on nor enforce how long the caller of a request still waits",
    )
    deadline_header: str = setting(
        "",
        "further request header with that time in ms, e.g. x-envoy-expected-rq-timeout-ms",
    )


def load(
    cls: type[T],
    section: str = "service",
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> T:
    """Make a settings object.

    Args:
        cls: the settings dataclass.
        section: its table in the file and its infix in the environment.
        flags: values given on the command line or in code; ``None`` means not given.
        environ: instead of ``os.environ``.
        file: instead of ``$HEATSHIELD_CONFIG`` or ``./heatshield.toml``; these may be absent, a
            file that is named must exist.

    Raises:
        SettingsError: on an unknown key, a value of the wrong kind, or a number out of its range.
    """
    environ = os.environ if environ is None else environ
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    kinds = {name: kinds[name] for name in fields}
    values: dict[str, object] = {}
    for where, given in (
        _from_file(environ, section, file),
        _from_environment(environ, section, kinds),
        ("arguments", {k: v for k, v in (flags or {}).items() if v is not None}),
    ):
        for name, value in given.items():
            if name not in kinds:
                raise SettingsError(f"{where}: {_unknown(name, kinds)}")
            converted = _convert(value, kinds[name], f"{where}: {name}")
            rules: _Rules = fields[name].metadata.get("rules", _Rules())
            values[name] = _in_choices(converted, rules)
            complaint = _complaint(values[name], rules)
            if complaint:
                raise SettingsError(f"{where}: {name} is {complaint}, not {value!r}")
    return cls(**values)


def _in_choices(value: object, rules: _Rules) -> object:
    """The choice that a text is, however its letters are cased: people write ``INFO``."""
    if isinstance(value, str) and value.lower() in rules.choices:
        return value.lower()
    return value


def _complaint(value: object, rules: _Rules) -> str:
    """What a value of the right kind should be instead; nothing if it is good."""
    choices, least, most, pattern = rules
    if choices and value not in choices:
        return f"one of {', '.join(choices)}"
    if pattern and value and not re.fullmatch(pattern, str(value)):
        return f"of the form {pattern}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    good = (
        math.isfinite(value)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )
    return "" if good else number_range(least, most)


def number_range(least: float | None, most: float | None) -> str:
    """A range of numbers in words."""
    if least is not None and most is not None:
        return f"from {least} to {most}"
    if least is not None:
        return f"at least {least}"
    return f"at most {most}" if most is not None else "a finite number"


def _from_file(
    environ: Mapping[str, str], section: str, file: Path | None
) -> tuple[str, dict[str, object]]:
    named = file or (Path(environ[CONFIG_KEY]) if environ.get(CONFIG_KEY) else None)
    path = named or Path(FILE_NAME)
    if named is None and not path.is_file():
        return str(path), {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    for table in document:
        if table not in SECTIONS:
            raise SettingsError(f"{path}: {_unknown(table, SECTIONS)}")
    given = document.get(section, {})
    if not isinstance(given, dict):
        raise SettingsError(f"{path}: {section} is not a table")
    return f"{path} [{section}]", given


def _from_environment(
    environ: Mapping[str, str], section: str, kinds: Collection[str]
) -> tuple[str, dict[str, str]]:
    infix = "" if section == "service" else f"{section.upper()}_"
    mine = ENVIRONMENT_PREFIX + infix
    others = tuple(
        f"{ENVIRONMENT_PREFIX}{name.upper()}_"
        for name in SECTIONS
        if name not in ("service", section)
    )
    given: dict[str, str] = {}
    for key, text in environ.items():
        if key == CONFIG_KEY or not key.startswith(mine) or key.startswith(others):
            continue
        name = key.removeprefix(mine).lower()
        if name not in kinds:
            known = [mine + known.upper() for known in kinds]
            raise SettingsError(f"environment: {_unknown(key, known)}")
        given[name] = text
    return "environment", given


def _unknown(name: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"unknown setting {name!r}; did you mean {near[0]!r}?" if near else f"unknown {name!r}"


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def _convert(value: object, kind: object, where: str) -> object:
    """A value of the field's kind, from text (environment, flags) or from TOML's own types."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    try:
        if kind is bool:
            return value if isinstance(value, bool) else _boolean(str(value))
        if typing.get_origin(kind) is tuple:
            return _texts(value)
        return _number_or_text(value, kind)
    except (TypeError, ValueError, OverflowError) as error:  # the last: int of infinity
        name = getattr(kind, "__name__", None) or str(kind)
        raise SettingsError(f"{where}: {value!r} is not a {name}") from error


def _texts(value: object) -> tuple[str, ...]:
    rows = value.split(",") if isinstance(value, str) else value
    if not isinstance(rows, Iterable):
        raise TypeError(f"{value!r}")
    return tuple(str(row).strip() for row in rows if str(row).strip())


def _number_or_text(value: object, kind: object) -> object:
    if isinstance(value, bool):
        raise TypeError(f"{value!r}")
    if kind is str:
        return str(value)
    if not isinstance(value, str | int | float):
        raise TypeError(f"{value!r}")
    return int(value) if kind is int else float(value)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
