"""Refolds a run from its stored bytes and renders each request anew (rule 13). Not a second run."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from domain.asks import SampleRequest
from domain.conversation import this_request
from domain.envelope import FIRST_HASH, Envelope, decode, hash_of
from domain.errors import IntegrityViolated
from domain.events import GenerationRequested, SamplingRequested
from domain.evolve import evolve
from domain.prompt import RENDERER
from domain.record import digest_of
from domain.sampling import sample_conversation, sample_digest
from domain.state import RunState

Verdict = Literal["verified", "differs", "not comparable"]

GetBlob = Callable[[str], Awaitable[bytes | None]]
"""The content of a digest as it is stored now; None when it is gone."""


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one request: `version` is that of its event."""

    step: int
    attempt: int
    version: int
    verdict: Verdict
    detail: str = ""
    ask: str = ""  # of a call of the model for a tool


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """All requests of a run in order. A damaged envelope is the last check: nothing follows it."""

    checks: tuple[Check, ...]
    envelopes: int
    events: int

    @property
    def verified(self) -> bool:
        """Whether every request was made anew as it was recorded, and all bytes are sound."""
        return all(check.verdict == "verified" for check in self.checks)


@dataclass(slots=True)
class Replay:
    """One replay in progress."""

    get_blob: GetBlob
    state: RunState
    checks: list[Check] = field(default_factory=list[Check])
    _sound: dict[str, str] = field(default_factory=dict[str, str])  # digest -> what is wrong

    async def envelope(self, envelope: Envelope) -> None:
        """Fold one envelope, checking each request in it."""
        self.state = replace(self.state, at_ms=envelope.at_ms)
        for event in envelope.events:
            self.state = evolve(self.state, event)
            if isinstance(event, GenerationRequested):
                self.checks.append(await self._check(event))
            elif isinstance(event, SamplingRequested):
                self.checks.append(await self.check_sampling(event))

    async def check_sampling(self, event: SamplingRequested) -> Check:
        """The one call of the model that a tool asked for: made of what was asked alone."""
        state, ask = self.state, self.state.asks.get(event.ask)
        check = Check(state.step, 1, state.version, "verified", ask=event.ask)
        if state.renderer != RENDERER:
            return replace(check, verdict="not comparable", detail=_other(state.renderer))
        if ask is None or ask.model_call is None or not isinstance(ask.about, SampleRequest):
            return replace(check, verdict="differs", detail="nothing was asked of the model")
        anew = sample_digest(state.renderer, ask.model_call.model, ask.about)
        if anew != event.request:
            return replace(check, verdict="differs", detail=_unlike(event.request, anew))
        named = sorted(sample_conversation(ask.about).blobs)
        return await self._whole(check, [("content", digest) for digest in named])

    async def _check(self, event: GenerationRequested) -> Check:
        state = self.state
        check = Check(event.step, event.attempt, state.version, "verified")
        if state.renderer != RENDERER:
            return replace(check, verdict="not comparable", detail=_other(state.renderer))
        anew = this_request(state)
        if anew != event.request:
            return replace(check, verdict="differs", detail=_unlike(event.request, anew))
        return await self._whole(check, self._named())

    async def _whole(self, check: Check, named: list[tuple[str, str]]) -> Check:
        """The check, if all that the request names is still what was stored."""
        for name, digest in named:
            wrong = await self._wrong_with(digest)
            if wrong:
                verdict: Verdict = "differs" if wrong == CHANGED else "not comparable"
                detail = f"{name} {digest[:12]} {wrong}"
                return replace(check, verdict=verdict, detail=detail)
        return check

    def _named(self) -> list[tuple[str, str]]:
        contents = sorted(self.state.conversation.blobs)
        return [("context", self.state.context), *(("content", digest) for digest in contents)]

    async def _wrong_with(self, digest: str) -> str:
        if digest not in self._sound:
            data = await self.get_blob(digest)
            if data is None:
                self._sound[digest] = "is gone"
            else:
                self._sound[digest] = "" if digest_of(data) == digest else CHANGED
        return self._sound[digest]


CHANGED = "is not what was stored"


def _other(renderer: str) -> str:
    return f"made by renderer {renderer!r}; this is {RENDERER!r}"


def _unlike(recorded: str, anew: str) -> str:
    return f"recorded as {recorded[:12]}, rendered anew as {anew[:12]}"


async def replay(
    stored: Sequence[bytes],
    get_blob: GetBlob,
    *,
    head: str | None = None,
    past: RunState | None = None,
) -> ReplayReport:
    """Check a run from the bytes of its envelopes, in order.

    `head` is the digest of its last envelope, if it is known from elsewhere: nothing in the log
    names that one. `past` is what a fork begins with: its requests follow from that, too.

    Raises:
        IntegrityViolated: there is no envelope that can be read at all.
        Unavailable: a blob cannot be read now.
    """
    if not stored:
        msg = "there is nothing to replay"
        raise IntegrityViolated(msg)
    envelopes, problem = _decoded(stored)
    if not envelopes:
        raise IntegrityViolated(problem)
    damaged = _damaged(stored, envelopes, head if len(envelopes) == len(stored) else None)
    run = Replay(get_blob, RunState(ref=envelopes[0].ref, past=past))
    prev = FIRST_HASH
    for index, envelope in enumerate(envelopes):
        wrong = _wrong(run.state, envelope, prev)
        if wrong or index == damaged:
            detail = wrong or f"version {envelope.version} is not what was stored"
            run.checks.append(_damage(run.state, envelope, detail))
            break
        await run.envelope(envelope)
        prev = hash_of(stored[index])
    else:
        if problem:
            version = run.state.version + 1
            step = max(run.state.step, 1)
            run.checks.append(Check(step, 0, version, "differs", problem))
    return ReplayReport(tuple(run.checks), len(stored), run.state.version)


def _decoded(stored: Sequence[bytes]) -> tuple[list[Envelope], str]:
    """The envelopes up to the first that cannot be read, and what is wrong with that one."""
    found: list[Envelope] = []
    for data in stored:
        try:
            found.append(decode(data))
        except IntegrityViolated as error:
            return found, str(error)
    return found, ""


def _damaged(
    stored: Sequence[bytes], envelopes: Sequence[Envelope], head: str | None
) -> int | None:
    """The first envelope whose bytes changed after the next one was appended to them.

    A broken link blames the envelope before it, unless the one after it is broken to both sides:
    then it is the name it gives its predecessor that changed. Where one is missing in between,
    nothing is named.
    """
    named = [
        after.prev if after.version == before.version + len(before.events) else None
        for before, after in pairwise(envelopes)
    ]
    named.append(head)
    broken = [
        name is not None and name != hash_of(data)
        for name, data in zip(named, stored[: len(envelopes)], strict=True)
    ]
    if True not in broken:
        return None
    first = broken.index(True)
    return first + 1 if broken[first + 1 : first + 2] == [True] else first


def _wrong(state: RunState, envelope: Envelope, prev: str) -> str:
    """What forbids that this envelope follows that state; empty for nothing."""
    if envelope.ref != state.ref:
        return f"an envelope of run {envelope.ref.run!r}"
    if envelope.version != state.version + 1:
        return f"version {envelope.version} follows {state.version}"
    if envelope.prev != prev:
        return f"version {envelope.version} does not follow what is stored before it"
    return ""


def _damage(state: RunState, envelope: Envelope, detail: str) -> Check:
    steps = (getattr(event, "step", None) for event in envelope.events)
    step = next((step for step in steps if isinstance(step, int)), max(state.step, 1))
    return Check(step, 0, envelope.version, "differs", detail)
