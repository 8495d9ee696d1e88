"""The mode that a collector begins in: whichever was decided last."""

import logging

import pytest
from memory_store import MemoryStore
from moments import at

from heatshield.contract import PlatformMode
from heatshield_collector.control.platform_mode import ModeKeeper, mode_at_start
from heatshield_collector.store import KeptMode, StoreFullError


@pytest.mark.parametrize(
    ("configured", "kept", "expected"),
    [
        ("", None, "shadow"),
        ("protect", None, "protect"),
        ("", ("protect", ""), "protect"),
        ("protect", ("shadow", "protect"), "shadow"),
        ("protect", ("shadow", ""), "protect"),
        ("shadow", ("protect", ""), "shadow"),
        ("", ("protect", "protect"), "shadow"),
    ],
)
def test_the_mode_is_what_was_decided_last_by_a_person_or_in_the_settings(
    configured, kept, expected
):
    found = mode_at_start(configured, kept and KeptMode(*kept, 1, "human:ann"))
    assert found.mode.value == expected
    assert ("human:ann" in found.why) == (kept is not None and kept[1] == configured)


def test_what_a_person_set_is_found_again():
    store = MemoryStore()
    ModeKeeper(store, "protect")(PlatformMode.SHADOW, "human:ann", at(5.0))
    assert mode_at_start("protect", store.kept_mode()).mode is PlatformMode.SHADOW


def test_a_full_disk_keeps_no_one_from_switching_and_is_told(caplog):
    class Full(MemoryStore):
        def keep_mode(self, kept):  # noqa: ARG002 - it keeps none
            raise StoreFullError("full")

    with caplog.at_level(logging.ERROR):
        ModeKeeper(Full(), "")(PlatformMode.SHADOW, "human:ann", at(5.0))
    assert "forgotten at a restart" in caplog.text
