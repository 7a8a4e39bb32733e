"""What is particular to sandboxes of a Docker Engine. Not what is asked of all backends."""

import asyncio
import functools
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

import docker  # type: ignore[import-untyped]
import pytest

from domain.sandbox import SandboxLimits
from domain.secrets import SecretRef, SecretValue
from services.sandbox.docker import opening
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.sandbox import DockerSandbox
from services.sandbox.docker.seccomp import profile
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command, Owner, SandboxSpec
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import (
    BOUND_S,
    marker,
    out,
    processes_with,
    python,
    shell,
    spec,
)
from tests.support import docker_engine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sandbox,
    pytest.mark.backends,
    pytest.mark.skipif(docker_engine.missing() is not None, reason=str(docker_engine.missing())),
]

Facts = dict[str, Any]

HARNESS = """
import asyncio, sys
from pathlib import Path
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.port import Command, Owner, SandboxSpec
from services.sandbox.workspace import Workspace

async def main(host, image, folder, word):
    backend = DockerBackend(DockerSettings(image=image, host=host))
    owner = Owner(word, "e1", "acme", "job", "run")
    with Workspace(Path(folder)) as workspace:
        sandbox = await backend.open(SandboxSpec(owner, workspace))
        async def up(_chunk): print("up", flush=True)
        command = Command("sh", ("-c", f"echo up; sleep 1000 # {word}"), timeout_s=1000)
        await sandbox.exec(command, on_stdout=up)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def engine() -> docker_engine.Running:
    return docker_engine.engine_of_session()


@pytest.fixture
async def backend(engine: docker_engine.Running) -> AsyncGenerator[DockerBackend]:
    made = DockerBackend(DockerSettings(image=engine.image, host=engine.host))
    yield made
    await made.close()


@pytest.fixture
def workspace() -> Generator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="peritus-work-") as name:
        Path(name).chmod(0o755)
        if os.geteuid() == 0:
            os.chown(name, 23456, 23456)
        with Workspace(Path(name)) as opened:
            yield opened


@pytest.fixture
async def sandbox(backend: DockerBackend, workspace: Workspace) -> DockerSandbox:
    return await backend.open(own_spec(workspace))


@pytest.fixture
def client(engine: docker_engine.Running) -> Generator[Any]:
    made: Any = cast("Any", docker).APIClient(base_url=engine.host)
    yield made
    made.close()


own_spec = functools.partial(spec, place=marker())
"""Of a place of this process: another worker's reaper, on the same engine, leaves it alone."""


def place_of(workspace: Workspace) -> str:
    return os.fspath(Path(f"/proc/self/fd/{workspace.fileno()}").readlink())


def of_place(client: Any, place: str) -> list[Facts]:
    label = f"peritus.place={place}"
    found: list[Facts] = client.containers(all=True, filters={"label": [label]})
    return found


