"""What the doctor says of settings that hardly anybody means."""

import pytest

from heatshield import runtime
from heatshield.cli.diagnosis import Diagnosis
from heatshield.cli.diagnosis_view import diagnosis_view
from heatshield.settings import ServiceSettings
from heatshield.settings_advice import advice

LONG = "0123456789abcdef"


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({}, []),
        ({"service": "unknown_service"}, ["service"]),
        ({"endpoint": "https://collector.example"}, []),
        ({"endpoint": "http://[::1]:4318/behind/a/proxy"}, []),
        ({"endpoint": "localhost:4318"}, ["endpoint"]),
        ({"endpoint": "ftp://x"}, ["endpoint"]),
        ({"endpoint": "http://x:0"}, ["endpoint"]),
        ({"endpoint": "http://x:port"}, ["endpoint"]),
        ({"endpoint": ""}, ["endpoint"]),
        ({"endpoint": "http://x:4318/v1/traces"}, ["endpoint"]),
        ({"user_key": LONG}, []),
        ({"user_key": LONG[1:]}, ["user_key"]),
        ({"user_header": "x-user"}, []),
        ({"user_jwt_claim": "sub"}, ["user_jwt_claim"]),
        ({"user_cookie": "user", "edge": True}, []),
        ({"user_query": "user", "user_baggage": False}, []),
        ({"user_key": LONG, "redaction": False}, ["user_key"]),
        ({"user_key": "k", "user_query": "u"}, ["user_key", "user_query"]),
    ],
)
def test_what_should_be_looked_at(settings, about):
    assert [said.split()[0] for said in advice(ServiceSettings(**settings))] == about


def test_the_doctor_shows_it(service):
    service(user_key="k")
    status = runtime.status()
    (said,) = status["advice"]
    found = Diagnosis("http://x", None, (), True, {"advice": [said]}, (), {})
    assert f"! {said}" in [line.plain for line in diagnosis_view(found).renderables]
