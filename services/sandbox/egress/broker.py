"""The worker's side of egress: one proxy process, kept alive, and the sandboxes it serves.

Not the proxy: no byte of a sandbox's traffic and no value of a secret is ever in the worker.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from domain.sandbox import EgressRow
from services.network.roots import system_roots
from services.sandbox.egress.environment import Surroundings
from services.sandbox.egress.launch import Ask, Life, ProxyDied, launch
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.tally import Tally
from services.sandbox.egress.wire import (
    Attach,
    Denied,
    Detach,
    Done,
    Made,
    Prepare,
    Spent,
    Start,
    Take,
    Taken,
)
from services.sandbox.failures import SandboxUnavailable

logger = logging.getLogger(__name__)

AGAIN_S = 0.05
AGAIN_MAX_S = 5.0
HEALTHY_S = 30.0
"""A process that lived so long is replaced at once; one that did not, after a growing pause."""

TRIES = 3
CLOSED = "egress is closed"

Answer = TypeVar("Answer")

OnDenied = Callable[[EgressRow], Awaitable[None]]
"""Hears of the first denial of each host, while the sandbox's command still runs."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a sandbox needs before it is made, so that its programs find the way out.

    `missing` are the granted secrets that have no stand-in, each with the reason.
    """

    policy: EgressPolicy
    env: Mapping[str, str]
    files: Mapping[str, bytes]  # of FILES_FOLDER, by plain name
    missing: Mapping[str, str]
    stand_ins: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class Broker:
    """Egress for the sandboxes of one worker. The process starts with the first that wants it.

    When the process dies, a new one takes over all sessions; meanwhile nothing gets out, and
    connections made inside wait in their listener.
    """

    def __init__(self, settings: EgressSettings, tasks: asyncio.TaskGroup) -> None:
        """`tasks` owns what watches over the process; `close` ends that."""
        self._settings = settings
        self._tasks = tasks
        self._roots = system_roots()
        self._surroundings = Surroundings(self._roots, settings.extra_ca_file)
        self._numbers = itertools.count(1)
        self._authority: str | None = None
        self._sessions: dict[int, Session] = {}
        self._life: asyncio.Future[Life] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    async def prepare(self, policy: EgressPolicy) -> Prepared:
        """Make ready for a sandbox that is yet to be made.

        Raises:
            SandboxUnavailable: there is no proxy.
        """
        made = await self.ask(
            lambda number: Prepare(number=number, policy=policy, variables=variables_of(policy)),
            Made,
        )
        self._authority = made.authority or self._authority
        try:
            env = self._surroundings.env(made.certificate)
            files = self._surroundings.files(made.certificate)
        except OSError as error:
            problem = f"the certificates to trust cannot be read: {error}"
            raise SandboxUnavailable(problem) from error
        return Prepared(policy, {**made.stand_ins, **env}, files, made.missing, made.stand_ins)

    async def attach(
        self, prepared: Prepared, listener: socket.socket, on_denied: OnDenied
    ) -> "Session":
        """Serve a sandbox's listener, of which a duplicate is kept.

        Raises:
            SandboxUnavailable: there is no proxy.
        """
        session = Session(self, self.number(), prepared, listener.dup(), on_denied)
        try:
            # Only when it is among the sessions does the next process take it over by itself.
            await self._insist(session.attach_to)
        except BaseException:
            session.listener.close()
            raise
        self._sessions[session.number] = session
        return session

    async def ask(self, question: Callable[[int], Ask], kind: type[Answer]) -> Answer:
        """Ask the process something, and a new one if it dies over it.

        Raises:
            SandboxUnavailable: there is no process, or it cannot do it.
        """
        answer = await self._insist(lambda life: life.ask(question(self.number())))
        if not isinstance(answer, kind):
            raise TypeError(type(answer))
        return answer

    async def forget(self, session: int) -> None:
        """End the connections of a session. A process that is not there serves nobody."""
        known = self._sessions.pop(session, None)
        if known is None:
            return
        known.listener.close()
        with contextlib.suppress(SandboxUnavailable):
            await self.ask(lambda number: Detach(number=number, session=session), Done)

    @property
    def pid(self) -> int | None:
        """The process that serves now; None while there is none."""
        life = self._life
        if life is None or not life.done() or life.exception() is not None:
            return None
        return life.result().process.pid

    async def close(self) -> None:
        """End the process and with it every connection; closing twice is harmless."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        self._settle(SandboxUnavailable(CLOSED))
        for session in list(self._sessions.values()):
            session.listener.close()
        self._sessions.clear()

    def number(self) -> int:
        """One that was not used before, of a question or a session."""
        return next(self._numbers)

    async def _insist(self, ask: Callable[[Life], Awaitable[Answer]]) -> Answer:
        """Ask a living process; ask another when it died over it."""
        for _ in range(TRIES):
            life = await self._alive()
            with contextlib.suppress(ProxyDied):
                return await ask(life)
        problem = "the egress proxy died again and again"
        raise SandboxUnavailable(problem)

    async def _alive(self) -> Life:
        if self._closed:
            raise SandboxUnavailable(CLOSED)
        if self._life is None:
            self._life = asyncio.get_running_loop().create_future()
            self._keeper = self._tasks.create_task(self._keep())
        return await asyncio.shield(self._life)

    async def _keep(self) -> None:
        """Start a process, and another whenever it ends."""
        loop, pause_s = asyncio.get_running_loop(), AGAIN_S
        while True:
            began = loop.time()
            try:
                await self._live()
            except SandboxUnavailable as problem:
                self._settle(problem)
            except OSError as error:
                self._settle(SandboxUnavailable(f"the egress proxy cannot be started: {error}"))
            if loop.time() - began > HEALTHY_S:
                pause_s = AGAIN_S
            logger.error("the egress proxy ended; another is started in %.2f s", pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)
            if self._life is None or self._life.done():  # else somebody waits for it already
                self._life = loop.create_future()

    async def _live(self) -> None:
        """One process from its start to its end.

        Raises:
            SandboxUnavailable: it did not start.
        """
        start = Start(settings=self._settings, roots=self._roots, authority=self._authority)
        life = await launch(start)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_over(life))
                await life.listen(self._told)
                # Whoever asks from here on waits for the next process.
                self._life = asyncio.get_running_loop().create_future()
                for session in self._sessions.values():
                    session.lost = True
        finally:
            await life.end()

    async def _take_over(self, life: Life) -> None:
        """Have a new process serve the sandboxes of the one before it."""
        with contextlib.suppress(ProxyDied):
            for session in list(self._sessions.values()):
                try:
                    await session.attach_to(life)
                except SandboxUnavailable as problem:
                    logger.error("a sandbox has lost its egress: %s", problem)  # noqa: TRY400
                if session.number not in self._sessions:  # it was closed meanwhile
                    await life.ask(Detach(number=self.number(), session=session.number))
            if self._life is not None and not (self._life.done() or life.over):
                self._life.set_result(life)

    def _settle(self, problem: SandboxUnavailable) -> None:
        """Let everybody who waits for a process know why there is none."""
        if self._life is not None and not self._life.done():
            self._life.set_exception(problem)
            self._life.exception()  # perhaps nobody waits

    def _told(self, message: Denied | Spent) -> None:
        session = self._sessions.get(message.session)
        if session is None:
            return
        if isinstance(message, Spent):
            session.spent = max(session.spent, message.spent)
        else:
            self._tasks.create_task(session.denied(message.row))


