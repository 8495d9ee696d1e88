"""Patches of libraries' classes that can be taken back."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from wrapt import FunctionWrapper

__all__ = ["Patches"]


class Patches:
    """What one integration has replaced, in order.

    Attributes of classes are replaced, so objects that exist already are covered.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by what ``wrapper`` makes of it.

        What the owner only inherits is left alone: the patch of its base class covers it.
        """
        original = vars(owner).get(name)
        if original is None:
            return
        ours = wrapper(_as_function(owner, original))
        setattr(owner, name, ours)
        self._replaced.append((owner, name, original, ours))

    def undo(self) -> None:
        """Put everything back that nobody else has patched since, the last first."""
        while self._replaced:
            owner, name, original, ours = self._replaced.pop()
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)


def _as_function(owner: Any, original: Any) -> Any:
    """What is called with an object of the class ``owner`` first, as a method's function is.

    OpenTelemetry patches with wrapt, whose wrappers know their object only if they are bound.
    """
    if not isinstance(owner, type) or not isinstance(original, FunctionWrapper):
        return original

    @wraps(original)
    def function(instance: Any, *args: Any, **kwargs: Any) -> Any:
        return original.__get__(instance, type(instance))(*args, **kwargs)

    return function
