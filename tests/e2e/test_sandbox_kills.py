"""The whole process is killed while tools run: the next start leaves nothing of it (C10)."""

import asyncio
import os
import random
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.cli_project import Project
from tests.e2e.processes import until

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.faults]

DEFINITION = '[experts.helper]\ndescription = "Helps."\ninstruction = "Help."\n'
KILLS = 4


def script(word: str) -> str:
    """A daemon, a process that stays, a command without end, and a last one that ends."""
    daemon = f"(setsid sleep 1000 &); (setsid sh -c 'trap \\\"\\\" TERM; sleep 1000 # {word}' &)"
    return f"""
[[reply]]
text = "Begin."
[[reply.call]]
tool = "startProcess"
arguments = {{ command = "sh", args = ["-c", "while :; do sleep 1; done # {word}"] }}
[[reply]]
text = "Go on."
[[reply.call]]
tool = "exec"
arguments = {{ command = "sh", args = ["-c", "echo x >> ran; {daemon}; sleep 2; : {word}"] }}
[[reply]]
text = "Look."
[[reply.call]]
tool = "exec"
arguments = {{ command = "cat", args = ["ran"] }}
[[reply]]
text = "done"
"""


@pytest.fixture
def project() -> Generator[Project]:
    with tempfile.TemporaryDirectory(prefix="peritus-killed-") as folder:
        made = Project(Path(folder))
        made.write("perstack.toml", DEFINITION)
        yield made
        made.peritus("runs")  # the last one stops the server


@pytest.mark.parametrize("seed", range(KILLS))
async def test_nothing_of_a_killed_process_is_left_after_the_next_start_and_the_run_completes(
    project: Project, seed: int
) -> None:
    """C10: no process, control group, namespace or file, wherever the kill landed."""
    word = f"killed-{os.getpid()}-{seed}"
    project.write("script.toml", script(word))
    ahead = {"PERITUS_SANDBOX_WARM": str(seed % 2 * 3)}  # every other worker has some made ahead
    started = project.start_run("script.toml", "--json", env=ahead)
    run = started.until("run.started.v2")["run"]
    await until("the first tool", lambda: asyncio.to_thread(running, word))
    await asyncio.sleep(random.Random(seed).uniform(0, 1.5))
    started.kill()

    resumed = await asyncio.to_thread(project.peritus, "resume", run, "--json")

    assert resumed.code == 0, resumed.said
    assert resumed.events[-1]["event"]["type"] in {"run.completed.v2", "snapshot.taken.v1"}
    assert (project.workspace / "ran").read_text() == "x\n", "a command ran twice"
    state = project.folder / ".peritus" / "workspaces" / ".place"
    place = (state / "place").read_text().strip()
    await until("the end of all processes", lambda: nothing_runs(word))
    assert running(word) == []
    assert groups(place) == []
    assert str(project.folder) not in mounts()
    assert [path.name for name in ("sandboxes", "lives") for path in state.glob(f"{name}/*")] == []
    passing = ("report.json.", "place.", "key.")
    assert [path.name for path in state.iterdir() if path.name.startswith(passing)] == []


async def nothing_runs(word: str) -> bool:
    return not await asyncio.to_thread(running, word)


def running(word: str) -> list[str]:
    """The processes that have a word on their command line."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and word.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def groups(place: str) -> list[str]:
    """The control groups of a place."""
    return [
        os.path.join(folder, one)  # noqa: PTH118
        for folder, folders, _ in os.walk("/sys/fs/cgroup")
        for one in folders
        if one == place
    ]
