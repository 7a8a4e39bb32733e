"""Which events of a log are meant: by type, by step, by an expression. Not their printing."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from domain.errors import Rejected
from domain.ids import step_of
from peritus.feed import Heard

STEPS = re.compile(r"(?:(>=|<=|>|<)?(\d{1,9})|(\d{1,9})-(\d{1,9}))")
EXPRESSION = re.compile(
    r"\s*((?:\.[A-Za-z_][A-Za-z0-9_]*|\[\d*\])+)\s*(==|!=|>=|<=|>|<)\s*(.*?)\s*"
)
PART = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d*)\]")

Test = Callable[[Any], bool]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda found, wanted: found == wanted,
    "!=": lambda found, wanted: found != wanted,
    ">": lambda found, wanted: found > wanted,
    ">=": lambda found, wanted: found >= wanted,
    "<": lambda found, wanted: found < wanted,
    "<=": lambda found, wanted: found <= wanted,
}


class Entry(NamedTuple):
    """An event and the step of its run that it belongs to; 0 before the first."""

    heard: Heard
    step: int

    @property
    def facts(self) -> dict[str, Any]:
        """What an expression looks at: the event's fields, and below them those of its line."""
        line = self.heard.json
        event = line.pop("event")
        return {**line, "step": self.step, **event}


def entries(found: list[Heard]) -> list[Entry]:
    """Each event with its step."""
    now: dict[str, int] = {}
    made: list[Entry] = []
    for heard in found:
        run, event = heard.ref.run, heard.event
        step = getattr(event, "step", None)
        if not isinstance(step, int):
            call = getattr(event, "call", None)
            step = (step_of(call) if isinstance(call, str) else 0) or now.get(run, 0)
        now[run] = max(step, now.get(run, 0))
        made.append(Entry(heard, step))
    return made


def step_test(text: str) -> Callable[[int], bool]:
    """A test of steps: `5`, `>5`, `>=5`, `<5`, `<=5` or `1-10`.

    Raises:
        Rejected: it is none of these.
    """
    found = STEPS.fullmatch(text.replace(" ", ""))
    if found is None:
        raise Rejected("bad_filter", f"--step {text!r} is none of 5, >5, >=5, <5, <=5 and 1-10")
    operator, number, first, last = found.groups()
    if number is None:
        low, high = int(first), int(last)
        return lambda step: low <= step <= high
    compare, wanted = OPERATORS[operator or "=="], int(number)
    return lambda step: compare(step, wanted)


def expression_test(text: str) -> Test:
    """A test of an event: `.path op value`, such as `.usage.input > 1000`.

    A path has names, `[2]` for an element and `[]` for any. A value is JSON, or else a text.

    Raises:
        Rejected: it is no such expression.
    """
    found = EXPRESSION.fullmatch(text)
    if found is None or not found[3]:
        message = f"--filter {text!r} is no expression such as '.usage.input > 1000'"
        raise Rejected("bad_filter", message)
    path = [name or index for name, index in PART.findall(found[1])]
    steps = [part.startswith(".") for part in re.findall(r"\.\w+|\[\d*\]", found[1])]
    compare, wanted = OPERATORS[found[2]], _value(found[3])
    return Expression(tuple(zip(steps, path, strict=True)), compare, wanted)


@dataclass(frozen=True, slots=True)
class Expression:
    """A path, how what is there is compared, and with what."""

    path: tuple[tuple[bool, str], ...]  # whether it is a name; else an index, or none for any
    compare: Callable[[Any, Any], bool]
    wanted: Any

    def __call__(self, facts: object) -> bool:
        """Whether something at the path compares so."""
        return any(self._holds(found) for found in _at(facts, self.path))

    def _holds(self, found: object) -> bool:
        if isinstance(found, bool) is not isinstance(self.wanted, bool):
            return self.compare is OPERATORS["!="]
        try:
            return self.compare(found, self.wanted)
        except TypeError:  # a text and a number have no order
            return False


def _at(value: object, path: tuple[tuple[bool, str], ...]) -> Iterator[object]:
    if not path:
        yield value
        return
    (is_name, part), rest = path[0], path[1:]
    if is_name and isinstance(value, dict):
        table = cast("dict[str, object]", value)
        if part in table:
            yield from _at(table[part], rest)
    elif not is_name and isinstance(value, list):
        items = cast("list[object]", value)
        chosen = items if not part else items[int(part) : int(part) + 1]
        for item in chosen:
            yield from _at(item, rest)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")


def with_context(matching: list[int], count: int, context: int) -> list[int]:
    """The places that match, and so many before and after each."""
    near = {
        place
        for match in matching
        for place in range(max(0, match - context), min(count, match + context + 1))
    }
    return sorted(near)
