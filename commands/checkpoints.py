"""The ends of a run's steps, also those a fork has from its source, and the run at one. No change.

Read from the log alone, so a run that was appended to a moment ago is shown as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from commands.history import Loaded, catch_up
from commands.past import fork_in, read_past
from domain.content import CallPart, Message, text_of
from domain.conversation import next_conversation
from domain.decisions.forks import FORKS_MAX
from domain.envelope import decode
from domain.errors import IntegrityViolated, NoSuchRun, Rejected
from domain.events import (
    GenerationCompleted,
    InputReceived,
    ResultEdit,
    RunForked,
    SnapshotTaken,
    Source,
    StepEnded,
)
from domain.folds.forks import merged
from domain.ids import RunRef, step_of
from domain.limits import Usage
from domain.state import RunState
from eventlog.port import EventLog, Stored

START = 0
"""The step that names the beginning of a run: before its first one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The end of a step, or with step 0 the beginning of a run."""

    job: str
    run: str
    step: int
    version: int
    at_ms: int
    tokens: int  # input and output, of this run up to here
    said: str  # the beginning of what the model said
    tools: tuple[str, ...]  # that it called
    snapshot: bool  # whether the files were stored

    @property
    def source(self) -> Source:
        """The same as a place to fork from."""
        return Source(job=self.job, run=self.run, version=self.version, hash="")


@dataclass(frozen=True, slots=True)
class ForkedFrom:
    """Where a fork comes from."""

    job: str
    run: str
    version: int
    step: int
    edited: tuple[str, ...]
    files_step: int | None
    files_differ: bool

    @property
    def line(self) -> str:
        """The same for people."""
        other = f", with another {', '.join(self.edited)}" if self.edited else ""
        return f"from run {self.run} after step {self.step}{other}"

    @property
    def files_line(self) -> str:
        """What its workspace begins with."""
        if self.files_step is None:
            none = "there is no snapshot of then, so its workspace begins empty"
            return none if self.files_differ else "no files belong to it yet"
        doubt = "; they may differ from what its history shows" if self.files_differ else ""
        return f"its workspace begins with the files after step {self.files_step}{doubt}"


def _forked_from(event: RunForked) -> ForkedFrom:
    return ForkedFrom(
        job=event.source.job,
        run=event.source.run,
        version=event.source.version,
        step=event.step,
        edited=tuple(event.edited),
        files_step=event.files.step if event.files else None,
        files_differ=event.files_differ,
    )


async def state_of(log: EventLog, ref: RunRef) -> RunState:
    """A run as it is now, with its past.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    return (await catch_up(log, Loaded(RunState(ref=ref)))).state


async def source_of(log: EventLog, ref: RunRef) -> ForkedFrom | None:
    """Where a run was forked from; None for a run that was started.

    Raises:
        Unavailable: the log is away.
    """
    forked = fork_in(await log.load(ref))
    return None if forked is None else _forked_from(forked)


async def checkpoints_of(log: EventLog, ref: RunRef) -> list[Checkpoint]:
    """The beginning of a run and the ends of its steps, oldest first, its source's before its own.

    Raises:
        NoSuchRun: the log knows nothing of it.
        Unavailable: the log is away.
        IntegrityViolated: an envelope cannot be read, or a source is gone.
    """
    found: list[Checkpoint] = []
    wanted, until = ref, None
    for _ in range(FORKS_MAX + 2):
        stored = await log.load(wanted)
        if not stored:
            if wanted == ref:
                raise NoSuchRun(ref.run)
            msg = f"run {wanted.run!r} is gone, from which this one was forked"
            raise IntegrityViolated(msg)
        found = _own(stored, until) + found
        forked = fork_in(stored)
        if forked is None:
            return found
        until = forked.source.version
        wanted = RunRef(ref.tenant, forked.source.job, forked.source.run)
    return found


def _own(stored: Sequence[Stored], until: int | None) -> list[Checkpoint]:
    """The checkpoints in one run's log, up to a version."""
    found: list[Checkpoint] = []
    usage, said, tools = Usage(), "", tuple[str, ...]()
    begun = fork_in(stored) is not None  # a fork begins where its source's checkpoint is
    taken = {
        event.version
        for item in stored
        for event in decode(item.data).events
        if isinstance(event, SnapshotTaken) and event.manifest and event.run == item.ref.run
    }
    for item in stored:
        envelope = decode(item.data)
        for version, event in enumerate(envelope.events, start=envelope.version):
            if until is not None and version > until:
                return found
            step = None
            match event:
                case InputReceived() if not begun:
                    begun, step = True, START
                case GenerationCompleted():
                    usage = usage.plus(event.usage or Usage())
                    said = text_of(event.parts)
                    tools = tuple(p.tool for p in event.parts if isinstance(p, CallPart))
                case StepEnded():
                    step = event.step
                case _:
                    continue
            if step is not None:
                where = (item.ref.job, item.ref.run, step, version, envelope.at_ms)
                found.append(Checkpoint(*where, usage.tokens, said, tools, version in taken))
    return found


def at_step(found: Sequence[Checkpoint], step: int, run: str) -> Checkpoint:
    """The checkpoint of a step: the newest, should a fork have taken one anew.

    Raises:
        Rejected: that step has not ended.
    """
    of_step = [one for one in found if one.step == step]
    if of_step:
        return of_step[-1]
    steps = [one.step for one in found]
    known = f"0 to {max(steps)}" if steps else "none"
    message = f"run {run!r} has no checkpoint of step {step}; there are: {known}"
    raise Rejected("no_such_step", message)


async def state_at(log: EventLog, ref: RunRef, point: Checkpoint) -> RunState:
    """The run as it was at a checkpoint, which may lie in the log of a run it was forked from.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    results = await edits_of(log, ref, point)
    return (await read_past(log, ref.tenant, point.source, results)).state


async def edits_of(log: EventLog, ref: RunRef, point: Checkpoint) -> tuple[ResultEdit, ...]:
    """What a run has otherwise than the run whose checkpoint it is: a fork edits all of its past.

    Raises:
        Unavailable: the log is away.
    """
    results: tuple[ResultEdit, ...] = ()
    while ref.run != point.run:
        forked = fork_in(await log.load(ref))
        if forked is None:
            break
        results = merged(forked.results, results)
        ref = RunRef(ref.tenant, forked.source.job, forked.source.run)
    return tuple(edit for edit in results if step_of(edit.call) <= point.step)


class Beginning(NamedTuple):
    """Where a fork goes on from, and what the run that was asked for had edited there already."""

    source: Source
    results: tuple[ResultEdit, ...]


async def find_beginning(log: EventLog, ref: RunRef, step: int, *, says: bool) -> Beginning:
    """The place that a fork from a step of a run goes on from.

    From the beginning, if it `says` something itself, that is before anything was said.

    Raises:
        NoSuchRun: the log knows nothing of the run.
        Rejected: that step has not ended.
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    point = at_step(await checkpoints_of(log, ref), step, ref.run)
    source = point.source
    if step == START and says:
        source = source.model_copy(update={"version": point.version - 1})
    return Beginning(source, await edits_of(log, ref, point))


def messages_at(state: RunState) -> list[Message]:
    """What was said up to there, with the results of the calls of the last step."""
    return list(next_conversation(state).messages)
