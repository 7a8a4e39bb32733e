"""The real handlers over the in-memory form, one command at a time. Not a worker: nothing runs."""

import itertools
from dataclasses import dataclass, field

from commands.desk import Desk
from commands.hands import Hands
from commands.route import Answer, route
from commands.runs import RunStore
from domain.commands import COMMAND, Command, StartRun
from domain.content import TextPart
from domain.definition import BASE_SKILL, BaseSkill, Definition, Expert, LocalSkill, Skill
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice
from domain.state import RunState
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from domain.work import Work
from eventlog.memory.client import Client
from eventlog.memory.faults import Fault, FaultPoint, Faults, Kind
from eventlog.memory.server import MemoryServer
from tests.support.runs import NOW_MS, Asked

LOOK = LocalTool(
    spec=ToolSpec(name="look", description="Looks.", parameters={"type": "object"}),
    safety=Safety.READ_ONLY,
)
PAY = LocalTool(
    spec=ToolSpec(name="pay", description="Pays.", parameters={"type": "object"}),
    safety=Safety.UNSAFE,
)


def definition() -> Definition:
    model = ModelChoice(provider="scripted", model="script", output_tokens_max=1_000)
    skills: dict[str, Skill] = {BASE_SKILL: BaseSkill(), "own": LocalSkill(tools=("look", "pay"))}
    boss = Expert(
        key="boss", instruction="Lead.", delegates=("helper",), skills=skills, model=model
    )
    helper = Expert(key="helper", instruction="Help.", skills=skills, model=model)
    return Definition(experts={"boss": boss, "helper": helper}, limits=Limits(tokens_max=200_000))


@dataclass
class Bench(Hands):
    """Takes work and keeps it: a test says what comes of it."""

    room: bool = True
    taken: list[tuple[RunRef, Work]] = field(default_factory=list[tuple[RunRef, Work]])
    stopped: list[RunRef] = field(default_factory=list[RunRef])
    resumed: list[RunRef] = field(default_factory=list[RunRef])
    interrupted: list[tuple[RunRef, int, int]] = field(
        default_factory=list[tuple[RunRef, int, int]]
    )

    def free(self) -> bool:
        return self.room

    def free_lanes(self) -> frozenset[Lane]:
        return frozenset({Lane.SANDBOX, Lane.TOOL}) if self.room else frozenset()

    def take(self, ref: RunRef, work: Work) -> None:
        self.taken.append((ref, work))

    def stop(self, ref: RunRef) -> None:
        self.stopped.append(ref)

    def interrupt(self, ref: RunRef, step: int, attempt: int) -> None:
        self.interrupted.append((ref, step, attempt))

    def resume(self, ref: RunRef) -> None:
        self.resumed.append(ref)


class Office:
    """One worker's desk, with a clock and ids that are the same every time."""

    def __init__(
        self,
        definition: Definition,
        *,
        server: MemoryServer | None = None,
        faults: Faults | None = None,
        epoch: str = "e1",
        tools: dict[str, LocalTool] | None = None,
    ) -> None:
        self.definition = definition
        self.now = NOW_MS
        self.server = server or MemoryServer(now_ms=lambda: self.now)
        self.client: Client = self.server.client(faults=faults)
        self.backbone = self.server.ports(self.client)
        self.bench = Bench()
        ids = itertools.count(1)
        self.runs = RunStore(
            self.backbone,
            epoch=epoch,
            now_ms=self.now_ms,
            new_id=lambda: f"{epoch}-{next(ids)}",
        )
        self.desk = Desk(
            self.backbone, self.runs, self.bench, epoch, lambda: f"m{next(ids)}", tools or {}
        )

    def now_ms(self) -> int:
        """Every look at the clock takes seven milliseconds."""
        self.now += 7
        return self.now

    async def state(self, ref: RunRef) -> RunState:
        return (await self.runs.fresh(ref)).state

    async def ask(self, ref: RunRef, asked: Asked) -> Answer:
        """One command through its handler."""
        command = asked(await self.state(ref)) if callable(asked) else asked
        return await route(self.desk, ref, command)

    async def tell(self, ref: RunRef, *asked: Asked) -> RunState:
        """Commands that have to be accepted."""
        for one in asked:
            answer = await self.ask(ref, one)
            assert answer.status == "accepted", answer
        return await self.state(ref)

    async def start(self, ref: RunRef, expert: str = "boss", text: str = "go") -> RunState:
        self.server.blobs[ref.tenant, self.definition.digest()] = self.definition.to_bytes()
        return await self.tell(ref, self.start_command(expert, text))

    def start_command(self, expert: str = "boss", text: str = "go") -> StartRun:
        return StartRun(
            id="start",
            expert=expert,
            definition=self.definition.digest(),
            parts=(TextPart(text=text),),
        )

    def queued(self) -> list[tuple[RunRef, Command]]:
        """What waits in COMMANDS, in the order it came; it is taken out."""
        waiting = list(self.server.commands.queue.messages.values())
        self.server.commands.queue.clear()
        return [(one.ref, COMMAND.validate_json(one.data)) for one in waiting]

    async def handle_queued(self) -> None:
        """Handle what waits in COMMANDS, and what comes of that."""
        while waiting := self.queued():
            for ref, command in waiting:
                await route(self.desk, ref, command)

    async def fire(self, ref: RunRef) -> RunState:
        """The run's next timer comes due."""
        timers = self.server.commands.timers
        key = next(key for key in timers if key[0] == ref)
        timer = timers.pop(key)
        assert timer.handle is not None
        timer.handle.cancel()
        self.now = max(self.now, timer.due_ms)
        return await self.tell(ref, COMMAND.validate_json(timer.data))

    def lines(self, ref: RunRef) -> list[bytes]:
        """The run's envelopes as they are stored."""
        return [stored.data for stored in self.server.log.all if stored.ref == ref]


def office(
    epoch: str = "e1",
    of: Office | None = None,
    *,
    server: MemoryServer | None = None,
    faults: Faults | None = None,
) -> Office:
    """A worker's desk with a boss, a helper and two tools; `of`: beside another one."""
    made = Office(
        definition(),
        server=of.server if of else server,
        faults=faults,
        epoch=epoch,
        tools={"look": LOOK, "pay": PAY},
    )
    made.now = of.now if of else made.now
    return made


@dataclass
class Next:
    """Faults that happen once each, in order, at their point."""

    faults: list[tuple[FaultPoint, Kind]] = field(default_factory=list[tuple[FaultPoint, Kind]])

    def at(self, point: FaultPoint) -> Fault:
        if self.faults and self.faults[0][0] is point:
            return Fault(self.faults.pop(0)[1])
        return Fault()


def troubled(*faults: tuple[FaultPoint, Kind]) -> tuple[Office, Next]:
    """An office whose port calls go wrong in that order, once `Next` holds them."""
    plan = Next(list(faults))
    server = MemoryServer(now_ms=lambda: NOW_MS, timeout_s=0.01)
    return office(server=server, faults=plan), plan
