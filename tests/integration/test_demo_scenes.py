"""A short scene of the demo with real processes: a reader's pages load whole."""

import io
from dataclasses import replace

from rich.console import Console

from heatshield_stickershop.arrivals import PICTURES
from heatshield_stickershop.demo.run import Acts, play
from heatshield_stickershop.demo.scenes import SCENES, figures
from heatshield_stickershop.demo.view import PlainView


def test_a_readers_pages_of_pictures_load_whole(tmp_path):
    short = replace(SCENES["page"], acts=Acts(calm_s=3.5, hot_s=6.5), load=SCENES["page"].load | {
        "page_every_s": 3.0
    })  # fmt: skip
    view = PlainView(Console(file=io.StringIO(), width=200))
    run = play("protect", tmp_path / "page", short.acts, 1, view, more=short.load)
    found = figures(short, run)
    assert found["pictures"] == found["pictures_loaded"] == 2 * PICTURES
    assert found["slowed_or_refused"] == []
    assert found["others_refused"] == 0
