"""What is never sent of headers, addresses and texts: passwords, tokens, sessions. Pure.

Names decide, as values of secrets look like any other; where texts assign them is known by
:mod:`heatshield.sanitize.assignments`. A few kinds of values are known by themselves
(:mod:`heatshield.sanitize.token_formats`). OpenTelemetry's conventions ask for four parameters of
signed addresses to be redacted and write ``REDACTED``; the other names are those that Sentry's and
Datadog's scrubbers know. A name is compared without case, ``-`` and ``_``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from re import Match
from typing import Final
from urllib.parse import unquote_plus

from heatshield.sanitize.assignments import without_assigned
from heatshield.sanitize.token_formats import (
    LEAST_CARD,
    REDACTED,
    is_card_number,
    without_known_tokens,
)

__all__ = ["REDACTED", "Redaction"]

HEADERS: Final = frozenset(
    {
        "authorization", "proxyauthorization", "authentication",  # credentials themselves
        "cookie", "setcookie",  # sessions
        "xapikey", "xauthtoken", "xcsrftoken", "xxsrftoken", "xaccesstoken",  # by habit
        "xamzsecuritytoken", "xgoogiamauthorizationtoken", "xvaulttoken", "privatetoken",  # clouds
        "xforwardedaccesstoken", "xforwardedclientcert",  # what proxies hand on
    }
)  # fmt: skip
"""Headers whose values let a reader act as another user."""

SECRETS: Final = HEADERS | {
    "pass", "passwd", "password", "passphrase", "pwd", "pw",  # passwords by any name
    "secret", "token", "jwt", "bearer", "credential", "credentials", "apikey", "privatekey",
    "session", "sessionid", "sid", "jsessionid", "phpsessid", "aspnetsessionid", "csrf", "xsrf",
    "csrftoken", "csrfmiddlewaretoken", "otp", "totp", "mfa", "pin", "cvv", "cvc", "cardnumber",
    "signature", "sig", "hmac", "awsaccesskeyid", "googleaccessid",  # signed addresses
}  # fmt: skip
"""Names of fields and parameters whose value is a secret wherever they stand."""

ENDINGS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "secretkey",
    "privatekey", "signature", "credential", "credentials", "sessionid", "cookie", "passcode",
    "accountkey", "encryptionkey", "signingkey", "authkey", "masterkey", "secretkeybase",
)  # fmt: skip
"""``user_password``, ``client_secret``, ``refresh_token``, ``X-Amz-Signature``."""

PARAMETERS: Final = frozenset(
    {
        "code",  # OAuth's authorization code: good for a login
        "key",  # how the APIs of Google and others are called
        "auth", "assertion", "samlresponse", "samlrequest", "ticket", "state", "nonce",  # logins
        "xamzcredential", "xgoogcredential",  # signed addresses
    }
)  # fmt: skip
"""Names that mean a secret in a query, but anything in a field of a log record."""

NOT_SECRETS: Final = frozenset({"nextpagetoken", "pagetoken", "continuationtoken", "maxtokens"})
"""Where a page begins, how long an answer may be."""

URL_QUERY: Final = "url.query"
"""The attribute that has a query without its question mark."""

STATEMENTS: Final = frozenset({"db.statement", "db.query.text"})
"""Attributes that hold statements, where a name that follows another one is a column's."""

MAX_NAME_LENGTH: Final = 64
"""Characters of a parameter's or field's name that are looked at."""

MARKS: Final = (
    "pass", "pw", "secret", "token", "key", "auth", "cookie", "session", "cred", "bearer",
    "basic ", "digest ", "negotiate ", "sig", "srf", "hmac", "jwt", "cert", "sid", "pin", "otp",
    "mfa", "cvv", "cvc", "card", "access", "--",
)  # fmt: skip
"""Without one of them in it, in lower case, no text assigns a secret."""

WITHOUT_SIGN: Final[tuple[str, ...]] = (
    "bearer ",
    "basic ",
    "digest ",
    "negotiate ",
    "--",
    "</",
    "',",
    '",',
)
"""The same for a text that has neither ``=`` nor ``:``, as most have."""

_PARAMETER: Final = re.compile(r"(^|[?&;#])([^=&;?#\s\"'<>]{1,200})=([^&;#\s\"'<>]+)")
_PARAMETER_IN_TEXT: Final = re.compile(r"([?&#])([^=&;?#\s\"'<>]{1,200})=([^&;#\s\"'<>]+)")
_USERINFO: Final = re.compile(r"://[^/?#\s\"'<>@]*(?:@[^/?#\s\"'<>@]*)*@")
_WITHOUT_USERINFO: Final = f"://{REDACTED}:{REDACTED}@"
_HEADER: Final = re.compile(
    r"""(?<![\w?&#;])((?:http_)?(?:set-cookie|cookie|(?:proxy-)?authorization))"""
    r"""((?:["']\s*[:=,]|\s*[:=])\s*)(b?"[^"]*"|b?'[^']*'"""
    r"""|(?!\s*+[\[({])[^\r\n"'](?:[^\r\n"']|"[^"\r\n]*"(?=;))*+)""",
    re.IGNORECASE,
)
_CREDENTIALS: Final = re.compile(
    r"\b(bearer|basic|digest|negotiate)(\s+)(?=[^\s]*(?-i:[A-Z0-9=._-]))[\w.~+/=-]{6,}",
    re.IGNORECASE,
)


