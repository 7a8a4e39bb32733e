"""The composition root: what a process is made of, and how it is joined. Not the parts."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from commands.desk import Desk
from domain.ids import RunRef
from domain.tools import Lane, LocalTool
from eventlog.embedded import Endpoint, join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from peritus.door import Door
from peritus.ids import new_id, now_ms
from peritus.keys import Keys
from peritus.liveness import dead_by, left_behind
from peritus.logs import REDACTIONS
from peritus.rules import operator_rules, parse_definition
from peritus.sandbox import SandboxLane
from peritus.settings import Settings
from peritus.worker import WorkerParts, run_worker
from services.loop.generations import Generate
from services.loop.models.registry import ModelRegistry
from services.loop.service import LoopLimits
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
    toolboxes: Mapping[Lane, ToolBox] | None = None,
    sandbox: SandboxLane | None = None,
    local_tools: Mapping[str, LocalTool] | None = None,
    only: Callable[[RunRef], bool] | None = None,
) -> WorkerParts:
    """A worker of this process behind a door; `only`: the runs it looks after, by default all.

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
        toolboxes={**({Lane.SANDBOX: sandbox} if sandbox else {}), **(toolboxes or {})},
        keepers={Lane.SANDBOX: sandbox.keeper} if sandbox else {},
        beside=(sandbox.run,) if sandbox else (),
        local_tools=local_tools or {},
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


@asynccontextmanager
async def working(parts: WorkerParts) -> AsyncGenerator[Desk]:
    """Have a worker at work while the context is open; its desk decides in this process.

    Raises:
        Unavailable: the store could not be reached at the start.
    """
    ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
    async with background(run_worker(parts, ready.set_result)):
        yield await ready
