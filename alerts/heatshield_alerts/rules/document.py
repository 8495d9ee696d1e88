"""A rule file's YAML → mappings, lists and texts, as Prometheus reads it.

Prometheus decodes every scalar into a field of type text, so a label is what was written: ``1.10``,
``0755``, ``12:30:45``, ``true`` and ``2020-01-01`` are texts, and YAML's types matter for null and
for the few numbers alone. Reading is as strict as there: a key that one mapping repeats is an
error, while a key that overrides what ``<<`` merges is not.
"""

import re
from typing import Any, Final, Self

import yaml

__all__ = ["Scalar", "compose_document", "read_document"]

_TAG: Final = "tag:yaml.org,2002:"
_TYPED: Final = ("int", "float", "bool", "timestamp")
_NULL: Final = re.compile(r"(~|null|Null|NULL|)\Z")
_OCTAL: Final = re.compile(r"([-+]?)0([0-7_]+)")


class Scalar(str):  # noqa: SLOT000 - type checkers see attributes of annotations alone
    """A scalar's text, as it was written.

    Attributes:
        is_null: whether it is null: ``~``, ``null`` or nothing at all, without quotes.
        is_plain: whether it stands without quotes, and so may be a number.
    """

    is_null: bool
    is_plain: bool

    def __new__(cls, text: str, *, is_null: bool = False, is_plain: bool = False) -> Self:
        """Make it of its text."""
        self = super().__new__(cls, text)
        self.is_null, self.is_plain = is_null, is_plain
        return self

    def as_int(self) -> int:
        """The whole number it is in Go's notation: ``3``, ``0x10``, ``0755``, ``1_000``; a fraction
        is cut off.

        Raises:
            ValueError: if it is no number, or a text in quotes.
        """
        if not self.is_plain:
            raise ValueError(f"{str(self)!r} is a text")
        octal = _OCTAL.fullmatch(self)
        try:
            return int(f"{octal[1]}0o{octal[2]}" if octal else self, 0)
        except ValueError:
            return int(float(self))


def read_document(text: str) -> Any:
    """The document as dictionaries, lists and :class:`Scalar`.

    Raises:
        yaml.YAMLError: if it is no YAML, has more than one document, or repeats a key.
    """
    return yaml.load(text, _TextLoader)  # noqa: S506 - derived from SafeLoader


def compose_document(text: str) -> yaml.Node | None:
    """The document as PyYAML's nodes, which know their lines; ``None``: it has none.

    Raises:
        yaml.YAMLError: as :func:`read_document`.
    """
    node: yaml.Node | None = yaml.compose(text, _TextLoader)
    return node


class _TextLoader(yaml.SafeLoader):
    """Leaves scalars as they were written."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as PyYAML has it

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping whose keys differ, before anything is merged into it."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                problem = f"key {name!r} is repeated"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return node

    def text(self, node: yaml.Node) -> Any:
        """A scalar as its text; a tag of no meaning changes nothing."""
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        is_null = node.tag == f"{_TAG}null"
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return Scalar(node.value, is_null=is_null, is_plain=is_plain)

    def typed(self, node: yaml.ScalarNode) -> Any:
        """A scalar with a type in its tag: it must be of that type, and is its text."""
        kind = node.tag.removeprefix(_TAG)
        try:
            getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(self, node)
        except (ValueError, KeyError, AttributeError):
            problem = f"{node.value!r} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        return self.text(node)

    def binary(self, node: yaml.ScalarNode) -> Any:
        """A text that is written in base64."""
        content: bytes = self.construct_yaml_binary(node)
        return Scalar(content.decode("utf-8", "replace"))


_TextLoader.add_implicit_resolver(f"{_TAG}null", _NULL, ["~", "n", "N", ""])
_TextLoader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), ["<"])
for _kind in ("null", "str", "merge", "value"):
    _TextLoader.add_constructor(f"{_TAG}{_kind}", _TextLoader.text)
for _kind in _TYPED:
    _TextLoader.add_constructor(f"{_TAG}{_kind}", _TextLoader.typed)
_TextLoader.add_constructor(f"{_TAG}binary", _TextLoader.binary)
_TextLoader.add_constructor(None, _TextLoader.text)
