"""Patches of a library's classes and modules, which can be taken back."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import NamedTuple, TypeVar, cast

from wrapt import FunctionWrapper

from heatshield.counters import COUNTERS

__all__ = [
    "Args", "AsyncOriginal", "AsyncWrapper", "Kwargs", "Original", "Patches", "Wrapper", "after",
    "after_async", "around", "around_async", "before",
]  # fmt: skip

Original = Callable[..., object]
"""A library's function or method; heatshield hands its arguments and its result on unread."""

AsyncOriginal = Callable[..., Awaitable[object]]
"""A library's coroutine function."""

Wrapper = Callable[[Original], Original]
"""Makes what replaces a library's function."""

AsyncWrapper = Callable[[AsyncOriginal], AsyncOriginal]
"""The same of a coroutine function."""

Args = tuple[object, ...]
Kwargs = dict[str, object]

T = TypeVar("T")
F = TypeVar("F", bound=Original)


class _Patch(NamedTuple):
    owner: object
    name: str
    original: object
    ours: object


class Patches:
    """The patches of one integration, in the order in which they were made.

    Attributes of classes and modules are replaced, so objects that exist already are covered.
    """

    def __init__(self) -> None:
        self._patches: list[_Patch] = []

    def wrap(self, owner: object, name: str, wrapper: Callable[[F], object]) -> None:
        """Replace ``owner.name`` by what ``wrapper`` makes of it.

        What ``owner`` only inherits is left alone: the patch of its base class covers it.
        """
        original: F | None = vars(owner).get(name)
        if original is None:
            return
        ours = wrapper(_as_function(owner, original))
        setattr(owner, name, ours)
        self._patches.append(_Patch(owner, name, original, ours))

    def undo(self) -> None:
        """Put the originals back, the last first; what others have patched since stays."""
        while self._patches:
            owner, name, original, ours = self._patches.pop()
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)


def _as_function(owner: object, original: F) -> F:
    """A method as a function whose first argument is the object, whatever wraps the method.

    OpenTelemetry patches with wrapt, whose wrappers know their object only if they are bound.
    """
    if not isinstance(owner, type) or not isinstance(original, FunctionWrapper):
        return original

    @wraps(original)
    def function(instance: object, *args: object, **kwargs: object) -> object:
        bound = cast("Original", original.__get__(instance, type(instance)))
        return bound(*args, **kwargs)

    return cast("F", function)


def _begun(
    begin: Callable[..., T | None], name: str, instance: object, args: Args, kwargs: Kwargs
) -> tuple[T | None, bool]:
    """What ``begin`` returns, and whether it made a mistake."""
    try:
        return begin(instance, args, kwargs), False
    except Exception:
        if not name:
            raise
        return None, True


def around(
    begin: Callable[..., T | None],
    end: Callable[..., object],
    failed: Callable[[T, BaseException], object],
    instead: Callable[[T, Args, Kwargs], tuple[Args, Kwargs]] | None = None,
    name: str = "",
) -> Wrapper:
    """A patch that follows each call of a method from its begin to its end.

    Args:
        begin: takes the object, its arguments as a tuple and as a dictionary; ``None`` lets the
            call run unseen. What it raises refuses the call, unless there is a ``name``.
        end: takes what ``begin`` returned, and the result.
        failed: takes what ``begin`` returned, and the error, which is raised afterwards.
        instead: takes what ``begin`` returned, and the arguments; returns those that the method
            gets instead. It must not raise.
        name: of an integration that refuses nothing: an error of ``begin`` lets the call run
            unseen, and is counted for it only where the library takes the call. What the library
            refuses, too, was the service's own mistake.
    """

    def wrap(original: Original) -> Original:
        @wraps(original)
        def followed(instance: object, *args: object, **kwargs: object) -> object:
            call, is_odd = _begun(begin, name, instance, args, kwargs)
            if call is None:
                result = original(instance, *args, **kwargs)
                if is_odd:
                    COUNTERS.error(name)
                return result
            if instead is not None:
                args, kwargs = instead(call, args, kwargs)
            try:
                result = original(instance, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            end(call, result)
            return result

        return followed

    return wrap


def around_async(
    begin: Callable[..., T | None],
    end: Callable[..., object],
    failed: Callable[[T, BaseException], object],
    instead: Callable[[T, Args, Kwargs], tuple[Args, Kwargs]] | None = None,
    name: str = "",
) -> AsyncWrapper:
    """:func:`around` for a method that returns an awaitable."""

    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def followed(instance: object, *args: object, **kwargs: object) -> object:
            call, is_odd = _begun(begin, name, instance, args, kwargs)
            if call is None:
                result = await original(instance, *args, **kwargs)
                if is_odd:
                    COUNTERS.error(name)
                return result
            if instead is not None:
                args, kwargs = instead(call, args, kwargs)
            try:
                result = await original(instance, *args, **kwargs)
            except BaseException as error:
                failed(call, error)
                raise
            end(call, result)
            return result

        return followed

    return wrap


def before(first: Callable[[], object]) -> Wrapper:
    """A patch that calls ``first`` before each call."""

    def wrap(original: Original) -> Original:
        @wraps(original)
        def followed(*args: object, **kwargs: object) -> object:
            first()
            return original(*args, **kwargs)

        return followed

    return wrap


def after(then: Callable[[], object]) -> Wrapper:
    """A patch that calls ``then`` after each call that raises nothing."""

    def wrap(original: Original) -> Original:
        @wraps(original)
        def followed(*args: object, **kwargs: object) -> object:
            result = original(*args, **kwargs)
            then()
            return result

        return followed

    return wrap


def after_async(then: Callable[[], object]) -> AsyncWrapper:
    """:func:`after` for a function that returns an awaitable."""

    def wrap(original: AsyncOriginal) -> AsyncOriginal:
        @wraps(original)
        async def followed(*args: object, **kwargs: object) -> object:
            result = await original(*args, **kwargs)
            then()
            return result

        return followed

    return wrap
