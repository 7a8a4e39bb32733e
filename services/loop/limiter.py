"""Lets a call to a model begin when the limits shared by all workers allow it (C13). No retries.

Where no limit is set and nobody was turned away, that costs no question to anybody: what was read a
moment ago says so. Otherwise each beginning is a compare and set on what all workers know.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from domain.errors import Unavailable
from domain.ids import RunRef, jitter
from domain.limits import ModelChoice, Usage
from domain.rate import (
    NO_QUOTA,
    Call,
    Quota,
    Rate,
    Refusal,
    Wait,
    admit,
    counted,
    held,
    in_force,
    quota_of,
    refused,
    replied,
    scope_of,
    settled,
    unasked,
)
from eventlog.newest import Limits
from services.loop.limiter_notes import Entry, Notes
from services.loop.models.port import ModelFailure, ModelReply, RateSigns
from services.loop.models.providers import PROVIDERS
from services.loop.models.scripted import PROVIDER as SCRIPTED

logger = logging.getLogger(__name__)

WAIT_MAX_MS = 5_000
"""How long a call waits here; one that has to wait longer is given back to its run."""

AGAIN_MS = 500
BUSY_MS = 1_000
"""When a call is tried again whose turn nobody can foresee, in milliseconds."""

PREEMPT_MAX_MS = 60_000
"""How long a provider is left alone at most because it said that nothing is left."""

TURNED_AWAY = frozenset({"rate_limited", "overloaded"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that wants to be made: for which attempt, of which model, and how much it may use."""

    ref: RunRef
    step: int
    attempt: int
    model: ModelChoice
    tokens: int
    within_ms: int = WAIT_MAX_MS

    @property
    def spread(self) -> float:
        """What sets it apart from all others that wait: the same at every try."""
        return jitter("limit", self.ref.run, str(self.step), str(self.attempt))


class Limiter:
    """One worker's part of the one limiter for each provider, account and model."""

    def __init__(
        self,
        limits: Limits,
        epoch: str,
        now_ms: Callable[[], int],
        gone: Callable[[str], bool],
        quotas: Mapping[str, Quota],
    ) -> None:
        """`gone` tells which epochs have ended: what they had in flight counts no more."""
        self._notes = Notes(limits, epoch, now_ms, gone)
        self._epoch = epoch
        self._now_ms = now_ms
        self._quotas = quotas

    async def run(self) -> None:
        """Hear and tell until cancelled."""
        await self._notes.run()

    async def permit(self, asked: Asked) -> "Permit":
        """Leave to make one call, now; use it as a context around the call.

        Raises:
            ModelFailure: `held_back`: not for longer than the call may wait here.
        """
        quota = quota_of(self._quotas, asked.model)
        if quota is None and asked.model.provider == SCRIPTED:
            return Permit(None, self._notes, asked)  # a script is not anybody's account
        entry = self._notes.entry(scope_of(asked.model, _key_name(asked.model)))
        entry.quota = quota or NO_QUOTA
        entry.names = (asked.model.provider, asked.model.model)
        deadline_ms = self._now_ms() + min(asked.within_ms, WAIT_MAX_MS)
        waited = False
        while (wait := await self._try(entry, asked)) is not None:
            waited = True
            await self._pause(entry, asked, wait, deadline_ms)
        return Permit(entry, self._notes, asked, waited=waited)

    async def _try(self, entry: Entry, asked: Asked) -> Wait | None:
        """Begin now (None), or what to wait for."""
        try:
            if not self._in_force(entry):
                await self._notes.fresh()
            if not self._in_force(entry):
                self._notes.count(entry, 1)
                return None
            known = self._admit(entry, asked, self._notes.living(entry.rate))
            wait = known if isinstance(known, Wait) else await self._ask(entry, asked)
        except Unavailable as away:
            return Wait(self._now_ms() + AGAIN_MS, f"its limits are not known now: {away}")
        return wait

    async def _ask(self, entry: Entry, asked: Asked) -> Wait | None:
        wait = await self._notes.change(entry, lambda rate: self._admit(entry, asked, rate))
        if wait is None:
            self._notes.count(entry, 1)
        return wait

    def _admit(self, entry: Entry, asked: Asked, rate: Rate) -> Rate | Wait:
        call = Call(self._epoch, entry.mine, asked.tokens, asked.spread)
        return admit(rate, entry.quota, call, self._now_ms())

    def _in_force(self, entry: Entry) -> bool:
        return in_force(entry.rate, entry.quota, self._now_ms())

    async def _pause(self, entry: Entry, asked: Asked, wait: Wait, deadline_ms: int) -> None:
        """Wait here if it is not for long.

        Raises:
            ModelFailure: it is.
        """
        now_ms = self._now_ms()
        left_ms = deadline_ms - now_ms
        if wait.until_ms is not None and wait.until_ms <= deadline_ms:
            await asyncio.sleep((wait.until_ms - now_ms) / 1000)
        elif wait.until_ms is None and left_ms > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_ms / 1000):
                    await entry.changed.wait()
        else:
            again_ms = BUSY_MS * (1 + asked.spread)
            if wait.until_ms is not None:
                again_ms = max(0, wait.until_ms - now_ms)
            message = f"{asked.model.provider}/{asked.model.model} has to wait: {wait.why}"
            raise ModelFailure("held_back", message, retry_after_ms=int(again_ms), usage=Usage())


