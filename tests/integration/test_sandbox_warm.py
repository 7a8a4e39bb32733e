"""Sandboxes that are made ahead: used once, by one, made anew, ended (C10). Not their contract.

The whole contract runs over them in `tests/contract`, as `docker-warm` and `bubblewrap-warm`.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import docker  # type: ignore[import-untyped]
import pytest

from domain.sandbox import MIB, SandboxLimits
from domain.secrets import SecretRef, SecretValue
from services.sandbox.bubblewrap.backend import BubblewrapAhead, BubblewrapBackend
from services.sandbox.cgroups import Cgroups
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.landlock.backend import LandlockBackend
from services.sandbox.port import (
    PROXY_PORT,
    Backend,
    CapabilityReport,
    Kind,
    MakesAhead,
    Sandbox,
    SandboxSpec,
)
from services.sandbox.self_test import LIMITS, self_test
from services.sandbox.service import SandboxParts
from services.sandbox.warm import MakingBackend, WarmBackend
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import (
    BOUND_S,
    Patient,
    ahead,
    marker,
    out,
    owner,
    processes_with,
    python,
    shell,
    spec,
)
from tests.support import docker_engine
from tests.support.service import Counted, Place, Yard, crew, place_fixture, plays, sh, until

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture

PRIVILEGED = {"docker": None, "bubblewrap": None, "bubblewrap-unprivileged": False}


@dataclass(frozen=True)
class Bench:
    """A way to make backends of a kind; `word` names the place they serve."""

    kind: str
    state: Path
    word: str

    def inner(self) -> MakingBackend:
        if self.kind == "docker":
            engine = docker_engine.engine_of_session()
            return DockerBackend(DockerSettings(image=engine.image, host=engine.host))
        return BubblewrapBackend(
            self.state, privileged=None if self.kind == "bubblewrap" else False
        )

    def spec(self, workspace: Workspace, **more: Any) -> SandboxSpec:
        return spec(workspace, place=self.word, **more)

    def opened(self) -> AbstractAsyncContextManager[Patient]:
        return ahead(self.inner(), whose=owner(place=self.word))

    def left(self) -> list[str]:
        """What there is of this place on this machine."""
        found = processes_with(self.word)
        groups = Cgroups.find()
        if groups is not None:
            found += [str(path) for one in groups.epochs(self.word).values() for path in one]
        if self.kind == "docker":
            found += [str(one["Names"]) for one in containers(self.word)]
        return found


def containers(word: str) -> list[dict[str, Any]]:
    client: Any = cast("Any", docker).APIClient(base_url=docker_engine.engine_of_session().host)
    try:
        return list(client.containers(all=True, filters={"label": [f"peritus.place={word}"]}))
    finally:
        client.close()


@pytest.fixture(params=tuple(PRIVILEGED))
def bench(request: pytest.FixtureRequest) -> Generator[Bench]:
    kind: str = request.param
    if kind == "docker" and (why := docker_engine.missing()) is not None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="peritus-state-") as state:
        Path(state).chmod(0o755)
        yield Bench(kind, Path(state), marker())


@pytest.fixture
async def warm(bench: Bench) -> AsyncGenerator[Patient]:
    async with bench.opened() as opened:
        yield opened


@pytest.fixture
def workspaces(bench: Bench) -> Generator[Callable[[], Workspace]]:
    with ExitStack() as made:

        def make() -> Workspace:
            folder = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="peritus-work-")))
            if os.geteuid() == 0 and bench.kind != "bubblewrap-unprivileged":
                os.chown(folder, 23456, 23456)
            return made.enter_context(Workspace(folder))

        yield make


async def ran(sandbox: Sandbox, script: str) -> str:
    return out(await sandbox.exec(shell(script))).strip()


async def test_each_is_used_once_by_one_and_made_anew(
    warm: Patient, bench: Bench, workspaces: Callable[[], Workspace]
) -> None:
    opened = [await warm.open(bench.spec(workspaces())) for _ in range(4)]
    for number, sandbox in enumerate(opened):
        assert await ran(sandbox, f"ls; echo {number} > mine; cat mine") == str(number)
    assert [await ran(one, "ls; cat mine") for one in opened] == [
        f"mine\n{number}" for number in range(4)
    ]
    assert warm.taken == 4
    for sandbox in opened:
        await sandbox.close()
        with pytest.raises(SandboxUnavailable):
            await sandbox.exec(shell("true"))


async def test_what_holds_for_any_sandbox_holds_for_one_made_ahead(bench: Bench) -> None:
    """Every attack of the self-test, on a sandbox that was made before it began."""
    whose = owner(place=bench.word)

    class Renamed(Patient):
        """Its sandboxes belong to the pool's owner."""

        async def open(self, spec: SandboxSpec) -> Sandbox:
            return await super().open(replace(spec, owner=whose))

    async with ahead(bench.inner(), LIMITS, whose, make=Renamed) as opened:
        report = await self_test(opened, version="1")
        assert opened.taken == 1
    assert all(report.checks.values())
    assert report.promises["memory_limit"] is (bench.kind != "bubblewrap-unprivileged")
    assert report.promises["egress"]
    assert report.promises["own_root"]


