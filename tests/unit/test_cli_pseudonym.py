"""``heatshield pseudonym`` computes what services send, and nothing without the key."""

import json

import pytest
from typer.testing import CliRunner

from heatshield.cli.app import app
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings

KEY = "a key for tests"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATSHIELD_USER_KEY", KEY)
    return lambda *words, stdin="": CliRunner().invoke(app, ["pseudonym", *words], input=stdin)


def sent(user):
    return Identity(ServiceSettings(user_key=KEY)).known_as(user)


def test_of_one_user_it_prints_what_services_send(run):
    assert run("zoe@example.com").stdout == f"{sent('zoe@example.com')}\n"


def test_of_several_it_prints_whose_is_whose(run):
    expected = f"{sent('a')}\ta\n{sent('b c')}\tb c\n"
    assert run("a", "b c").stdout == expected
    assert run("-", stdin="a\r\nb c\n\n").stdout == expected
    assert json.loads(run("a", "--json").stdout) == {"a": sent("a")}


def test_the_key_may_stand_in_the_file(run, monkeypatch, tmp_path):
    monkeypatch.delenv("HEATSHIELD_USER_KEY")
    (tmp_path / "heatshield.toml").write_text(f'[service]\nuser_key = "{KEY}"\n')
    assert run("a").stdout == f"{sent('a')}\n"


def test_without_a_key_it_says_which_is_missing(run, monkeypatch):
    monkeypatch.delenv("HEATSHIELD_USER_KEY")
    failed = run("a")
    assert failed.exit_code == 2
    assert "HEATSHIELD_USER_KEY" in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize("user", ["a\x00b", "x" * 9_000, "*"])
def test_of_an_odd_id_too_it_prints_what_services_send(run, user):
    assert json.loads(run(user, "--json").stdout).popitem()[1] == sent(user)


def test_what_no_service_accepts_has_none(run):
    assert run("").exit_code == 2
