"""The policy file as it is watched: what comes into force, when, and what a broken file changes."""

from pathlib import Path

import pytest

from heatshield.clock import Instant, ManualClock
from heatshield_alerts.policy import NO_POLICY, Policy, PolicyError, load_text
from heatshield_collector.control.policy_watch import POLICY_KIND, PolicyWatch

GOOD = "rules: {users_at_most: 2}\n"
BETTER = "rules: {users_at_most: 3}\n"


class Control:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.followed: list[tuple[Policy, str, Policy | None]] = []
        self.kept: dict[str, str | None] = {}

    def follow_policy(
        self, policy: Policy, by: str, now: Instant, before: Policy | None = None
    ) -> None:
        assert now.monotonic_s >= 0
        self.followed.append((policy, by, before))

    def keep(self, kind: str, changed: dict[str, str | None]) -> None:
        assert kind == POLICY_KIND
        self.kept.update(changed)


class Watched:
    """A policy file, and the watch of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.control = Control()
        path.write_text(GOOD)
        self.watch = PolicyWatch(path, self.control, self.control, self.clock)  # type: ignore[arg-type]
        self.watch.begin({}, self.clock.now())

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            self.clock.advance(0.25)
            self.watch.look(self.clock.now())

    @property
    def most(self) -> int | None:
        return self.control.followed[-1][0].rules.users_at_most


@pytest.fixture
def file(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "policy.yaml")


def test_it_is_in_force_from_the_start_and_says_who(file: Watched) -> None:
    ((policy, by, before),) = file.control.followed
    assert policy.rules.users_at_most == 2
    assert (by, before) == (f"human:file {file.path}", NO_POLICY)
    assert file.control.kept == {"text": GOOD}


def test_a_change_is_in_force_after_two_looks_and_once(file: Watched) -> None:
    file.path.write_text(BETTER)
    file.look(1)
    assert file.most == 2
    file.look(1)
    assert file.most == 3
    file.look(5)
    assert len(file.control.followed) == 2


def test_an_editor_that_renames_a_new_file_into_place_is_followed(file: Watched) -> None:
    other = file.path.with_suffix(".new")
    other.write_text(BETTER)
    other.replace(file.path)
    file.look()
    assert file.most == 3


def test_a_file_half_written_is_not_taken_for_a_policy(file: Watched) -> None:
    file.path.write_text("rules: {}\n")  # so far
    file.look(1)
    file.path.write_text("rules: {}\nlimits: []\n")
    file.look(1)
    assert len(file.control.followed) == 1


@pytest.mark.parametrize("text", ["", "rules: {users_at_most: x}", "rules: [", "\0"])
def test_a_broken_file_changes_nothing_and_is_told_of(
    file: Watched, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.write_text(text)
    file.look(10)
    assert file.most == 2
    assert file.watch.failures == 1  # one version, however often it is looked at
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (note,) = file.watch.notes(file.clock.now())
    assert f"version {load_text(GOOD).version} stays in force" in note
    assert file.watch.view().errors


def test_a_file_that_is_gone_or_no_text_changes_nothing(file: Watched) -> None:
    file.path.unlink()
    file.look()
    assert "No such file" in file.watch.notes(file.clock.now())[0]
    file.path.write_bytes(b"\xff\xfe\x00")
    file.look()
    assert file.most == 2
    assert file.watch.failures == 2


def test_all_is_well_once_the_file_is_as_it_was(file: Watched) -> None:
    file.path.write_text("rules: [")
    file.look()
    file.path.write_text(GOOD)
    file.look(1)
    assert not file.watch.notes(file.clock.now())
    assert len(file.control.followed) == 1


def test_a_person_may_say_that_it_is_whole(file: Watched) -> None:
    file.path.write_text(BETTER)
    file.watch.look(file.clock.now(), is_whole=True)
    assert file.most == 3


def test_there_is_no_start_with_a_broken_file(tmp_path: Path) -> None:
    control, clock = Control(), ManualClock()
    path = tmp_path / "none.yaml"
    watch = PolicyWatch(path, control, control, clock)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="No such file"):
        watch.begin({}, clock.now())


def test_what_changed_while_no_collector_ran_is_told_against_what_was_in_force(
    file: Watched,
) -> None:
    file.path.write_text(BETTER)
    after = PolicyWatch(file.path, file.control, file.control, file.clock)  # type: ignore[arg-type]
    after.begin({"text": GOOD}, file.clock.now())
    assert file.control.followed[-1][2] == load_text(GOOD)


def test_so_is_a_policy_that_the_settings_name_no_longer(file: Watched) -> None:
    after = PolicyWatch(None, file.control, file.control, file.clock)  # type: ignore[arg-type]
    after.begin({"text": GOOD}, file.clock.now())
    assert file.control.followed[-1][:2] == (NO_POLICY, "human:settings")
    assert file.control.kept == {"text": None}
