"""The API over real HTTP, and an address where no collector listens."""

import http.server
import json
import threading

import pytest
from cli_api import Api


@pytest.fixture
def api(monkeypatch):
    state = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = state.answer(self.command, self.path, dict(self.headers), body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  http.server's names

        def log_message(self, *_):
            """Keep the test's output to the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HEATSHIELD_ENDPOINT", state.endpoint)
        monkeypatch.setenv("COLUMNS", "160")
        yield state
        server.shutdown()


@pytest.fixture
def nobody(monkeypatch):
    """An endpoint at which nothing listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_address[1]
    monkeypatch.setenv("HEATSHIELD_ENDPOINT", f"http://127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}"
