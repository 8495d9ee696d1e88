"""``heatshield up`` as a process: what it prints, how it fails, how it stops."""

import contextlib
import signal
import subprocess
import sys
import time

import httpx
import pytest

from heatshield_collector.server import address_of, listen

UP = [sys.executable, "-c", "from heatshield.cli import main; main()", "up"]


@contextlib.contextmanager
def collector(data, *flags):
    """A running ``heatshield up``: (process, base URL)."""
    process = subprocess.Popen(
        [*UP, "--data", str(data), "--http", "127.0.0.1:0", "--grpc", "off", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert "http://" in line, line + process.stderr.read()
        yield process, line.split(" on ")[1].split()[0]
    finally:
        process.kill()
        process.communicate()


def fails(*flags) -> str:
    """Run it to its failure; the one line it says."""
    result = subprocess.run([*UP, *flags], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1, result
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def wait_until_served(url):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/readyz")
        time.sleep(0.02)
    raise AssertionError("nothing answers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_stops_at_once_with_open_streams(tmp_path, sse, number):
    with collector(tmp_path / "data", "--mode", "shadow") as (process, url):
        assert wait_until_served(url).json()["ready"] is True
        assert httpx.get(f"{url}/api/mode").json()["mode"] == "shadow"
        with sse(f"{url}/v1/breakers/stream") as breakers, sse(f"{url}/api/events"):
            breakers.until("snapshot")
            began = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        assert time.monotonic() - began < 5
        assert "stopped" in out


def test_a_second_collector_on_the_same_data_is_told_so_in_one_line(tmp_path):
    with collector(tmp_path / "data") as (_, url):
        wait_until_served(url)
        said = fails("--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--grpc", "off")
        assert str(tmp_path / "data") in said


def test_a_taken_port_is_told_in_one_line_and_the_data_is_not_touched(tmp_path):
    with contextlib.closing(listen("127.0.0.1:0")) as taken:
        said = fails("--data", str(tmp_path / "data"), "--http", address_of(taken))
    assert "--http" in said
    assert not (tmp_path / "data").exists()


def test_a_taken_port_for_grpc_is_told_in_words(tmp_path):
    with contextlib.closing(listen("127.0.0.1:0")) as taken:
        address = address_of(taken)
        said = fails("--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--grpc", address)
    assert f"can't listen on {address} for OTLP/gRPC: address already in use" in said
    assert "--grpc off" in said
    for raw in ("core", "UNKNOWN", "{", "errno"):
        assert raw not in said


@pytest.mark.parametrize("inside", [".", "data"])
def test_a_file_where_the_folder_should_be_is_told_in_words(tmp_path, inside):
    (tmp_path / "file").write_text("not a folder")
    said = fails(
        "--data", str(tmp_path / "file" / inside), "--http", "127.0.0.1:0", "--grpc", "off"
    )
    assert "a folder is needed (--data DIR)" in said
    assert "Errno" not in said
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    said = fails(
        "--data", str(tmp_path / "file" / "data"), "--http", "127.0.0.1:0", "--grpc", "off"
    )
    assert "file" in said


def test_a_wrong_rule_file_is_told_in_one_line(tmp_path):
    (tmp_path / "rules.yaml").write_text("groups: 7")
    said = fails(
        "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--grpc", "off",
        "--rules", str(tmp_path / "rules.yaml"),
    )  # fmt: skip
    assert "rules.yaml" in said


def banner(process):
    """What it says after its address, to the line of its mode."""
    lines = []
    while not lines or "mode" not in lines[-1]:
        lines.append(process.stdout.readline())
    return lines[-1]


def begun_in(data, *flags, switch=None):
    """Start one, read the mode off its banner, switch it as a person would, and stop it."""
    with collector(data, *flags) as (process, url):
        wait_until_served(url)
        said = banner(process)
        mode = httpx.get(f"{url}/api/mode").json()["mode"]
        assert f"mode       {mode}, " in said
        if switch:
            token = (data / "admin-token").read_text().strip()
            answer = httpx.put(
                f"{url}/api/mode",
                json={"mode": switch, "by": "human:ann"},
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.status_code == 200, answer.text
        process.kill()  # not even a stop in good order is needed
        return mode, said


def test_it_begins_in_shadow_and_keeps_the_mode_that_was_set_until_the_setting_changes(tmp_path):
    data = tmp_path / "data"
    mode, said = begun_in(data, switch="protect")
    assert (mode, "nothing is enforced" in said) == ("shadow", True)
    mode, said = begun_in(data)
    assert (mode, "human:ann" in said) == ("protect", True)
    assert begun_in(data, "--mode", "shadow")[0] == "shadow"
    assert begun_in(data, "--mode", "protect", switch="shadow")[0] == "protect"
    assert begun_in(data, "--mode", "protect")[0] == "shadow"  # somebody pulled the brake
