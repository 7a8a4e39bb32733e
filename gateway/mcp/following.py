"""Stays with the run of one call until it is at rest, or there is a reason to let go of it.

Not the call: `calls` starts the run and says what the caller is given.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Literal

from domain.envelope import decode
from domain.errors import NoSuchRun, PeritusError
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import Stored
from gateway.mcp.deps import McpDeps
from gateway.mcp.forms import headline, how_to
from gateway.mcp.telling import LEVEL, Teller, words_of
from projections.family import Family, load_family
from projections.waits import Wait

logger = logging.getLogger(__name__)

End = Literal["rest", "asked", "held", "closing"]
"""At rest; a person is to be asked first; only a person can go on and none did; we close."""

Ask = Callable[[Wait], Awaitable[None]]
"""Asks a person there and then, and hands on what is said."""


def name_of(wait: Wait) -> str:
    """Names what waits within its job, with what is asked: other arguments are another name."""
    return f"{wait.ref.run}/{wait.id}@{wait.digest}"


class Following:
    """One call's look at the job of its run."""

    def __init__(self, deps: McpDeps, ref: RunRef, teller: Teller) -> None:
        self.ref = ref
        self.family = Family()
        self._deps = deps
        self.teller = teller
        self._changed = asyncio.Event()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()
        self._seq = 0

    @property
    def state(self) -> RunState:
        """The run as far as it was heard."""
        return self.family.look(self.ref).state

    @property
    def waits(self) -> list[Wait]:
        """What waits for a person in the job, oldest first."""
        return self.family.waits(self.ref.run)

    async def look(self) -> None:
        """Hear all there is now.

        Raises:
            Unavailable: the log is away.
            IntegrityViolated: the stored history cannot be read.
        """
        log = self._deps.backbone.log
        self._seq = (await log.bounds())[1]
        try:
            self.family = await load_family(log, self.ref)
        except NoSuchRun:
            self.family = Family()  # its start is stored and not handled yet
            self.family.look(self.ref)

    async def until(
        self,
        *,
        after_version: int = 0,
        ask: Ask | None = None,
        hand_out: bool = False,
        skipped: Collection[str] = (),
    ) -> End:
        """Stay until the run is at rest after that version, telling the caller what it does.

        With `ask`, people are asked meanwhile; with `hand_out`, staying ends as soon as there is
        something new to ask. What is `skipped` was asked before, in vain.

        Raises:
            Unavailable: the log stayed away.
            IntegrityViolated: the stored history cannot be read.
        """
        passed, errors = set(skipped), list[Exception]()
        ends: list[asyncio.Task[End]] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                ends = [
                    tasks.create_task(self._read(after_version)),
                    tasks.create_task(self._attend(tasks, ask, passed, hand_out=hand_out)),
                    tasks.create_task(self._closing()),
                ]
                beating = tasks.create_task(self.beat())
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (*ends, beating, *self._asking.values()):
                    task.cancel()
        except* PeritusError as group:
            errors.extend(group.exceptions)  # one deep: its tasks have no groups of their own
        if errors:
            raise errors[0]
        return next(task.result() for task in ends if not task.cancelled())

    async def _read(self, after_version: int) -> End:
        ref = self.ref
        if self._rests(after_version):
            return "rest"
        source = self._deps.backbone.log.follow(
            after_seq=self._seq, tenant=ref.tenant, job=ref.job, run="*"
        )
        async with source as envelopes:
            async for stored in envelopes:
                await self._hear(stored)
                self._changed.set()
                if self._rests(after_version):
                    return "rest"
        raise AssertionError  # a log is followed without end

    async def _hear(self, stored: Stored) -> None:
        envelope = decode(stored.data)
        for version, event in enumerate(envelope.events, start=envelope.version):
            known = self.family.look(stored.ref).state.version
            self.family.hear(stored.ref, event, version, envelope.at_ms)
            text = words_of(self.family, stored.ref.run, event) if version > known else ""
            if text:
                await self.teller.say(text)

    def _rests(self, after_version: int) -> bool:
        return self.state.at_rest and self.state.version > after_version

    async def _attend(
        self, tasks: asyncio.TaskGroup, ask: Ask | None, passed: set[str], *, hand_out: bool
    ) -> End:
        """Look at what waits whenever something changed."""
        while True:
            self._changed.clear()
            waits = {name_of(wait): wait for wait in self.waits}
            fresh = {name: wait for name, wait in waits.items() if name not in passed}
            for wait in waits.values():
                await self._tell(wait)
            if fresh and hand_out:
                return "asked"
            for name in self._asking.keys() - waits.keys():
                self._asking[name].cancel()  # somebody else was quicker
            for name, wait in fresh.items():
                if ask is not None and name not in self._asking:
                    self._asking[name] = tasks.create_task(self._ask(ask, wait, passed))
            alone = self.family.held(self.ref.run) and not self._asking
            try:
                async with asyncio.timeout(self._deps.people_wait_s if alone else None):
                    await self._changed.wait()
            except TimeoutError:
                return "held"

    async def _ask(self, ask: Ask, wait: Wait, passed: set[str]) -> None:
        name = name_of(wait)
        try:
            await ask(wait)
        finally:
            passed.add(name)  # whatever came of it, it is asked once in a call
            self._asking.pop(name, None)
            self._changed.set()

    async def _tell(self, wait: Wait) -> None:
        name = name_of(wait)
        if name not in self._told:
            self._told.add(name)
            text = f"{headline(wait)}; it waits for a person: {how_to(wait)}"
            await self.teller.say(text, LEVEL)

    async def _closing(self) -> End:
        await self._deps.closing.wait()
        return "closing"

    async def beat(self) -> None:
        """Tell every so often that what was told last goes on, without end."""
        while True:
            await asyncio.sleep(self._deps.heartbeat_s)
            await self.teller.still()
