"""Workers with a real sandbox service over the in-memory log: bubblewrap, files, journals. No fake.

A *place* is a folder with workspaces and state; workers serve it one after the other, or two places
are two machines.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from domain.commands import ContinueRun, StartRun
from domain.content import AssistantMessage, TextPart
from domain.definition import BASE_SKILL, BaseSkill, Definition, Expert
from domain.events import Event, ToolCallEnded
from domain.ids import RunRef, call_id, child_run_id, step_of
from domain.limits import Limits, ModelChoice, Usage
from domain.prompt import ModelRequest
from domain.sandbox import SandboxSettings
from domain.secrets import SecretRef, SecretValue
from domain.state import RunState
from domain.tools import Lane
from eventlog.port import Blobs
from peritus.project import Workspaces
from peritus.sandbox import SandboxLane
from peritus.worker import WorkerParts, run_worker
from services.loop.models.port import ModelReply
from services.loop.models.scripted import EXPERT_BLOCK, FunctionModel, last_told
from services.loop.service import LoopLimits
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.packages.settings import PackageSettings
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend, CapabilityReport, Sandbox, SandboxSpec
from services.sandbox.service import SandboxParts
from services.sandbox.snapshots.store import SnapshotStore
from services.secrets.redactions import Redactions
from services.worker.skills import SkillHost
from tests.support.cluster import Cluster, Generate, asks

IDLE_S = 60.0
"""How long rooms are kept that nobody uses: longer than any test."""

BOUND_S = 30.0
"""How long a test waits for anything, in seconds."""

JOB = RunRef("acme", "job1", "job1")
POLL_S = 0.01

Line = ModelReply | str | Callable[[str], ModelReply]
"""A reply, or what makes one of what the model was last told."""

Found = TypeVar("Found")


def plays(**by_expert: Sequence[Line]) -> Generate:
    """A model that replies line by line, for each expert."""

    def reply(request: ModelRequest) -> ModelReply:
        said = sum(isinstance(message, AssistantMessage) for message in request.messages)
        line = by_expert[expert_of(request)][said]
        if isinstance(line, str):
            return ModelReply((TextPart(text=line),), "end", Usage(input=1, output=1))
        return line if isinstance(line, ModelReply) else line(last_told(request))

    return FunctionModel(reply).generate


def expert_of(request: ModelRequest) -> str:
    """Whose turn it is."""
    block = next(one for one in request.context.system if one.name == EXPERT_BLOCK)
    return block.text.partition("\n")[0].strip()


def crew(
    sandbox: SandboxSettings | None = None,
    limits: Limits | None = None,
    **delegates: SandboxSettings,
) -> Definition:
    """A boss with the base skill, and delegates with sandboxes of their own."""
    model = ModelChoice(provider="scripted", model="script")
    sandboxes = {"boss": sandbox or SandboxSettings(), **delegates}
    experts = {
        name: Expert(
            key=name,
            instruction=f"You are {name}.",
            delegates=tuple(delegates) if name == "boss" else (),
            skills={BASE_SKILL: BaseSkill()},
            model=model,
            sandbox=settings,
        )
        for name, settings in sandboxes.items()
    }
    return Definition(experts=experts, limits=limits or Limits())


def sh(script: str, *more: tuple[str, str]) -> ModelReply:
    """A reply that runs a script in a shell, and calls more tools after it."""
    return asks(("exec", exec_arguments(script)), *more)


def exec_arguments(script: str) -> str:
    """Arguments of `exec` that run a script in a shell."""
    return f'{{"command": "sh", "args": ["-c", {_quoted(script)}]}}'


def _quoted(text: str) -> str:
    return TextPart(text=text).model_dump_json().removeprefix('{"kind":"text","text":')[:-1]


@dataclass(frozen=True)
class Place:
    """One machine's folder."""

    folder: Path

    @property
    def name(self) -> str:
        """What names it in the log, unlike any other of this machine."""
        return f"{self.folder.parent.name}-{self.folder.name}"

    @property
    def workspaces(self) -> Workspaces:
        """Whose folder is where."""
        return Workspaces(self.folder / "project", self.folder / "workspaces")

    @property
    def state(self) -> Path:
        """Journals and snapshots."""
        return self.workspaces.place

    def workspace(self, ref: RunRef = JOB) -> Path:
        """The workspace of a job."""
        return self.workspaces.own(ref)

    def burn(self) -> None:
        """The machine is gone, with all that was on it."""
        shutil.rmtree(self.folder)


class Counted(BubblewrapBackend):
    """Bubblewrap that counts what it opens."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.opened = 0

    async def open(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox."""
        self.opened += 1
        return await super().open(spec)


