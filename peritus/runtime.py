"""The composition root: what a process is made of, and how it is joined. Not the parts."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from commands.desk import Desk
from domain.ids import RunRef
from domain.tools import Lane
from eventlog.embedded import Endpoint, join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.tasks import background
from eventlog.port import Answer, Backbone, Topic
from peritus.door import Door
from peritus.ids import new_id, now_ms
from peritus.keys import Keys
from peritus.liveness import dead_by, left_behind
from peritus.logs import REDACTIONS
from peritus.rules import operator_rules, parse_definition
from peritus.sandbox import SandboxLane
from peritus.settings import Settings
from peritus.skills import SkillLane
from peritus.worker import WorkerParts, run_worker
from services.loop.generations import Generate
from services.loop.models.registry import ModelRegistry
from services.loop.service import LoopLimits
from services.worker.discovery import discovery_answer
from services.worker.epoch import this_epoch
from services.worker.toolbox import ToolBox


@dataclass(frozen=True, slots=True)
class Link:
    """A deployment this process is connected to; `endpoint` when its server is an embedded one."""

    backbone: Backbone
    url: str
    endpoint: Endpoint | None = None


@asynccontextmanager
async def open_backbone(settings: Settings, state: Path) -> AsyncGenerator[Link]:
    """Connect to the server of the settings, or else share the embedded one of a state folder.

    Raises:
        Unavailable: there is no server to use.
        DurabilityTooWeak: it keeps less than the settings ask for.
    """
    if settings.nats_url is not None:
        token = settings.nats_token.get_secret_value() if settings.nats_token else None
        async with connect_backbone(
            settings.nats_url,
            token=token,
            prefix=settings.prefix,
            replicas=settings.replicas,
            durability=settings.durability,
        ) as backbone:
            yield Link(backbone, settings.nats_url)
        return
    async with (
        join_state_folder(state, settings.durability) as endpoint,
        connect_backbone(
            endpoint.url,
            token=endpoint.token,
            prefix=settings.prefix,
            durability=settings.durability,
        ) as backbone,
    ):
        yield Link(backbone, endpoint.url, endpoint)


@asynccontextmanager
async def open_models(keys: Keys) -> AsyncGenerator[ModelRegistry]:
    """The models of this process, built when first used and closed at the end."""
    registry = ModelRegistry(keys, looked_in=keys.looked_in)
    try:
        yield registry
    finally:
        await registry.aclose()


async def worker_parts(
    settings: Settings,
    link: Link,
    door: Door,
    *,
    generate: Generate | None,
    sandbox: SandboxLane | None = None,
    skills: SkillLane | None = None,
    tools: bool = True,
    only: Callable[[RunRef], bool] | None = None,
) -> WorkerParts:
    """A worker of this process behind a door; `only`: the runs it looks after, by default all.

    `skills` speaks with MCP servers; with `tools`, also with those reached by HTTP, for anybody.

    Raises:
        Unavailable: the store is away.
    """
    here = this_epoch()
    alone = link.endpoint is not None and link.endpoint.alone
    known = await left_behind(link.backbone) if alone else frozenset[str]()
    return WorkerParts(
        backbone=door.of(link.backbone, only=only),
        epoch=str(here),
        now_ms=now_ms,
        new_id=new_id,
        certainly_dead=dead_by(here, known),
        generate=generate,
        toolboxes=_toolboxes(sandbox, skills if tools else None),
        keepers={Lane.SANDBOX: sandbox.keeper} if sandbox else {},
        beside=tuple(lane.run for lane in (sandbox, skills) if lane is not None),
        asks=skills.asks if skills else None,
        answers=_answers(link.backbone, sandbox, skills if tools else None),
        local_tools=skills.local.specs() if skills else {},
        handoff=settings.handoff,
        calls_max=settings.calls_max,
        loop_limits=LoopLimits(
            generations_max=settings.generations_max, quotas=settings.provider_limits
        ),
        hands=door.hands,
        redactor=REDACTIONS.redactor,
        operator_rules=operator_rules(settings.policy_file),
        parse_definition=parse_definition,
    )


def _toolboxes(sandbox: SandboxLane | None, skills: SkillLane | None) -> dict[Lane, ToolBox]:
    found: dict[Lane, ToolBox] = {}
    if sandbox is not None:
        found[Lane.SANDBOX] = sandbox
    if skills is not None:
        found[Lane.MCP] = skills.box
        if skills.local.specs():
            found[Lane.TOOL] = skills.local
    return found


def _answers(
    backbone: Backbone, sandbox: SandboxLane | None, skills: SkillLane | None
) -> dict[Topic, Answer]:
    """What this process can say of servers of skills, for whoever has to know before a start."""
    found: dict[Topic, Answer] = {}
    if sandbox is not None:
        found["ask-sandbox"] = discovery_answer(backbone.blobs, sandbox.discover)
    if skills is not None:
        found["ask-tool"] = discovery_answer(backbone.blobs, skills.box.discover)
    return found


@asynccontextmanager
async def working(parts: WorkerParts) -> AsyncGenerator[Desk]:
    """Have a worker at work while the context is open; its desk decides in this process.

    Raises:
        Unavailable: the store could not be reached at the start.
    """
    ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
    async with background(run_worker(parts, ready.set_result)):
        yield await ready
