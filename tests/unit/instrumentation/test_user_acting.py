"""For how long a user acts who was named by code."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanContext, SpanKind

import heatshield
from heatshield.context.request import Request, request_in, with_request
from heatshield.names import ENDUSER_ID
from heatshield.tracing.provider import PROVIDER


def acts():
    request = request_in()
    return None if request is None else request.user


def test_in_a_block_the_user_acts_until_its_end(service):
    service()
    with heatshield.user("u-1"):
        assert acts() == "u-1"
        with heatshield.user("u-2"):
            assert acts() == "u-2"
        assert acts() == "u-1"
    assert acts() is None


def test_a_thread_of_a_pool_is_nobodys_after_the_block(service):
    service()

    def work(user):
        with heatshield.user(user):
            return acts()

    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(work, user).result() for user in ("a", "b")] == ["a", "b"]
        assert pool.submit(acts).result() is None


def test_without_a_block_the_thread_keeps_its_user(service):
    """What the documentation warns of."""
    service()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(heatshield.user, "u-1").result()
        assert pool.submit(acts).result() == "u-1"


def test_tasks_side_by_side_have_users_of_their_own(service):
    service()

    async def work(user):
        with heatshield.user(user):
            await asyncio.sleep(0)
            child = await asyncio.create_task(of_child())
            return acts(), child

    async def of_child():
        await asyncio.sleep(0)
        return acts()

    async def main():
        done = await asyncio.gather(*(work(f"u-{n}") for n in range(5)))
        return done, acts()

    done, after = asyncio.run(main())
    assert done == [(f"u-{n}", f"u-{n}") for n in range(5)]
    assert after is None


def test_spans_of_a_block_are_his_and_the_others_are_not(service):
    made = service(user_header="x-user")
    app = application()
    assert get(app, "/as/bob", {"x-user": "root"}) == 200
    users = {span.name: span.attributes.get(ENDUSER_ID) for span in made.spans}
    assert users == {
        "GET /as/{user}": "root", "before": "root", "within": "bob", "after": "root",
    }  # fmt: skip


def test_with_a_key_both_are_masked_where_both_are_known(service):
    made = service(user_header="x-user", user_key="a key for tests")
    app = application()
    get(app, "/as/bob", {"x-user": "root"})
    users = {span.name: span.user for span in made.spans}
    assert users["before"] == users["after"] != users["within"]
    (span,) = [span for span in made.spans if span.name == "GET /as/{user}"]
    assert span.request.masked("bob and root") == f"{users['within']} and {users['before']}"


def test_the_user_of_a_block_travels_on(service):
    service()
    headers = {}
    with heatshield.user("u-1"):
        inject(headers)
    assert headers["baggage"] == "enduser.id=u-1"
    headers.clear()
    inject(headers)
    assert "baggage" not in headers


def test_a_refused_user_is_not_left_behind(service):
    made = service()
    made.trip("u-1", "work")
    with heatshield.guard("work"):
        with pytest.raises(heatshield.BreakerOpen):
            heatshield.user("u-1")
        assert acts() is None


@pytest.mark.parametrize("user", ["", 1.5, None])
def test_who_is_no_user_makes_a_block_of_nobody(service, user):
    service()
    with heatshield.user(user):
        assert acts() is None


def test_where_nothing_is_instrumented_a_block_does_nothing():
    with heatshield.user("u-1") as nothing:
        assert nothing is None
        assert acts() is None


def test_an_error_in_the_block_goes_on_and_ends_it(service):
    service()
    with pytest.raises(ZeroDivisionError), heatshield.user("u-1"):
        1 / 0  # noqa: B018  # raises
    assert acts() is None


def application():
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/as/{user}")
    async def as_user(user: str):
        with heatshield.guard("before"):
            pass
        with heatshield.user(user), heatshield.guard("within"):
            pass
        with heatshield.guard("after"):
            pass

    return app


def get(app, path, headers):
    """One request over ASGI; its status."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"]


def test_a_span_links_to_the_untrusted_caller_once_however_often_the_call_is_named(service):
    service()
    caller = SpanContext(7, 7, is_remote=True)
    request = Request(caller=caller)
    span = PROVIDER.get_tracer("test").open("serve", SpanKind.SERVER, {}, with_request(request))
    request.enter("serve", span)
    request.enter("serve better", span)
    assert [link.context for link in span.links] == [caller]
    assert request.call == "serve better"
