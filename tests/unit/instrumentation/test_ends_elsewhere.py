"""Blocks that are entered in one context and end in another, as generators are driven."""

import asyncio
import logging
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from opentelemetry.context import get_current
from opentelemetry.trace import get_tracer

import heatshield
from heatshield.context.attachment import reset
from heatshield.names import ENDUSER_ID

SOURCES = Path(heatshield.__file__).parent


def user_block():
    with heatshield.user("u-1"):
        yield "in"


def guard_block():
    with heatshield.guard("refresh"):
        yield "in"


def deadline_block():
    with heatshield.deadline(5):
        yield "in"


def span_block():
    with get_tracer("test").start_as_current_span("inner"):
        yield "in"


BLOCKS = (user_block, guard_block, deadline_block, span_block)


@pytest.fixture
def errors(caplog):
    """What OpenTelemetry has to say of contexts that are detached wrongly."""
    caplog.set_level(logging.ERROR, "opentelemetry.context")
    return lambda: caplog.records


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_may_end_in_another_context_than_it_began_in(service, errors, block):
    service()
    before = get_current()
    steps = block()
    copy_context().run(next, steps)
    copy_context().run(next, steps, None)
    assert not errors()
    assert get_current() is before


@pytest.mark.parametrize("block", BLOCKS[:3])
def test_a_task_that_inherits_a_block_and_ends_it_is_outside_of_it(service, errors, block):
    service()

    async def main():
        before, steps = get_current(), block()
        next(steps)

        async def end():
            next(steps, None)
            return get_current()

        assert await asyncio.create_task(end()) is before
        next(steps, None)

    asyncio.run(main())
    assert not errors()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_synchronous_dependency_of_fastapi_may_yield_in_a_block(service, errors, block):
    """It is entered and left in a copy of the request's context each, in worker threads."""
    service()
    app = FastAPI()

    @app.get("/")
    def root(step: Annotated[str, Depends(block)]):
        return step

    assert TestClient(app).get("/").json() == "in"
    assert not errors()


@pytest.mark.parametrize("block", BLOCKS)
def test_a_synchronous_generator_may_stream_within_a_block(service, errors, block):
    """Each of its steps runs in a copy of the request's context."""
    service()
    app = FastAPI()

    @app.get("/")
    def root():
        return StreamingResponse(block())

    assert TestClient(app).get("/").text == "in"
    assert not errors()


def test_who_is_named_in_a_synchronous_dependency_is_charged_with_the_request(service):
    shop_service = service()
    app = FastAPI()

    @app.get("/", dependencies=[Depends(user_block)])
    def root():
        with get_tracer("test").start_as_current_span("inner"):
            return "done"

    TestClient(app).get("/")
    for name in ("inner", "GET /"):
        assert shop_service.span(name).attributes[ENDUSER_ID] == "u-1"


def test_a_variable_is_restored_where_that_is_possible():
    variable = ContextVar("variable", default=0)
    reset(variable, variable.set(1))
    assert variable.get() == 0
    reset(variable, copy_context().run(variable.set, 2))
    assert variable.get() == 0


def test_nothing_of_ours_detaches_by_opentelemetry():
    """Its ``detach`` logs a traceback where a block ends in another context."""
    loose = [
        path.name
        for path in SOURCES.rglob("*.py")
        if "opentelemetry.context" in (text := path.read_text())
        and "detach(" in text
        and "heatshield.context.attachment" not in text
    ]
    assert loose == ["attachment.py"]
