"""What a stream tells, typed. Not how it is read: `sse` and `following` do that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from domain.envelope import decode_event
from domain.errors import IntegrityViolated
from domain.events import Event, OpaqueEvent
from peritus.client.sse import Message

DeltaKind = Literal["text", "thinking", "arguments"]
Ended = Literal["completed", "stopped", "failed", "cancelled", "deleted"]


@dataclass(frozen=True, slots=True)
class Hello:
    """A connection was made, the first or another one; what follows comes after `cursor`."""

    cursor: str
    job: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of the log. One that this release does not know is an `OpaqueEvent` (C17)."""

    cursor: str
    job: str
    run: str
    version: int
    at_ms: int
    event: Event
    expert: str = ""
    parent: str | None = None  # the run that asked for it; None for a root


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply in the making: never the record, and may be lost."""

    job: str
    run: str
    step: int
    attempt: int
    kind: DeltaKind
    part: int
    offset: int  # characters of this kind and part before it
    text: str
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of the output of a running call: never the record, and may be lost."""

    job: str
    run: str
    call: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class SoFar:
    """A part of a reply in the making as it is when the connection is made.

    Deltas go on at the end of `text`; what was heard of this part before is to be forgotten.
    """

    job: str
    run: str
    step: int
    attempt: int
    kind: DeltaKind
    part: int
    text: str
    tool: str = ""


@dataclass(frozen=True, slots=True)
class OutputSoFar:
    """The end of a running call's output as it is when the connection is made."""

    job: str
    run: str
    call: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of one run cannot be told, such as history that nobody can read; others go on."""

    cursor: str
    job: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Nothing was to be told for a while; all up to `cursor` was looked at."""

    cursor: str


@dataclass(frozen=True, slots=True)
class End:
    """A run came to rest."""

    cursor: str
    job: str
    run: str
    status: Ended


@dataclass(frozen=True, slots=True)
class Reset:
    """The place that was asked for cannot be gone on from: what follows is all there is.

    Whoever keeps what the stream told has to forget it.
    """

    cursor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Other:
    """Something that a later release tells."""

    name: str
    data: Mapping[str, Any]
    cursor: str | None = None


Frame = Hello | Heard | Delta | Output | SoFar | OutputSoFar | Trouble | Beat | End | Reset | Other


@dataclass(frozen=True, slots=True)
class Leave:
    """The gateway ends this connection: it is not for the reader. `code` is of a problem."""

    reason: str
    detail: str = ""
    problem: bool = False


def frame_of(message: Message) -> Frame | Leave:
    """What a message tells; one that cannot be understood is `Other`."""
    try:
        raw: object = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        raw = None
    data = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    build = BUILDERS.get(message.event, _heard if "event" in data else _other)
    try:
        return build(message, data)
    except (KeyError, TypeError, ValueError):
        return _other(message, data)


def _hello(message: Message, data: dict[str, Any]) -> Hello:
    cursor = message.id or str(data["cursor"])
    return Hello(cursor, data.get("job"), data.get("run"))


def _heard(message: Message, data: dict[str, Any]) -> Heard:
    return Heard(
        _id(message),
        data["job"],
        data["run"],
        data["version"],
        data["at_ms"],
        _event(data["event"]),
        data.get("expert") or "",
        data.get("parent"),
    )


def _event(raw: object) -> Event:
    try:
        return decode_event(raw)
    except IntegrityViolated:
        # Another release says more of it than this one knows: it is carried all the same (C17).
        body = dict(cast("dict[str, Any]", raw))
        return OpaqueEvent(type=str(body.pop("type")), body=body)


def _live(message: Message, data: dict[str, Any]) -> Frame:
    job, run = data["job"], data["run"]
    match data.get("type"):
        case "delta.v1":
            return Delta(
                job,
                run,
                step=data["step"],
                attempt=data["attempt"],
                kind=data["kind"],
                part=data["part"],
                offset=data["offset"],
                text=data["text"],
                tool=data.get("tool") or "",
            )
        case "tool_output.v1":
            return Output(job, run, data["call"], data["offset"], data["text"])
        case _:
            return _other(message, data)


def _so_far(_: Message, data: dict[str, Any]) -> SoFar | OutputSoFar:
    if "call" in data:
        names = ("job", "run", "call", "offset", "text")
        return OutputSoFar(*(data[name] for name in names))
    return SoFar(
        data["job"],
        data["run"],
        step=data["step"],
        attempt=data["attempt"],
        kind=data["kind"],
        part=data["part"],
        text=data["text"],
        tool=data.get("tool") or "",
    )


def _beat(message: Message, data: dict[str, Any]) -> Beat:
    return Beat(message.id or str(data["cursor"]))


def _end(message: Message, data: dict[str, Any]) -> End:
    return End(_id(message), data["job"], data["run"], data["status"])


def _reset(message: Message, data: dict[str, Any]) -> Reset:
    return Reset(message.id or str(data["cursor"]), str(data["reason"]))


def _goodbye(_: Message, data: dict[str, Any]) -> Leave:
    return Leave(str(data.get("reason", "")))


def _problem(message: Message, data: dict[str, Any]) -> Leave | Trouble:
    if message.id is not None:
        return Trouble(message.id, data["job"], data["run"], data["code"], data["detail"])
    return Leave(str(data.get("code", "")), str(data.get("detail", "")), problem=True)


def _other(message: Message, data: dict[str, Any]) -> Other:
    return Other(message.event, data, message.id)


def _id(message: Message) -> str:
    if message.id is None:
        raise KeyError(message.event)
    return message.id


BUILDERS: Mapping[str, Callable[[Message, dict[str, Any]], Frame | Leave]] = {
    "hello": _hello,
    "live": _live,
    "so_far": _so_far,
    "heartbeat": _beat,
    "end": _end,
    "reset": _reset,
    "goodbye": _goodbye,
    "problem": _problem,
}
