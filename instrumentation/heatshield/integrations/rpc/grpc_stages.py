"""Surrounds a gRPC handler with a stage, whichever of the kinds of handlers it is.

gRPC tells by a function's kind how it is to be called, so what surrounds it is of the same kind: a
function or a generator, on aio's server also a coroutine function (which may stream by ``read`` and
``write`` of its context) or an async generator.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Final, Protocol

import grpc

from heatshield.charges.steps import stepped
from heatshield.context.request import request_in
from heatshield.integrations.rpc.grpc_calls import Answer, answer_to

__all__ = ["Stage", "surrounded"]

Handler = Callable[..., Any]


class Stage(Protocol):
    """What happens around one run of a handler. Only the first two may raise."""

    def enter(self, servicer: Any) -> None:
        """Called before the handler; raises what refuses the call."""

    async def enter_async(self, servicer: Any) -> None:
        """The same for a coroutine, which may wait for the call's turn."""

    def within(self) -> AbstractContextManager[object]:
        """Entered around each step of the handler."""

    def passed(self) -> None:
        """Called for each message of a stream, in or out."""

    def caught(self, error: BaseException) -> None:
        """Called with what leaves the handler."""

    def leave(self, servicer: Any) -> None:
        """Called at the end, when the status is set."""


def surrounded(handler: Any, stage: Stage) -> Any:
    """A method handler like ``handler``, run on ``stage``; ``None`` for none."""
    if handler is None:
        return None
    kind, make = _FACTORIES[bool(handler.request_streaming), bool(handler.response_streaming)]
    behavior = getattr(handler, kind)
    if getattr(behavior, "experimental_non_blocking", False):
        return handler  # it goes on after it has returned, and nothing tells when it ends
    return make(
        _surrounded(behavior, stage, handler),
        handler.request_deserializer,
        handler.response_serializer,
    )


_FACTORIES: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and responses are streams."""


def _surrounded(behavior: Handler, stage: Stage, handler: Any) -> Handler:
    if inspect.isasyncgenfunction(behavior):
        return _async_generator(behavior, stage, _counting_async(handler, stage))
    if inspect.iscoroutinefunction(behavior):
        return _coroutine(behavior, stage, _counting_async(handler, stage))
    if handler.response_streaming:
        return _generator(behavior, stage, _counting(handler, stage))
    return _function(behavior, stage, _counting(handler, stage))


def _function(behavior: Handler, stage: Stage, counting: Handler) -> Handler:
    @wraps(behavior)
    def handled(request: Any, servicer: Any) -> Any:
        try:
            stage.enter(servicer)
            with stage.within():
                return behavior(counting(request), servicer)
        except BaseException as error:
            stage.caught(error)
            answer = answer_to(error)
            if answer is None:
                raise
            return _abort(servicer, answer)
        finally:
            stage.leave(servicer)

    return handled


def _generator(behavior: Handler, stage: Stage, counting: Handler) -> Handler:
    @wraps(behavior)
    def handled(request: Any, servicer: Any) -> Iterator[Any]:
        try:
            stage.enter(servicer)
            with stage.within():
                messages = iter(behavior(counting(request), servicer))
            yield from _steps(messages, stage)
        except BaseException as error:
            stage.caught(error)
            answer = answer_to(error)
            if answer is None:
                raise
            _abort(servicer, answer)
        finally:
            stage.leave(servicer)

    return handled


def _steps(messages: Iterator[Any], stage: Stage) -> Iterator[Any]:
    try:
        while True:
            with stage.within():
                message = next(messages, _END)
            if message is _END:
                return
            stage.passed()
            yield message
    finally:
        close = getattr(messages, "close", None)
        if close is not None:
            with stage.within():
                close()


def _coroutine(behavior: Handler, stage: Stage, counting: Handler) -> Handler:
    @wraps(behavior)
    async def handled(request: Any, servicer: Any) -> Any:
        try:
            await stage.enter_async(servicer)
            with stage.within():
                return await stepped(behavior(counting(request), servicer), request_in())
        except BaseException as error:
            stage.caught(error)
            answer = answer_to(error)
            if answer is None:
                raise
            return await _abort_async(servicer, answer)
        finally:
            stage.leave(servicer)

    return handled


def _async_generator(behavior: Handler, stage: Stage, counting: Handler) -> Handler:
    @wraps(behavior)
    async def handled(request: Any, servicer: Any) -> AsyncIterator[Any]:
        try:
            await stage.enter_async(servicer)
            messages = behavior(counting(request), servicer)
            try:
                while True:
                    with stage.within():
                        message = await stepped(anext(messages, _END), request_in())
                    if message is _END:
                        break
                    stage.passed()
                    yield message
            finally:
                with stage.within():
                    await messages.aclose()
        except BaseException as error:
            stage.caught(error)
            answer = answer_to(error)
            if answer is None:
                raise
            await _abort_async(servicer, answer)
        finally:
            stage.leave(servicer)

    return handled


_END: Final = object()


# -- messages that come in -------------------------------------------------------------------------


def _counting(handler: Any, stage: Stage) -> Handler:
    def counted(messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            stage.passed()
            yield message

    return counted if handler.request_streaming else _as_it_is


def _counting_async(handler: Any, stage: Stage) -> Handler:
    async def counted(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            stage.passed()
            yield message

    return counted if handler.request_streaming else _as_it_is


def _as_it_is(request: Any) -> Any:
    return request


# -- refusals --------------------------------------------------------------------------------------


def _abort(servicer: Any, answer: Answer) -> Any:
    """Raises what ends the call with that status."""
    theirs = (
        tuple(servicer.trailing_metadata() or ()) if hasattr(servicer, "trailing_metadata") else ()
    )
    servicer.set_trailing_metadata((*theirs, *answer.trailing_metadata))
    return servicer.abort(answer.code, answer.details)


async def _abort_async(servicer: Any, answer: Answer) -> Any:
    theirs = tuple(servicer.trailing_metadata() or ())
    return await servicer.abort(answer.code, answer.details, (*theirs, *answer.trailing_metadata))
