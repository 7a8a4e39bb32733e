"""An asyncio event loop with virtual time and a seeded order of callbacks. Not for real I/O.

One seed is one execution, in any process. What would depend on addresses or on the garbage
collector is pinned: tasks and futures hash by a counter (asyncio keeps tasks in sets), task names
count per loop, and cycles are collected at fixed callback counts only.
"""

import asyncio
import gc
import heapq
import sys
import threading
import weakref
from asyncio.events import _set_running_loop  # pyright: ignore[reportPrivateUsage] - how loops begin
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextvars import Context
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from peritus.simulation.handles import SimFuture, SimHandle, SimTask, SimTimer, where

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

VIRTUAL_S_MAX = 7 * 86_400.0
"""How far virtual time may go in one run, in seconds."""

CALLBACKS_MAX = 20_000_000
"""How many callbacks one run may take."""

CALLBACK_S = 1e-6
"""How long one callback takes in virtual time, so that even a busy loop lets timers fire."""

CLEANUP_CALLBACKS_MAX = 200_000
"""How many callbacks the tasks left at the end may take to be cancelled."""

COLLECT_EVERY = 250_000
"""How many callbacks pass between two garbage collections."""

SWEEP_MIN = 100
"""How many cancelled timers are not worth sweeping."""

CLOSING = "closing a generator"

EPOCH_MS = 1_750_000_000_000
"""The wall clock when virtual time is 0, in milliseconds: some day in 2025."""


class SimulationError(Exception):
    """The simulation cannot go on; the system under test or its test is wrong."""


class DeadlockError(SimulationError):
    """Nothing is ready and nothing is scheduled: what waits now waits for ever."""


class RunawayError(SimulationError):
    """A run took more callbacks or more virtual time than it may."""