async def test_the_container_is_hardened_and_labelled(
    backend: DockerBackend, workspace: Workspace, client: Any
) -> None:
    """C10."""
    place = marker()
    await backend.open(own_spec(workspace, place=place, limits=SandboxLimits(processes=40)))
    (found,) = of_place(client, place)
    facts: Facts = client.inspect_container(found["Id"])
    host: Facts = facts["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert not host["Binds"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["MemorySwap"] == host["Memory"] == SandboxLimits().memory_bytes
    assert 40 <= host["PidsLimit"] < 50
    assert (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private")
    assert (
        facts["Config"]["Labels"].items()
        >= {
            "peritus.epoch": "e1",
            "peritus.tenant": "acme",
            "peritus.job": "job",
            "peritus.run": "run",
        }.items()
    )
    assert int(facts["Config"]["Labels"]["peritus.started_ms"]) > 0


async def test_no_secret_is_anywhere_the_engine_tells(
    backend: DockerBackend, workspace: Workspace, client: Any
) -> None:
    """C15: neither in the container's configuration nor in that of what runs in it."""
    place, canary = marker(), marker()
    value = SecretValue(SecretRef(name="TOKEN"), canary)
    sandbox = await backend.open(own_spec(workspace, place=place, secret_files={"TOKEN": value}))
    running = asyncio.Event()

    async def heard(_chunk: bytes) -> None:
        running.set()

    command = Command(
        "sh",
        ("-c", 'echo up; until [ -e go ]; do sleep 0.01; done; printf %s "$TOKEN" | rev'),
        secret_env={"TOKEN": value},
    )
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        task = group.create_task(sandbox.exec(command, on_stdout=heard))
        await running.wait()
        (found,) = of_place(client, place)
        facts: Facts = client.inspect_container(found["Id"])
        assert facts["ExecIDs"]
        told = [json.dumps(facts), *(json.dumps(client.exec_inspect(e)) for e in facts["ExecIDs"])]
        top: Facts = client.top(found["Id"])
        workspace.write("go", b"")
    assert out(task.result()) == f"up\n{canary[::-1]}"
    assert canary not in "".join(told) + json.dumps(top)


async def test_a_killed_harness_leaves_no_container(
    engine: docker_engine.Running, workspace: Workspace, client: Any
) -> None:
    """C10: the container ends with our connection to it, so no reaper has to come by."""
    word = marker()
    folder = place_of(workspace)
    async with asyncio.timeout(BOUND_S):
        harness = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HARNESS, engine.host, engine.image, folder, word),
            stdout=asyncio.subprocess.PIPE,
        )
        assert harness.stdout is not None
        assert await harness.stdout.readline() == b"up\n"
        assert len(of_place(client, word)) == 1
        harness.kill()
        await harness.wait()
        while processes_with(f"sleep 1000 # {word}") or of_place(client, word):
            await asyncio.to_thread(os.sched_yield)


async def test_the_reaper_ends_what_a_dead_epoch_left(
    backend: DockerBackend, workspace: Workspace, client: Any
) -> None:
    """C10."""
    place, word = marker(), marker()
    dead = await backend.open(own_spec(workspace, place=place, epoch="dead"))
    await backend.open(own_spec(workspace, place=place, epoch="alive"))
    process = await dead.start(shell(f"sleep 1000 # {word}"))
    said = await backend.reap(place, lambda epoch: epoch == "alive")
    assert len(said) == 1
    assert "epoch dead" in said[0]
    assert processes_with(word) == []
    assert [one["Labels"]["peritus.epoch"] for one in of_place(client, place)] == ["alive"]
    async with asyncio.timeout(BOUND_S):
        assert await process.wait() == 137
    with pytest.raises(SandboxUnavailable):
        await dead.exec(shell("true"))


async def test_a_command_that_kills_all_it_may_does_not_end_the_sandbox(
    sandbox: DockerSandbox,
) -> None:
    """Neither the keeper nor the init is its; the shell that waited is made anew."""
    for _ in range(3):
        outcome = await sandbox.exec(shell("kill -9 -1; kill -9 1; exit 6"))
        assert outcome.exit_code == 6
        assert out(await sandbox.exec(shell("echo alive"))) == "alive\n"


@pytest.mark.parametrize("privileged", [True, False])
async def test_a_fork_bomb_ends_with_its_time(
    engine: docker_engine.Running, workspace: Workspace, *, privileged: bool
) -> None:
    """C10: also where it can only be ended from inside."""
    settings = DockerSettings(image=engine.image, host=engine.host)
    backend = DockerBackend(settings, privileged=privileged)
    word = marker()
    bomb = f"import os, signal # {word}\nsignal.signal(15, signal.SIG_IGN)\nwhile True:\n"
    bomb += "    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass\n"
    try:
        sandbox = await backend.open(own_spec(workspace, limits=SandboxLimits(processes=64)))
        async with asyncio.timeout(BOUND_S):
            outcome = await sandbox.exec(
                Command("python3", ("-c", bomb), timeout_s=1.0),
            )
            assert outcome.timed_out
            assert processes_with(word) == []
            if privileged:  # else there may have been no room inside to end it but the whole
                assert out(await sandbox.exec(shell("echo alive"))) == "alive\n"
    finally:
        await backend.close()


