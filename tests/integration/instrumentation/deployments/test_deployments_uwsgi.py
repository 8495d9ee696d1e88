"""uWSGI forks its workers in C, and runs Python's fork hooks at most in the child."""

import signal
from collections import Counter
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("pyuwsgi") is None, reason="uWSGI is not installed: pip install pyuwsgi"
)

LOADING = """
import logging
for number in range(50):
    logging.getLogger("shop").warning("loading")
"""

UWSGI = (
    "-c", "import sys, pyuwsgi; sys.argv[0] = 'uwsgi'; sys.exit(pyuwsgi.run())",
    "--http-socket", "127.0.0.1:{port}", "--die-on-term", "--need-app",
)  # fmt: skip
SHOP = ("--module", "wsgi_shop:app")
FLASK = ("--module", "flask_shop:app")

FLASK_APP = """
import logging, os
from flask import Flask

app = Flask(__name__)

@app.post("/purchases/<user>")
def buy(user):
    logging.getLogger("shop").warning("bought by %s", user)
    return str(os.getpid())
"""

MODES = [
    pytest.param((*SHOP, "--master", "--processes", "2"), 2, "buy", id="master"),
    pytest.param((*SHOP, "--master", "--processes", "2", "--lazy-apps"), 2, "buy", id="lazy-apps"),
    pytest.param((*SHOP, "--master", "--processes", "2", "--threads", "4"), 2, "buy", id="threads"),
    pytest.param(
        (*SHOP, "--master", "--processes", "2", "--py-call-osafterfork"), 2, "buy", id="osafterfork"
    ),
    pytest.param(SHOP, 1, "buy", id="alone"),
    pytest.param((*FLASK, "--master", "--processes", "2"), 2, "POST /purchases/<user>", id="flask"),
]


@pytest.fixture
def serve(deploy, tmp_path):
    """Start uWSGI with an application that logs while it is loaded."""
    with (tmp_path / "wsgi_shop.py").open("a") as file:
        file.write(LOADING)
    (tmp_path / "flask_shop.py").write_text(FLASK_APP)
    return lambda command: deploy(*UWSGI, *command)


@pytest.mark.parametrize(("command", "workers", "span_name"), MODES)
def test_each_worker_is_an_instance_that_sends_all_its_spans_once(
    serve, until, purchases, instances, collector, command, workers, span_name
):
    server = serve(command)
    server.buy_of_each_of(workers)
    until(lambda: len(instances(span_name)[0]) == workers)  # each follows the breakers
    server.buy_of_each_of(workers)
    server.end(signal.SIGTERM)

    once = Counter(server.bought)
    assert purchases(span_name) == (once, once)
    following, of_spans = instances(span_name)
    assert set(following) == of_spans
    assert len(of_spans) == workers
    assert len({span.span_id for _, span in collector.spans}) == len(collector.spans)
