"""One short run of the demo in protect: real processes, the real loop from request to breaker.

Times are not judged here: a busy machine would fail them. The demo itself judges them.
"""

import io

import pytest
from rich.console import Console

from heatshield_stickershop.demo.report import report
from heatshield_stickershop.demo.run import Acts, play
from heatshield_stickershop.demo.view import PlainView
from heatshield_stickershop.population import HOT_STICKERS, HOT_USER
from heatshield_stickershop.processes import ChildFailed

SECONDS = Acts(calm_s=8.0, hot_s=6.0)
"""What is usual for a user is known after five seconds; before, more must be harmed to act."""


@pytest.fixture(scope="module")
def shown():
    return io.StringIO()


@pytest.fixture(scope="module")
def protect(tmp_path_factory, shown):
    directory = tmp_path_factory.mktemp("demo") / "protect"
    view = PlainView(Console(file=shown, width=200))
    run = play("protect", directory, SECONDS, 1, view)
    return report(run, run)["protect"]


def test_the_hot_users_purchase_is_cut_in_every_service_and_nobody_elses(protect):
    breaker = protect["breaker"]
    assert (breaker["user"], breaker["service"]) == (HOT_USER, "shop")
    assert breaker["call"] == "POST /purchases"
    assert 0 < protect["detected_after_s"] <= protect["enforced_everywhere_after_s"]
    assert protect["hot_user_rejected"] > 0
    assert protect["others_rejected"] == 0
    assert protect["others_error_rate_during"] == 0


def test_the_evidence_is_a_request_that_wrote_the_whole_set(protect):
    assert len(protect["evidence_trace_id"]) == 32
    assert protect["evidence_elements"] >= HOT_STICKERS


def test_what_happened_was_said_as_it_happened(protect, shown):
    told = shown.getvalue()
    for part in (
        f"{HOT_USER} begins",
        "breaker opened",
        f"alert HarmfulUser firing {HOT_USER}",
        "every service process enforces it",
    ):
        assert part in told


def test_a_process_that_dies_ends_the_run_with_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("heatshield_stickershop.platform.redis_server_path", lambda: "/bin/false")
    view = PlainView(Console(file=io.StringIO()))
    with pytest.raises(ChildFailed, match="redis ended with status 1"):
        play("shadow", tmp_path / "shadow", SECONDS, 1, view)
