"""gevent and eventlet: threads become greenlets, before or after heatshield is there."""

import signal
from collections import Counter
from importlib.util import find_spec

import pytest

CALL = "POST /purchases/<user>"

PATCH = {
    "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
    "eventlet": "import eventlet\neventlet.monkey_patch()\n",
}

INSTRUMENT = "import heatshield\nheatshield.instrument()\n"

SHOP = """
import logging, os, sys, time
from flask import Flask

app = Flask(__name__)

@app.post("/purchases/<user>")
def buy(user):
    time.sleep(0.05)  # other requests run meanwhile
    logging.getLogger("shop").warning("bought by %s", user)
    return str(os.getpid())
"""

SERVE = {
    "gevent": """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
""",
    "eventlet": """
from eventlet import listen, wsgi
wsgi.server(listen(("127.0.0.1", int(sys.argv[1]))), app, log_output=False)
""",
}

GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "shop:app")


def needs(library):
    return pytest.mark.skipif(
        find_spec(library) is None, reason=f"{library} is not installed: pip install {library}"
    )


LIBRARIES = [pytest.param(library, marks=needs(library)) for library in PATCH]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("order", ["patched first", "patched later", "heatshield run"])
def test_a_server_of_greenlets_sends_every_span_and_log_and_follows_the_breakers(
    deploy, until, purchases, instances, collector, tmp_path, library, order
):
    steps = {
        "patched first": PATCH[library] + INSTRUMENT,
        "patched later": INSTRUMENT + PATCH[library],
        "heatshield run": PATCH[library],
    }
    (tmp_path / "serve.py").write_text(steps[order] + SHOP + SERVE[library])
    server = deploy("serve.py", "{port}", instrumented=order == "heatshield run")
    server.buy_of_each_of(1)
    until(lambda: len(instances(CALL)[0]) == 1)
    server.buy_of_each_of(1)
    assert server.end() < 5
    assert server.process.returncode == -signal.SIGTERM

    once = Counter(server.bought)
    assert purchases(CALL) == (once, once)
    following, of_spans = instances(CALL)
    assert set(following) == of_spans


WORKERS = [
    pytest.param("gevent", (), id="gevent", marks=needs("gevent")),
    pytest.param("gevent", ("--preload",), id="gevent --preload", marks=needs("gevent")),
]


@pytest.mark.parametrize(("kind", "more"), WORKERS)
def test_gunicorns_workers_of_greenlets(deploy, until, purchases, instances, tmp_path, kind, more):
    (tmp_path / "shop.py").write_text(SHOP)
    server = deploy(*GUNICORN, "-k", kind, "-w", "2", *more)
    until(lambda: len(instances(CALL)[0]) == 2, timeout_s=30)  # before any request
    server.buy_of_each_of(2)
    assert server.end() < 5
    assert server.process.returncode == 0

    once = Counter(server.bought)
    assert purchases(CALL) == (once, once)
    following, of_spans = instances(CALL)
    assert set(following) == of_spans
