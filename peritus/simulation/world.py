"""One simulated deployment: workers that die and come back, people, faults, and a quiet end."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import orjson

from commands.client import CommandClient
from domain.commands import CancelRun, Command, ContinueRun, StartRun
from domain.content import TextPart
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from domain.prompt import ModelRequest
from domain.rate import NO_QUOTA, Quota, Scope
from domain.tools import Lane
from eventlog.memory import Client, Crashed, Hook, MemoryServer
from eventlog.port import Backbone, Stored
from peritus.simulation import teams
from peritus.simulation.account import CALM_S, Account
from peritus.simulation.actors import (
    LOCAL_TOOLS,
    MODEL,
    Replies,
    SimulatedModel,
    SimulatedTools,
    definition,
)
from peritus.simulation.asking import Answering, has_asks
from peritus.simulation.forks import Forking, has_forks
from peritus.simulation.hidden import brought_to_light
from peritus.simulation.invariants import Auditor
from peritus.simulation.ledger import Ledger
from peritus.simulation.loop import SimLoop, run
from peritus.simulation.network import ClientFaults, FaultPlan, Rates
from peritus.simulation.people import People
from peritus.simulation.places import Kept, Passage, Place
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import Delta, ModelReply
from services.loop.service import LoopLimits
from services.worker.asks import LogAsks

STORM_S = 120.0
"""How long things go wrong, in virtual seconds."""

QUIET_S = 900.0
"""How long the system may take to come to rest once nothing goes wrong, in virtual seconds."""

TENANT = "sim"


QUOTAS = (Quota(concurrency=1), Quota(concurrency=3, requests_per_min=12))
"""What a third of the worlds is allowed, one or the other."""

LATE_S = STORM_S + CALM_S + 10
"""When half of the people of such a world come, in virtual seconds: a quota then holds exactly."""

STOPPED_S = 45.0
"""How long a process that was stopped before a line stands still: another takes its jobs over."""

STOPPED_APART = 0.02
"""How much less likely that is where no other worker shares its disk."""

DISK_LOST = 0.25
"""How likely a worker's place dies with it."""


@dataclass(slots=True)
class Node:
    """One worker machine: what it serves, and its present life."""

    name: str
    loop: bool
    tools: bool
    handoff: bool
    life: int = 0
    epoch: str = ""
    client: Client | None = None
    task: asyncio.Task[None] | None = None
    place: Place | None = None  # where it keeps workspaces; lives longer than it does