CALL = f"import socket; print(socket.create_connection(('127.0.0.1', {PROXY_PORT}), 5).recv(9))"


async def test_the_way_out_is_there_only_for_who_asked(
    warm: Patient, bench: Bench, workspaces: Callable[[], Workspace]
) -> None:
    files = {"ca.pem": b"x" * 300_000}
    out_of_it = await warm.open(bench.spec(workspaces(), egress=True, files=files))
    without = await warm.open(bench.spec(workspaces()))
    assert warm.taken == 2
    assert without.proxy is None
    assert await ran(without, "ls /run/peritus | wc -l") == "0"
    assert (await without.exec(python(CALL))).exit_code == 1
    assert await ran(out_of_it, "wc -c < /run/peritus/ca.pem") == "300000"
    assert out_of_it.proxy is not None
    listener = out_of_it.proxy.dup()
    with listener:

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"served")
            writer.close()

        async with await asyncio.start_server(serve, sock=listener):
            assert await ran_python(out_of_it) == "b'served'"


async def ran_python(sandbox: Sandbox) -> str:
    async with asyncio.timeout(BOUND_S):
        return out(await sandbox.exec(python(CALL))).strip()


@pytest.mark.parametrize(
    "other",
    [
        {"limits": SandboxLimits(memory_bytes=512 * MIB)},
        {"read_only": True},
        {"secret_files": {"KEY": SecretValue(SecretRef(name="KEY"), "a-value")}},
        {"epoch": "another"},
    ],
    ids=lambda one: next(iter(one)),
)
async def test_what_is_of_another_kind_is_made_when_it_is_asked_for(
    warm: Patient, bench: Bench, workspaces: Callable[[], Workspace], other: dict[str, Any]
) -> None:
    sandbox = await warm.open(bench.spec(workspaces(), **other))
    assert await ran(sandbox, "cat /run/secrets/KEY 2>/dev/null; touch x && echo wrote") == {
        "read_only": "",
        "secret_files": "a-valuewrote",
    }.get(next(iter(other)), "wrote")
    assert warm.taken == 0


async def test_closing_ends_those_that_nobody_used(bench: Bench) -> None:
    """C10."""
    async with bench.opened() as warm:
        async with asyncio.timeout(BOUND_S):
            await warm.filled()
        assert bench.kind == "bubblewrap-unprivileged" or bench.left() != []
    assert bench.left() == []


async def test_ending_while_one_is_made_leaves_nothing(bench: Bench) -> None:
    """C10."""
    for _ in range(3):
        inner = bench.inner()
        warm = WarmBackend(inner, Kind(owner(place=bench.word), SandboxLimits()), 2)
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(warm.run())
            await asyncio.sleep(0)  # it begins
            running.cancel()
            await warm.close()
    assert bench.left() == []


HARNESS = """
import asyncio, sys
from pathlib import Path
from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.backend import BubblewrapAhead, BubblewrapBackend
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.port import Kind, Owner
from services.sandbox.warm import WarmBackend
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import shell, spec

async def main(kind, state, folder, word, host, image):
    inner = (
        DockerBackend(DockerSettings(image=image, host=host)) if kind == "docker"
        else BubblewrapBackend(Path(state), privileged=None if kind == "bubblewrap" else False)
    )
    warm = WarmBackend(inner, Kind(Owner(word, "dead", "", "", ""), SandboxLimits()), 3)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(warm.run())
        await warm.filled()
        with Workspace(Path(folder)) as workspace:
            sandbox = await warm.open(spec(workspace, epoch="dead", place=word))
            await sandbox.start(shell(f"sleep 1000 # {word}"))
            await warm.filled()
            print("up", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_worker_leaves_none_of_them(
    bench: Bench, workspaces: Callable[[], Workspace]
) -> None:
    """C10: those that waited, and the one that was used; no mount either."""
    workspace = workspaces()
    folder = f"/proc/self/fd/{workspace.fileno()}"
    path = os.readlink(folder)  # noqa: PTH115 - of a descriptor
    host, image = docker_engine.engine_of_session() if bench.kind == "docker" else ("", "")
    async with asyncio.timeout(BOUND_S):
        harness = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HARNESS, bench.kind, str(bench.state), path, bench.word),
            *(host, image),
            stdout=asyncio.subprocess.PIPE,
        )
        assert harness.stdout is not None
        assert await harness.stdout.readline() == b"up\n"
        assert bench.left() != []
        assert path not in mounts()
        harness.kill()
        await harness.wait()
        inner = bench.inner()
        await inner.reap(bench.word, lambda epoch: epoch != "dead")
        while bench.left():
            await asyncio.to_thread(os.sched_yield)
        await inner.close()
    assert path not in mounts()
    assert bench.left() == []


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def test_a_backend_that_cannot_has_none_and_works_as_before(
    workspaces: Callable[[], Workspace], bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine elsewhere, or one whose containers we may not look into."""
    if bench.kind != "docker":
        pytest.skip("the others always can")
    engine = docker_engine.engine_of_session()
    inner = DockerBackend(DockerSettings(image=engine.image, host=engine.host), privileged=False)
    warm = WarmBackend(inner, Kind(owner(place=bench.word), SandboxLimits()), 2)
    async with asyncio.timeout(BOUND_S):
        await warm.run()
    assert "no sandboxes are made ahead: a container of the engine at" in caplog.text
    assert bench.left() == []
    sandbox = await warm.open(bench.spec(workspaces()))
    assert await ran(sandbox, "echo works") == "works"
    await warm.close()
    assert not isinstance(LandlockBackend(), MakesAhead)


