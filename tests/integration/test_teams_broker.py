"""Teams over a real server and two worker processes: spread, killed, cancelled (C3, C6, C13)."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.client import CommandClient
from commands.runs import RunStore
from domain.commands import CancelRun, StartRun
from domain.content import TextPart
from domain.envelope import decode
from domain.events import (
    Event,
    GenerationClaimed,
    GenerationRequested,
    RunCancelled,
    ToolCallClaimed,
    ToolCallEnded,
)
from domain.ids import RunRef, child_run_id
from domain.state import RunState
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from services.worker.epoch import Epoch
from tests.e2e.processes import server, until
from tests.integration.team_worker import HOLDERS, LEADS, WORKERS, definition

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.slow]

TENANT = "acme"
QUIET_S = 10.0
"""How long a tree may take to be quiet after a cancel, with room for a busy machine."""


@dataclass(frozen=True)
class Workers:
    """Two processes that serve loop and tools, and what their tools did."""

    backbone: Backbone
    folder: Path
    processes: list[subprocess.Popen[str]]

    async def start(self, expert: str, job: str) -> RunRef:
        """A run of an expert."""
        digest = await self.backbone.blobs.put(TENANT, definition().to_bytes())
        ref = RunRef(TENANT, job, job)
        parts = (TextPart(text="go"),)
        command = StartRun(id=f"start-{job}", expert=expert, definition=digest, parts=parts)
        await CommandClient(self.backbone).submit(ref, command, command.id)
        return ref

    async def state(self, ref: RunRef) -> RunState:
        """A run folded anew, with versions and hash chain checked."""
        runs = RunStore(self.backbone, epoch="", now_ms=now_ms, new_id=new_id)
        return (await runs.whole(ref)).state

    async def events(self, ref: RunRef) -> list[Event]:
        """All events of a run."""
        stored = await self.backbone.log.load(ref)
        return [event for item in stored for event in decode(item.data).events]

    async def rested(self, ref: RunRef) -> RunState | None:
        """The run, once it is over."""
        state = await self.state(ref)
        return state if state.at_rest else None

    def lines(self, what: str) -> list[tuple[int, str]]:
        """What the tools counted: process and key."""
        ran = self.folder / "ran"
        lines = ran.read_text().splitlines() if ran.exists() else []
        return [(int(pid), key) for kind, pid, key in map(str.split, lines) if kind == what]

    def at_work(self) -> list[tuple[int, str]]:
        """The calls that have begun and not ended."""
        return sorted(set(self.lines("begin")) - set(self.lines("end")))


@contextmanager
def worker(url: str, folder: Path) -> Generator[subprocess.Popen[str]]:
    """One process that serves."""
    command = [sys.executable, "-m", "tests.integration.team_worker", url, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncGenerator[Workers]:
    async with server(tmp_path / "nats") as (nats, backbone):
        with worker(nats.url, tmp_path) as one, worker(nats.url, tmp_path) as other:
            yield Workers(backbone, tmp_path, [one, other])


def below(ref: RunRef, count: int) -> list[RunRef]:
    """The runs of the first reply's delegates, in call order."""
    return [ref._replace(run=child_run_id(ref.run, f"c1-{n}")) for n in range(count)]


def makers(events: list[Event]) -> set[int]:
    """The processes that made the generations of a run."""
    made = [one for one in events if isinstance(one, GenerationRequested | GenerationClaimed)]
    epochs = (Epoch.parse(one.holder) for one in made if one.holder)
    return {epoch.pid for epoch in epochs if epoch}


async def test_team_on_three_levels_is_spread_and_survives_the_kill_of_a_worker(
    workers: Workers,
) -> None:
    root = await workers.start("boss", "team")
    leads = below(root, LEADS)
    await until("the first lead's end", lambda: workers.rested(leads[0]))
    done = {
        ref: (await workers.state(ref)).version for ref in [leads[0], *below(leads[0], WORKERS)]
    }

    async def both_at_work() -> bool:
        return len(workers.at_work()) == (LEADS - 1) * WORKERS

    await until("a call of every other worker", both_at_work)
    held = Counter(pid for pid, _ in workers.at_work())
    assert set(held) == {one.pid for one in workers.processes}, "delegates run on both"

    victim = workers.processes[0]
    victim.kill()
    victim.wait()
    lost = [key for pid, key in workers.at_work() if pid == victim.pid]
    (workers.folder / "gate").touch()
    state = await until("the end of the team", lambda: workers.rested(root))

    assert state.status == "completed"
    names = [f"[{n}.{m} did]" for n in range(LEADS) for m in range(WORKERS)]
    per_lead = [names[n * WORKERS : (n + 1) * WORKERS] for n in range(LEADS)]
    said = ", ".join(f"[{', '.join(one)}]" for one in per_lead)
    assert state.result == f"[{said}]", "in call order, whoever came first"
    for ref, version in done.items():
        assert (await workers.state(ref)).version == version, "what was finished stays as it was"
    await check_calls(workers, [ref for lead in leads for ref in below(lead, WORKERS)], lost)
    made = [pid for ref in leads for pid in makers(await workers.events(ref))]
    assert set(made) == {one.pid for one in workers.processes}


async def check_calls(workers: Workers, runs: list[RunRef], lost: list[str]) -> None:
    """Each call ran once; those of the killed worker are unknown, all others succeeded (C3)."""
    ran = Counter(key for _, key in workers.lines("begin"))
    assert len(ran) == LEADS * WORKERS
    assert set(ran.values()) == {1}
    outcomes: Counter[str] = Counter()
    for ref in runs:
        ended = [one for one in await workers.events(ref) if isinstance(one, ToolCallEnded)]
        outcomes.update(one.outcome for one in ended)
        assert len(ended) == 1
    assert outcomes == Counter(succeeded=len(runs) - len(lost), outcome_unknown=len(lost))
    assert lost


async def test_cancel_of_twenty_delegates_at_work_is_quiet_soon_and_tells_the_truth(
    workers: Workers,
) -> None:
    """C6: it reaches every descendant, and every call that was claimed has its true outcome."""
    root = await workers.start("wide", "cancelled")
    holders = below(root, HOLDERS)

    async def all_hold() -> bool:
        return len(workers.at_work()) == HOLDERS

    async def quiet() -> bool:
        return not workers.at_work() and (await workers.state(root)).at_rest

    await until("twenty tools at work", all_hold)
    assert {pid for pid, _ in workers.at_work()} == {one.pid for one in workers.processes}
    async with asyncio.timeout(QUIET_S):
        await CommandClient(workers.backbone).submit(root, CancelRun(id="stop"), "stop")
        await until("quiet", quiet)

    assert (await workers.state(root)).status == "cancelled"
    ends = [(await workers.backbone.log.load(ref))[-1].seq for ref in [*holders, root]]
    assert max(ends) == ends[-1], "the root is the last to end"
    for ref in holders:
        events = await workers.events(ref)
        assert isinstance(events[-1], RunCancelled)
        claimed = [one.call for one in events if isinstance(one, ToolCallClaimed)]
        ended = [(one.call, one.outcome) for one in events if isinstance(one, ToolCallEnded)]
        assert claimed == ["c1-0"]
        assert ended == [("c1-0", "cancelled")], "the worker lived and said what happened"
    begun, over = Counter(workers.lines("begin")), Counter(workers.lines("end"))
    assert begun == over
    assert set(begun.values()) == {1}