class Redaction:
    """Takes secrets out.

    Args:
        more: further names, of parameters, headers and fields.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        added = frozenset(_folded(name) for name in more)
        self._marks = MARKS + tuple(_mark_of(name) for name in more)
        self._secrets = SECRETS | added
        self._parameters = SECRETS | PARAMETERS | added
        self.is_secret: Callable[[str], bool] = lru_cache(4_096)(self._names_secret)
        """Whether a field of this name holds one; of ``http.request.header.x`` the last part."""
        self._in_query: Callable[[str], bool] = lru_cache(4_096)(self._names_secret_parameter)

    def _names_secret(self, name: str) -> bool:
        return _is_among(_folded(_last(name[-MAX_NAME_LENGTH:])), self._secrets)

    def _names_secret_parameter(self, name: str) -> bool:
        return _is_among(_folded(_last(name)), self._parameters)

    def value(self, name: str, value: object, more: Callable[[str], str] = str) -> object:
        """The value of a field, or what is shown of it.

        Args:
            name: of the field.
            value: as :func:`heatshield.tracing.values.plain` has made it.
            more: what else every text within it goes through.
        """
        if self.is_secret(name):
            return (REDACTED,) if isinstance(value, tuple) else REDACTED
        if isinstance(value, str):
            if name == URL_QUERY:
                return more(self.query(value))
            return more(self.text(value, source=name in STATEMENTS))
        return self._within(value, more)

    def _within(self, value: object, more: Callable[[str], str]) -> object:
        if isinstance(value, tuple):
            return tuple(self.value("", item, more) for item in value)
        if isinstance(value, bytes):
            return more(self.text(value.decode("latin-1"))).encode("latin-1", "replace")
        if isinstance(value, int) and value >= LEAST_CARD and is_card_number(str(value)):
            return REDACTED
        return value

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers without the values of those that are secret."""
        return {
            name: REDACTED if self.is_secret(name) else value for name, value in headers.items()
        }

    def query(self, query: str) -> str:
        """A query string without the values of secret parameters."""
        return _PARAMETER.sub(self._shown, query) if "=" in query else query

    def url(self, url: str) -> str:
        """An address, or a path with its query, without userinfo and secret parameters."""
        if "@" in url:
            url = _USERINFO.sub(_WITHOUT_USERINFO, url)
        return _PARAMETER_IN_TEXT.sub(self._shown, url) if "=" in url else url

    def text(self, text: str, *, source: bool = False) -> str:
        """What people wrote: addresses, headers, tokens and passwords in it are redacted.

        Args:
            text: anything.
            source: whether it is a program's or a query's, where only what is in quotes is a value.
        """
        if "=" in text and ("?" in text or "&" in text or "#" in text):
            text = _PARAMETER_IN_TEXT.sub(self._shown, text)
        if "@" in text and "://" in text:
            text = _USERINFO.sub(_WITHOUT_USERINFO, text)
        if self._may_assign(text):
            text = _HEADER.sub(_keep_names, text)
            text = _CREDENTIALS.sub(_keep_names, text)
            text = without_assigned(text, self.is_secret, REDACTED, source=source)
        return without_known_tokens(text)

    def _may_assign(self, text: str) -> bool:
        """Whether a name of a secret may be in a text, with something after it."""
        if "=" not in text and ":" not in text:
            if " " not in text and "<" not in text:
                return False
            marks = WITHOUT_SIGN
        else:
            marks = self._marks
        lowered = text.lower()
        for mark in marks:  # noqa: SIM110  # any() takes longer: this is asked of every new text
            if mark in lowered:
                return True
        return False

    def _shown(self, found: Match[str]) -> str:
        if self._in_query(found[2]):
            return f"{found[1]}{found[2]}={REDACTED}"
        return found[0]


def _keep_names(found: Match[str]) -> str:
    return f"{found[1]}{found[2]}{REDACTED}"


def _last(name: str) -> str:
    """The part of a name that says what it is: of ``user[password]`` and ``user.password`` too."""
    if "%" in name:
        name = unquote_plus(name)
    return name.rstrip("[]").rpartition("[")[2].rpartition(".")[2]


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "").strip()


def _mark_of(name: str) -> str:
    """What is in a name however it is written: its longest word."""
    return max(re.split(r"[-_ .]", name.lower()), key=len)


def _is_among(name: str, secrets: frozenset[str]) -> bool:
    return name in secrets or (name.endswith(ENDINGS) and name not in NOT_SECRETS)
