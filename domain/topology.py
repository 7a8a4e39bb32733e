"""Which expert may call which, by their keys alone. Not which are defined, nor how deep it goes."""

import re
from collections.abc import Iterable, Mapping

KEY_CHARS_MAX = 511

_NAME = r"[a-z0-9][a-z0-9_.-]*"
_NUMBER = r"(?:0|[1-9]\d*)"
SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-[\w.-]+)?(?:\+[\w.-]+)?",
    re.ASCII,
)
_KEY = re.compile(rf"(?:@{_NAME}/)?{_NAME}(?:@{SEMVER.pattern}|@{_NAME})?", re.ASCII)


def key_problem(key: str) -> str | None:
    """Why a text cannot be the key of an expert; None if it can."""
    if _KEY.fullmatch(key) is not None and len(key) <= KEY_CHARS_MAX:
        return None
    return (
        f"{key!r} is not the key of an expert: [@scope/]name[@version|@tag], lower-case "
        f"letters, digits, '-', '_' and '.', at most {KEY_CHARS_MAX} characters"
    )


def scope_of(key: str) -> str:
    """The coordinator whose delegate an expert is; empty for a coordinator."""
    return key[1:].partition("/")[0] if key.startswith("@") else ""


def name_of(key: str) -> str:
    """The name in a key, without scope, version or tag."""
    rest = key.partition("/")[2] if key.startswith("@") else key
    return rest.partition("@")[0]


def edge_problem(caller: str, delegate: str) -> str | None:
    """Why one expert may not call another; None if it may.

    Calls go down to the caller's own scope, across to a sibling, or over to another coordinator.
    Versions of one expert are the same expert. Two that call each other are allowed: `depth_max`
    bounds how often.
    """
    scope, to_scope = scope_of(caller), scope_of(delegate)
    if (scope, name_of(caller)) == (to_scope, name_of(delegate)):
        return "an expert cannot delegate to itself"
    if to_scope and to_scope != (scope or name_of(caller)):
        return f"it is a delegate of {to_scope!r} only"
    if scope and not to_scope and name_of(delegate) == scope:
        return "a delegate cannot call its own coordinator"
    return None


def find_cycles(edges: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Circles of calls, sorted: at least one through every expert that is on any.

    Each is given once, from its first key in order; edges to unknown keys lead nowhere.
    """
    inner = _without_ends(edges)
    found: list[tuple[str, ...]] = []
    covered: set[str] = set()
    for start in sorted(inner):
        circle = () if start in covered else _shortest_way_back(inner, start)
        if circle:
            first = circle.index(min(circle))
            found.append(circle[first:] + circle[:first])
            covered.update(circle)
    return tuple(sorted(found))


def _without_ends(edges: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The edges among those who call somebody who calls somebody, and so on: circles are there."""
    callers: dict[str, list[str]] = {key: [] for key in edges}
    calls: dict[str, int] = {}
    for key, delegates in edges.items():
        known = [delegate for delegate in set(delegates) if delegate in edges]
        calls[key] = len(known)
        for delegate in known:
            callers[delegate].append(key)
    ends = [key for key, count in calls.items() if not count]
    for end in ends:  # grows as it is walked
        for caller in callers[end]:
            calls[caller] -= 1
            if not calls[caller]:
                ends.append(caller)
    return {
        key: [one for one in dict.fromkeys(edges[key]) if calls.get(one)]
        for key, count in calls.items()
        if count
    }


def _shortest_way_back(edges: Mapping[str, Iterable[str]], start: str) -> tuple[str, ...]:
    """The experts from `start` to the one that calls it again; empty if none does."""
    before: dict[str, str] = {}
    waiting = [start]
    for key in waiting:  # grows as it is walked: breadth first
        for delegate in edges.get(key, ()):
            if delegate == start:
                way = [key]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return tuple(reversed(way))
            if delegate not in before and delegate in edges:
                before[delegate] = key
                waiting.append(delegate)
    return ()
