"""One run's kind of sandbox over a room, made at its first use, with its way out. Not the room."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from domain.errors import Rejected
from domain.sandbox import EgressRow
from domain.secrets import SecretRef, SecretValue
from services.sandbox.egress.broker import Broker, Prepared, Session
from services.sandbox.egress.policy import EgressPolicy
from services.sandbox.egress.tally import Tally
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.policy import Allowance
from services.sandbox.port import Backend, Command, OnBytes, Outcome, Owner, Sandbox, SandboxSpec
from services.sandbox.workspace import Workspace
from services.worker.process import Process

logger = logging.getLogger(__name__)

OnDenied = Callable[[EgressRow], Awaitable[None]]
"""Hears of the first refusal of a host."""

Reveal = Callable[[SecretRef], Awaitable[SecretValue | None]]


@dataclass(frozen=True, slots=True)
class Means:
    """What boxes are made with: the backend, the proxy and the secrets of this worker."""

    backend: Callable[[], Awaitable[Backend]]
    broker: Callable[[], Awaitable[Broker]]
    reveal: Reveal


CHECK_S = 10.0
"""How long a sandbox may take to show that it still runs something, in seconds."""


class Equipped:
    """A sandbox whose commands get the variables of its kind: proxy, certificates, secrets."""

    def __init__(
        self,
        inner: Sandbox,
        env: Mapping[str, str],
        secret_env: Mapping[str, SecretValue],
        broken: Callable[[], Awaitable[None]],
    ) -> None:
        """`broken` is called when the sandbox can run nothing any more."""
        self._inner = inner
        self._env = env
        self._secret_env = secret_env
        self._broken = broken

    @property
    def proxy(self) -> socket.socket | None:
        """The listening socket of the sandbox."""
        return self._inner.proxy

    def where(self, inner: str) -> str:
        """What a command is to call a path in a folder that the sandbox was given."""
        return self._inner.where(inner)

    async def exec(
        self,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        """Run a command to its end.

        Raises:
            SandboxUnavailable: the command did not run.
        """
        equipped = self._equipped(command)
        try:
            return await self._inner.exec(equipped, on_stdout=on_stdout, on_stderr=on_stderr)
        except SandboxUnavailable:
            await self._check()
            raise

    async def start(self, command: Command) -> Process:
        """Start a process that stays.

        Raises:
            SandboxUnavailable: it did not start.
        """
        try:
            return await self._inner.start(self._equipped(command))
        except SandboxUnavailable:
            await self._check()
            raise

    async def _check(self) -> None:
        """Find out whether it was this command, or the sandbox is gone: an engine may end one."""
        try:
            await self._inner.exec(Command("true", timeout_s=CHECK_S))
        except SandboxUnavailable:
            logger.warning("a sandbox is gone; the next call gets another")
            await self._broken()

    def frozen(self) -> AbstractAsyncContextManager[bool]:
        """Nothing in it runs meanwhile."""
        return self._inner.frozen()

    async def close(self) -> None:
        """End everything."""
        await self._inner.close()

    def _equipped(self, command: Command) -> Command:
        """What the sandbox provides stands above what a model asks for."""
        env = {**command.env, **self._env}
        return replace(command, env=env, secret_env={**command.secret_env, **self._secret_env})


class Box:
    """Fills in a sandbox when it is asked for, and ends it when nobody has used it for a while."""

    def __init__(
        self,
        owner: Owner,
        workspace: Workspace,
        allowance: Allowance,
        means: Means,
        folders: Mapping[str, Path] | None = None,
    ) -> None:
        """`folders` are of the host, see `SandboxSpec`."""
        self.allowance = allowance
        self._folders = folders or {}
        self._over = False
        self._owner = owner
        self._workspace = workspace
        self._means = means
        self._opened: Equipped | None = None
        self._session: Session | None = None
        self._turn = asyncio.Lock()
        self.on_denied: OnDenied | None = None

    async def sandbox(self) -> Sandbox:
        """The sandbox, made now if there is none.

        Raises:
            SandboxUnavailable: it cannot be made; nothing ran.
        """
        if self._opened is None:
            async with self._turn:
                if self._opened is None:
                    self._opened = await self._open()
        return self._opened

    async def end(self) -> None:
        """End the sandbox for good: its room is closed."""
        self._over = True
        await self.close()

    async def take(self) -> Tally:
        """What went through the proxy since this was last asked."""
        return Tally() if self._session is None else await self._session.take()

    @asynccontextmanager
    async def frozen(self) -> AsyncGenerator[bool]:
        """Nothing in the sandbox runs meanwhile; True also when there is none."""
        if self._opened is None:
            yield True
            return
        async with self._opened.frozen() as frozen:
            yield frozen

    async def close(self) -> None:
        """End the sandbox, if there is one. It may be asked for again."""
        async with self._turn:
            opened, self._opened = self._opened, None
            session, self._session = self._session, None
            if session is not None:
                await session.close()
            if opened is not None:
                await opened.close()

    async def _open(self) -> Equipped:
        if self._over:
            message = "the room of the sandbox is closed"
            raise SandboxUnavailable(message)
        allowance, egress = self.allowance, self.allowance.egress
        prepared = None if egress is None else await self._prepare(egress)
        secret_env = await self._secrets("env")
        spec = SandboxSpec(
            owner=self._owner,
            workspace=self._workspace,
            limits=allowance.limits,
            read_only=allowance.read_only,
            egress=prepared is not None,
            image=allowance.image,
            files={} if prepared is None else prepared.files,
            secret_files=await self._secrets("file"),
            folders=self._folders,
        )
        inner = await (await self._means.backend()).open(spec)
        if prepared is None:
            return Equipped(inner, {}, secret_env, self.close)
        try:
            self._session = await self._attach(inner, prepared)
        except BaseException:
            await inner.close()
            raise
        return Equipped(inner, prepared.env, secret_env, self.close)

    async def _prepare(self, egress: EgressPolicy) -> Prepared:
        prepared = await (await self._means.broker()).prepare(egress)
        for name, reason in prepared.missing.items():
            message = f"secret {name!r} cannot be used: {reason}; see `peritus secrets check`"
            raise SandboxUnavailable(message)
        return prepared

    async def _attach(self, inner: Sandbox, prepared: Prepared) -> Session:
        if inner.proxy is None:
            message = "this backend offers no way out for a sandbox"
            raise SandboxUnavailable(message)
        broker = await self._means.broker()
        return await broker.attach(prepared, inner.proxy, self._denied)

    async def _secrets(self, deliver: str) -> dict[str, SecretValue]:
        found: dict[str, SecretValue] = {}
        for grant in self.allowance.secrets:
            if grant.deliver == deliver:
                try:
                    value = await self._means.reveal(SecretRef(name=grant.name))
                except Rejected as error:
                    message = f"secret {grant.name!r} cannot be used: {error}"
                    raise SandboxUnavailable(message) from error
                if value is None:
                    message = f"secret {grant.name!r} is not set; see `peritus secrets check`"
                    raise SandboxUnavailable(message)
                found[grant.name] = value
        return found

    async def _denied(self, row: EgressRow) -> None:
        if self.on_denied is not None:
            await self.on_denied(row)
