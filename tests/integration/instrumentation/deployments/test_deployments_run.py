"""``heatshield run``: what it starts is what runs, and what it can't reach it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
STATUS = "import heatshield; print(heatshield.status()['instrumented'])"


@pytest.fixture
def run(tmp_path):
    """Run a command by `heatshield run`."""

    def run(*command, **env):
        return subprocess.run(
            [str(BIN / "heatshield"), "run", "--", *command],
            cwd=tmp_path,
            env={**os.environ, "HEATSHIELD_ENDPOINT": "http://127.0.0.1:9", **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.mark.parametrize("flags", ["-I", "-E", "-S", "-sE", "-X dev -I", "-Wignore -S", "-bEu"])
def test_python_that_does_not_look_is_said_to_be_not_instrumented(run, flags):
    if "S" in flags:
        done = run(sys.executable, *flags.split(), "-c", "print('ran')")
        assert done.stdout == "ran\n"
    else:
        done = run(sys.executable, *flags.split(), "-c", STATUS)
        assert done.stdout == "False\n"
    assert done.returncode == 0
    flag = next(letter for letter in flags.replace("dev", "") if letter in "EIS")
    assert f"python -{flag} does not read PYTHONPATH" in done.stderr
    assert "heatshield.instrument()" in done.stderr


@pytest.mark.parametrize("flags", ["", "-u", "-s -B", "-W ignore", "-X dev", "-P"])
def test_python_that_looks_is_instrumented_without_a_word(run, flags):
    done = run(sys.executable, *flags.split(), "-c", STATUS, "-I")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_script_with_such_a_first_line_is_said_too(run, tmp_path):
    script = tmp_path / "serve"
    script.write_text(f"#!{sys.executable} -I\n{STATUS}\n")
    script.chmod(0o755)
    done = run(str(script))
    assert done.stdout == "False\n"
    assert "python -I does not read PYTHONPATH" in done.stderr


@pytest.mark.parametrize(
    "wrapper",
    [
        ("env", "A=1"),
        ("sh", "-c", 'exec "$@"', "sh"),
        ("sh", "-c", '"$@"; exit $?', "sh"),
        (sys.executable, "-c", "import sys, subprocess; subprocess.run(sys.argv[1:])"),
    ],
)
def test_wrappers_hand_it_on(run, wrapper):
    """As `uv run` and `poetry run` do: they start a child, or become it."""
    done = run(*wrapper, sys.executable, "-c", STATUS)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_command_that_sets_the_path_anew_runs_and_is_said(run):
    done = run("env", "PYTHONPATH=/srv", sys.executable, "-c", STATUS)
    assert done.stdout == "False\n"
    assert "the command replaces PYTHONPATH" in done.stderr
    assert run("sh", "-c", "PYTHONPATH=.:$PYTHONPATH python --version").stderr == ""


def test_a_service_that_sets_the_path_anew_runs_on_uninstrumented_below(run):
    done = run(
        sys.executable,
        "-c",
        "import os, subprocess, sys; os.environ['PYTHONPATH'] = '/srv'; "
        f"sys.exit(subprocess.call([sys.executable, '-c', {STATUS!r}]))",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")


def test_an_interpreter_without_heatshield_is_named_and_runs(run, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=60)
    done = run(str(bare / "bin" / "python"), "-c", "print('ran')")
    assert done.stdout == "ran\n"
    assert f"is heatshield installed for {bare}/bin/python?" in done.stderr
    code = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    tool = [str(bare / "bin" / "python"), "-c", "print('tool')"]
    below = run(sys.executable, "-c", code, sys.executable, "-c", code, *tool)
    assert (below.stdout, below.stderr) == ("tool\n", ""), "what a service starts is not lectured"


def test_sitecustomize_and_usercustomize_of_the_service_run(run, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("NAME = 'theirs'\n")
    (tmp_path / "usercustomize.py").write_text("print('user')\n")
    words = [sys.executable, "-c", "import sitecustomize; print(sitecustomize.NAME)"]
    plain = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    done = run(*words[:2], f"{words[2]}; {STATUS}", PYTHONPATH=str(tmp_path))
    assert done.stdout == f"{plain.stdout}True\n"


def test_an_error_in_the_services_sitecustomize_is_told_as_ever(run, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("1 / 0\n")
    ours = run(sys.executable, "-c", STATUS, PYTHONPATH=str(tmp_path))
    assert ours.stdout == "True\n"
    assert "Error in sitecustomize" in ours.stderr
    assert "ZeroDivisionError" in ours.stderr


@pytest.mark.parametrize(("code", "status"), [("import sys; sys.exit(7)", 7), ("1 / 0", 1)])
def test_the_status_is_the_commands(run, code, status):
    assert run(sys.executable, "-c", code).returncode == status


def test_a_daemon_without_stderr_starts(run):
    done = run("sh", "-c", f"exec {sys.executable} -c \"print('ran')\" 2>&-", HEATSHIELD_X="1")
    assert (done.returncode, done.stdout) == (0, "ran\n")
