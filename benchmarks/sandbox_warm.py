"""How long a sandbox takes to open, made when it is asked for and made ahead. Asserts nothing.

Run it with `python -m benchmarks.sandbox_warm`; as root it starts a Docker Engine of its own.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from domain.sandbox import SandboxLimits
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.port import Command, Kind, Owner, SandboxSpec
from services.sandbox.warm import MakingBackend, WarmBackend
from services.sandbox.workspace import Workspace
from tests.support import docker_engine

TIMES = 20
READY = 2
OWNER = Owner("benchmark", "benchmark", "", "", "")
ECHO = Command("sh", ("-c", "echo hi"))
USER = 23456


@contextmanager
def workspace(*, other: bool) -> Generator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="peritus-bench-") as folder:
        if other and os.geteuid() == 0:
            os.chown(folder, USER, USER)
        with Workspace(Path(folder)) as opened:
            yield opened


async def times_of(backend: WarmBackend, *, ahead: bool, other: bool) -> dict[str, float]:
    opens: list[float] = []
    firsts: list[float] = []
    for _ in range(TIMES):
        if ahead:
            await backend.filled()
        with workspace(other=other) as folder:
            begun = time.perf_counter()
            sandbox = await backend.open(SandboxSpec(OWNER, folder))
            opens.append(time.perf_counter() - begun)
            await sandbox.exec(ECHO)
            firsts.append(time.perf_counter() - begun)
            await sandbox.close()
    assert backend.taken == (TIMES if ahead else 0)
    return {
        "open_p50_ms": round(statistics.median(opens) * 1000, 1),
        "open_min_ms": round(min(opens) * 1000, 1),
        "open_and_exec_p50_ms": round(statistics.median(firsts) * 1000, 1),
        "open_and_exec_min_ms": round(min(firsts) * 1000, 1),
    }


async def measure(
    make: Callable[[], MakingBackend], *, other: bool = True
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, ahead in (("when_asked", False), ("ahead", True)):
        backend = WarmBackend(make(), Kind(OWNER, SandboxLimits()), READY)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(backend.run()) if ahead else None
            found[name] = await times_of(backend, ahead=ahead, other=other)
            if running is not None:
                running.cancel()
        await backend.close()
    return found


async def main() -> None:
    found: dict[str, object] = {"load_1m": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    if docker_engine.missing() is None:
        with docker_engine.shared_engine() as engine:
            settings = DockerSettings(image=engine.image, host=engine.host)
            found["docker"] = await measure(lambda: DockerBackend(settings))
    with tempfile.TemporaryDirectory(prefix="peritus-bench-state-") as state:
        os.chmod(state, 0o755)  # noqa: PTH101 - nothing else runs in this loop
        folder = Path(state)
        found["bubblewrap"] = await measure(lambda: BubblewrapBackend(folder))
        found["bubblewrap_unprivileged"] = await measure(
            lambda: BubblewrapBackend(folder, privileged=False), other=False
        )
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
