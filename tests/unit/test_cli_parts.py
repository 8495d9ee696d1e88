"""The small parts of the command line: leases, addresses, what a command's environment is."""

import io
import itertools
import sys

import pytest
import typer
from rich.console import Console
from rich.text import Text

from heatshield.autostart.launch import Launch, LaunchError, find_program, parse
from heatshield.cli import live
from heatshield.cli.client import Collector, path_of
from heatshield.cli.errors import ApiError, CliError, CollectorUnreachable
from heatshield.cli.options import collector
from heatshield.cli.terminal import safe, seconds
from heatshield.cli.trip import lease_ms


@pytest.mark.parametrize(
    ("text", "expected_ms"), [("30s", 30_000), ("5m", 300_000), ("1500ms", 1_500), ("15m", 900_000)]
)
def test_a_lease_is_read_with_its_unit(text, expected_ms):
    assert lease_ms(text) == expected_ms


@pytest.mark.parametrize("text", ["30", "s", "0s", "16m", "-5s", "1h", "1.5s", "5m extra", "٣s"])
def test_a_lease_without_unit_or_beyond_its_limits_is_refused(text):
    with pytest.raises(typer.BadParameter):
        lease_ms(text)


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4318", "ftp://host", "http://", "", "http://h:x", "http://h:99999", "http://["],
)
def test_an_address_that_is_no_url_is_a_wrong_call(endpoint):
    with pytest.raises(CliError) as caught:
        Collector(endpoint)
    assert caught.value.exit_code == 2


def test_a_path_segment_is_taken_literally():
    assert path_of("api", "requests", "../x?y#z") == "/api/requests/..%2Fx%3Fy%23z"


def test_flags_go_over_environment_over_file(tmp_path, monkeypatch):
    (tmp_path / "heatshield.toml").write_text(
        "[service]\nendpoint = 'http://file:1'\n[cli]\nadmin_token = 'of file'\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("HEATSHIELD_ENDPOINT", "HEATSHIELD_CLI_ADMIN_TOKEN", "HEATSHIELD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert asked(collector(None)) == ("http://file:1", "of file")
    monkeypatch.setenv("HEATSHIELD_ENDPOINT", "http://environment:2/")
    monkeypatch.setenv("HEATSHIELD_CLI_ADMIN_TOKEN", "of environment")
    assert asked(collector(None)) == ("http://environment:2", "of environment")
    assert asked(collector("http://flag:3", "of flag")) == ("http://flag:3", "of flag")


def asked(source):
    return source.endpoint, source._token


@pytest.mark.parametrize(
    ("value_s", "shown"),
    [(1234.5, "1,234.50 s"), (1.0, "1.00 s"), (0.0381, "38.1 ms"), (85e-6, "85 µs"), (0, "0 µs")],
)
def test_a_duration_has_the_unit_of_its_size(value_s, shown):
    assert seconds(value_s) == shown


def test_safe_text_keeps_what_can_be_printed_and_escapes_the_rest():
    assert safe("Zoë 猫 [bold]") == "Zoë 猫 [bold]"
    assert safe("\x1b\x07\n\u202e\ud800") == "\\x1b\\x07\\n\\u202e\\ud800"


def test_a_program_beside_the_interpreter_is_found_though_path_lacks_it():
    assert find_program("python", {"PATH": "/nonexistent"}) == find_program(
        "python", {"PATH": sys.prefix + "/bin"}
    )


def test_a_program_that_is_nowhere_is_127_and_one_that_is_not_executable_126(tmp_path):
    with pytest.raises(LaunchError) as caught:
        find_program("no-such-program-here", {"PATH": "/usr/bin"})
    assert caught.value.exit_code == 127
    script = tmp_path / "script"
    script.write_text("echo")
    with pytest.raises(LaunchError) as caught:
        find_program(str(script), {"PATH": "/usr/bin"})
    assert caught.value.exit_code == 126


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("-- uvicorn shop:app", Launch(["uvicorn", "shop:app"])),
        ("uvicorn --reload shop:app", Launch(["uvicorn", "--reload", "shop:app"])),
        ("--service shop -- true", Launch(["true"], "shop")),
        (
            "--endpoint=http://h:1 --service=s true -- x",
            Launch(["true", "--", "x"], "s", "http://h:1"),
        ),
        ("--help", None),
        ("--service", None),
        ("--service shop", None),
        ("--servce shop -- true", None),
        ("--", None),
        ("", None),
    ],
)
def test_plain_arguments_of_run_are_read_without_the_command_line(arguments, wanted):
    assert parse(arguments.split()) == wanted


def shown(renderable):
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "error", [CollectorUnreachable("http://x", "refused"), ApiError(503, "starting")]
)
def test_a_live_view_keeps_its_last_table_while_the_collector_is_away(error):
    answers = iter([Text("table one"), error, Text("table two")])

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    frame = live.frames(look)
    assert shown(frame()) == "table one\n"
    away = shown(frame())
    assert "table one" in away
    assert str(error) in away.replace("\n", " ")
    assert shown(frame()) == "table two\n"


def test_a_live_view_looks_every_interval_until_it_is_interrupted():
    looks, sleeps = itertools.count(), []

    def sleep(interval_s):
        sleeps.append(interval_s)
        if len(sleeps) == 3:
            raise KeyboardInterrupt

    console = Console(file=io.StringIO(), width=40)
    live.watch(lambda: Text(f"look {next(looks)}"), 0.5, console, sleep)
    assert sleeps == [0.5, 0.5, 0.5]
    assert next(looks) == 3
