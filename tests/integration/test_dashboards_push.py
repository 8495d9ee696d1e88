"""`heatshield dashboards`: files written, and dashboards pushed to something that speaks Grafana's
HTTP API."""

import http.server
import json
import threading

import pytest
from typer.testing import CliRunner

from heatshield.cli.app import app
from heatshield_dashboards.hot_users import UID


class Grafana:
    """Answers ``POST /api/dashboards/db`` and remembers what came."""

    def __init__(self):
        self.received = []
        self.status = 200
        self.answer = {"status": "success", "uid": UID, "url": f"/d/{UID}/hot-users"}


@pytest.fixture
def grafana():
    state = Grafana()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.received.append((self.path, self.headers["Authorization"], json.loads(body)))
            content = json.dumps(state.answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Keep the test's output to the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
        server.shutdown()


def run(*arguments):
    return CliRunner().invoke(app, ["dashboards", *arguments])


def test_push_sends_the_dashboard_over_the_one_with_its_uid(grafana):
    result = run("push", "--url", grafana.url, "--token", "t-1", "--folder", "f-1")
    assert result.exit_code == 0, result.output
    path, authorization, body = grafana.received[0]
    assert path == "/api/dashboards/db"
    assert authorization == "Bearer t-1"
    assert body["overwrite"] is True
    assert body["folderUid"] == "f-1"
    assert body["dashboard"]["uid"] == UID
    assert body["dashboard"]["id"] is None
    assert result.stdout == f"Hot users: {grafana.url}/d/{UID}/hot-users\n"


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Unauthorized"), (412, "name-exists"), (500, "broken")]
)
def test_a_refusal_of_grafana_is_one_line(grafana, status, message):
    grafana.status, grafana.answer = status, {"message": message}
    result = run("push", "--url", grafana.url, "--token", "t-1")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_grafana_is_one_line():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
    result = run("push", "--url", f"http://127.0.0.1:{port}", "--token", "t-1")
    assert result.exit_code == 1
    assert f"no Grafana answers at http://127.0.0.1:{port}" in result.stderr


def test_provision_writes_the_files_and_says_which(tmp_path):
    result = run("provision", str(tmp_path / "g"), "--prometheus", "http://prom:9")
    assert result.exit_code == 0, result.output
    written = sorted(p for p in (tmp_path / "g").rglob("*") if p.is_file())
    assert sorted(result.stdout.split()) == [str(path) for path in written]
    provider = (tmp_path / "g/provisioning/dashboards/heatshield.yaml").read_text()
    assert f"path: {tmp_path}/g/dashboards" in provider
    source = (tmp_path / "g/provisioning/datasources/heatshield.yaml").read_text()
    assert "url: http://prom:9" in source


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "g").write_text("a file")
    result = run("provision", str(tmp_path / "g"))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
