"""Reads the log of a job as it is stored, chooses from it and prints it. Not the command line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from commands.comparing import state_facts
from domain import events as e
from domain.errors import Rejected
from domain.ids import RunRef
from domain.state import RunState
from peritus.cli import asks
from peritus.cli.branches import tree_text
from peritus.cli.exits import Exit
from peritus.cli.log_lines import counts, entry_line, message_text, spent_line, whole
from peritus.cli.log_select import Entry, entries, with_context
from peritus.cli.loop import Out, notice
from peritus.cli.observing import Observer, Place, observing
from peritus.cli.show import text_of_facts
from peritus.feed import stored_events
from peritus.jobs import text_at
from projections.family import Family, load_family
from projections.queries import Filters
from projections.waits import Look

NOTHING = "No data found\n"
ERRORS_MAX = 5
"""How many of its errors a summary tells, the newest."""


class Scope(NamedTuple):
    """Of what the log is: a job, one run of it, or that as of the end of a step."""

    job: str | None
    run: str | None
    checkpoint: str | None


Shown = Literal["events", "messages", "summary", "state"]


class Form(NamedTuple):
    """What is shown, and how."""

    shown: Shown
    as_json: bool
    pretty: bool
    verbose: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are meant, and which part of them."""

    types: frozenset[str]
    errors: bool
    step: Callable[[int], bool] | None
    expression: Callable[[Any], bool] | None
    take: int
    offset: int
    context: int

    @property
    def chosen(self) -> bool:
        """Whether it leaves anything out by what it is."""
        return bool(self.types) or self.errors or bool(self.step or self.expression)

    def fits(self, entry: Entry) -> bool:
        """Whether an event is meant."""
        event = entry.heard.event
        named = event.type in self.types or (self.errors and is_error(event))
        if (self.types or self.errors) and not named:
            return False
        if self.step is not None and not self.step(entry.step):
            return False
        return self.expression is None or self.expression(entry.facts)


def is_error(event: e.Event) -> bool:
    """Whether an event tells that something went wrong."""
    match event:
        case e.GenerationFailed() | e.RunFailed() | e.RunStopped() | e.ToolResultLate():
            return True
        case e.GenerationAbandoned(reason="holder_lost"):
            return True
        case e.ToolCallEnded(is_error=True):
            return True
        case _:
            return False


class Found(NamedTuple):
    """What is looked at: a job, the run that was named or its root, and the events."""

    family: Family
    ref: RunRef
    entries: list[Entry]


async def read(place: Place, scope: Scope, choice: Choice, form: Form) -> Exit:
    """Print what was asked for.

    Raises:
        Rejected: there is no such run or checkpoint.
        Unavailable: the log is away.
    """
    out = Out()
    async with observing(place) as observer:
        found = await _find(observer, scope)
        if found is None:
            await out.write("" if form.as_json else NOTHING)
        elif form.shown == "events":
            await _events(out, found.entries, choice, form)
        elif form.shown == "messages":
            await _messages(out, _folded(found), form)
        elif form.shown == "state":
            await _state(out, observer, found, form)
        else:
            await _summary(out, observer, found, form)
    return Exit.COMPLETED


async def _find(observer: Observer, scope: Scope) -> Found | None:
    name, step = await _named(observer, scope)
    if name is None:
        return None
    log = observer.backbone.log
    ref = await observer.runs.find(name)
    family = await load_family(log, ref)
    whole_job = scope.run is None and "@" not in (scope.checkpoint or "")
    root = family.root(ref.run) if whole_job else ref
    refs = [look.state.ref for look in family.under(root.run)] if whole_job else [ref]
    made = entries(await stored_events(log, refs))
    if step is None:
        return Found(family, root, made)
    return Found(family, root, _until(made, root, step))


async def _named(observer: Observer, scope: Scope) -> tuple[str | None, int | None]:
    """The run that is meant, and the step at whose end it is looked at."""
    named, at, number = (scope.checkpoint or "").rpartition("@")
    if scope.checkpoint is not None and not number.isdecimal():
        message = f"--checkpoint {scope.checkpoint!r} is neither a step nor RUN@STEP"
        raise Rejected("bad_filter", message)
    step = int(number) if number else None
    if at:
        return named, step
    if scope.run is not None or scope.job is not None:
        return scope.run or scope.job, step
    page = await observer.runs.page(Filters(), limit=1)
    return (page.runs[0].job if page.runs else None), step


