"""Addresses to listen on, and how a wrong one is told."""

import contextlib
import socket

import pytest

from heatshield.settings import SettingsError
from heatshield_collector.cli import settings_of
from heatshield_collector.server import StartError, address_of, listen


@pytest.mark.parametrize("text", ["4318", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", ":-1"])
def test_what_is_no_address_is_told_with_an_example(text):
    with pytest.raises(StartError, match=r"HOST:PORT, such as 127\.0\.0\.1:4318"):
        listen(text)


def test_port_zero_is_any_free_port():
    with contextlib.closing(listen("127.0.0.1:0")) as listener:
        host, _, port = address_of(listener).rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address_stands_in_brackets():
    try:
        listener = listen("[::1]:0")
    except StartError as error:
        pytest.skip(str(error))
    with contextlib.closing(listener):
        assert address_of(listener).startswith("[::1]:")


def test_a_taken_port_is_told_with_what_to_do():
    with (
        contextlib.closing(listen("127.0.0.1:0")) as taken,
        pytest.raises(StartError, match=r"in use; is another collector running.*--http"),
    ):
        listen(address_of(taken))


def test_an_address_of_another_machine_is_one_sentence():
    with pytest.raises(StartError, match=r"can't listen on 192\.0\.2\.1:4318"):
        listen("192.0.2.1:4318")


def test_flags_go_over_the_file_and_lists_are_kept(tmp_path, monkeypatch):
    file = tmp_path / "some.toml"
    file.write_text('[collector]\nhttp = "127.0.0.1:1"\nmode = "shadow"\nrules = ["a.yaml"]\n')
    monkeypatch.setenv("HEATSHIELD_COLLECTOR_MODE", "protect")
    settings = settings_of(file, http="127.0.0.1:2", rules=None, notify=["json://x", "json://y"])
    assert (settings.http, settings.mode) == ("127.0.0.1:2", "protect")
    assert settings.rules == ("a.yaml",)
    assert settings.notify == ("json://x", "json://y")


def test_a_mode_that_is_none_is_refused_wherever_it_is_set(tmp_path):
    file = tmp_path / "some.toml"
    file.write_text('[collector]\nmode = "enforce"\n')
    with pytest.raises(SettingsError, match="shadow or protect"):
        settings_of(file)
