"""The program itself: its streams, its exit status, what it imports."""

import json
import subprocess
import sys
import time

import pytest
from cli_api import HOT, program


def test_the_program_prints_json_on_stdout_alone(api):
    result = program("hot", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == HOT
    assert result.stderr == ""


def test_run_starts_the_command_in_its_place_with_the_flags_in_its_environment():
    script = "import os, sys; print(os.environ['HEATSHIELD_SERVICE'], sys.argv[1:]); sys.exit(7)"
    result = program("run", "--service", "shop", "--", sys.executable, "-c", script, "--json", "-x")
    assert result.returncode == 7, result.stderr
    assert result.stdout == "shop ['--json', '-x']\n"


def test_run_of_a_command_that_is_not_there_exits_as_a_shell_does():
    result = program("run", "--", "no-such-program-here")
    assert result.returncode == 127
    assert result.stderr == "heatshield: no-such-program-here: command not found\n"


def test_importing_the_command_line_loads_nothing_heavy():
    """Rich, the SDK and the server's libraries are imported by the commands that need them."""
    code = (
        "import sys, heatshield.cli;"
        "print([m for m in ('rich.console', 'opentelemetry.sdk', 'fastapi', 'duckdb', 'polars',"
        " 'grafana_foundation_sdk') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout == "[]\n"


def test_a_collector_that_hangs_is_given_up_on(monkeypatch):
    """A listener that accepts and never answers costs the timeout, not forever."""
    import socket

    from heatshield.cli.client import Collector
    from heatshield.cli.errors import CollectorUnreachable

    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = Collector(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)
        started = time.monotonic()
        with pytest.raises(CollectorUnreachable, match="timed out"):
            source.get("/api/mode")
        assert time.monotonic() - started < 2