def variables_of(policy: EgressPolicy) -> dict[str, str]:
    """Variables of this process that are named like secrets a policy asks for.

    The proxy process has no environment; whether variables count is for its configuration to say.
    """
    names = (grant.name for grant in policy.secrets)
    return {name: os.environ[name] for name in names if name in os.environ}


class Session:
    """A sandbox that is served. `lost` and `spent` are the broker's to keep."""

    def __init__(
        self,
        broker: Broker,
        number: int,
        prepared: Prepared,
        listener: socket.socket,
        on_denied: OnDenied,
    ) -> None:
        self.listener = listener
        self.lost = False
        self.spent = 0
        self._broker = broker
        self.number = number
        self._prepared = prepared
        self._on_denied = on_denied

    async def take(self) -> Tally:
        """What went through since the last time. Of a process that died, the counts are lost.

        Raises:
            SandboxUnavailable: there is no proxy.
        """
        tally = Tally()
        more = True
        while more:
            taken = await self._broker.ask(
                lambda number: Take(number=number, session=self.number), Taken
            )
            self.spent = max(self.spent, taken.spent)
            tally, more = tally.joined(taken.tally), taken.more
        lost, self.lost = self.lost, False
        return tally.joined(Tally(lost=lost))

    async def close(self) -> None:
        """Serve it no more; closing twice is harmless."""
        await self._broker.forget(self.number)

    async def attach_to(self, life: Life) -> None:
        """Have a process serve it.

        Raises:
            ProxyDied: the process ended over it.
            SandboxUnavailable: it cannot.
        """
        attach = Attach(
            number=self._broker.number(),
            session=self.number,
            policy=self._prepared.policy,
            variables=variables_of(self._prepared.policy),
            stand_ins=dict(self._prepared.stand_ins),
            spent=self.spent,
        )
        try:
            passed = self.listener.dup()
        except OSError as error:
            problem = f"the listener of the sandbox cannot be passed on: {error}"
            raise SandboxUnavailable(problem) from error
        with passed:
            await life.ask(attach, passed.fileno())
        if life.over:
            raise ProxyDied

    async def denied(self, row: EgressRow) -> None:
        """Pass on the first denial of a host."""
        try:
            await self._on_denied(row)
        except Exception:
            logger.exception("a denial of egress could not be shown")