@dataclass(slots=True)
class World:
    """Everything one seed makes."""

    seed: int
    loop: SimLoop
    dice: random.Random
    plan: FaultPlan
    server: MemoryServer
    ledger: Ledger = field(default_factory=Ledger)
    quotas: Mapping[str, Quota] = field(default_factory=dict[str, Quota])
    nodes: list[Node] = field(default_factory=list[Node])
    storm: bool = True
    reach: Callable[[Client, bool], None] = lambda _client, _after: None
    """Hears of each append to a journal, before and after it is done."""
    disk: Place | None = None  # one that all workers share, as several processes of a machine do
    replies: Replies | None = None  # what models say; None: as in any job
    asking: bool = False  # whether tools ask people and the model in the middle of a call
    account: Account = field(init=False)
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """The account that all workers ask with."""
        quota = self.quotas.get(MODEL.provider, NO_QUOTA)
        self.account = Account(self.ledger.problems, quota)
        if self.seed % 4 == 1:
            self.disk = Place("disk")

    def new_id(self) -> str:
        """The next id of this world."""
        return f"id{next(self._ids)}"

    # ------------------------------------------------------------------ workers

    def make_nodes(self) -> None:
        """Two or three workers: all-in-one, or loop and tools apart, handing work over or not."""
        apart, handoff = self.dice.random() < 0.5, self.dice.random() < 0.5
        kinds = [(True, False), (False, True)] * 2 if apart else [(True, True)] * 2
        for index, (loop, tools) in enumerate(kinds):
            self.nodes.append(Node(f"n{index}", loop, tools, handoff))

    def boot(self, node: Node, tasks: asyncio.TaskGroup, hook: Hook | None = None) -> None:
        """A new life of a node, with a new epoch; `hook` may end it at a point of the ports."""
        node.life += 1
        node.epoch = f"{node.name}-{node.life}"
        if node.place is None:
            node.place = self.disk or Place(f"{node.name}-disk{node.life}")
        client = self.server.client(faults=self._faults(node), hook=hook)
        node.client = client

        def stop() -> None:
            if self.storm and (self.disk is not None or self.dice.random() < STOPPED_APART):
                faults = self._faults(node)
                faults.cut()  # at once: nothing more is done before the line
                tasks.create_task(self._mend(faults, STOPPED_S))

        node.task = tasks.create_task(self._live(node, client, stop), name=node.epoch)

    def _faults(self, node: Node) -> ClientFaults:
        return self.plan.client(node.epoch)

    async def _live(self, node: Node, client: Client, stop: Callable[[], None]) -> None:
        epoch, faults = node.epoch, self._faults(node)
        passage = Passage(
            client, lambda after: self.reach(client, after), lambda: faults.is_cut, stop
        )
        parts = self._parts(node, client, self.server.ports(client), passage)
        try:
            while not client.dead:
                try:
                    await run_worker(parts)
                except* Unavailable:
                    # A supervisor starts it again: same process, same epoch.
                    self.ledger.again.setdefault(epoch, []).append(self.loop.time())
                    self.account.died(epoch)
                    await asyncio.sleep(0.5)
        except* Crashed:
            pass
        finally:
            client.crash()
            self.ledger.ended[epoch] = self.loop.time()
            self.account.died(epoch)

    def _parts(
        self, node: Node, client: Client, backbone: Backbone, passage: Passage
    ) -> WorkerParts:
        model = SimulatedModel(
            self.seed, self.ledger, client.alive, self.account, node.epoch, replies=self.replies
        )
        asks = None
        if self.asking and node.tools:
            asks = LogAsks(backbone.log, backbone.blobs, node.epoch)
        tools = SimulatedTools(self.seed, self.ledger, client.alive, asks=asks)
        place = node.place or Place(node.name)
        based = SimulatedTools(self.seed, self.ledger, client.alive, place.files, asks)
        dice = random.Random(f"{self.seed}/{node.epoch}/disk")
        kept = Kept(place, node.epoch, dice, passage, backbone)

        async def generate(
            request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
        ) -> ModelReply:
            return await model.generate(request, on_delta)

        return WorkerParts(
            backbone=backbone,
            epoch=node.epoch,
            now_ms=self.loop.now_ms,
            new_id=self.new_id,
            certainly_dead=self._certainly_dead,
            generate=generate if node.loop else None,
            toolboxes={Lane.TOOL: tools, Lane.SANDBOX: based} if node.tools else {},
            keepers={Lane.SANDBOX: kept.keeper} if node.tools else {},
            local_tools=LOCAL_TOOLS,
            asks=asks,
            handoff=node.handoff,
            loop_limits=LoopLimits(pass_s=1.0, quotas=self.quotas),
            snapshot_bytes_min=2_000,  # so that short runs have some too
        )

    def _certainly_dead(self, epoch: str) -> bool:
        """Half of the worlds run on one machine, where a death is seen at once."""
        return self.seed % 2 == 0 and epoch in self.ledger.ended

    async def trouble(self, tasks: asyncio.TaskGroup) -> None:
        """Kill workers, restart the server, lose work; then heal."""
        while self.loop.time() < STORM_S:
            await asyncio.sleep(self.dice.uniform(0.5, 15))
            what = self.dice.random()
            if what < 0.4:
                await self._kill(self.dice.choice(self.nodes), tasks)
            elif what < 0.6:
                tasks.create_task(self._part(self.dice.choice(self.nodes)))
            elif what < 0.75:
                self.server.restart()
                self.account.lost()
            elif what < 0.9:
                self.server.lose_work()
            else:
                self.server.lose_limits()
                self.account.lost()
        self.storm = False
        self.plan.heal()
        self.account.healed()
        self.ledger.calm_s = self.loop.time()
        for node in self.nodes:
            if node.client is None or node.client.dead:
                self.boot(node, tasks)

    async def _part(self, node: Node) -> None:
        """Cut a worker off for longer than a lease, or not quite: it lives, and does not know."""
        faults = self._faults(node)
        faults.cut()
        await self._mend(faults, self.dice.choice((5.0, 28.0, 45.0)))

    async def _mend(self, faults: ClientFaults, after_s: float) -> None:
        await asyncio.sleep(after_s)
        faults.mend()

    async def _kill(self, node: Node, tasks: asyncio.TaskGroup) -> None:
        if node.client is None or node.client.dead:
            return
        node.client.crash()
        self.ledger.ended[node.epoch] = self.loop.time()
        self.account.died(node.epoch)
        if node.task is not None:
            node.task.cancel()
        if self.dice.random() < DISK_LOST and self.disk is None:
            node.place = None
        await asyncio.sleep(self.dice.choice((0.0, 1.0, 40.0)))
        self.boot(node, tasks)

    # ------------------------------------------------------------------ people

    async def person(self, index: int, backbone: Backbone, digest: str) -> None:
        """Starts a run, and at times talks to it or cancels it; never gives up sending."""
        dice = random.Random(f"{self.seed}/person/{index}")
        # Elsewhere a root has the name of its job; an embedding program may do without.
        ref = RunRef(TENANT, f"j{index}", f"{'r' if self.seed % 5 == 4 else 'j'}{index}")
        late = bool(self.quotas) and index % 2 == 1
        await asyncio.sleep(LATE_S + dice.uniform(0, 2) if late else dice.uniform(0, 30))
        start = StartRun(
            id=f"start{index}",
            expert="boss",
            definition=digest,
            parts=(TextPart(text="go" * dice.choice((1, 30_000))),),
        )
        if dice.random() < 0.1:
            await self._cancel(ref, backbone, index)
        else:
            self.ledger.starts[ref] = start.id
        if not await self.send(ref, start, backbone, start.id):
            self.ledger.starts.pop(ref, None)
            return
        for turn in range(dice.choice((0, 0, 1, 2))):
            await asyncio.sleep(dice.uniform(1, 30))
            said = ContinueRun(id=f"say{index}.{turn}", parts=(TextPart(text="more"),))
            self.ledger.inputs.setdefault(ref, []).append(said.id)
            if not await self.send(ref, said, backbone, said.id):
                self.ledger.inputs[ref].remove(said.id)
        if dice.random() < 0.3:
            await asyncio.sleep(dice.uniform(0, 10))
            await self._cancel(ref, backbone, index)

    async def office(
        self, team: teams.Job, backbone: Backbone, digest: str, auditor: Auditor
    ) -> None:
        """One job with many delegates, and people who have to do with it to its end."""
        ref = RunRef(TENANT, "j0", "j0")
        start = StartRun(
            id="start", expert="boss", definition=digest, parts=(TextPart(text=team.task),)
        )
        self.ledger.starts[ref] = start.id
        await self.send(ref, start, backbone, start.id)

        async def send(ref: RunRef, command: Command, name: str) -> bool:
            return await self.send(ref, command, backbone, name)

        dice = random.Random(f"{self.seed}/office")
        await People(ref, dice, self.ledger, auditor, send).attend()

    async def fork(self, backbone: Backbone, auditor: Auditor) -> None:
        """Somebody forks the runs there are."""

        async def send(ref: RunRef, command: Command, name: str) -> bool:
            return await self.send(ref, command, backbone, name)

        dice = random.Random(f"{self.seed}/forking")
        await Forking(TENANT, dice, self.ledger, auditor, send).attend()

    async def answer(self, backbone: Backbone, auditor: Auditor) -> None:
        """Somebody answers what tools ask, if they do."""
        if not self.asking:
            return

        async def send(ref: RunRef, command: Command, name: str) -> bool:
            return await self.send(ref, command, backbone, name)

        dice = random.Random(f"{self.seed}/answering")
        await Answering(dice, self.ledger, auditor, send).attend()

    async def _cancel(self, ref: RunRef, backbone: Backbone, index: int) -> None:
        self.ledger.cancels.add(ref)
        await self.send(ref, CancelRun(id=f"stop{index}"), backbone, f"stop{index}")

    async def send(self, ref: RunRef, command: Command, backbone: Backbone, name: str) -> bool:
        """Submit until it is answered or stored; twice at times. False when it was refused."""
        client = CommandClient(backbone)
        again = self.dice.random() < 0.2
        while True:
            try:
                await client.submit(ref, command, name)
            except Rejected:
                return False
            except Unavailable:
                await asyncio.sleep(0.5)
                continue
            if not again:
                return True
            again = False

    # ------------------------------------------------------------------ the end

    async def settle(self) -> None:
        """Wait until no run is open, or say which are."""
        deadline = self.loop.time() + QUIET_S
        while self.loop.time() < deadline:
            if not self.server.open_runs and not self.unhandled():
                return
            await asyncio.sleep(1)
        names = sorted(ref.run for ref in self.server.open_runs)
        self.ledger.problems.append(f"still open after {QUIET_S:.0f} quiet seconds: {names}")

    def unhandled(self) -> bool:
        """Whether commands still wait to be handled."""
        return bool(self.server.commands.queue.messages)


