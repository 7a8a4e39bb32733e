"""Every way to make sandboxes, for the contract suite. Not the tests.

A backend joins the suite by an entry in `BACKENDS`: a name, a way to open it over a folder, and a
reason why it cannot run here, if there is one. What it promises beside isolation is said by the
backend itself; a test that needs a promise is skipped where it is not given.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from domain.sandbox import SandboxLimits
from domain.secrets import SecretValue
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.docker.backend import APART_LACKS, DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.landlock.backend import LACKS, LandlockBackend
from services.sandbox.landlock.rules import ABI_NEEDED, abi
from services.sandbox.port import Backend, Command, Kind, Outcome, Owner, Sandbox, SandboxSpec
from services.sandbox.warm import MakingBackend, WarmBackend
from services.sandbox.workspace import Workspace
from tests.support import gvisor
from tests.support.docker_engine import engine_of_session
from tests.support.docker_engine import missing as docker_missing

PLACE = f"place-{secrets.token_hex(4)}"
"""Of this process alone: others share its engine, and may reap at the same time."""

BOUND_S = 60.0
"""How long anything in the suite may take, in seconds: a bound, not an expectation."""

Open = Callable[[Path], AbstractAsyncContextManager[Backend]]


@dataclass(frozen=True)
class BackendUnderTest:
    """`open` is given a folder of its own, which outlives the backend."""

    name: str
    open: Open
    look: Callable[[], str | None] = lambda: None  # why it cannot run here; asked when it is to
    user: int | None = None  # whose its workspaces are, where we may say so
    lacks: frozenset[str] = frozenset()  # checks of its report that it cannot pass

    apart: bool = False  # whether its processes are none of this machine's kernel

    @property
    def missing(self) -> str | None:
        """Why it cannot run here."""
        return self.look()


@asynccontextmanager
async def bubblewrap(state: Path) -> AsyncGenerator[Backend]:
    backend = BubblewrapBackend(state)
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def bubblewrap_unprivileged(state: Path) -> AsyncGenerator[Backend]:
    """As without root: namespaces through a user namespace of its own, and no cgroups."""
    backend = BubblewrapBackend(state, privileged=False)
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def docker(_state: Path) -> AsyncGenerator[Backend]:
    engine = await asyncio.to_thread(engine_of_session)
    backend = DockerBackend(DockerSettings(image=engine.image, host=engine.host))
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def docker_unprivileged(_state: Path) -> AsyncGenerator[Backend]:
    """As without root, or as with an engine elsewhere: commands are ended from inside."""
    engine = await asyncio.to_thread(engine_of_session)
    backend = DockerBackend(DockerSettings(image=engine.image, host=engine.host), privileged=False)
    try:
        yield backend
    finally:
        await backend.close()


class Patient(WarmBackend):
    """Makes every sandbox that fits out of one that was made ahead, and waits for that."""

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox."""
        async with asyncio.timeout(BOUND_S):
            await self.filled()
        return await super().open(spec)


@asynccontextmanager
async def ahead(
    inner: MakingBackend,
    limits: SandboxLimits | None = None,
    whose: Owner | None = None,
    make: type[Patient] = Patient,
) -> AsyncGenerator[Patient]:
    """A backend whose sandboxes are made ahead, those of the suite by default."""
    kind = Kind((whose or owner())._replace(tenant="", job="", run=""), limits or SandboxLimits())
    backend = make(inner, kind, 2)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(backend.run())
        try:
            yield backend
        finally:
            running.cancel()
            await backend.close()


@asynccontextmanager
async def docker_warm(_state: Path) -> AsyncGenerator[Backend]:
    """With containers that get their workspace later."""
    engine = await asyncio.to_thread(engine_of_session)
    inner = DockerBackend(DockerSettings(image=engine.image, host=engine.host))
    async with ahead(inner) as backend:
        yield backend


@asynccontextmanager
async def bubblewrap_warm(state: Path) -> AsyncGenerator[Backend]:
    """With networks and control groups that were made before."""
    async with ahead(BubblewrapBackend(state)) as backend:
        yield backend


@asynccontextmanager
async def docker_runsc(_state: Path) -> AsyncGenerator[Backend]:
    """With gVisor: commands have a kernel of their own."""
    engine = await asyncio.to_thread(gvisor.engine_of_session)
    settings = DockerSettings(image=engine.image, host=engine.host, runtime=gvisor.RUNTIME)
    backend = DockerBackend(settings)
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def landlock(_state: Path) -> AsyncGenerator[Backend]:
    backend = LandlockBackend()
    try:
        yield backend
    finally:
        await backend.close()


