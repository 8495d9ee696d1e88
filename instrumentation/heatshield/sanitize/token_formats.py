"""Secrets that are known by their form, whatever name they stand under. Pure.

Keys and tokens of well-known issuers begin with a prefix of their own, private keys with a line,
and numbers of payment cards have a check digit. The forms are those that the issuers document.

No detector library is used. Those that are well kept (detect-secrets, and what wraps gitleaks' or
trufflehog's rules) are made for files at rest: they run dozens of patterns over each line, or start
a program, and take milliseconds where a log record is encoded in microseconds; and every service
would have to install them. Here a text is asked for a few short marks first, at some 30 ns each,
and only one that has a mark is looked through, with patterns whose time is linear.

A text may have been cut before it gets here, so the least lengths are well below the real ones.
"""

import re
from re import Match
from typing import Final

__all__ = ["LEAST_CARD", "REDACTED", "is_card_number", "without_known_tokens"]

REDACTED: Final = "REDACTED"

LEAST_CARD: Final = 10**12
"""No card's number has fewer than 13 digits."""

_WITH_UNDERSCORE: Final = (
    "gh", "_pat_", "_live_", "_test_", "whsec_",  # GitHub, Stripe
    "npm_", "hf_", "dop_v1_", "shp",  # npm, Hugging Face, DigitalOcean, Shopify
)  # fmt: skip
_WITH_HYPHEN: Final = (
    "xox", "xapp-",  # Slack
    "sk-", "glpat-", "pypi-", "AGE-SECRET-KEY-",  # OpenAI, Anthropic and others; GitLab; PyPI; age
)  # fmt: skip
_WITHOUT_EITHER: Final = ("eyJ", "AKIA", "ASIA", "AIza", "SG.", "ya29.", "services/T")
"""JWTs, Amazon, Google, SendGrid, addresses of Slack's web hooks."""

_PEM: Final = "PRIVATE KEY"

LEAST_TOKEN: Final = 8
"""Characters of a text that can hold a token at all."""

_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_TOKEN: Final = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      (?<![\w-])eyJ[\w-]{4,}+\.[\w-]{4,}+(?:\.[\w-]*+){0,3}
    | gh[pousr]_\w{5,}+ | github_pat_\w{5,}+
    | (?:[sr]k_(?:live|test)|whsec)_\w{5,}+
    | (?:npm|hf)_(?=\w{0,40}[A-Z0-9])\w{16,}+ | dop_v1_\w{16,}+ | shp(?:at|ss)_\w{16,}+
    | xox[a-z](?:\.[a-z]+)?-[\w.-]{5,}+ | xapp-[\w-]{5,}+
    | sk-(?=[\w-]{0,60}[A-Z0-9])[\w-]{6,}+
    | glpat-[\w-]{5,}+ | pypi-[\w-]{16,}+ | AGE-SECRET-KEY-\w{5,}+
    | A[KS]IA[A-Z0-9]{6,}+ | AIza[\w-]{20,}+ | ya29\.[\w-]{10,}+
    | (?<![\w-])SG\.[\w-]{10,}+\.[\w-]{10,}+
    | (?<=/)services/T\w{4,}+/B\w{4,}+/\w{8,}+
    )""",
    re.VERBOSE,
)

_CARD: Final = re.compile(
    r"""[2-6](?<![\w.+-].)(?:
      \d{3}(?P<by>[\ -]?)\d{4}(?P=by)\d{4}(?P=by)\d{1,7}
    | \d{3}(?P<of>[\ -])\d{6}(?P=of)\d{4,5}
    )(?![\w]|[.,-]\d)""",
    re.VERBOSE,
)
"""Digits as cards have them, also in their groups; not within words, ids and fractions."""

_ISSUERS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]|2[2-7])\d{14}"  # Mastercard
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}"  # American Express, Diners Club, JCB
    r"|(?:60|62|64|65)\d{14,17}|(?:50|56|57|58|63|67)\d{14}"  # Discover, UnionPay, Maestro
)


def without_known_tokens(text: str) -> str:
    """A text without tokens, private keys and card numbers that their form tells."""
    if len(text) < LEAST_TOKEN:
        return text if _CARD.search(text) is None else _CARD.sub(_without_card, text)
    if _may_hold_token(text):
        text = _TOKEN.sub(REDACTED, text)
    if _PEM in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    return text if _CARD.search(text) is None else _CARD.sub(_without_card, text)


def _may_hold_token(text: str) -> bool:
    """Whether a prefix is in it; most texts have neither a hyphen nor an underscore."""
    for mark in _WITHOUT_EITHER:  # loops and not any(): this is asked of every new text
        if mark in text:
            return True
    if "_" in text:
        for mark in _WITH_UNDERSCORE:
            if mark in text:
                return True
    if "-" in text:
        for mark in _WITH_HYPHEN:
            if mark in text:
                return True
    return False


def is_card_number(digits: str) -> bool:
    """Whether a card may have this number: an issuer's prefix and length, and the check digit."""
    return _ISSUERS.fullmatch(digits) is not None and _luhn(digits)


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) << (place & 1)
        total += value - 9 if value > 9 else value  # noqa: PLR2004  # the sum of its two digits
    return total % 10 == 0


def _without_card(found: Match[str]) -> str:
    digits = found[0].replace(" ", "").replace("-", "")
    return REDACTED if is_card_number(digits) else found[0]
