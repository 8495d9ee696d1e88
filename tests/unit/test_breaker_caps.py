"""Where the caps leave no room, the hottest users are those that are cut."""

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.contract import BreakerMode
from heatshield_alerts import BreakerControl, ChangeKind, Draft, Trip
from heatshield_alerts.caps import Caps
from heatshield_alerts.seen import Seen

USERS = 1_000


def draft(user: str, *, issuer: str = "rule:HarmfulUser", call: str = "POST /p", **more):
    key = CallKey(DEFAULT_TENANT, user, "shop", call)
    return Draft(key, issuer, threshold=0.9, cost_per_call=0.1, **more)


def acted(control: BreakerControl, asked: Draft, now: float, users: int = 10) -> list[str]:
    """As the collector carries a decision out; the kinds of what came of it."""
    changes = [*control.make_room(Trip(asked), now, users), control.act(Trip(asked), now, users)]
    return [change.kind.value for change in changes]


def cut(control: BreakerControl) -> list[str]:
    return sorted(entry.user for entry in control.snapshot().entries)


def test_a_decoy_makes_room_for_a_hotter_user():
    """Of ten active users rules may cut one; that must not be whoever came first."""
    control = BreakerControl(epoch=1)
    assert acted(control, draft("decoy", load=1.0), 0.0) == ["opened"]
    assert acted(control, draft("hog", load=3.0), 1.0) == ["closed", "opened"]
    assert cut(control) == ["hog"]
    assert acted(control, draft("decoy", load=1.0), 1.25) == ["refused"]
    assert acted(control, draft("rival", load=4.0), 2.0) == ["refused"]  # hardly hotter
    assert cut(control) == ["hog"]


def test_what_no_longer_burns_makes_room_first():
    control = BreakerControl(epoch=1)
    acted(control, draft("u-1", load=9.0), 0.0)
    for quarter in range(1, 43):  # no load, nothing refused: half-open
        control.tick(quarter / 4, Seen({}))
    assert acted(control, draft("u-2", load=1.0), 11.0) == ["closed", "opened"]


def test_a_user_who_makes_room_does_so_with_all_entries_and_only_where_that_is_enough():
    control = BreakerControl(epoch=1)
    for call in ("GET /a", "GET /b"):
        assert acted(control, draft("decoy", call=call, load=1.0), 0.0) == ["opened"]
    person = draft("of a person", issuer="human:ann")
    assert control.trip(person, 0.0, 10).kind is ChangeKind.OPENED
    assert acted(control, draft("hog", load=3.0), 1.0) == ["closed", "closed", "opened"]
    assert cut(control) == ["hog", "of a person"]


def test_nobody_makes_room_for_what_would_be_refused_all_the_same():
    control = BreakerControl(epoch=1)
    acted(control, draft("decoy", load=1.0), 0.0)
    (entry,) = [one for one in control.snapshot().entries if one.user == "decoy"]
    control.clear(entry.id, "ann", 1.0)
    acted(control, draft("hog", load=1.0), 2.0)
    assert acted(control, draft("decoy", load=9.0), 3.0) == ["refused"]  # a person let it in
    assert cut(control) == ["hog"]
    storm = BreakerControl(epoch=1, caps=Caps(new_per_minute=1))
    acted(storm, draft("decoy", load=1.0), 0.0)
    assert acted(storm, draft("hog", load=9.0), 1.0) == ["refused"]
    assert cut(storm) == ["decoy"]


def test_a_full_registry_makes_room_by_the_coolest_entry():
    control = BreakerControl(epoch=1, caps=Caps(entries=3))
    for at, load in enumerate((5.0, 1.0, 4.0)):
        acted(control, draft(f"u-{at}", load=load), 0.0, USERS)
    assert acted(control, draft("hog", load=9.0), 1.0, USERS) == ["closed", "opened"]
    assert cut(control) == ["hog", "u-0", "u-2"]


def test_what_only_flags_takes_no_place_from_what_refuses():
    control = BreakerControl(epoch=1)
    assert acted(control, draft("hog", load=3.0), 0.0) == ["opened"]
    flagged = draft("other", load=9.0, mode=BreakerMode.FLAG)
    assert acted(control, flagged, 1.0) == ["opened"]
    assert cut(control) == ["hog", "other"]
    assert acted(control, draft("hotter", load=5.0), 2.0) == ["closed", "opened"]
    assert cut(control) == ["hotter", "other"]
