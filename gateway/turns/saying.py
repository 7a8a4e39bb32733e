"""Says something to a job: starts it, or goes on with it. Not what comes of it: see `listening`."""

import asyncio
from dataclasses import dataclass
from typing import Any

from commands.task import task_of
from domain.commands import ContinueRun, StartRun
from domain.content import ContentPart, TextPart
from domain.definition import Definition
from domain.envelope import decode
from domain.ids import RunRef, derive_id
from domain.state import RunState
from gateway.asking import Asking, check_expert, check_permitted
from gateway.operations import Asked
from gateway.problems import Problem
from projections.family import Family
from projections.waits import Wait


@dataclass(frozen=True, slots=True)
class Saying:
    """What a person says, in whose name the same thing is said once: `name` is that of the turn."""

    name: str
    text: str
    files: tuple[ContentPart, ...] = ()
    expert: str | None = None  # whom, if there is no such job yet

    def command(self, ref: RunRef) -> str:
        """The id of the command: the same turn of the same job is the same command."""
        return derive_id("turn", *ref, self.name)


@dataclass(frozen=True, slots=True)
class Known:
    """A job as it was stored, up to `seq`; 0 when there is none."""

    family: Family
    seq: int
    ref: RunRef

    @property
    def root(self) -> RunState | None:
        """The run at its top; None when it has not begun."""
        look = self.family.looks.get(self.ref.run)
        return None if look is None else look.state

    @property
    def waits(self) -> dict[tuple[str, str], Wait]:
        """What waits for a person, by run and id."""
        looks = self.family.looks.values()
        return {(wait.ref.run, wait.id): wait for look in looks for wait in look.waits}


class Sayer(Asking):
    """Hands turns on."""

    async def known(self, ref: RunRef) -> Known:
        """A job as it is stored now.

        Raises:
            Unavailable: the log is away.
            IntegrityViolated: an envelope cannot be read.
        """
        family, seq, more = Family(), 0, True
        while more:
            page = await self.deps.backbone.log.read(after_seq=seq, tenant=ref.tenant, job=ref.job)
            for stored in page.envelopes:
                seq, envelope = stored.seq, decode(stored.data)
                for version, event in enumerate(envelope.events, start=envelope.version):
                    family.hear(stored.ref, event, version, envelope.at_ms)
            more = page.more
        return Known(family, seq, ref)

    async def say(
        self, asked: Asked[Any, Any], ref: RunRef, saying: Saying, state: RunState | None
    ) -> None:
        """Start the job, or go on with it; a turn that was begun already is not begun again.

        Raises:
            Problem: nobody can be started so.
            Rejected: it cannot be said.
            Unavailable: it was neither handled nor stored.
        """
        command = saying.command(ref)
        if state is not None and command in state.commands_seen:
            return
        if state is None or not state.expert:
            await self._start(asked, ref, saying)
            return
        said = (TextPart(text=saying.text),) if saying.text else ()
        parts = (*said, *saying.files)
        await self.submit(asked, ref, ContinueRun(id=command, parts=parts, by=asked.by))

    async def _start(self, asked: Asked[Any, Any], ref: RunRef, saying: Saying) -> None:
        definition = await asyncio.to_thread(self.deps.definitions, provider=None, model=None)
        expert = saying.expert or _only_one(definition, asked.caller.experts)
        check_permitted(asked, expert)
        check_expert(definition, expert)
        task = task_of(definition.expert(expert), saying.text, None)
        definition = await self.deps.known(ref, definition, expert)
        digest = await self.deps.backbone.blobs.put(ref.tenant, definition.to_bytes())
        command = StartRun(
            id=saying.command(ref),
            expert=expert,
            definition=digest,
            parts=(TextPart(text=task), *saying.files),
            by=asked.by,
        )
        await self.submit(asked, ref, command)


def _only_one(definition: Definition, allowed: frozenset[str] | None) -> str:
    names = [name for name in definition.experts if allowed is None or name in allowed]
    if len(names) == 1:
        return names[0]
    known = ", ".join(sorted(names)) or "none"
    raise Problem(422, "no_expert", f"say which expert is meant; there are: {known}")
