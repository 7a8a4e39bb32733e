"""One process as the in-memory server sees it: its calls, waits and death. Not a port itself."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Protocol, TypeVar

from domain.errors import Conflict, PeritusError, Unavailable
from eventlog.memory.faults import Crashed, Fault, FaultPoint, Faults, Hook, Kind, NoFaults, NoHook

T = TypeVar("T")

GUARDED = frozenset({FaultPoint.APPEND, FaultPoint.LIMIT_NOTE, FaultPoint.REGISTRY_PUT})
"""What is stored only after an expected sequence."""


class Uplink(Protocol):
    """What a client knows of its server: whether it answers, and how long to wait for that."""

    @property
    def up(self) -> bool:
        """Whether the server answers now."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long a call waits for its answer."""
        ...


class Attachment(Protocol):
    """A client's part of a subscription: connected while the server is there."""

    def attach(self) -> None:
        """Ask the server for messages again."""
        ...

    def detach(self) -> None:
        """The server no longer knows of it."""
        ...


class Client:
    """A process connected to the server; once crashed, every call it makes raises `Crashed`."""

    def __init__(self, uplink: Uplink, *, faults: Faults, hook: Hook) -> None:
        self.faults = faults
        self.dead = False
        self.quiet = isinstance(faults, NoFaults) and isinstance(hook, NoHook)
        self._uplink = uplink
        self._hook = hook
        self._serial = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._attached: dict[int, Attachment] = {}
        self._paused_until = 0.0

    def alive(self) -> None:
        """Pass only while the process lives.

        Raises:
            Crashed: it does not.
        """
        if self.dead:
            raise Crashed

    def crash(self) -> None:
        """Die now: whatever waits raises `Crashed`, subscriptions go, held deliveries lapse."""
        if self.dead:
            return
        self.dead = True
        for attachment in self._attached.values():
            attachment.detach()
        self._attached.clear()
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(Crashed())

    def register(self, attachment: Attachment) -> int:
        """Keep a subscription alive over server restarts; its number."""
        self.alive()
        key = next(self._serial)
        self._attached[key] = attachment
        if self._uplink.up:
            attachment.attach()
        return key

    def unregister(self, key: int) -> None:
        """The subscription is over."""
        attachment = self._attached.pop(key, None)
        if attachment is not None:
            attachment.detach()

    def disconnected(self) -> None:
        """The server went away, and with it all it knew of this client's subscriptions."""
        for attachment in self._attached.values():
            attachment.detach()

    def reconnected(self) -> None:
        """The server is back: declare what this client needs again."""
        if self._uplink.up:
            for attachment in list(self._attached.values()):
                attachment.attach()

    async def wait(self, future: "asyncio.Future[T]") -> T:
        """Wait for something that the death of this process ends.

        Raises:
            Crashed: the process died meanwhile.
        """
        key = next(self._serial)
        self._waiting[key] = future
        try:
            return await future
        finally:
            del self._waiting[key]

    async def sleep(self, delay_s: float) -> None:
        """Let time pass in this process.

        Raises:
            Crashed: the process died meanwhile.
        """
        if delay_s <= 0:
            await asyncio.sleep(0)
            self.alive()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(delay_s, _settle, future)
        try:
            await self.wait(future)
        finally:
            timer.cancel()

    async def paused(self) -> None:
        """Stand still for as long as the whole process does."""
        while (left := self._paused_until - asyncio.get_running_loop().time()) > 0:
            await self.sleep(left)

    async def call(
        self,
        point: FaultPoint,
        execute: Callable[[Kind], T],
        *,
        unknown: type[Unavailable] = Unavailable,
    ) -> T:
        """One round trip: `execute` runs at the server, between the request and its answer.

        It is told the fault's kind for what only it can do (`STALE`, `VANISH`).

        Raises:
            Unavailable: the server is away, or (as `unknown`) no answer came in time.
            Crashed: the process is dead.
        """
        self.alive()
        if self.quiet:
            await asyncio.sleep(0)
            self.alive()
            self._reach(point)
            return execute(Kind.NONE)
        fault = await self.leave(point)
        if fault.kind is Kind.REFUSE:
            await self.sleep(fault.delay_s)
            msg = f"{point}: no responders"
            raise Unavailable(msg)
        if fault.kind is Kind.CONFLICT and point in GUARDED:
            await self.sleep(fault.delay_s)
            msg = "wrong last sequence"
            raise Conflict(msg)
        if fault.kind is Kind.DROP:
            await self._no_answer(point, self._uplink.timeout_s, unknown)
        if fault.delay_s >= self._uplink.timeout_s:
            asyncio.get_running_loop().call_later(fault.delay_s, self._late, execute, fault.kind)
            await self._no_answer(point, self._uplink.timeout_s, unknown)
        await self.sleep(fault.delay_s)
        self._reach(point)
        return await self._answered(point, execute, fault, unknown)

    async def tell(self, point: FaultPoint, execute: Callable[[], None]) -> None:
        """One message nobody answers: when it is lost, nobody hears of it.

        Raises:
            Crashed: the process is dead.
        """
        self.alive()
        if self.quiet:
            if self._uplink.up:
                execute()
            return
        fault = await self.leave(point)
        if fault.kind not in (Kind.DROP, Kind.VANISH, Kind.REFUSE):
            for _ in range(2 if fault.kind is Kind.DUPLICATE else 1):
                self.later(fault.delay_s, self._if_up, execute)
        self.arrive(point, fault)

    async def leave(self, point: FaultPoint) -> Fault:
        """The moment before a request leaves the process: its fault, once any pause is over.

        Raises:
            Crashed: the process dies here, or is dead.
        """
        self.alive()
        self._guard(self._hook.before, point)
        fault = self.faults.at(point)
        if fault.kind is Kind.CRASH:
            self._die(f"before {point}")
        if fault.pause_s > 0:
            until = asyncio.get_running_loop().time() + fault.pause_s
            self._paused_until = max(self._paused_until, until)
        await self.paused()
        self.alive()
        return fault

    def arrive(self, point: FaultPoint, fault: Fault) -> None:
        """The moment after a call was carried out, before the process hears of it.

        Raises:
            Crashed: the process dies here, or is dead.
        """
        self.alive()
        if fault.kind is Kind.CRASH_AFTER:
            self._die(f"after {point}")
        self._guard(self._hook.after, point)

    async def pass_by(self, point: FaultPoint) -> None:
        """The moment a delivery reaches the code that asked for it.

        Raises:
            Crashed: the process dies here, or is dead.
        """
        await self.paused()
        self.alive()
        self._guard(self._hook.before, point)
        self._guard(self._hook.after, point)

    def later(self, delay_s: float, do: Callable[..., None], *args: Any) -> None:  # noqa: ANN401
        """Do it after a while, at once if the while is nothing."""
        if delay_s <= 0:
            do(*args)
        else:
            asyncio.get_running_loop().call_later(delay_s, do, *args)

    async def _answered(
        self,
        point: FaultPoint,
        execute: Callable[[Kind], T],
        fault: Fault,
        unknown: type[Unavailable],
    ) -> T:
        failure: PeritusError | None = None
        result: T | None = None
        try:
            result = execute(fault.kind)
        except PeritusError as error:
            failure = error
        if fault.kind is Kind.DUPLICATE:
            with suppress(PeritusError):
                execute(fault.kind)
        self.arrive(point, fault)
        left_s = self._uplink.timeout_s - fault.delay_s
        if fault.kind is Kind.LOST_ACK or fault.answer_s >= left_s:
            await self._no_answer(point, left_s, unknown)
        await self.sleep(fault.answer_s)
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]  # `execute` returned it

    async def _no_answer(
        self, point: FaultPoint, wait_s: float, unknown: type[Unavailable]
    ) -> None:
        await self.sleep(wait_s)
        msg = f"{point}: no answer in {self._uplink.timeout_s} s"
        raise unknown(msg)

    def _late(self, execute: Callable[[Kind], object], kind: Kind) -> None:
        if self._uplink.up:
            with suppress(PeritusError):
                execute(kind)

    def _if_up(self, execute: Callable[[], None]) -> None:
        if self._uplink.up:
            execute()

    def _reach(self, point: FaultPoint) -> None:
        if not self._uplink.up:
            msg = f"{point}: the server is away"
            raise Unavailable(msg)

    def _guard(self, hook: Callable[[FaultPoint], None], point: FaultPoint) -> None:
        try:
            hook(point)
        except Crashed:
            self.crash()
            raise

    def _die(self, where: str) -> None:
        self.crash()
        raise Crashed(where)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
