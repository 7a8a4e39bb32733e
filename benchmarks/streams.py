"""`python -m benchmarks.streams`: 1,000 clients follow one busy run of one gateway.

The gateway is a process, the clients are in two others, and this one writes. A delivery is measured
from before the append of an event until a client has its frame, on one clock. The rate is raised
until the p99 of deliveries is above a second or a client was shed. Catching up is measured with
runs that were written before the gateway began: it has them neither in memory nor encoded.
Asserts nothing.

`... gateway URL` and `... clients HOST PORT COUNT` are the processes it starts.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from domain import events as e
from domain.content import TextPart
from domain.envelope import FIRST_HASH, Cause, Envelope, encode
from domain.ids import RunRef
from domain.limits import Limits, Usage
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Backbone

TOKEN = "benchmark"
CLIENTS = 1_000
CLIENT_PROCESSES = 2
TENANT = "bench"
BUSY = RunRef(TENANT, "busy", "busy")
TEXT = "x" * 300
LEVEL_S = 8.0
RATES = (10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1_000)
HELD_MS = 1_000.0
CATCH_UPS = 11
CATCH_UP_EVENTS = 1_000
MARK = b"sent_ns="
DIGITS = 19
READY_S = 60.0


def envelope(ref: RunRef, version: int, *events: e.Event) -> bytes:
    """One decision's bytes; nobody here checks the chain."""
    at_ms = time.time_ns() // 1_000_000
    cause = Cause(type="bench", id="b")
    return encode(Envelope(f"{version}", ref, version, at_ms, cause, "ep", FIRST_HASH, events))


def noted() -> e.Event:
    """An event that says when it was sent."""
    return e.GenerationCompleted(
        step=1,
        attempt=1,
        stop_reason="end",
        parts=(TextPart(text=f"{TEXT} sent_ns={time.time_ns()} "),),
        usage=Usage(input=1, output=1),
        charged=2,
    )


def started() -> e.Event:
    """The first event of a run."""
    return e.RunStarted(command="s", expert="bench", definition="d" * 64, limits=Limits())


async def write_run(backbone: Backbone, ref: RunRef, count: int) -> int:
    """A run of so many envelopes of one event; the last sequence."""
    seq = await backbone.log.append(ref, envelope(ref, 1, started()), expected_seq=0)
    for version in range(2, count + 1):
        seq = await backbone.log.append(ref, envelope(ref, version, noted()), expected_seq=seq)
    return seq


@dataclass
class Level:
    """What came of one rate."""

    rate: float
    asked: float
    deliveries: int
    expected: int
    shed: int
    cpu_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list[float])

    @property
    def p99_ms(self) -> float:
        """The delivery that 99 of 100 are sooner than."""
        return quantile(self.latencies_ms, 0.99)

    @property
    def held(self) -> bool:
        """Whether it was written at that rate, and everybody was told all of it in time."""
        whole = self.deliveries == self.expected and self.shed == 0
        return whole and self.p99_ms < HELD_MS and self.rate > 0.95 * self.asked

    @property
    def json(self) -> dict[str, object]:
        """As it is kept."""
        return {
            "events_per_s": round(self.rate, 1),
            "deliveries": self.deliveries,
            "missing": self.expected - self.deliveries,
            "shed": self.shed,
            "gateway_cpu_us_a_delivery": round(self.cpu_s * 1e6 / max(1, self.deliveries), 1),
            "p50_ms": round(quantile(self.latencies_ms, 0.5), 1),
            "p99_ms": round(self.p99_ms, 1),
            "max_ms": round(max(self.latencies_ms, default=0.0), 1),
        }


class Listener(asyncio.Protocol):
    """One connection; notes when each event came."""

    def __init__(self, target: str, heard: "Heard") -> None:
        self._target = target
        self._heard = heard
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = f"GET {self._target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        cast("asyncio.Transport", transport).write(request.encode())

    def data_received(self, data: bytes) -> None:
        now_ns = time.time_ns()
        data = self._tail + data
        place = 0
        while (at := data.find(MARK, place)) >= 0 and at + len(MARK) + DIGITS <= len(data):
            place = at + len(MARK) + DIGITS
            self._heard.latencies_ms.append((now_ns - int(data[at + len(MARK) : place])) / 1e6)
        if b"event: goodbye" in data:
            self._heard.shed += 1
        if b"event: hello" in data:
            self._heard.hellos += 1
        self._tail = data[max(place, len(data) - len(MARK) - DIGITS) :]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._heard.lost += 1


@dataclass
class Heard:
    """What all connections of a process have heard."""

    latencies_ms: list[float] = field(default_factory=list[float])
    hellos: int = 0
    shed: int = 0
    lost: int = 0


async def clients(host: str, port: int, count: int, target: str) -> None:
    """Hold so many connections; tell what they heard for each line of input."""
    loop, heard = asyncio.get_running_loop(), Heard()
    for _ in range(count):
        await loop.create_connection(lambda: Listener(target, heard), host, port)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        report = {
            "count": len(heard.latencies_ms),
            "hellos": heard.hellos,
            "shed": heard.shed + heard.lost,
            "latencies_ms": [round(value, 2) for value in heard.latencies_ms],
        }
        print(json.dumps(report), flush=True)
        heard.latencies_ms.clear()