class Permit:
    """Leave to make one call. A context: at its end others may begin, whatever came of it."""

    def __init__(
        self,
        entry: Entry | None,
        notes: Notes,
        asked: Asked,
        *,
        waited: bool = False,
    ) -> None:
        """`entry` None: nothing limits it."""
        self.waited = waited
        self._entry = entry
        self._notes = notes
        self._asked = asked
        self._began_ms = notes.now_ms()
        self._reply: ModelReply | None = None
        self._used = True

    def replied(self, reply: ModelReply) -> None:
        """The provider gave this reply."""
        self._reply = reply

    def unused(self) -> None:
        """The call was not made after all."""
        self._used = False

    def __enter__(self) -> Self:
        """The call begins."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The call is over; nothing here waits, so that no cancel can get in between."""
        entry = self._entry
        if entry is None:
            return
        if isinstance(error, ModelFailure) and error.kind in TURNED_AWAY:
            self._turned_away(entry, error)
        elif self._reply is not None:
            self._went_well(entry, self._reply)
        if entry.quota.any:
            self._settle(entry, error)
        self._notes.count(entry, -1)

    def _turned_away(self, entry: Entry, failure: ModelFailure) -> None:
        now_ms = self._notes.now_ms()
        pause_ms = failure.retry_after_ms
        if pause_ms is None:
            pause_ms = _nothing_left(failure.limits)
        refusal = Refusal(self._began_ms, pause_ms, self._asked.spread)
        epoch, mine = self._notes.epoch, entry.mine
        self._notes.step(entry, lambda rate: refused(counted(rate, epoch, mine), refusal, now_ms))
        rate = entry.rate
        logger.warning(
            "%s turned a call away (%s): nobody asks it for %.1f s, then %d at once",
            "/".join(entry.names),
            failure.kind,
            max(0, rate.held_until_ms - now_ms) / 1000,
            int(rate.bound or 1),
        )

    def _went_well(self, entry: Entry, reply: ModelReply) -> None:
        now_ms = self._notes.now_ms()
        self._notes.step(entry, partial(replied, began_ms=self._began_ms, now_ms=now_ms))
        pause_ms = _nothing_left(reply.limits)
        if pause_ms is not None:
            until_ms = now_ms + pause_ms
            logger.info("%s says that nothing is left: it is left alone", "/".join(entry.names))
            self._notes.step(entry, partial(held, until_ms=until_ms, now_ms=now_ms))

    def _settle(self, entry: Entry, error: BaseException | None) -> None:
        """Count what was used instead of what was kept in reserve; the unknown counts in full."""
        now_ms, quota, tokens = self._notes.now_ms(), entry.quota, self._asked.tokens
        used: int | None = None
        if not self._used:
            self._notes.step(entry, partial(unasked, quota=quota, now_ms=now_ms))
            used = 0
        elif self._reply is not None:
            used = self._reply.usage.tokens if self._reply.usage else None
        elif isinstance(error, ModelFailure):
            known = Usage() if error.kind in TURNED_AWAY else error.usage
            used = known.tokens if known else None
        if used is not None and used != tokens:
            self._notes.step(
                entry,
                partial(settled, quota=quota, reserved=tokens, used=used, now_ms=now_ms),
            )


def _nothing_left(signs: RateSigns | None) -> int | None:
    """How long to leave a provider alone that says that a limit is used up; None: it is not."""
    if signs is None:
        return None
    waits = [
        sign.reset_ms
        for sign in (signs.requests, signs.tokens, signs.input_tokens, signs.output_tokens)
        if sign is not None and sign.remaining <= 0 and sign.reset_ms is not None
    ]
    return min(max(waits), PREEMPT_MAX_MS) if waits else None


def _key_name(choice: ModelChoice) -> str:
    """What names the account: the name of its key, never the key."""
    provider = PROVIDERS.get(choice.provider)
    return provider.key if provider else ""