@pytest.fixture
def docker_bench(bench: Bench) -> Bench:
    if bench.kind != "docker":
        pytest.skip("of containers alone")
    return bench


async def test_a_container_that_is_gone_is_replaced_when_it_is_wanted(
    docker_bench: Bench, workspaces: Callable[[], Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    async with docker_bench.opened() as warm:
        async with asyncio.timeout(BOUND_S):
            await warm.filled()
        client: Any = cast("Any", docker).APIClient(base_url=docker_engine.engine_of_session().host)
        for one in containers(docker_bench.word):
            client.remove_container(one["Id"], force=True)
        client.close()
        sandbox = await warm.open(docker_bench.spec(workspaces()))
        assert await ran(sandbox, "echo works") == "works"
        assert warm.taken == 0
        assert "a part of a sandbox could not be used" in caplog.text


async def test_a_link_in_place_of_the_state_folder_is_not_followed(
    docker_bench: Bench, workspaces: Callable[[], Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    workspace = workspaces()
    (folder_of(workspace) / ".peritus").rmdir()
    (folder_of(workspace) / ".peritus").symlink_to("/run/peritus")
    async with docker_bench.opened() as warm:
        with suppress(SandboxUnavailable):
            await warm.open(docker_bench.spec(workspace))
        assert warm.taken == 0
    assert "cannot be put into a container that runs already: [Errno 20]" in caplog.text


def folder_of(workspace: Workspace) -> Path:
    return Path(f"/proc/self/fd/{workspace.fileno()}").readlink()


async def test_a_container_of_an_image_that_its_name_no_longer_means_is_not_used(
    docker_bench: Bench, workspaces: Callable[[], Workspace]
) -> None:
    engine = docker_engine.engine_of_session()
    client: Any = cast("Any", docker).APIClient(base_url=engine.host)
    name = f"peritus-moved-{docker_bench.word}"
    try:
        client.tag(engine.image, name, "1")
        inner = DockerBackend(DockerSettings(image=f"{name}:1", host=engine.host))
        async with ahead(inner, whose=owner(place=docker_bench.word)) as warm:
            first = await warm.open(docker_bench.spec(workspaces()))
            assert warm.taken == 1
            async with asyncio.timeout(BOUND_S):
                await warm.filled()
            again = client.create_container(f"{name}:1", command=["true"])["Id"]
            client.commit(again, repository=name, tag="1", changes=["ENV WORD=moved"])
            client.remove_container(again)
            second = await warm.open(docker_bench.spec(workspaces()))
            assert warm.taken == 1
            assert [await ran(one, 'echo "$WORD"') for one in (first, second)] == ["", "moved"]
    finally:
        client.remove_image(f"{name}:1", force=True)
        client.close()


class Watched(Counted):
    """Counts what it makes ahead, too."""

    ahead = 0

    async def make_ahead(self, kind: Kind) -> BubblewrapAhead:
        made = await super().make_ahead(kind)
        self.ahead += 1
        return made


class WarmYard(Yard):
    """Its workers make a sandbox ahead."""

    def parts(self, epoch: str, place: Place) -> SandboxParts:
        async def backend() -> tuple[Backend, CapabilityReport]:
            made = Watched(place.state)
            self.backends.append(made)
            return made, CapabilityReport(backend="bubblewrap", version="0", checks={}, promises={})

        return replace(super().parts(epoch, place), warm=1, backend=backend)

    async def made(self, number: int) -> None:
        async def look() -> bool:
            return [one.ahead for one in self.backends if isinstance(one, Watched)] == [number]

        await until(f"{number} made ahead", look)


async def test_the_first_call_of_a_job_uses_one_and_the_worker_makes_another(
    place: Place,
) -> None:
    yard = WarmYard(crew(), plays(boss=[sh("echo hello > f"), "done"]))
    async with yard.sandboxed("e1", place) as lane:
        await (await lane.service()).report()
        await yard.made(1)
        await yard.begin()
        state = await yard.rested()
        assert state.result == "done"
        await yard.made(2)
    assert [one.opened for one in yard.backends] == [0]
    assert (place.workspace() / "f").read_text() == "hello\n"
    groups = Cgroups.find()
    assert groups is None or groups.epochs(place.name) == {}
