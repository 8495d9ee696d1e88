"""Secrets in every spelling that a service may let slip, and the search for them in what was sent.

Each text of :data:`TEXTS` holds a canary: a value with :data:`MARK` in it, or one of
:data:`NUMBERS`. None of them may be among the bytes that leave, whatever field the text stood in.
"""

from heatshield.export.payloads import encode

MARK = "CANARY"
_C = f"{MARK}x7Qz81kd"
_L = f"{MARK}0123456789abcdefABCDEF0123456789"

CARD = "4111111111111111"
NUMBERS = (CARD, "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005")

_PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{_L}\n{_L}==\n-----END RSA PRIVATE KEY-----"

ASSIGNED = [
    f"user[password]={_C}&user[name]=zoe",
    f"user%5Bpassword%5D={_C}",
    f"Server=db;Uid=zoe;Password={_C};Database=shop",
    f"Server=db;pwd={_C}",
    f"Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={_C}=",
    f"AccountName=a;AccountKey={_C}/+{_C}==",
    f"token={_C}", f"secret={_C} of shop", f"client_secret={_C}", f"apikey: {_C}", f"API key: {_C}",
    f'{{"access_token":"{_C}","expires_in":60}}',
    f'{{"body": "{{\\"refresh_token\\": \\"{_C}\\"}}"}}',
    f"{{'password': ['{_C}'], 'next': ['/']}}",
    f"aws_secret_access_key={_C}/x+{_C}", f"export AWS_SECRET_ACCESS_KEY='{_C}'",
    f"[(b'x-api-key', b'{_C}'), (b'host', b'h')]",
    f"X-Auth-Token: {_C}", f"Authorization: Token {_C}", f"Cookie: a=b; sid={_C}",
    f"sent Bearer {_C} to h", f"retry with Basic {_C}==",
    f"redis://:{_C}@cache:6379/0", f"https://{_C}@sentry.example/7",
    f"https://h/cb?code={_C}&state={_C}", f"/reset#access_token={_C}",
    f"Settings(debug=True, password=SecretStr('{_C}'))", f'password = "{_C}\\"{_C}"',
    f"run --password {_C} --verbose", f"['run', '--token', '{_C}']",
    f"<user><password>{_C}</password></user>", f"note: password={_C}", f"db.password={_C},{_C}",
]  # fmt: skip
"""A name says what they are."""

FORMED = [
    _PEM,
    _PEM.replace("\n", "\\n"),
    f"cloned with ghp_{_L}", f"github_pat_11{_L}", f"slack xoxb-123456789012-{_C}{_C}",
    f"openai sk-proj-{_L}", f"stripe sk_live_{_L}", f"gitlab glpat-{_C}{_C}",
    f"AKIA{MARK}7EXAMPLE", f"jwt eyJ{_C}.eyJ{_C}.{_C}",
    f"https://hooks.slack.com/services/T{MARK}01/B{MARK}01/{_C}{_C}",
    *(f"paid with {number}." for number in NUMBERS),
]  # fmt: skip
"""Their form says what they are."""

QUOTED = [
    f"Error: unknown command '{_C}', with args beginning with: '{_C}' '{_C}' ",
    f"Command # 1 (SET {_C} {_C}) of pipeline caused error: WRONGTYPE Operation",
    f"duplicate key\nDETAIL:  Key (email)=({_C}) already exists.",
    f"(sqlite3.IntegrityError) x\n[SQL: INSERT INTO t\nVALUES ('{_C}')]\n[parameters: ('{_C}',)]",
    f'psycopg.errors.DatatypeMismatch: cannot cast "{_C}" to {CARD}',
    f'invalid input syntax for type integer: "{_C}"', f'near "{_C}": syntax error',
    f"Duplicate entry '{_C}' for key 'users.email'",
    f'dup key: {{ email: "{_C}" }}', f"NOGROUP No such key '{_C}' or consumer group '{_C}'",
]  # fmt: skip
"""Errors of databases and stores quote them."""

TEXTS = [*ASSIGNED, *FORMED, *QUOTED]


def sent(service):
    """The bytes that the spans and logs of a service become."""
    payloads = encode(service.spans, service.logs, {"service.name": "shop"})
    return b"\n".join(payload.body for payload in payloads)


def canaries_in(payload):
    """What stands around each canary that was sent, to read in a failed assertion."""
    lowered, found = payload.lower(), []
    for mark in (MARK, *NUMBERS):
        at = lowered.find(mark.lower().encode())
        while at >= 0:
            found.append(payload[max(0, at - 120) : at + 40])
            at = lowered.find(mark.lower().encode(), at + 200)
    return found