@dataclass
class Yard(Cluster):
    """A cluster whose workers have sandboxes."""

    operator: OperatorPolicy = field(default_factory=OperatorPolicy)
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    egress: EgressSettings = field(default_factory=EgressSettings)
    refusal: str = ""  # why there is no sandbox
    idle_s: float = IDLE_S
    later_ms: int = 0  # how far the clock was put forward
    redactions: Redactions = field(default_factory=Redactions)
    store: Callable[[Path, Blobs], SnapshotStore] = SnapshotStore
    host: SkillHost | None = None
    packages: PackageSettings = field(default_factory=PackageSettings)
    backends: list[Counted] = field(default_factory=list[Counted])

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms

    @asynccontextmanager
    async def sandboxed(
        self,
        epoch: str,
        place: Place,
        *,
        generate: Generate | None = None,
        handoff: bool = True,
        loop: bool = True,
    ) -> AsyncGenerator[SandboxLane]:
        """One worker with a sandbox service, killed at the end of the context."""
        lane = SandboxLane(lambda: self.parts(epoch, place))
        ready: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        parts = WorkerParts(
            backbone=self.server.ports(self.server.client()),
            epoch=epoch,
            now_ms=self.now_ms,
            new_id=lambda: f"id{next(self._ids)}",
            certainly_dead=self.dead.__contains__,
            generate=(generate or self.model) if loop else None,
            toolboxes={Lane.SANDBOX: lane},
            keepers={Lane.SANDBOX: lane.keeper},
            beside=(lane.run,),
            handoff=handoff,
            loop_limits=LoopLimits(pass_s=0.02),
            renew_s=0.02,
            redactor=self.redactions.redactor,
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run_worker(parts, ready.set_result))
            try:
                async with asyncio.timeout(BOUND_S):
                    await ready
                yield lane
            finally:
                task.cancel()

    def parts(self, epoch: str, place: Place) -> SandboxParts:
        """What a service at a place is made of."""
        place.folder.mkdir(parents=True, exist_ok=True)

        async def backend() -> tuple[Backend, CapabilityReport]:
            if self.refusal:
                raise SandboxUnavailable(self.refusal)
            made = Counted(place.state)
            self.backends.append(made)
            report = CapabilityReport(backend=made.name, version="0", checks={}, promises={})
            return made, report

        async def reveal(ref: SecretRef) -> SecretValue | None:
            value = self.secrets.get(ref.name)
            if value is None:
                return None
            self.redactions.add(ref.name, value)
            return SecretValue(ref, value)

        return SandboxParts(
            backbone=self.server.backbone(),
            place=place.name,
            epoch=epoch,
            state=place.state,
            workspaces=place.workspaces,
            operator=self.operator,
            backend=backend,
            egress=self.egress,
            reveal=reveal,
            redactor=self.redactions.redactor,
            secrets_key=lambda: self.redactions.name_of(b"key"),
            alive=lambda leased: (
                lambda name: name not in self.dead and (leased is None or name in leased)
            ),
            now_s=lambda: self.now_ms() / 1000,
            idle_s=self.idle_s,
            store=self.store,
            host=self.host,
            packages=self.packages,
        )

    async def begin(self, ref: RunRef = JOB) -> None:
        """Start the boss of a job."""
        digest = await self.outside.blobs.put(ref.tenant, self.definition.to_bytes())
        parts = (TextPart(text="go"),)
        command = StartRun(id="start", expert="boss", definition=digest, parts=parts)
        await self.client.submit(ref, command, "start")

    async def say_more(self, ref: RunRef = JOB) -> None:
        """Have a run that is at rest go on."""
        said = ContinueRun(id="more", parts=(TextPart(text="go on"),))
        await self.client.submit(ref, said, "more")

    @staticmethod
    def job(name: str) -> RunRef:
        """The root run of a job."""
        return RunRef(JOB.tenant, name, name)

    async def reached(
        self, what: str, looked: Callable[[RunState], bool], ref: RunRef = JOB
    ) -> RunState:
        """The first state of a run that is so."""

        async def look() -> RunState | None:
            state = await self.state(ref)
            return state if looked(state) else None

        return await until(what, look)

    async def rested(self, ref: RunRef = JOB) -> RunState:
        """The run when it has come to rest and its files are stored."""
        return await self.reached(
            "the end of the run",
            lambda one: bool(one.expert) and one.at_rest and one.snapshot_due is None,
            ref,
        )

    async def events(self, ref: RunRef = JOB) -> list[Event]:
        return await super().events(ref)

    async def types(self, ref: RunRef = JOB) -> list[str]:
        return await super().types(ref)

    async def outcomes(self, ref: RunRef = JOB) -> list[ToolCallEnded]:
        """The outcomes of the calls of a run, in order of their ids."""
        ended = [one for one in await self.events(ref) if isinstance(one, ToolCallEnded)]
        return sorted(ended, key=lambda one: (step_of(one.call), one.call))


async def whole(yard: Yard, ended: ToolCallEnded) -> str:
    """What the model reads of a call, also where it is long."""
    (part,) = ended.content
    assert isinstance(part, TextPart)
    if isinstance(part.text, str):
        return part.text
    return (await yard.outside.blobs.get(JOB.tenant, part.text.digest)).decode()


def said(ended: ToolCallEnded) -> str:
    """What the model reads of a call, when it is short."""
    texts = (part.text for part in ended.content if isinstance(part, TextPart))
    return "".join(text for text in texts if isinstance(text, str))


async def until(what: str, look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What a look finds, as soon as it finds something."""
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


def child_of_first_call(ref: RunRef, step: int = 1, index: int = 0) -> RunRef:
    """The delegate that a call of a run starts."""
    return ref._replace(run=child_run_id(ref.run, call_id(step, index)))


@contextmanager
def places(*names: str) -> Generator[list[Place]]:
    """Folders that commands of other users can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="peritus-yard-") as folder:
        root = Path(folder)
        root.chmod(0o711)
        yield [Place(root / name) for name in names]


@pytest.fixture(name="place")
def place_fixture() -> Generator[Place]:
    """One machine."""
    with places("a") as (place,):
        yield place
