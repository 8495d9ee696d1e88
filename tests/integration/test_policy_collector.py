"""The policy file of a real `heatshield up`: watched, refused, told of and audited."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

PROGRAM = (sys.executable, "-c", "from heatshield.cli import main; main()")
IN_FORCE_S = 2.0
"""Within which a change of the file is in force: two looks, and a machine that is busy."""

FIRST = "rules: {never_users: [anonymous]}\n"
SECOND = FIRST + "limits: [{id: per-user, per: user, unit: requests, rate_per_s: 50}]\n"


class Running:
    """A collector with a policy file."""

    def __init__(self, folder):
        self.file = folder / "policy.yaml"
        self.file.write_text(FIRST)
        self.process = subprocess.Popen(
            [
                *(*PROGRAM, "up", "--policy", str(self.file), "--cold-start-s", "0"),
                *("--data", str(folder / "data"), "--http", "127.0.0.1:0", "--grpc", "off"),
            ],
            stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        self.announced = []
        for line in self.process.stdout:
            self.announced.append(line)
            if "cold start" in line or "policy" in line:
                break
        self.url = re.search(r"http://\S+", self.announced[0])[0]
        self.stderr = folder / "stderr"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return answer.read().decode()

    def json(self, path):
        return json.loads(self.get(path))

    def until(self, holds):
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < 10
            time.sleep(0.02)
        return time.monotonic() - began

    def command(self, *words):
        return subprocess.run(
            [*PROGRAM, *words, "--endpoint", self.url], capture_output=True, text=True, check=False
        )


@pytest.fixture
def collector(tmp_path):
    running = Running(tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(20)


def policy_records(collector):
    rows = collector.json("/api/audit")["changes"]
    return [row for row in rows if row["change"] == "policy"]


def test_a_change_is_in_force_at_once_and_audited_once(collector):
    assert any(str(collector.file) in line for line in collector.announced)
    before = collector.json("/api/policy")
    collector.file.write_text(SECOND)
    took_s = collector.until(lambda: collector.json("/api/policy")["version"] != before["version"])
    assert took_s < IN_FORCE_S
    assert [one["id"] for one in collector.json("/v1/breakers")["limits"]] == ["per-user"]
    collector.until(lambda: len(policy_records(collector)) == 2)
    newest, first = policy_records(collector)
    assert newest["issuer"] == first["issuer"] == f"human:file {collector.file}"
    assert "limit per-user: added, 50 requests a second per user" in newest["reason"]
    assert "never_users: added 'anonymous'" in first["reason"]


def test_a_broken_version_changes_nothing_and_is_told_of_everywhere(collector):
    before = collector.json("/api/policy")
    collector.file.write_text("rules: {nevr_users: [a]}\n")
    collector.until(lambda: collector.json("/readyz")["notes"])
    (note,) = [one for one in collector.json("/readyz")["notes"] if "policy" in one]
    assert f"version {before['version']} stays in force" in note
    assert "did you mean 'never_users'?" in note
    assert "heatshield_policy_in_force 0.0" in collector.get("/metrics")
    assert "heatshield_policy_failures_total 1.0" in collector.get("/metrics")
    assert "stays in force" in collector.stderr.read_text()
    assert "stays in force" in collector.command("doctor").stdout
    shown = collector.command("policy")
    assert "rules.never_users: anonymous" in shown.stdout
    assert "nevr_users" in shown.stderr
    collector.file.write_text(FIRST)
    collector.until(lambda: "heatshield_policy_in_force 1.0" in collector.get("/metrics"))


def test_a_signal_has_it_read_and_does_not_end_the_collector(collector):
    collector.file.write_text(SECOND)
    os.kill(collector.process.pid, signal.SIGHUP)
    collector.until(lambda: collector.json("/v1/breakers")["limits"])
    assert collector.process.poll() is None


def test_a_person_is_warned_once_and_may_insist(collector):
    body = {"user": "anonymous", "service": "shop", "call": "GET /p", "issuer": "human:ada"}
    token = next(collector.file.parent.glob("data/admin-token")).read_text().strip()

    def trip(body):
        request = urllib.request.Request(
            collector.url + "/v1/breakers",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    status, said = trip(body)
    assert status == 409
    assert "never_users: anonymous" in said["error"]
    assert trip(body | {"force": True})[0] == 201


def test_a_collector_does_not_begin_with_a_broken_file(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("rules: {users_at_most: many}\n")
    ended = subprocess.run(
        [
            *(*PROGRAM, "up", "--policy", str(file), "--data", str(tmp_path / "data")),
            *("--http", "127.0.0.1:0", "--grpc", "off"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "line 1: users_at_most: 'many' is no number" in ended.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_is_checked_before_it_is_used(tmp_path, as_json):
    file = tmp_path / "policy.yaml"
    words = [*PROGRAM, "policy", "check", str(file), *(["--json"] if as_json else [])]

    def check(text):
        file.write_text(text)
        return subprocess.run(words, capture_output=True, text=True, check=False)

    good = check(SECOND)
    assert (good.returncode, good.stderr) == (0, "")
    broken = check("rules: {user_at_most: 1}\nlimits: {}\n")
    assert broken.returncode == 1
    assert len(broken.stderr.splitlines()) == 2
    if as_json:
        assert json.loads(good.stdout)["policy"]["limits"][0]["id"] == "per-user"
        assert len(json.loads(broken.stdout)["errors"]) == 2
    else:
        assert "50 requests a second per user" in good.stdout
        assert broken.stdout == ""
