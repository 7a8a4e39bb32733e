"""Sandboxes from a Docker Engine: fills the port `Backend`. Not what a container is made of."""

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from services.sandbox.docker import container, opening
from services.sandbox.docker.engine import Api, Engine
from services.sandbox.docker.images import BY_DIGEST, Images
from services.sandbox.docker.running import to_the_end
from services.sandbox.docker.sandbox import DockerSandbox
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.folders import check_folders
from services.sandbox.port import CapabilityReport, Kind, Owner, SandboxSpec
from services.sandbox.self_test import self_test

APART_LACKS = frozenset({"foreign_calls_denied", "namespaces_denied", "system_calls_filtered"})
"""What a runtime with a kernel of its own need not pass: those calls never reach this machine's."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class DockerBackend:
    """See the port. Making one asks nothing of the engine."""

    name = "docker"

    def __init__(
        self,
        settings: DockerSettings,
        *,
        privileged: bool | None = None,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        """Say which engine; `privileged` is whether to look at containers from outside as root can.

        Raises:
            SandboxUnavailable: its address is not one we can speak to.
        """
        self._settings = settings
        self._privileged = os.geteuid() == 0 if privileged is None else privileged
        self._engine = Engine(settings.host)
        self._images = Images(settings, self._engine)
        self._now_ms = now_ms
        self._open: set[DockerSandbox] = set()

    async def report(self) -> CapabilityReport:
        """Attack a sandbox of its own and say what held.

        Raises:
            SandboxUnavailable: an attack got through, or no sandbox can be made.
        """
        version, kernel = await self._engine.call(_version_and_kernel)
        plain = self._settings.runtime in opening.RUNC
        report = await self_test(
            self,
            version=version,
            promises={"cpu_limit": plain, "own_network": True},
            notes=self._notes(),
            lacks_apart=frozenset() if plain else APART_LACKS,
            kernel=kernel,
        )
        return report if plain else _of_runtime(report, str(self._settings.runtime))

    def _notes(self) -> tuple[str, ...]:
        notes: list[str] = []
        if not self._privileged:
            notes.append(
                "a command's escaped children end when no other command runs in its sandbox, not "
                "with the command, and there is no egress: run as root beside the engine"
            )
        if self._settings.runtime not in opening.RUNC:
            notes.append(
                f"no egress, and commands end more slowly, with {self._settings.runtime}; commands "
                "speak to a kernel of their own, which is not filtered and lets them make "
                "namespaces in it"
            )
        if BY_DIGEST.search(self._settings.image) is None:
            notes.append(
                "the image is named by a tag, which may come to mean another one: name it by "
                "digest (name@sha256:...)"
            )
        return tuple(notes)

    async def open(self, spec: SandboxSpec) -> DockerSandbox:
        """Make a sandbox: a container, and all it is furnished with.

        Raises:
            SandboxUnavailable: it cannot be made; nothing of it is left.
        """
        check_folders(spec.folders)
        order = self._order(spec.owner, container.shape_of(spec), spec.image)
        return self._opened(await self._done(lambda: opening.open_container(order, spec)))

    async def make_ahead(self, kind: Kind) -> "DockerAhead":
        """Make a container whose workspace is put in later; see `MakesAhead`.

        Raises:
            NotAhead: that is not possible here.
            SandboxUnavailable: it cannot be made now; nothing of it is left.
        """
        order = self._order(kind.owner, container.shape_ahead(kind.limits), None)
        opened = await self._done(lambda: opening.stand_ahead(order))

        async def move_in(spec: SandboxSpec) -> DockerSandbox:
            return self._opened(await self._done(lambda: opening.move_in(order, spec, opened)))

        async def discard() -> None:
            opened.let_go()
            await self._engine.call(lambda api: opening.discard(api, opened.name))

        return DockerAhead(move_in, discard)

    def _order(self, owner: Owner, shape: container.Shape, image: str | None) -> opening.Order:
        return opening.Order(
            engine=self._engine,
            settings=self._settings,
            images=self._images,
            owner=owner,
            shape=shape,
            image=image,
            name=f"peritus-{secrets.token_hex(8)}",
            started_ms=self._now_ms(),
            privileged=self._privileged,
        )

    async def _done(self, work: Callable[[], opening.Opened]) -> opening.Opened:
        """Do what makes a container, in a thread; nothing of it is left when we are cancelled."""
        making = self._engine.begin(lambda _: work())
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await to_the_end(lambda: self._undo(making))
            raise

    async def _undo(self, making: "asyncio.Future[opening.Opened]") -> None:
        """What a thread makes after we were cancelled."""
        with suppress(SandboxUnavailable):
            opened = await asyncio.shield(making)
            opened.let_go()
            await self._engine.call(lambda api: opening.discard(api, opened.name))

    def _opened(self, opened: opening.Opened) -> DockerSandbox:
        sandbox = DockerSandbox(
            self._engine, opened, spare=self._settings.spare, on_close=self._open.discard
        )
        self._open.add(sandbox)
        return sandbox

    async def reap(self, place: str, alive: Callable[[str], bool]) -> list[str]:
        """End what dead epochs of this place left behind; says what, one line each (C10)."""
        return await self._engine.call(lambda api: _reap(api, place, alive))

    async def close(self) -> None:
        """End every sandbox that is still open."""
        for sandbox in list(self._open):
            await sandbox.close()
        await self._engine.close()


@dataclass(frozen=True, slots=True)
class DockerAhead:
    """A container that waits for its workspace; fills the port `Ahead`."""

    become: Callable[[SandboxSpec], Awaitable[DockerSandbox]]
    close: Callable[[], Awaitable[None]]


def _version_and_kernel(api: Api) -> tuple[str, str]:
    return str(api.version()["Version"]), str(api.info()["KernelVersion"])


def _of_runtime(report: CapabilityReport, runtime: str) -> CapabilityReport:
    """What another runtime promises: one that does not limit memory does not limit the rest."""
    limits = report.promises.get("memory_limit", False)
    notes = report.notes
    if not limits:
        notes = (
            *notes,
            f"memory, processors and processes are not limited together with {runtime}: let it use "
            "control groups (no --ignore-cgroups)",
        )
    promises = {**report.promises, "cpu_limit": limits}
    return report.model_copy(update={"promises": promises, "notes": notes})


def _reap(api: Api, place: str, alive: Callable[[str], bool]) -> list[str]:
    """End the containers of a place whose epoch is over; those already on their way out, too."""
    ended: list[str] = []
    label = f"{container.LABEL}place={place}"
    for found in api.containers(all=True, filters={"label": [label]}):
        labelled: dict[str, str] = found["Labels"]
        epoch = labelled.get(f"{container.LABEL}epoch", "")
        if alive(epoch):
            continue
        opening.discard(api, found["Id"])
        job = labelled.get(f"{container.LABEL}job", "")
        ended.append(f"container {found['Names'][0].lstrip('/')} of epoch {epoch}, job {job}")
    return ended
