"""A stop that takes longer than it may, and a start that fails, in a real server's process."""

import signal
import threading
import time

import pytest

from heatshield_collector.app import Collector
from heatshield_collector.server import StartError, listen, serve
from heatshield_collector.settings import CollectorSettings

STUCK_S = 20.0


@pytest.mark.parametrize(
    ("stuck_in", "said"),
    [
        ("pipeline", "the queue did not reach the disk within"),
        ("journal", "the queue did not reach the disk within"),
        ("retention", "everything acknowledged is on the disk, but retention was still"),
        ("store", "everything acknowledged is on the disk, but the store was still"),
    ],
)
def test_an_end_that_takes_too_long_says_what_it_waited_for(tmp_path, stuck_in, said):
    settings = CollectorSettings(data=str(tmp_path), http="127.0.0.1:0", grpc="off")
    collector, stuck, ended = Collector(settings), threading.Event(), threading.Event()

    def started():
        close = collector._store.close

        def close_and_tell():
            close()
            ended.set()

        collector._store.close = close_and_tell
        part = getattr(collector, f"_{stuck_in}")
        name = {"retention": "join", "store": "close"}.get(stuck_in, "stop")
        whole = getattr(part, name)

        def hang():
            stuck.wait(STUCK_S)
            whole()

        setattr(part, name, hang)
        signal.raise_signal(signal.SIGTERM)

    try:
        with pytest.raises(StartError, match=said):
            serve(collector, listen(settings.http), started, drain_s=1.0)
    finally:
        stuck.set()
        assert ended.wait(STUCK_S)


def test_a_disk_that_hangs_holds_up_the_end_for_no_longer_than_the_drain(tmp_path):
    settings = CollectorSettings(data=str(tmp_path), http="127.0.0.1:0", grpc="off")
    collector, stuck, began_s = Collector(settings), threading.Event(), []

    def started():
        close = collector._store.close

        def hang():
            stuck.wait(STUCK_S)
            close()

        collector._store.close = hang
        began_s.append(time.monotonic())
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StartError, match=r"store was still being closed 0\.3 s"):
        serve(collector, listen(settings.http), started, drain_s=0.3)
    assert time.monotonic() - began_s[0] < STUCK_S / 4
    stuck.set()


def test_what_a_stop_raises_is_raised(tmp_path):
    settings = CollectorSettings(data=str(tmp_path), http="127.0.0.1:0", grpc="off")
    collector = Collector(settings)

    def started():
        def fail():
            raise OSError("the disk is gone")

        collector._store.close = fail
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(OSError, match="the disk is gone"):
        serve(collector, listen(settings.http), started)