async def test_an_engine_elsewhere_runs_commands_and_has_no_egress(
    engine: docker_engine.Running, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C16: its containers are none of this machine's processes."""

    def unseen(_container: str, _pid: int, *, privileged: bool) -> None:
        del privileged

    monkeypatch.setattr(opening, "look", unseen)
    backend = DockerBackend(DockerSettings(image=engine.image, host=engine.host))
    word = marker()
    try:
        sandbox = await backend.open(own_spec(workspace))
        script = f"(setsid sh -c ': {word}; sleep 1000' >/dev/null 2>&1 &); echo done; exit 5"
        async with asyncio.timeout(BOUND_S):
            outcome = await sandbox.exec(shell(script))
            late = await sandbox.exec(shell("trap '' TERM; sleep 1000", timeout_s=0.2))
        assert (out(outcome), outcome.exit_code) == ("done\n", 5)
        assert (late.timed_out, late.exit_code) == (True, 137)
        assert processes_with(word) == []
        with pytest.raises(SandboxUnavailable, match="no egress from containers"):
            await backend.open(own_spec(workspace, egress=True))
    finally:
        await backend.close()


async def test_only_images_the_operator_allows_are_run(
    backend: DockerBackend, workspace: Workspace
) -> None:
    wanted = SandboxSpec(Owner("p", "e", "t", "j", "r"), workspace, image="debian:12")
    with pytest.raises(SandboxUnavailable, match="'debian:12' is not allowed here"):
        await backend.open(wanted)


async def test_an_image_that_is_not_there_is_not_pulled(
    engine: docker_engine.Running, workspace: Workspace
) -> None:
    backend = DockerBackend(DockerSettings(image="not-there:1", host=engine.host))
    try:
        with pytest.raises(SandboxUnavailable, match="'not-there:1' is not on this engine"):
            await backend.open(own_spec(workspace))
    finally:
        await backend.close()


async def test_without_an_engine_it_says_what_to_do(tmp_path: Path, workspace: Workspace) -> None:
    backend = DockerBackend(DockerSettings(image="any", host=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(SandboxUnavailable, match="no Docker Engine answers"):
        await backend.open(own_spec(workspace))
    await backend.close()
    with pytest.raises(SandboxUnavailable, match="is not supported"):
        DockerBackend(DockerSettings(image="any", host="ssh://elsewhere"))


async def test_every_byte_of_a_file_and_a_word_arrives(
    backend: DockerBackend, workspace: Workspace
) -> None:
    data = bytes(range(256)) * 3
    plain = data.replace(b"\0", b"")
    sandbox = await backend.open(own_spec(workspace, files={"all": data, "plain": plain}))
    script = 'cat /run/peritus/all; cat /run/peritus/plain; printf %s "$1" | od -An -tx1 -v'
    word = "".join(map(chr, range(1, 128))) + "'\\\n\n é $HOME `x`"
    outcome = await sandbox.exec(Command("sh", ("-c", script, "sh", word)))
    said = bytes(outcome.stdout.kept)
    assert said[: len(data) + len(plain)] == data + plain
    assert bytes.fromhex(said[len(data) + len(plain) :].decode()) == word.encode()


async def test_frames_of_a_stream_are_the_engines_whatever_is_printed(
    sandbox: DockerSandbox,
) -> None:
    fake = "import sys; sys.stdout.buffer.write(b'\\x02\\0\\0\\0\\0\\0\\0\\x04evil' * 1000)"
    outcome = await sandbox.exec(python(fake))
    assert (outcome.stdout.total, outcome.stderr.total) == (12_000, 0)


def test_system_calls_are_filtered_for_one_architecture_or_not_at_all() -> None:
    assert json.loads(profile("x86_64"))["architectures"] == ["SCMP_ARCH_X86_64"]
    assert json.loads(profile("aarch64"))["architectures"] == ["SCMP_ARCH_AARCH64"]
    with pytest.raises(SandboxUnavailable):
        profile("sparc")
