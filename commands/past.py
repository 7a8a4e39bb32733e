"""Reads the past of a fork: another run's log up to a version, with the fork's edits (rule 14).

Nothing of it is copied, and a run at work can be read so, too. Not the run's own history.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.decisions.forks import FORKS_MAX
from domain.envelope import FIRST_HASH, Envelope, decode, hash_of
from domain.errors import IntegrityViolated
from domain.events import ResultEdit, RunForked, Source
from domain.evolve import evolve_all
from domain.folds.forks import edited, merged
from domain.ids import RunRef
from domain.state import RunState, changed
from eventlog.port import EventLog, Stored


@dataclass(frozen=True, slots=True)
class Past:
    """A run as it was at some version."""

    state: RunState
    hash: str  # of the envelope that holds the version
    seq: int  # where that is in the stream
    weight: int  # bytes of the log it was folded from


def fork_in(stored: Sequence[Stored]) -> RunForked | None:
    """What makes a run a fork, if it is one: its first event."""
    first = decode(stored[0].data).events[:1] if stored else ()
    return next((event for event in first if isinstance(event, RunForked)), None)


async def read_past(
    log: EventLog,
    tenant: str,
    source: Source,
    results: Iterable[ResultEdit] = (),
    *,
    depth: int = 1,
) -> Past:
    """The source as it was, all of it; its own past is read before, if it is a fork itself.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: the source is gone, is shorter, or is not what it was.
    """
    ref = RunRef(tenant, source.job, source.run)
    if depth > FORKS_MAX:
        msg = f"the past of a fork leads over more than {FORKS_MAX} runs, to {ref.run!r}"
        raise IntegrityViolated(msg)
    stored = await log.load(ref)
    if not stored:
        msg = f"run {ref.run!r} is gone; its fork needs its history up to version {source.version}"
        raise IntegrityViolated(msg)
    edits = {edit.call: edit for edit in results}
    state, weight = RunState(ref=ref), 0
    forked = fork_in(stored)
    if forked is not None:
        both = merged(forked.results, edits.values())
        past = await read_past(log, tenant, forked.source, both, depth=depth + 1)
        state, weight = changed(state, past=past.state), past.weight
    prev = FIRST_HASH
    for item in stored:
        envelope = decode(item.data)
        _check(envelope, state, prev)
        weight += len(item.data)
        prev = hash_of(item.data)
        state = _folded(state, envelope, source.version, edits)
        if state.version == source.version:
            _check_hash(source, prev)
            return Past(state, prev, item.seq, weight)
    msg = f"run {ref.run!r} has no version {source.version}: its log ends with {state.version}"
    raise IntegrityViolated(msg)


def _folded(
    state: RunState, envelope: Envelope, version: int, edits: Mapping[str, ResultEdit]
) -> RunState:
    """The state after an envelope, or after that part of it which the version ends."""
    events = edited(envelope.events[: version - state.version], edits)
    return evolve_all(changed(state, at_ms=envelope.at_ms), events)


def _check(envelope: Envelope, state: RunState, prev: str) -> None:
    sound = (envelope.ref, envelope.version, envelope.prev) == (state.ref, state.version + 1, prev)
    if not sound:
        msg = f"run {state.ref.run!r}: version {envelope.version} does not follow what is stored"
        raise IntegrityViolated(msg)


def _check_hash(source: Source, found: str) -> None:
    if source.hash not in ("", found):
        msg = (
            f"run {source.run!r} is not what it was when it was forked: the envelope with version "
            f"{source.version} is {found[:12]}, and was {source.hash[:12]}"
        )
        raise IntegrityViolated(msg)