@dataclass(frozen=True, slots=True)
class Report:
    """What one seed came to."""

    seed: int
    problems: tuple[str, ...]
    envelopes: int
    lives: int
    faults: int
    virtual_s: float


async def _simulate(loop: SimLoop, seed: int, people: int) -> Report:
    plan = FaultPlan(seed, Rates(stale=0))
    server = MemoryServer(now_ms=loop.now_ms, faults=plan)
    quotas = {MODEL.provider: QUOTAS[seed % 2]} if seed % 3 == 0 else {}
    world = World(
        seed,
        loop,
        random.Random(f"{seed}/world"),
        plan,
        server,
        quotas=quotas,
        asking=has_asks(seed),
    )
    auditor = watch(world)
    with brought_to_light(world.ledger.problems):
        await _play(world, auditor, people)
    for letter in server.dead.letters.values():
        world.ledger.dead.add(str(orjson.loads(letter.data).get("id")))
    problems = auditor.close()
    return Report(
        seed=seed,
        problems=tuple(problems),
        envelopes=len(server.log.all),
        lives=sum(node.life for node in world.nodes),
        faults=len(plan.trace),
        virtual_s=loop.time(),
    )


async def _play(world: World, auditor: Auditor, people: int) -> None:
    """What happens in a world, from its first worker to its quiet end."""
    seed, server = world.seed, world.server
    world.make_nodes()
    person = server.backbone(faults=world.plan.client("people"))
    team = teams.job(seed) if has_team(seed) else None
    world.replies = teams.reply if team else None
    made = team.definition if team else definition()
    digest = await server.backbone().blobs.put(TENANT, made.to_bytes())
    async with asyncio.TaskGroup() as tasks:
        for node in world.nodes:
            world.boot(node, tasks)
        answering = tasks.create_task(world.answer(person, auditor), name="answering")
        async with asyncio.TaskGroup() as visits:
            visits.create_task(world.trouble(tasks))
            if team:
                visits.create_task(world.office(team, person, digest, auditor))
            if has_forks(seed):
                visits.create_task(world.fork(person, auditor))
            for index in range(0 if team else people):
                visits.create_task(world.person(index, person, digest))
        await world.settle()
        answering.cancel()
        for node in world.nodes:
            if node.client is not None:
                node.client.crash()
            if node.task is not None:
                node.task.cancel()