class UnhandledError(SimulationError):
    """A callback raised, or a task ended with an exception that nobody looked at."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs what is ready in a seeded order; when nothing is, jumps to the next timer."""

    def __init__(
        self,
        seed: int,
        *,
        virtual_s_max: float = VIRTUAL_S_MAX,
        callbacks_max: int = CALLBACKS_MAX,
        trace: bool = False,
    ) -> None:
        self._running = False
        self._shut = False
        super().__init__()
        self.callbacks = 0
        self._random = Random(seed).random
        self._virtual_s_max = virtual_s_max
        self._callbacks_max = callbacks_max
        self._digest = blake2b(digest_size=16) if trace else None
        self._now = 0.0
        self._soon: list[SimHandle | SimTimer] = []
        self._later: list[tuple[float, int, SimTimer]] = []
        self._serial = count(1)
        self._timers_cancelled = 0
        self._tasks: weakref.WeakValueDictionary[int, SimTask[Any]] = weakref.WeakValueDictionary()
        self._generators: weakref.WeakValueDictionary[int, AsyncGenerator[Any, Any]] = (
            weakref.WeakValueDictionary()
        )
        self._failure: dict[str, Any] | None = None
        self._home = threading.get_ident()

    # ------------------------------------------------------------------ time and trace

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def now_ms(self) -> int:
        """The wall clock of the simulated world, in milliseconds."""
        return EPOCH_MS + int(self._now * 1000 + 1e-6)

    @property
    def timers(self) -> int:
        """How many timers are kept, the cancelled ones that were not swept out yet among them."""
        return len(self._later)

    def digest(self) -> str:
        """A hash over every callback so far, with its time: equal digests are equal executions.

        Raises:
            SimulationError: the loop was made without `trace`.
        """
        if self._digest is None:
            msg = "this loop keeps no trace"
            raise SimulationError(msg)
        return self._digest.hexdigest()

    # ------------------------------------------------------------------ scheduling

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call it in the next tick, in any order within that."""
        handle = SimHandle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`; another thread has no place here.

        Raises:
            SimulationError: another thread calls.
        """
        if threading.get_ident() != self._home:
            msg = "a thread called into the simulation: its order would not be reproducible"
            raise SimulationError(msg)
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it after that many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it at that virtual time."""
        timer = SimTimer(when, callback, args, self, context)
        heapq.heappush(self._later, (when, next(self._serial), timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        future: SimFuture[Any] = SimFuture(loop=self)
        future.serial = next(self._serial)
        return future

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        task = SimTask(coro, next(self._serial), loop=self, name=name, context=context)
        self._tasks[task.serial] = task
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call it in the loop itself, as one callback: there are no threads here."""
        del executor

        async def inline() -> T:
            return func(*args)

        return self.create_task(inline(), name="executor")

    # ------------------------------------------------------------------ running

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run until it is done; its result.

        Raises:
            DeadlockError: it never will be.
            RunawayError: it takes more than it may.
            UnhandledError: something failed where nobody looks.
        """
        if isinstance(future, Generator):
            msg = "generators are no coroutines"
            raise SimulationError(msg)
        task = asyncio.ensure_future(future, loop=self)  # noqa: TID251 - this is the loop
        hooks = sys.get_asyncgen_hooks()
        collecting = gc.isenabled()
        gc.disable()
        _set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=self._generator_began, finalizer=self._generator_lost)
        self._running = True
        try:
            while not task.done():
                self._tick()
        finally:
            self._running = False
            sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(None)
            if collecting:
                gc.enable()
        return task.result()

    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._shut

    def get_debug(self) -> bool:
        """Never: asyncio's debug mode reads the real clock."""
        return False

    def close(self) -> None:
        """Cancel what is left, oldest first, and run no more.

        Raises:
            RunawayError: the tasks that are left do not end.
        """
        if self._shut:
            return
        self._callbacks_max = self.callbacks + CLEANUP_CALLBACKS_MAX
        self._virtual_s_max = float("inf")
        try:
            self.run_until_complete(self._clean_up())
        finally:
            self._shut = True
            self._soon.clear()
            self._later.clear()

    async def shutdown_asyncgens(self) -> None:
        """Close the asynchronous generators that were begun and not ended."""
        for generator in list(self._generators.values()):
            await generator.aclose()

    async def shutdown_default_executor(self) -> None:
        """There is none."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember the first failure nobody handled: the run ends with it."""
        if self._failure is None:
            self._failure = context

    def _timer_handle_cancelled(self, _timer: asyncio.TimerHandle) -> None:
        """`asyncio.TimerHandle.cancel` tells its loop; too many dead timers are swept out."""
        self._timers_cancelled += 1
        if self._timers_cancelled > SWEEP_MIN and self._timers_cancelled * 2 > len(self._later):
            self._later = [item for item in self._later if not item[2].cancelled()]
            heapq.heapify(self._later)
            self._timers_cancelled = 0

    def _tick(self) -> None:
        scheduled = self._later
        if not self._soon:
            self._jump()
            scheduled = self._later
        while scheduled and scheduled[0][0] <= self._now:
            self._soon.append(heapq.heappop(scheduled)[2])
        batch = self._soon
        self._soon = []
        if len(batch) > 1:
            self._shuffle(batch)
        for handle in batch:
            if handle.cancelled():
                continue
            if self._digest is not None:
                self._digest.update(f"{self._now!r} {handle.label()}\n".encode())
            self._now += CALLBACK_S
            handle.run()
            if self._failure is not None:
                self._fail()
        self._count(len(batch))

    def _jump(self) -> None:
        scheduled = self._later
        while scheduled and scheduled[0][2].cancelled():
            heapq.heappop(scheduled)
            self._timers_cancelled = max(0, self._timers_cancelled - 1)
        if not scheduled:
            msg = (
                f"nothing will ever happen again at {self._now:.6f} s; waiting:\n{self._waiting()}"
            )
            raise DeadlockError(msg)
        self._now = max(self._now, scheduled[0][0])
        if self._now > self._virtual_s_max:
            msg = f"more than {self._virtual_s_max} virtual seconds; waiting:\n{self._waiting()}"
            raise RunawayError(msg)

    def _count(self, size: int) -> None:
        before = self.callbacks // COLLECT_EVERY
        self.callbacks += size
        if self.callbacks > self._callbacks_max:
            msg = f"more than {self._callbacks_max} callbacks; waiting:\n{self._waiting()}"
            raise RunawayError(msg)
        if self.callbacks // COLLECT_EVERY > before:
            gc.collect()

    def _shuffle(self, batch: list[SimHandle | SimTimer]) -> None:
        random = self._random
        for i in range(len(batch) - 1, 0, -1):
            j = int(random() * (i + 1))
            batch[i], batch[j] = batch[j], batch[i]

    def _fail(self) -> NoReturn:
        context, self._failure = self._failure or {}, None
        msg = str(context.get("message", "unhandled failure"))
        raise UnhandledError(msg) from context.get("exception")

    def _waiting(self) -> str:
        lines = [
            f"  {task.get_name()}: {where(task.get_coro())}"
            for task in sorted(self._tasks.values(), key=lambda task: task.serial)
            if not task.done()
        ]
        return "\n".join(lines)

    def _generator_began(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators[next(self._serial)] = generator

    def _generator_lost(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._shut:
            self.call_soon(self._close_generator, generator)

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self.create_task(_closing(generator), name=CLOSING)

    async def _clean_up(self) -> None:
        """End every task, oldest first; a generator that is being closed is left to close."""
        me = asyncio.current_task()
        await asyncio.sleep(0)
        while left := [t for _, t in sorted(self._tasks.items()) if not t.done() and t is not me]:
            for task in left:
                if task.get_name() != CLOSING:
                    task.cancel()
            await asyncio.wait(left)
            for task in left:
                if not task.cancelled():
                    task.exception()
        await self.shutdown_asyncgens()


def run(
    main: Callable[[SimLoop], Coroutine[Any, Any, T]],
    seed: int,
    *,
    virtual_s_max: float = VIRTUAL_S_MAX,
    callbacks_max: int = CALLBACKS_MAX,
) -> T:
    """Run `main(loop)` to its end in a loop of its own; its result.

    Raises:
        SimulationError: it deadlocked, ran away, or something failed where nobody looks.
    """
    loop = SimLoop(seed, virtual_s_max=virtual_s_max, callbacks_max=callbacks_max)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


async def _closing(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()
