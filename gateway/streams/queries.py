"""What may be asked of a stream behind the `?`, and the data of its frames as clients get them."""

import difflib
from typing import Any

from pydantic import BaseModel, Field

from domain.events import EVENT_TYPES
from domain.ids import TOKEN
from gateway.parameters import Flag, Query
from gateway.problems import Problem

NAMES_MAX = 100


class RunStreamQuery(Query):
    """What may be asked of the stream of one run."""

    after: str | None = Field(default=None, max_length=200)
    """Tell what comes after the event with this id. `Last-Event-ID` counts more."""
    last_event_id: str | None = Field(default=None, max_length=200)
    """The same, for clients that cannot set headers."""
    live: Flag = False
    """Also what is said of replies in the making and of running calls."""
    follow: Flag = False
    """Stay open after the end of a turn, for the next one."""
    types: str | None = Field(default=None, max_length=4_000)
    """Only events of these types, separated by commas; one that ends in `.` is a beginning."""
    job: str | None = Field(default=None, max_length=64)
    """The job of the run: with it, the run may be one whose start is not handled yet."""


class JobStreamQuery(Query):
    """What may be asked of the stream of one job."""

    after: str | None = Field(default=None, max_length=200)
    """Tell what comes after the event with this id. `Last-Event-ID` counts more."""
    last_event_id: str | None = Field(default=None, max_length=200)
    """The same, for clients that cannot set headers."""
    live: Flag = False
    """Also what is said of replies in the making and of running calls."""
    follow: Flag = False
    """Stay open after the end of a turn, for the next one."""
    types: str | None = Field(default=None, max_length=4_000)
    """Only events of these types, separated by commas; one that ends in `.` is a beginning."""
    run: list[str] = Field(default=[], max_length=NAMES_MAX)
    """Only these runs."""


class TenantStreamQuery(JobStreamQuery):
    """What may be asked of the stream of everything."""

    job: list[str] = Field(default=[], max_length=NAMES_MAX)
    """Only these jobs."""


class HelloFrame(BaseModel):
    """`hello`: what the stream is of, and where it begins."""

    tenant: str | None = None
    job: str | None = None
    run: str | None = None
    cursor: str


class EventFrame(BaseModel):
    """Every event, under the name of its type."""

    run: str
    job: str
    expert: str
    parent: str | None
    version: int
    at_ms: int
    event: dict[str, Any]


class HeartbeatFrame(BaseModel):
    """`heartbeat`: the stream lives, and has come to here."""

    cursor: str


class EndFrame(BaseModel):
    """`end`: the turn is over."""

    run: str
    job: str
    status: str


class ResetFrame(BaseModel):
    """`reset`: the place that was asked for cannot be honoured; all is told from the start."""

    tenant: str | None = None
    job: str | None = None
    run: str | None = None
    reason: str
    cursor: str


class GoodbyeFrame(BaseModel):
    """`goodbye`: the gateway cuts the stream (`slow`, `closing`); it goes on from this cursor."""

    reason: str
    cursor: str


class ProblemFrame(BaseModel):
    """`problem`: something cannot be told."""

    code: str
    detail: str
    run: str | None = None
    job: str | None = None


class SoFarFrame(BaseModel):
    """`so_far`: a reply in the making from its start, or the end of a running call's output."""

    run: str
    job: str
    step: int | None = None
    attempt: int | None = None
    kind: str | None = None
    part: int | None = None
    tool: str | None = None
    call: str | None = None
    offset: int | None = None
    text: str


FRAMES: dict[str, type[BaseModel]] = {
    "hello": HelloFrame,
    "event": EventFrame,
    "heartbeat": HeartbeatFrame,
    "so_far": SoFarFrame,
    "end": EndFrame,
    "reset": ResetFrame,
    "goodbye": GoodbyeFrame,
    "problem": ProblemFrame,
}
"""The data of the frames; `live` carries what whoever speaks says, with `run` and `job`."""


def wanted_types(asked: str | None) -> tuple[frozenset[str], tuple[str, ...]]:
    """The types and the beginnings of types that are asked for.

    Raises:
        Problem: no event has such a type.
    """
    names = [name.strip() for name in asked.split(",")] if asked else []
    for name in names:
        known = name in EVENT_TYPES or (
            name.endswith(".") and any(kind.startswith(name) for kind in EVENT_TYPES)
        )
        if not known:
            raise _no_such_type(name)
    prefixes = tuple(name for name in names if name.endswith("."))
    return frozenset(names) - frozenset(prefixes), prefixes


def wanted_names(field: str, names: list[str]) -> frozenset[str]:
    """The runs or jobs that are asked for.

    Raises:
        Problem: one of them cannot be a name.
    """
    for name in names:
        if TOKEN.fullmatch(name) is None:
            raise Problem(422, "invalid", f"{field} {name!r} cannot be the name of a {field}.")
    return frozenset(names)


def _no_such_type(name: str) -> Problem:
    beginnings = {f"{kind.split('.')[0]}." for kind in EVENT_TYPES}
    near = difflib.get_close_matches(name, [*EVENT_TYPES, *sorted(beginnings)], n=1, cutoff=0.4)
    hint = f" Is {near[0]} meant?" if near else " See docs/events.md for those there are."
    return Problem(422, "invalid", f"types: there is no event type {name!r}.{hint}")
