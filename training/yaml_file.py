"""YAML as settings need it: mappings, lists and plain values. Whatever lets a small file grow large is refused.

PyYAML's safe loader runs no code, but it follows aliases, which multiply, nests until the stack is full, and lets
through what Python raises on dates, numbers and tags that are none.
"""

from typing import Any

import yaml

MAX_DEPTH = 20  # of sections and lists in each other
MAX_DIGITS = 100  # of a number


class PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, endless nesting, endless numbers, and two values for one key."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node of the file; see PyYAML's composer."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", event.start_mark)  # type: ignore[arg-type]
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nests too deep", event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node; see PyYAML's constructor."""
        if isinstance(node, yaml.ScalarNode) and node.tag != STRING_TAG and len(node.value) > MAX_DIGITS:
            raise yaml.constructor.ConstructorError(None, None, "a number without end", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:  # 2001-99-99, !!int ""
            raise yaml.constructor.ConstructorError(None, None, "a value that is none", node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        """A mapping; see PyYAML's constructor."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(names)) < len(names):
            raise yaml.constructor.ConstructorError(None, None, "one key twice", node.start_mark)
        found: dict = super().construct_mapping(node, deep)
        return found


STRING_TAG = "tag:yaml.org,2002:str"


def parse_yaml(content: bytes) -> Any:
    """The value that a YAML file stands for.

    Raises:
        yaml.YAMLError: it is no YAML in UTF-8 or UTF-16, or uses what settings don't need.
    """
    try:
        return yaml.load(content, PlainLoader)  # a safe loader
    except UnicodeDecodeError as error:
        raise yaml.YAMLError("no text") from error
