"""Services as processes of their own, started, killed and waited for. Not what they do."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2

from commands.runs import RunStore
from domain.ids import RunRef
from domain.state import RunState
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Backbone
from peritus.ids import new_id, now_ms
from services.worker.epoch import Epoch
from tests.e2e.cli_project import environment
from tests.support.gateway import Message, listening

BOUND_S = 120.0
"""How long a test waits for anything, in seconds: far longer than it takes."""

POLL_S = 0.02
TOKEN = "only-for-tests"

Found = TypeVar("Found")


async def until(what: str, look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What a look finds, as soon as it finds something true."""
    try:
        async with asyncio.timeout(BOUND_S):
            while True:
                found = await look()
                if found:
                    return found
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        msg = f"waited {BOUND_S:g} s in vain for {what}"
        raise AssertionError(msg) from None


@dataclass(eq=False)
class Service:
    """One process of `peritus serve`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def url(self) -> str | None:
        """Where a gateway listens."""
        found = re.search(r"gateway at (\S+)", self.said)
        return None if found is None else found.group(1)

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        assert self.alive, f"{self.name} ended: {self.said}"
        served = f"serving {self.name};" in self.said
        return served and ("gateway" not in self.name or self.url is not None)

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.alive, f"{self.name} ended by itself: {self.said}"
        self.process.kill()
        self.process.wait()


@dataclass
class Team:
    """The services of one deployment."""

    folder: Path
    settings: Mapping[str, str]
    services: list[Service] = field(default_factory=list[Service])

    def start(self, *names: str) -> Service:
        """Start one more process of a service, or of several."""
        name = ", ".join(sorted(names))
        log = self.folder / f"{'-'.join(names)}-{len(self.services)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "peritus", "serve", *names],
                cwd=self.folder,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        service = Service(name, process, log)
        self.services.append(service)
        return service

    async def ready(self) -> None:
        """Wait until all that were started serve."""

        async def serving() -> bool:
            return all(one.ready for one in self.services if not _killed(one))

        await until("the services", serving)

    def living(self, name: str) -> list[Service]:
        """The processes of a service that were not killed."""
        return [one for one in self.services if one.name == name and not _killed(one)]

    def of(self, pid: int) -> Service:
        """The process with that id that was not killed."""
        return next(one for one in self.services if one.pid == pid and not _killed(one))

    @property
    def urls(self) -> list[str]:
        """Where the gateways listen now."""
        return [
            url
            for one in self.services
            if "gateway" in one.name and not _killed(one) and (url := one.url) is not None
        ]

    def report(self) -> str:
        """What all of them said."""
        return "\n".join(f"--- {one.log.name}\n{one.said}" for one in self.services)

    def close(self) -> None:
        """End what still runs."""
        for one in self.services:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()


def _killed(service: Service) -> bool:
    return service.process.returncode == -9


@contextmanager
def team(folder: Path, settings: Mapping[str, str]) -> Generator[Team]:
    """A team that is ended with the context; when it fails, what its members said is told."""
    made = Team(folder, settings)
    try:
        yield made
    except BaseException as error:
        error.add_note(made.report())
        raise
    finally:
        made.close()


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[tuple[EmbeddedServer, Backbone]]:
    """A nats-server that fsyncs, and a connection to look through."""
    running = EmbeddedServer(folder, durability="os", token=TOKEN)
    async with running, connect_backbone(running.url, token=TOKEN) as backbone:
        yield running, backbone


@dataclass(frozen=True)
class Watch:
    """One run as the log has it."""

    backbone: Backbone
    ref: RunRef

    async def state(self) -> RunState:
        """Folded anew, with the versions and the hash chain checked."""
        runs = RunStore(self.backbone, epoch="", now_ms=now_ms, new_id=new_id)
        return (await runs.fresh(self.ref)).state

    async def generating(self, step: int, attempt: int | None = None) -> int:
        """Wait for that generation to be somebody's; the pid of the process that makes it."""

        async def holder() -> int | None:
            state = await self.state()
            made = state.generation
            assert state.step <= step, f"step {step} went by"
            assert not state.at_rest, "the run has ended"
            if made is None or made.phase != "open" or made.step != step:
                return None
            return None if attempt not in (None, made.attempt) else _pid(made.holder)

        return await until(f"generation {step}", holder)

    async def calling(self, step: int) -> int:
        """Wait for a call of that step to be claimed; the pid of the process that runs it."""

        async def holder() -> int | None:
            state = await self.state()
            assert state.step <= step, f"step {step} went by"
            assert not state.at_rest, "the run has ended"
            if state.step != step:
                return None
            # What claims a base tool is the journal of the worker that holds the workspace.
            keeper = None if state.sandbox is None else state.sandbox.epoch
            holders = (c.holder or (keeper if c.exposed else None) for c in state.open_calls)
            return next((pid for one in holders if (pid := _pid(one))), None)

        return await until(f"a call of step {step}", holder)

    async def at_rest(self) -> RunState:
        """Wait for its end."""

        async def resting() -> RunState | None:
            state = await self.state()
            return state if state.at_rest else None

        return await until("the end of the run", resting)


def _pid(epoch: str | None) -> int | None:
    parsed = None if epoch is None else Epoch.parse(epoch)
    return None if parsed is None else parsed.pid


async def start_run(team: Team, body: Mapping[str, str], key: str) -> RunRef:
    """Start a run at the first gateway."""
    async with httpx2.AsyncClient(
        base_url=team.urls[0], trust_env=False, timeout=BOUND_S
    ) as client:  # without a lock, servers of skills are asked first
        answer = await client.post("/v1/runs", json=dict(body), headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
        return RunRef("default", answer.json()["job"], answer.json()["run"])


async def read_through(team: Team, ref: RunRef) -> list[Message]:
    """The events of a run as a client of whichever gateway lives sees them, until its end."""
    seen: list[Message] = []
    last: str | None = None
    turn = 0
    async with asyncio.timeout(BOUND_S):
        while True:
            turn += 1
            url = team.urls[turn % len(team.urls)] if team.urls else None
            try:
                if url is not None:
                    async for message in _stream(url, ref, last):
                        last = message.id or last
                        if message.event == "end":
                            return seen
                        if message.event not in ("hello", ""):
                            seen.append(message)
            except httpx2.TransportError:
                pass
            await asyncio.sleep(POLL_S)


async def _stream(url: str, ref: RunRef, last: str | None) -> AsyncIterator[Message]:
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=BOUND_S) as client:
        path = f"/v1/runs/{ref.run}/events"
        async with listening(client, path, last=last, query=f"?job={ref.job}") as messages:
            async for message in messages:
                yield message
