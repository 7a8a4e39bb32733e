"""The three forms of a sops file, JSON, YAML and dotenv, read into one tree. Nothing is decrypted.

What a form makes of a number counts towards the code over all values, so it is said here the way
sops says it: Go's shortest decimal form. A file of YAML is read as a tree of plain words, never
into objects.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

from domain.errors import Unavailable
from services.secrets.sops.tree import METADATA, Branch, Leaf, Node, Refused, text_leaf

FLAT = f"{METADATA}_"
LIST = "__list_"
MAP = "__map_"

PLAIN_WORDS = {
    "null": b"",
    "~": b"",
    "": b"",
    "true": b"True",
    "false": b"False",
    ".inf": b"+Inf",
    "-.inf": b"-Inf",
    ".nan": b"NaN",
}
FRACTION = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")


def read_tree(path: Path, text: str) -> Branch:
    """The tree of a file, by the ending of its name.

    Raises:
        Refused: it is not of that form, or of none that is known.
        Unavailable: the parser of YAML is not installed.
    """
    form = FORMS.get(path.suffix.lower())
    if form is None:
        message = f"its form is told by the ending of its name: one of {', '.join(FORMS)}"
        raise Refused(message)
    try:
        return form(text)
    except RecursionError:
        message = "it is nested too deep"
        raise Refused(message) from None


def of_json(text: str) -> Branch:
    """The tree of a JSON object.

    Raises:
        Refused: it is none.
    """
    try:
        read: Any = json.loads(
            text,
            object_pairs_hook=lambda pairs: _named((name, _of_json(one)) for name, one in pairs),
            parse_int=_number,
            parse_float=_number,
            parse_constant=_number,
        )
    except ValueError as error:  # its text shows nothing of the document
        message = f"it is no JSON: {error}"
        raise Refused(message) from None
    return _top(_of_json(read))


def _of_json(value: Any) -> Node:  # noqa: ANN401 - what a parser gives
    if isinstance(value, str):
        return text_leaf(value)
    if isinstance(value, bool):
        return Leaf(None, str(value).encode())
    if value is None:
        return Leaf(None, b"")
    if hasattr(value, "append"):  # a list; its tables and numbers are read already
        return tuple(_of_json(one) for one in value)
    read: Node = value
    return read


def _number(text: str) -> Leaf:
    return Leaf(None, _decimal(text))


def _decimal(text: str) -> bytes:
    """A number as Go writes it: the shortest digits, no exponent."""
    value = float(text)
    if not isfinite(value):
        return text.encode()
    digits = format(Decimal(repr(value)), "f")
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits).encode()


def of_yaml(text: str) -> Branch:
    """The tree of a YAML document.

    Raises:
        Refused: it is none, or not one that sops writes.
        Unavailable: the parser is not installed.
    """
    try:  # by name: it is optional, and most processes need none
        yaml = importlib.import_module("yaml")
    except ImportError:
        message = (
            "a sops file of YAML needs the Python package `pyyaml`, which is not installed; "
            "install it, or keep the file as JSON"
        )
        raise Unavailable(message) from None
    try:
        node: Any = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = f" in line {at.line + 1}" if at is not None else ""
        message = f"it is not one YAML document{where}: {error.problem or error.context}"
        raise Refused(message) from None
    except yaml.YAMLError:
        message = "it holds characters that YAML does not allow"
        raise Refused(message) from None
    return _top(_of_yaml(node, set()))


def _of_yaml(node: Any, seen: set[int]) -> Node:  # noqa: ANN401 - a parser's node has no types
    if id(node) in seen:
        message = "it uses anchors, which sops does not write"
        raise Refused(message)
    seen.add(id(node))
    match getattr(node, "id", None):
        case "mapping":
            return _named((str(key.value), _of_yaml(value, seen)) for key, value in node.value)
        case "sequence":
            return tuple(_of_yaml(one, seen) for one in node.value)
        case "scalar" if node.style is None:
            return _of_plain(node.value)
        case "scalar":
            return text_leaf(node.value)
        case _:
            return Leaf(None, b"")


def _of_plain(text: str) -> Leaf:
    """A scalar without quotes: sops quotes every text that could be taken for something else."""
    if text in PLAIN_WORDS:
        return Leaf(None, PLAIN_WORDS[text])
    if FRACTION.fullmatch(text):
        return Leaf(None, _decimal(text))
    return text_leaf(text)


def of_dotenv(text: str) -> Branch:
    """The tree of lines NAME=value, where a line break within a value is written as two characters.

    Raises:
        Refused: a line is none.
    """
    pairs: list[tuple[str, Node]] = []
    own: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            message = f"line {number} is not NAME=value"
            raise Refused(message)
        value = value.replace("\\n", "\n")
        if name.startswith(FLAT):
            own[name.removeprefix(FLAT)] = value
        else:
            pairs.append((name, text_leaf(value)))
    tree = _named(pairs)
    if own:
        tree[METADATA] = _unflattened(own)
    return tree


def _unflattened(own: dict[str, str]) -> Branch:
    """`age__list_0__map_enc` as `age: [{enc: ...}]`; only one level of lists is ever needed."""
    found: Branch = {}
    lists: dict[str, dict[str, Branch]] = {}
    for name, value in sorted(own.items()):
        head, of_list, rest = name.partition(LIST)
        place, _, key = rest.partition(MAP)
        if of_list:
            lists.setdefault(head, {}).setdefault(place, {})[key] = text_leaf(value)
        else:
            found[name] = text_leaf(value)
    return found | {name: tuple(places.values()) for name, places in lists.items()}


def _named(pairs: Iterable[tuple[str, Node]]) -> Branch:
    found: Branch = {}
    for name, node in pairs:
        if name in found:
            message = f"it has {name!r} twice in one place"
            raise Refused(message)
        found[name] = node
    return found


def _top(node: Node) -> Branch:
    if not isinstance(node, dict):
        message = "it is no table of names at its top level"
        raise Refused(message)
    return node


FORMS: dict[str, Callable[[str], Branch]] = {
    ".json": of_json,
    ".yaml": of_yaml,
    ".yml": of_yaml,
    ".env": of_dotenv,
}
