"""What a sandbox of a Docker Engine costs beside the SDK's own exec. Asserts nothing.

Run it with `python -m benchmarks.sandbox_docker`, as root: it starts an engine of its own.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import docker  # type: ignore[import-untyped]

from benchmarks.__main__ import RESULTS, machine
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.port import Command, Owner, SandboxSpec
from services.sandbox.workspace import Workspace
from tests.support.docker_engine import Running, shared_engine

CALLS = 30
COLD = 5
PAUSE_S = 0.3
"""Between the calls of an agent lies a generation; this is shorter than any, and time enough."""

ECHO = Command("sh", ("-c", "echo hi"))


def figures(name: str, times_s: list[float]) -> dict[str, float]:
    ordered = sorted(time * 1000 for time in times_s)
    return {
        f"{name}_p50_ms": round(statistics.median(ordered), 1),
        f"{name}_min_ms": round(ordered[0], 1),
    }


async def timed(work: Callable[[], Awaitable[object]], times: int, pause_s: float) -> list[float]:
    found: list[float] = []
    for _ in range(times):
        await asyncio.sleep(pause_s)
        begun = time.perf_counter()
        await work()
        found.append(time.perf_counter() - begun)
    return found


def sdk_exec(client: Any, container: str) -> None:  # noqa: ANN401 - the SDK has no types
    made = client.exec_create(container, ["sh", "-c", "echo hi"])["Id"]
    assert client.exec_start(made) == b"hi\n"
    assert client.exec_inspect(made)["ExitCode"] == 0


async def of_sdk(engine: Running) -> dict[str, float]:
    """Create, start and inspect an exec in a container that runs, as the SDK does."""
    client: Any = cast("Any", docker).APIClient(base_url=engine.host)
    settings = client.create_host_config(network_mode="none", init=True)
    made = client.create_container(engine.image, ["sleep", "1000"], host_config=settings)["Id"]
    try:
        client.start(made)

        async def call() -> None:
            await asyncio.to_thread(sdk_exec, client, made)

        return {
            **figures("sdk_exec", await timed(call, CALLS, PAUSE_S)),
            **figures("sdk_exec_back_to_back", await timed(call, CALLS, 0)),
        }
    finally:
        client.remove_container(made, force=True)
        client.close()


def opened_to_all(folder: Path) -> Path:
    """A folder as the workspaces of jobs are: of a user of its own."""
    folder.chmod(0o755)
    os.chown(folder, 23456, 23456)
    return folder


async def of_backend(engine: Running, *, privileged: bool) -> dict[str, float]:
    """Ours: a cold sandbox with its first command, and commands in a warm one."""
    settings = DockerSettings(image=engine.image, host=engine.host)
    backend = DockerBackend(settings, privileged=privileged)
    name = "" if privileged else "unprivileged_"
    with (
        tempfile.TemporaryDirectory(prefix="peritus-bench-") as folder,
        Workspace(opened_to_all(Path(folder))) as workspace,
    ):
        spec = SandboxSpec(Owner("bench", "e", "t", "j", "r"), workspace)

        async def cold() -> None:
            opened = await backend.open(spec)
            await opened.exec(ECHO)

        colds = await timed(cold, COLD, PAUSE_S)
        await backend.close()
        backend = DockerBackend(settings, privileged=privileged)
        sandbox = await backend.open(spec)

        async def warm() -> None:
            await sandbox.exec(ECHO)

        found = {
            **figures(f"{name}cold_open_and_exec", colds),
            **figures(f"{name}exec", await timed(warm, CALLS, PAUSE_S)),
            **figures(f"{name}exec_back_to_back", await timed(warm, CALLS, 0)),
        }
        await backend.close()
    return found


async def measure() -> dict[str, float]:
    """All figures, over one engine."""
    with shared_engine() as engine:
        return {
            **await of_sdk(engine),
            **await of_backend(engine, privileged=True),
            **await of_backend(engine, privileged=False),
        }


def main() -> int:
    """Measure, print, and keep."""
    report = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "figures": asyncio.run(measure()),
    }
    text = json.dumps(report, indent=2) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sandbox_docker.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
