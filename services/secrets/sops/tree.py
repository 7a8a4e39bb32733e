"""What a sops file holds, whatever its form: a tree of values that may be encrypted. No files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, Union

METADATA = "sops"
"""The name below which sops keeps what it needs itself."""

DEPTH_MAX = 100
"""How deep a file may be nested, in levels."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value. `text` is set where it is text, and may be an encrypted one.

    `said` is what counts of it towards the code over all values as long as it is in the clear.
    """

    text: str | None
    said: bytes


Node: TypeAlias = Union["dict[str, Node]", "tuple[Node, ...]", Leaf]
Branch: TypeAlias = dict[str, Node]


class Refused(Exception):
    """A file that is not used, and why, in words that show no value."""


def text_leaf(text: str) -> Leaf:
    """The leaf of a text."""
    return Leaf(text, text.encode("utf-8", "surrogatepass"))


def leaves(node: Node, path: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[str, Leaf]]:
    """Every value in order, with the names that lead to it: that of `a: {b: 1}` is `a:b:`.

    Raises:
        Refused: it is nested too deep.
    """
    if depth > DEPTH_MAX:
        message = f"it is nested in more than {DEPTH_MAX} levels"
        raise Refused(message)
    if isinstance(node, Leaf):
        yield "".join(f"{name}:" for name in path), node
    elif isinstance(node, dict):
        for name, below in node.items():
            yield from leaves(below, (*path, name), depth + 1)
    else:
        for below in node:
            yield from leaves(below, path, depth + 1)  # the place in a list is no part of the path
