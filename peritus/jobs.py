"""Starts, continues and cancels jobs, and follows them to their end. Not a screen, not a worker."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypedDict, Unpack

from commands.client import CommandClient
from commands.desk import Desk
from commands.history import Loaded, catch_up
from commands.route import route
from domain.commands import CancelRun, Command, ContinueRun, StartRun
from domain.content import BlobRef, Text, TextPart
from domain.decisions.deletion import must_be_there
from domain.definition import Definition
from domain.errors import NoSuchRun, Rejected, Unavailable
from domain.events import TERMINAL_TYPES
from domain.ids import RunRef, check_token
from domain.state import RunState
from eventlog.port import Backbone, Blobs, EventLog
from peritus.feed import Heard, follow_events
from peritus.ids import new_id
from peritus.logs import REDACTIONS

Send = Callable[[RunRef, Command], Awaitable[None]]
"""Has a command handled. Raises Rejected and Unavailable."""


def at_desk(desk: Desk) -> Send:
    """Commands are decided in this process, which is a loop service itself."""

    async def send(ref: RunRef, command: Command) -> None:
        answer = await route(desk, ref, command)
        if answer.status == "rejected":
            raise Rejected(answer.code, answer.detail)
        if answer.status == "unavailable":
            raise Unavailable(answer.detail)

    return send


def by_request(backbone: Backbone) -> Send:
    """Commands are decided by whichever loop service answers, or stored until one does."""
    client = CommandClient(backbone, REDACTIONS.redactor)

    async def send(ref: RunRef, command: Command) -> None:
        await client.submit(ref, command, new_id())

    return send


def new_root(tenant: str, job: str | None = None) -> RunRef:
    """The name of a new job's root run: the job's own, so that a job has one root for good.

    Raises:
        Rejected: the given name cannot be one.
    """
    name = check_token("job", job) if job is not None else new_id()
    return RunRef(tenant, name, name)


async def start(
    send: Send, blobs: Blobs, ref: RunRef, definition: Definition, *, expert: str, query: str
) -> None:
    """Start a root run.

    Raises:
        Rejected: there is no such expert, it cannot start, or the run exists.
        Unavailable: not now.
    """
    definition.expert(expert)
    digest = await blobs.put(ref.tenant, definition.to_bytes())
    parts = (TextPart(text=query),)
    await send(ref, StartRun(id=new_id(), expert=expert, definition=digest, parts=parts))


class Raised(TypedDict, total=False):
    """Limits that a run which goes on may be given anew; None: as it has them."""

    steps_max: int | None
    tokens_max: int | None
    money_max: int | None  # micro-USD
    tool_calls_max: int | None
    wall_ms_max: int | None


async def say(send: Send, ref: RunRef, query: str, **raised: Unpack[Raised]) -> None:
    """Say something to a root run; at rest, it goes on.

    Raises:
        Rejected: there is no such run, or it cannot be continued.
        Unavailable: not now.
    """
    parts = (TextPart(text=query),) if query else ()
    await send(ref, ContinueRun(id=new_id(), parts=parts, **raised))


async def cancel(send: Send, ref: RunRef, reason: str) -> None:
    """Ask a run, and everything under it, to stop.

    Raises:
        Unavailable: not now.
    """
    await send(ref, CancelRun(id=new_id(), reason=reason))


async def load_state(log: EventLog, ref: RunRef) -> tuple[RunState, int]:
    """A run folded from the log, and the sequence of its last envelope.

    Raises:
        NoSuchRun: the log knows nothing of it.
        Rejected: `gone`: its job was deleted.
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read.
    """
    loaded = await catch_up(log, Loaded(RunState(ref=ref)))
    if not loaded.seq:
        raise NoSuchRun(ref.run)
    must_be_there(loaded.state)
    return loaded.state, loaded.seq


async def until_rest(
    log: EventLog, ref: RunRef, *, after_seq: int = 0, after_version: int = 0
) -> AsyncGenerator[list[Heard]]:
    """The events of a run and all under it, after a place, until the run comes to rest after it.

    Raises:
        Unavailable: the log stayed away.
    """
    whole = RunRef(ref.tenant, ref.job, "*")
    async with follow_events(log, whole, after_seq=after_seq) as found:
        async for events in found:
            yield events
            if any(ends(heard, ref, after_version) for heard in events):
                return


async def rest_of(log: EventLog, ref: RunRef, **after: int) -> Heard:
    """The event that brings a run to rest, once it is there.

    Raises:
        Unavailable: the log stayed away.
    """
    async with aclosing(until_rest(log, ref, **after)) as found:
        async for events in found:
            for heard in events:
                if ends(heard, ref, after.get("after_version", 0)):
                    return heard
    raise AssertionError


def ends(heard: Heard, ref: RunRef, after_version: int) -> bool:
    """Whether this event brings that run to rest, later than a version."""
    at_end = heard.event.type in TERMINAL_TYPES
    return at_end and heard.ref == ref and heard.version > after_version


async def text_at(blobs: Blobs, tenant: str, text: Text | None) -> str:
    """A text in full, wherever it is kept.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: it is not what was stored.
    """
    if isinstance(text, BlobRef):
        return (await blobs.get(tenant, text.digest)).decode("utf-8", "replace")
    return text or ""