def landlock_missing() -> str | None:
    return None if abi() >= ABI_NEEDED else f"Landlock here has ABI {abi()}"


BACKENDS = [
    BackendUnderTest("bubblewrap", bubblewrap, user=23456 if os.geteuid() == 0 else None),
    BackendUnderTest("bubblewrap-unprivileged", bubblewrap_unprivileged),
    BackendUnderTest("bubblewrap-warm", bubblewrap_warm, user=23456 if os.geteuid() == 0 else None),
    BackendUnderTest("docker", docker, look=docker_missing),
    BackendUnderTest("docker-warm", docker_warm, look=docker_missing),
    BackendUnderTest("docker-unprivileged", docker_unprivileged, look=docker_missing),
    BackendUnderTest(
        "docker-runsc", docker_runsc, look=gvisor.missing, lacks=APART_LACKS, apart=True
    ),
    BackendUnderTest(
        "landlock",
        landlock,
        look=landlock_missing,
        user=23457 if os.geteuid() == 0 else None,
        lacks=LACKS,
    ),
]


def owner(epoch: str = "e1", place: str = PLACE) -> Owner:
    return Owner(place=place, epoch=epoch, tenant="acme", job="job", run="run")


def spec(
    workspace: Workspace,
    *,
    epoch: str = "e1",
    place: str = PLACE,
    limits: SandboxLimits | None = None,
    read_only: bool = False,
    egress: bool = False,
    files: Mapping[str, bytes] | None = None,
    secret_files: Mapping[str, SecretValue] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> SandboxSpec:
    return SandboxSpec(
        owner=owner(epoch, place),
        workspace=workspace,
        limits=limits or SandboxLimits(),
        read_only=read_only,
        egress=egress,
        files=files or {},
        secret_files=secret_files or {},
        folders=folders or {},
    )


def shell(script: str, *, timeout_s: float = BOUND_S, stdin: bytes = b"", **env: str) -> Command:
    return Command("sh", ("-c", script), env=env, timeout_s=timeout_s, stdin=stdin)


def python(script: str, *args: str) -> Command:
    return Command("python3", ("-c", script, *args), timeout_s=BOUND_S)


def out(outcome: Outcome) -> str:
    return bytes(outcome.stdout.kept).decode()


def err(outcome: Outcome) -> str:
    return bytes(outcome.stderr.kept).decode()


def marker() -> str:
    """A word to find processes by."""
    return secrets.token_hex(8)


def processes_with(word: str) -> list[str]:
    """The processes of the whole machine whose command line holds a word."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and word.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended while we looked
    return [pid for pid in found if pid != str(os.getpid())]


async def seen_inside(sandbox: Sandbox, word: str) -> list[str]:
    """The same where the kernel of this machine knows nothing of them: asked inside."""
    pattern = f"{word[:-1]}[{word[-1]}]"  # which whoever looks does not match
    look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -e \"$PATTERN\""
    return out(await sandbox.exec(shell(look, PATTERN=pattern))).splitlines()


def tried(*, usual: frozenset[str], without: frozenset[str] = frozenset()) -> list[ParameterSet]:
    """The backends as parameters of a fixture.

    The default one is tried by every test run, the other `usual` ones by `make backends`, too, and
    the rest by `make test-all`.
    """
    return [
        pytest.param(one, id=one.name, marks=_marks(one.name, usual))
        for one in BACKENDS
        if one.name not in without
    ]


def _marks(name: str, usual: frozenset[str]) -> tuple[pytest.MarkDecorator, ...]:
    if name == "bubblewrap":
        return ()
    return (pytest.mark.backends if name in usual else pytest.mark.thorough,)


# What an attack gets from a kernel of its own is nothing of this machine, and looks like a success:
# such a backend is attacked by its self-test alone, which knows the difference.
ATTACKED = tried(
    usual=frozenset({"docker", "landlock"}),
    without=frozenset(one.name for one in BACKENDS if one.apart or one.name.endswith("-warm")),
)
UNDER_CONTRACT = tried(usual=frozenset({"bubblewrap-unprivileged", "docker", "landlock"}))