def _until(made: list[Entry], ref: RunRef, step: int) -> list[Entry]:
    """The events up to the end of a step of that run.

    Raises:
        Rejected: the run has no such checkpoint.
    """
    for place, entry in enumerate(made):
        event = entry.heard.event
        if entry.heard.ref == ref and isinstance(event, e.StepEnded) and event.step == step:
            return made[: place + 1]
    raise Rejected("no_such_checkpoint", f"run {ref.run!r} has not ended a step {step}")


def _folded(found: Found) -> RunState:
    look = Look(found.ref, messages=True)
    for entry in found.entries:
        if entry.heard.ref == found.ref:
            look.hear(entry.heard.event, entry.heard.version, entry.heard.at_ms)
    return look.state


async def _events(out: Out, made: list[Entry], choice: Choice, form: Form) -> None:
    matching = [place for place, entry in enumerate(made) if choice.fits(entry)]
    end = None if choice.take == 0 else choice.offset + choice.take
    taken = matching[choice.offset : end]
    calls = calls_of(made)
    shown = set(taken)
    last: int | None = None
    for place in with_context(taken, len(made), choice.context):
        if last is not None and place > last + 1 and choice.context and not form.as_json:
            await out.write("--\n")
        last = place
        entry = made[place]
        if form.as_json:
            await out.write(_json(entry.heard.json, form))
            continue
        lead = "" if not choice.context else "> " if place in shown else "  "
        await out.write(f"{lead}{_line(entry, calls)}\n")
        await out.write(whole(entry) if form.verbose else "")
    if not taken and not form.as_json:
        await out.write(NOTHING)
    left = len(matching) - choice.offset - len(taken)
    if left > 0:
        after = choice.offset + len(taken)
        notice(f"{left} more match; go on with --offset {after}, or see all with --take 0")


def calls_of(made: Iterable[Entry]) -> dict[str, dict[str, e.ToolCallRequested]]:
    """The calls that were made, by run and id."""
    found: dict[str, dict[str, e.ToolCallRequested]] = {}
    for entry in made:
        event = entry.heard.event
        if isinstance(event, e.ToolCallRequested):
            found.setdefault(entry.heard.ref.run, {})[event.call] = event
    return found


def _line(entry: Entry, calls: dict[str, dict[str, e.ToolCallRequested]]) -> str:
    return entry_line(entry, calls.get(entry.heard.ref.run, {}))


async def _messages(out: Out, state: RunState, form: Form) -> None:
    if not state.conversation.messages and not form.as_json:
        await out.write(NOTHING)
    for message in state.conversation.messages:
        if form.as_json:
            await out.write(_json(message.model_dump(mode="json"), form))
        else:
            await out.write(message_text(message))


async def _state(out: Out, observer: Observer, found: Found, form: Form) -> None:
    state = _folded(found)
    result = await text_at(observer.backbone.blobs, state.ref.tenant, state.result)
    facts = state_facts(state, result, found.family.children(state.ref.run))
    await out.write(_json(facts, form) if form.as_json else text_of_facts(facts, state))


async def _summary(out: Out, observer: Observer, found: Found, form: Form) -> None:
    family, ref = found.family, found.ref
    members = [family.facts(look.state.ref.run) for look in family.under(ref.run)]
    wrong = [entry for entry in found.entries if is_error(entry.heard.event)][-ERRORS_MAX:]
    if form.as_json:
        by_type: dict[str, int] = {}
        for entry in found.entries:
            by_type[entry.heard.event.type] = by_type.get(entry.heard.event.type, 0) + 1
        errors = [entry.heard.json for entry in wrong]
        facts = {"job": ref.job, "runs": members, "events": by_type, "errors": errors}
        await out.write(_json(facts, form))
        return
    blobs, state = observer.backbone.blobs, family.looks[ref.run].state
    waits = [await asks.shown(blobs, wait) for wait in family.waits(ref.run)]
    calls = calls_of(found.entries)
    lines = [
        f"job {ref.job}: {len(members)} runs, {len(found.entries)} events\n",
        f"{spent_line(state.tokens_charged, state.money_charged, state.tool_calls)}\n\n",
        f"{tree_text(family, ref, waits)}\n",
        counts(found.entries),
    ]
    if wrong:
        lines.append("\nwent wrong:\n")
        lines.extend(f"{_line(entry, calls)}\n" for entry in wrong)
    await out.write("".join(lines))


def _json(facts: Any, form: Form) -> bytes:  # noqa: ANN401 - any JSON
    indent = orjson.OPT_INDENT_2 if form.pretty else 0
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE | indent)