def watch(world: World) -> Auditor:
    """Check every envelope at the moment it is stored."""
    auditor = Auditor(world.ledger)
    store = world.server.log
    append = store.append

    def checked(ref: RunRef, data: bytes, expected_seq: int) -> int:
        seq = append(ref, data, expected_seq)
        blobs = (digest for tenant, digest in world.server.blobs if tenant == ref.tenant)
        auditor.stored(Stored(seq, ref, data), blobs)
        return seq

    store.append = checked  # type: ignore[method-assign]
    leases = world.server.leases
    renew = leases.renew

    def noted(epoch: str, data: bytes) -> None:
        renew(epoch, data)
        world.ledger.renewed.setdefault(epoch, []).append(world.loop.time())

    leases.renew = noted  # type: ignore[method-assign]
    limits = world.server.limits
    note = limits.note

    def shared(scope: Scope, data: bytes, expected_seq: int) -> int:
        seq = note(scope, data, expected_seq)
        world.account.noted(data)
        return seq

    limits.note = shared  # type: ignore[method-assign]
    return auditor


def has_team(seed: int) -> bool:
    """Whether that world is one job with many delegates and people around it: every fifth is."""
    return seed % 5 == 2


def simulate(seed: int, people: int = 4) -> Report:
    """One world from one seed: the same seed is the same world, in any process."""
    return run(
        lambda loop: _simulate(loop, seed, people), seed, virtual_s_max=STORM_S + 4 * QUIET_S
    )
