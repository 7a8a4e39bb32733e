"""What this worker knows of the limits of providers: read, heard, told. Not who may begin a call.

Each worker says in its own words (absolute numbers, idempotent steps) what it knows, and says it
again when a server has forgotten it. So a lost message, an unknown outcome or an empty stream is
put right by the next look.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from pydantic import ValidationError

from domain.errors import Conflict, Unavailable
from domain.rate import (
    NO_QUOTA,
    Quota,
    Rate,
    Scope,
    Wait,
    counted,
    in_force,
    recalled,
    without,
    worth_keeping,
)
from domain.record import canonical
from eventlog.newest import Limits, Noted

logger = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often all notes are read, whatever was heard, in seconds."""

FRESH_S = 5.0
"""A call begins only on what was read at most so long ago, in seconds; else it is read first."""

AGAIN_S = 0.5
LEAVE_S = 1.0
TRIES_MAX = 50

Step = Callable[[Rate], Rate]


@dataclass(eq=False, slots=True)
class Entry:
    """One model of one account, as this worker knows it."""

    scope: Scope
    names: tuple[str, str] = ("", "")  # provider and model, for people
    quota: Quota = NO_QUOTA
    stored: Rate = field(default_factory=Rate)
    revision: int = 0
    steps: list[Step] = field(default_factory=list[Step])  # taken here, and not stored yet
    mine: int = 0  # calls in flight here
    doubtful: bool = False  # what is stored may be something else
    touched: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def rate(self) -> Rate:
        """What is known: what is stored, and what happened here since."""
        rate = self.stored
        for step in self.steps:
            rate = step(rate)
        return rate

    def take(self, stored: Rate, revision: int) -> None:
        """This is what is stored."""
        self.stored, self.revision, self.doubtful = stored, revision, False
        self.tell()

    def tell(self) -> None:
        """Wake whoever waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(eq=False, slots=True)
class Notes:
    """All that this worker knows; `run` keeps it so."""

    limits: Limits
    epoch: str
    now_ms: Callable[[], int]
    gone: Callable[[str], bool]
    entries: dict[Scope, Entry] = field(default_factory=dict[Scope, Entry])
    _looked_s: float | None = None
    _ticks: "count[int]" = field(default_factory=lambda: count(1))
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Listen, look and tell until cancelled; what this worker has in flight is then over."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="limits heard")
                tasks.create_task(self._keep_looking(), name="limits read")
                tasks.create_task(self._keep_telling(), name="limits told")
        finally:
            await self._leave()

    def entry(self, scope: Scope) -> Entry:
        """What is known of a scope."""
        if scope not in self.entries:
            self.entries[scope] = Entry(scope)
        return self.entries[scope]

    async def fresh(self) -> None:
        """Know what was noted until a moment ago; without a question when that is known already.

        Raises:
            Unavailable: the store is away.
        """
        if self._is_fresh():
            return
        async with self._looking:
            if not self._is_fresh():
                await self.look()

    async def look(self) -> None:
        """Read all notes.

        Raises:
            Unavailable: the store is away.
        """
        began_s, began = asyncio.get_running_loop().time(), next(self._ticks)
        found = await self.limits.all()
        for scope in [*found, *(scope for scope in self.entries if scope not in found)]:
            entry = self.entry(scope)
            if entry.touched <= began:  # else something newer may have been heard meanwhile
                self._learn(entry, found.get(scope))
        self._looked_s = began_s

    def step(self, entry: Entry, step: Step) -> None:
        """Something happened here: if it counts, it does from now on, and the others are told."""
        rate = entry.rate
        after = step(rate)
        if after is rate or after == rate:
            return
        entry.steps.append(step)
        entry.tell()
        self._wake.set()

    def count(self, entry: Entry, change: int) -> None:
        """A call began or ended here."""
        entry.mine += change
        if change < 0:
            entry.tell()
            self._tell_if_untold(entry)

    async def change(self, entry: Entry, step: Callable[[Rate], Rate | Wait]) -> Wait | None:
        """Change what is stored by compare and set; a `Wait` changes nothing and is returned.

        Raises:
            Unavailable: it may have been changed; that is seen to.
        """
        async with entry.turn:
            for _ in range(TRIES_MAX):
                if entry.doubtful:
                    self._learn(entry, await self.limits.last(entry.scope))
                taken = len(entry.steps)
                made = step(self.living(entry.rate))
                if isinstance(made, Wait):
                    return made
                if made == entry.stored or await self._stored(entry, self._named(entry, made)):
                    del entry.steps[:taken]
                    return None
        msg = f"what is noted of {'/'.join(entry.names)} changes faster than it can be read"
        raise Unavailable(msg)

    async def _stored(self, entry: Entry, made: Rate) -> bool:
        """Whether it is stored; False: somebody else was first."""
        try:
            revision = await self.limits.note(entry.scope, canonical(made), expected=entry.revision)
        except Conflict:
            entry.doubtful = True
            return False
        except BaseException:  # also when the call is cancelled: it may be stored
            entry.doubtful = True
            self._wake.set()
            raise
        if revision > entry.revision:
            entry.take(made, revision)
            entry.touched = next(self._ticks)
        return True

    def _named(self, entry: Entry, made: Rate) -> Rate:
        """With what people call it, and since when it is known."""
        if made.born_ms:
            return made
        provider, model = entry.names
        named = {"provider": made.provider or provider, "model": made.model or model}
        return made.model_copy(update=named | {"born_ms": self.now_ms()})

    def _learn(self, entry: Entry, noted: Noted | None) -> None:
        """This is stored. If it is less than was, the server has lost that: it is told again."""
        stored, revision = (_read(noted.data), noted.revision) if noted else (Rate(), 0)
        before = entry.stored
        anew = before.born_ms not in (0, stored.born_ms)
        if anew or stored.held_until_ms < before.held_until_ms:
            known, now_ms = entry.rate, self.now_ms()
            entry.steps.clear()
            if worth_keeping(known, entry.quota, now_ms):
                logger.warning("limits of %s were lost and are told again", "/".join(entry.names))
                entry.steps.append(partial(recalled, known=known, now_ms=now_ms))
        entry.take(stored, revision)
        entry.touched = next(self._ticks)
        self._tell_if_untold(entry)

    def _hear(self, noted: Noted) -> None:
        entry = self.entry(noted.scope)
        if noted.revision > entry.revision:
            self._learn(entry, noted)

    def _is_fresh(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        return self._looked_s is not None and now_s - self._looked_s <= FRESH_S

    def living(self, rate: Rate) -> Rate:
        """Without what workers had in flight that are known to be dead."""
        return without(rate, lambda epoch: epoch != self.epoch and self.gone(epoch))

    def _due(self, entry: Entry) -> int:
        """What the others should know of our calls in flight: nothing, unless it matters."""
        return entry.mine if in_force(entry.rate, entry.quota, self.now_ms()) else 0

    def _untold(self, entry: Entry) -> bool:
        if entry.steps:
            return True
        return entry.stored.in_flight.get(self.epoch, 0) != self._due(entry)

    def _tell_if_untold(self, entry: Entry) -> None:
        if self._untold(entry):
            self._wake.set()

    async def _listen(self) -> None:
        while True:
            try:
                async with self.limits.watch() as notes:
                    async for noted in notes:
                        if noted is None:
                            await self.look()
                        else:
                            self._hear(noted)
            except Unavailable as away:
                logger.info("the limits are not watched for now: %s", away)
            await asyncio.sleep(AGAIN_S)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Unavailable as away:
                logger.info("the limits cannot be read now: %s", away)

    async def _keep_telling(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for entry in [*self.entries.values()]:
                    if entry.doubtful or self._untold(entry):
                        await self.change(entry, partial(self._told, entry))
            except Unavailable as away:
                logger.info("the limits cannot be told now: %s", away)
                self._wake.set()
                await asyncio.sleep(AGAIN_S)

    def _told(self, entry: Entry, rate: Rate) -> Rate:
        return counted(rate, self.epoch, self._due(entry))

    async def _leave(self) -> None:
        """Let nobody wait for calls of a worker that ends."""
        try:
            async with asyncio.timeout(LEAVE_S):
                for entry in self.entries.values():
                    if entry.steps or self.epoch in entry.stored.in_flight:
                        await self.change(entry, lambda rate: counted(rate, self.epoch, 0))
        except (Unavailable, TimeoutError):
            logger.info("what this worker had in flight lapses with its lease")


def _read(data: bytes) -> Rate:
    """What is noted; nothing, when a newer release notes it in another shape."""
    try:
        return Rate.model_validate_json(data)
    except ValidationError:
        return Rate()