async def gateway(url: str) -> None:
    """A gateway until its input ends."""
    from gateway.app import create_app  # noqa: PLC0415 - only this process has one
    from gateway.deps import GatewayDeps, one_definition, one_tenant  # noqa: PLC0415
    from gateway.server import serve  # noqa: PLC0415
    from peritus.stored_files import SnapshotFiles  # noqa: PLC0415
    from projections.queries.reader import Reader  # noqa: PLC0415

    async with connect_backbone(url, token=TOKEN, durability="process") as backbone:
        deps = GatewayDeps(
            backbone=backbone,
            reader=Reader(Path(tempfile.gettempdir()) / "no-views.sqlite"),
            files=SnapshotFiles(backbone),
            definitions=one_definition(lambda: (_ for _ in ()).throw(NotImplementedError)),
            new_id=lambda: "none",
            tenant=one_tenant(TENANT),
        )
        await serve(create_app(deps), port=0, ready=lambda base: print(base, flush=True))


@dataclass(frozen=True)
class Child:
    """A process that was started, and its lines."""

    process: asyncio.subprocess.Process

    async def line(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def ask(self) -> dict[str, Any]:
        """What it answers to a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        answer: dict[str, Any] = orjson.loads(await self.line())
        return answer

    @property
    def rss_kib(self) -> int:
        """How much memory it has."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    @property
    def cpu_s(self) -> float:
        """How much time of a core it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def child(*words: str) -> AsyncGenerator[Child]:
    """Another of the processes, for as long as the context is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.streams",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    try:
        yield Child(process)
    finally:
        process.terminate()
        await process.wait()


async def catch_up_ms(port: int, ref: RunRef) -> float:
    """How long a client that comes takes to have a run's 1,000 events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    writer.write(f"GET /v1/runs/{ref.run}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    seen, tail = 0, b""
    while seen < CATCH_UP_EVENTS - 1:  # the first says how the run began
        data = tail + await reader.read(1 << 20)
        seen += data.count(MARK)
        tail = data[1 - len(MARK) :]
    took_ms = (time.perf_counter() - begun) * 1_000
    writer.transport.abort()
    return took_ms


async def level(backbone: Backbone, listeners: list[Child], rate: float, place: list[int]) -> Level:
    """Write at a rate for a while, and see when it came to everybody."""
    count = max(30, int(rate * LEVEL_S))
    begun = time.perf_counter()
    for index in range(count):
        wait_s = begun + index / rate - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        version, seq = place
        data = envelope(BUSY, version, noted())
        place[:] = version + 1, await backbone.log.append(BUSY, data, expected_seq=seq)
    wrote_s = time.perf_counter() - begun
    found = Level(count / wrote_s, rate, 0, count * CLIENTS, 0)
    until = time.perf_counter() + 5.0
    while found.deliveries < found.expected and time.perf_counter() < until:
        await asyncio.sleep(0.3)
        answers = [await listener.ask() for listener in listeners]
        found.deliveries += sum(answer["count"] for answer in answers)
        found.shed = sum(answer["shed"] for answer in answers)
        for answer in answers:
            found.latencies_ms += answer["latencies_ms"]
    return found


async def connected(listeners: list[Child]) -> None:
    """Return when every client has its hello."""
    async with asyncio.timeout(READY_S):
        while sum([(await one.ask())["hellos"] for one in listeners]) < CLIENTS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def measure(url: str, backbone: Backbone) -> dict[str, object]:
    """All figures."""
    old = [RunRef(TENANT, "catch", f"old{index}") for index in range(CATCH_UPS)]
    for ref in old:
        await write_run(backbone, ref, CATCH_UP_EVENTS)
    place = [2, await write_run(backbone, BUSY, 1)]
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(child("gateway", url))
        port = (await served.line()).rpartition(":")[2]
        catch_ups = [await catch_up_ms(int(port), ref) for ref in old]
        before_kib = served.rss_kib
        target = f"/v1/runs/{BUSY.run}/events"
        words = ("clients", "127.0.0.1", port, str(CLIENTS // CLIENT_PROCESSES), target)
        listeners = [
            await stack.enter_async_context(child(*words)) for _ in range(CLIENT_PROCESSES)
        ]
        await connected(listeners)
        levels: list[Level] = []
        after_kib = 0
        for rate in RATES:
            begun_s = served.cpu_s
            levels.append(await level(backbone, listeners, rate, place))
            levels[-1].cpu_s = served.cpu_s - begun_s
            after_kib = after_kib or served.rss_kib
            print(json.dumps(levels[-1].json), file=sys.stderr, flush=True)
            if not levels[-1].held:
                break
        return {
            "clients": CLIENTS,
            "delivery_ms_p99_at_10_per_s": round(levels[0].p99_ms, 1),
            "highest_rate_held": max((one.asked for one in levels if one.held), default=0),
            "kib_a_client": round((after_kib - before_kib) / CLIENTS, 1),
            "catch_up_1000_events_ms_p50": round(statistics.median(catch_ups), 1),
            "catch_up_1000_events_ms_max": round(max(catch_ups), 1),
            "rates": [one.json for one in levels],
        }


async def run() -> dict[str, object]:
    """Measure over a server of its own."""
    with tempfile.TemporaryDirectory(prefix="peritus-bench-") as name:
        async with (
            EmbeddedServer(Path(name) / "nats", durability="process", token=TOKEN) as server,
            connect_backbone(server.url, token=TOKEN, durability="process") as backbone,
        ):
            return await measure(server.url, backbone)


def main(words: list[str]) -> int:
    """Measure, print, and keep; or be one of the processes."""
    import uvloop  # noqa: PLC0415 - as in production, see peritus.cli

    if words[:1] == ["gateway"]:
        uvloop.run(gateway(words[1]))
        return 0
    if words[:1] == ["clients"]:
        uvloop.run(clients(words[1], int(words[2]), int(words[3]), words[4]))
        return 0
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        **uvloop.run(run()),
    }
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "streams.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
