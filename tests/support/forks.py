"""Given, when, then for forks: a past, and what a run makes of it. Nothing is read or stored."""

from collections.abc import Iterable

from domain import commands as c
from domain.events import Event, ResultEdit, Source
from domain.evolve import evolve_all
from domain.folds.forks import edited
from domain.ids import RunRef
from domain.state import RunState
from tests.support.runs import HERE, REF, Then, says, when

FORK = RunRef(REF.tenant, "fork1", "fork1")


def past_of(events: Iterable[Event], *results: ResultEdit, ref: RunRef = REF) -> RunState:
    """The run as these events leave it, with edited results."""
    return evolve_all(RunState(ref=ref), edited(events, {edit.call: edit for edit in results}))


def fork_command(
    past: RunState, text: str = "", *results: ResultEdit, command: str = "f1"
) -> c.ForkRun:
    source = Source(job=past.ref.job, run=past.ref.run, version=past.version, hash="")
    parts = says(text) if text else ()
    return c.ForkRun(id=command, source=source, parts=parts, results=results)


def forked(
    past: RunState,
    command: c.ForkRun,
    *,
    where: c.Situation = HERE,
    origin: c.Origin | None = None,
) -> Then:
    """The fork that begins so; everything that holds after any decision is checked."""
    situation = c.Situation(
        now_ms=where.now_ms,
        holder=where.holder,
        lanes=where.lanes,
        epoch=where.epoch,
        origin=origin or c.Origin(past=past, hash="h" * 64),
    )
    return when(RunState(ref=FORK, past=past), command, situation)
