"""The server of the in-memory form: what outlives a worker, what a restart takes. Not durable."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from domain.ids import RunRef
from eventlog.memory.client import Client
from eventlog.memory.commands import CommandStore, MemoryCommands
from eventlog.memory.dead import DeadStore, MemoryDead
from eventlog.memory.faults import Faults, Hook, NoFaults, NoHook
from eventlog.memory.kept import BlobTimes, MemoryBlobs, MemoryOpenRuns, MemorySnapshots
from eventlog.memory.leases import LeaseStore, MemoryLeases
from eventlog.memory.limits import LimitStore, MemoryLimits
from eventlog.memory.live import Air, MemoryLive
from eventlog.memory.log import LogStore, MemoryLog
from eventlog.memory.queue import Queue
from eventlog.memory.registry import MemoryRegistry, RegistryStore
from eventlog.memory.requests import Desk, MemoryRequests
from eventlog.memory.retention import MemoryRetention, Stores
from eventlog.memory.work import MemoryWork
from eventlog.port import COMMAND_ACK_WAIT_S, LEASE_S, WORK_ACK_WAIT_S, Backbone, Lane

TIMEOUT_S = 2.0
"""How long a call waits for its answer, in seconds."""

RECONNECT_S = 0.05
"""How long clients take to notice that the server is back, in seconds."""


class MemoryServer:
    """One deployment's streams in this process; clients come, crash and come again.

    Time is the running loop's; `now_ms` is the wall clock that timers are due by.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        incarnation: str = "a0",
        lease_s: float = LEASE_S,
        command_ack_wait_s: float = COMMAND_ACK_WAIT_S,
        work_ack_wait_s: float = WORK_ACK_WAIT_S,
        timeout_s: float = TIMEOUT_S,
        faults: Faults | None = None,
    ) -> None:
        self.up = True
        self.timeout_s = timeout_s
        self.log = LogStore(incarnation)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.snapshots: dict[RunRef, list[bytes]] = {}
        self.open_runs: dict[RunRef, None] = {}
        self.work: defaultdict[Lane, Queue] = defaultdict(lambda: Queue(work_ack_wait_s))
        self.commands = CommandStore(command_ack_wait_s, now_ms, faults or NoFaults())
        self.dead = DeadStore()
        self.leases = LeaseStore(lease_s)
        self.limits = LimitStore()
        self.registry = RegistryStore()
        self.blob_times = BlobTimes(now_ms)
        self.stores = Stores(
            log=self.log,
            snapshots=self.snapshots,
            open_runs=self.open_runs,
            work=self.work,
            commands=self.commands,
            dead=self.dead,
            blobs=self.blobs,
            blob_times=self.blob_times,
        )
        self._air = Air()
        self._desk = Desk()
        self._clients: list[Client] = []

    def client(self, *, faults: Faults | None = None, hook: Hook | None = None) -> Client:
        """A new process; give it ports with `ports`, end it with `Client.crash`."""
        client = Client(self, faults=faults or NoFaults(), hook=hook or NoHook())
        self._clients = [c for c in self._clients if not c.dead]
        self._clients.append(client)
        return client

    def ports(self, client: Client) -> Backbone:
        """All ports, as this process has them."""
        return Backbone(
            log=MemoryLog(client, self.log),
            blobs=MemoryBlobs(client, self.blobs, self.blob_times),
            snapshots=MemorySnapshots(client, self.snapshots),
            open_runs=MemoryOpenRuns(client, self.open_runs),
            work=MemoryWork(client, self.work),
            commands=MemoryCommands(client, self.commands),
            dead=MemoryDead(client, self.dead),
            leases=MemoryLeases(client, self.leases),
            limits=MemoryLimits(client, self.limits),
            live=MemoryLive(client, self._air),
            requests=MemoryRequests(client, self._desk),
            registry=MemoryRegistry(client, self.registry),
            retention=MemoryRetention(client, self.stores),
        )

    def backbone(self, *, faults: Faults | None = None, hook: Hook | None = None) -> Backbone:
        """The ports of a new process that nobody needs to kill by hand."""
        return self.ports(self.client(faults=faults, hook=hook))

    def stop(self) -> None:
        """Go away: nothing is answered, and clients' subscriptions are forgotten."""
        if not self.up:
            return
        self.up = False
        self.commands.stop()
        self._air.clear()
        for queue in self.work.values():
            queue.clear()
        for client in self._clients:
            client.disconnected()

    def start(self) -> None:
        """Come back with what was on disk; WORK, LEASES, LIMITS and LIVE are empty."""
        if self.up:
            return
        self.up = True
        self.leases.restart()
        self.limits.restart()
        self.commands.start()
        loop = asyncio.get_running_loop()
        for client in self._clients:
            loop.call_later(RECONNECT_S, client.reconnected)

    def restart(self) -> None:
        """Die and come back at once, as a NATS server does under its supervisor."""
        self.stop()
        self.start()

    def lose_work(self) -> None:
        """WORK vanishes while everything else goes on."""
        for queue in self.work.values():
            queue.clear()

    def lose_limits(self) -> None:
        """LIMITS vanishes while everything else goes on."""
        self.limits.lose()
