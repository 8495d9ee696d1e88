"""A collector's token is found by the command line of its own user alone."""

import os
import stat

import pytest

from heatshield import names
from heatshield.cli import local_token as module
from heatshield.cli.local_token import link_token, local_token, unlink_token
from heatshield.cli.options import collector
from heatshield_collector.local_token import leave_token


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The folder of links and the working directory are the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("HEATSHIELD_COLLECTOR_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_a_token_is_left_for_its_owner_alone_and_is_new_each_time(data):
    first, second = leave_token(data), leave_token(data)
    assert first != second
    assert len(second) >= 43  # 256 bits
    file = data / names.ADMIN_TOKEN_FILE
    assert file.read_text().strip() == second
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in data.iterdir()] == [names.ADMIN_TOKEN_FILE]


def test_it_is_found_by_the_port_from_any_folder_and_on_this_machine_alone(data):
    token = leave_token(data)
    link_token(data, 4318)
    for endpoint in ("http://127.0.0.1:4318", "http://localhost:4318/", "http://127.0.0.1:4318/x"):
        assert local_token(endpoint) == token
    for endpoint in ("http://127.0.0.1:4319", "http://collector:4318", "rubbish", "http://[:1"):
        assert local_token(endpoint) == ""


def test_it_is_found_in_the_data_folder_too(data, monkeypatch, tmp_path):
    token = leave_token(data)
    link_token(data, 4318)
    (tmp_path / "tmp" / f"heatshield-{os.getuid()}" / "4318").unlink()
    monkeypatch.setenv("HEATSHIELD_COLLECTOR_DATA", str(data))
    assert local_token("http://127.0.0.1:4318") == token
    monkeypatch.delenv("HEATSHIELD_COLLECTOR_DATA")
    data.rename("heatshield-data")
    assert local_token("http://127.0.0.1:4318") == token


def test_for_a_port_that_the_collector_has_left_there_is_none(data, monkeypatch):
    leave_token(data)
    link_token(data, 4318)  # and then it is killed
    token = leave_token(data)
    monkeypatch.setenv("HEATSHIELD_COLLECTOR_DATA", str(data))
    assert local_token("http://127.0.0.1:4318") == ""
    link_token(data, 5318)
    assert local_token("http://127.0.0.1:4318") == ""
    assert local_token("http://127.0.0.1:5318") == token


def test_a_collector_that_stops_takes_its_own_link_away(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    leave_token(data)
    token = leave_token(other)
    link_token(data, 4318)
    link_token(other, 4318)
    unlink_token(data, 4318)
    assert local_token("http://127.0.0.1:4318") == token
    unlink_token(other, 4318)
    unlink_token(other, 4318)
    assert local_token("http://127.0.0.1:4318") == ""
    assert list((tmp_path / "tmp" / f"heatshield-{os.getuid()}").iterdir()) == []
    assert [one.name for one in other.iterdir()] == [names.ADMIN_TOKEN_FILE]


def test_a_command_that_only_reads_is_given_none(data, monkeypatch):
    monkeypatch.delenv("HEATSHIELD_CLI_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("HEATSHIELD_TOKEN", raising=False)
    token = leave_token(data)
    link_token(data, 4318)
    assert collector("http://127.0.0.1:4318")._token == ""
    assert collector("http://127.0.0.1:4318", changes=True)._token == token
    assert collector("http://127.0.0.1:4318", token)._token == token


def test_a_file_or_a_folder_that_others_can_write_to_is_not_believed(data, tmp_path):
    leave_token(data)
    link_token(data, 4318)
    folder = tmp_path / "tmp" / f"heatshield-{os.getuid()}"
    folder.chmod(0o777)
    assert local_token("http://127.0.0.1:4318") == ""
    folder.chmod(0o700)
    (data / names.ADMIN_TOKEN_FILE).chmod(0o640)
    assert local_token("http://127.0.0.1:4318") == ""


@pytest.mark.parametrize("content", [b"", b"a\nb", b"x" * 2_000, "é".encode(), b"a\x00b"])
def test_what_is_no_token_is_not_sent(data, content):
    leave_token(data)
    link_token(data, 4318)
    (data / names.ADMIN_TOKEN_FILE).write_bytes(content)
    assert local_token("http://127.0.0.1:4318") == ""


def test_where_no_link_can_be_made_the_collector_starts_all_the_same(data, tmp_path):
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").write_text("no folder")
    link_token(data, 4318)
