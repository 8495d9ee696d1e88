"""Patches of libraries' classes that can be taken back."""

from collections.abc import Callable
from typing import Any

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
        ours = wrapper(original)
        setattr(owner, name, ours)
        self._replaced.append((owner, name, original, ours))

    def undo(self) -> None:
        """Put everything back that nobody else has patched since, the last first."""
        while self._replaced:
            owner, name, original, ours = self._replaced.pop()
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)
