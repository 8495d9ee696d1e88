"""What another site's page makes a browser send is refused, and nothing else is."""

import pytest

from heatshield_collector.browser_guard import complaint

HERE = b"127.0.0.1:4318"


def refused(method="GET", **headers):
    rows = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return complaint(method, rows) is not None


@pytest.mark.parametrize(
    "host", [HERE, b"localhost:4318", b"LOCALHOST", b"[::1]:4318", b"127.9.9.9", b"localhost"]
)
def test_this_machines_own_names_are_answered(host):
    assert not refused(host=host)
    assert not refused("POST", host=host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:4318",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"10.0.0.7:4318",
        b"0.0.0.0:4318",
        b"",
        b"[",
        b"[::1",
        b"::1",
        b"127.0.0.1:x",
        b"127.0.0.1:4318:80",
        b"localhost@evil.example",
        b"evil.example/localhost",
        b"localhost, evil.example",
        b"localhost\x00",
        b"\xff",
        b"[::1%25lo]",
    ],
)
def test_other_hosts_and_what_is_no_host_are_refused(host):
    assert refused(host=host)


def test_a_request_without_a_host_or_with_two_is_refused():
    assert complaint("GET", []) is not None
    assert complaint("GET", [(b"host", HERE), (b"host", b"evil.example")]) is not None
    assert complaint("GET", [(b"host", HERE), (b"host", HERE)]) is not None


@pytest.mark.parametrize(
    "origin",
    [
        b"http://evil.example",
        b"null",
        b"",
        b"http://127.0.0.1:3000",
        b"https://127.0.0.1:4318",
        b"http://127.0.0.1:4318, http://evil.example",
        b"\xff",
    ],
)
def test_another_origin_is_refused(origin):
    assert refused("POST", host=HERE, origin=origin)


def test_the_collectors_own_pages_and_a_typed_address_are_answered():
    assert not refused("POST", host=HERE, origin=b"http://" + HERE, sec_fetch_site=b"same-origin")
    assert not refused(host=HERE, sec_fetch_site=b"none")


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"", b"rubbish", b"same-origin, x"])
def test_what_a_page_of_another_site_loads_is_refused(site):
    """As an image, a script, a form or by fetch."""
    assert refused(host=HERE, sec_fetch_site=site)
    image = {"sec_fetch_mode": b"no-cors", "sec_fetch_dest": b"image"}
    assert refused(host=HERE, sec_fetch_site=site, **image)
    frame = {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"iframe"}
    assert refused(host=HERE, sec_fetch_site=site, **frame)
    form = {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"document"}
    assert refused("POST", host=HERE, sec_fetch_site=site, **form)


def test_a_link_that_a_person_follows_is_answered():
    followed = {"sec_fetch_mode": b"navigate", "sec_fetch_dest": b"document"}
    assert not refused(host=HERE, sec_fetch_site=b"cross-site", **followed)
