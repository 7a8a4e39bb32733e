"""Runs any of the services in one process until told to stop. Not a supervisor of processes."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from commands.discovery import no_job
from domain.definition import Definition
from domain.errors import Rejected
from domain.events import Principal
from domain.ids import RunRef
from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from peritus.catalogues import resolve
from peritus.definitions import load_definition
from peritus.definitions.lock_file import read_lock
from peritus.definitions.pinning import lock_path
from peritus.discovering import asker
from peritus.door import Door
from peritus.guard import check_guard, guard_of
from peritus.ids import new_id
from peritus.keys import Keys
from peritus.lane import sandbox_lane, skill_lane
from peritus.logs import REDACTIONS
from peritus.lookup import views_at
from peritus.project import Project, need_config, operator_of
from peritus.retention import Retainer, retention
from peritus.runtime import (
    Link,
    open_backbone,
    open_models,
    worker_parts,
    working,
)
from peritus.settings import Settings
from projections.queries.reader import Reader
from projections.runner import run_projection

if TYPE_CHECKING:
    from gateway.mcp.deps import McpDeps

SERVICES = ("loop", "sandbox", "tool", "projections", "gateway", "retention")
WORKERS = frozenset({"loop", "sandbox", "tool"})

Say = Callable[[str], None]


def check_services(names: tuple[str, ...], settings: Settings) -> frozenset[str]:
    """The services that are meant; all of them when none is named.

    Raises:
        Rejected: there is no such service, or the gateway's settings do not go together.
    """
    for name in names:
        if name not in SERVICES:
            known = ", ".join(SERVICES)
            raise Rejected("unknown_service", f"no service {name!r}; there are: {known}")
    wanted = frozenset(names or SERVICES)
    if "gateway" in wanted:
        check_guard(settings)
    return wanted


@dataclass(frozen=True, slots=True)
class Serving:
    """One process's services."""

    settings: Settings
    project: Project
    keys: Keys
    names: frozenset[str]
    say: Say

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`; then take nothing more, finish what was begun in a bounded time.

        Raises:
            Unavailable: the server cannot be reached.
            Rejected: an address cannot be listened on.
        """
        door = Door()
        async with AsyncExitStack() as stack:
            link = await stack.enter_async_context(open_backbone(self.settings, self.project.state))
            self.say(f"connected to {link.url}")
            if self.names & WORKERS:
                await self._work(stack, link, door)
            views = views_at(self.settings, self.project)
            if "projections" in self.names:
                await stack.enter_async_context(
                    background(run_projection(link.backbone.log, views))
                )
            if "gateway" in self.names:
                reader = await stack.enter_async_context(Reader(views))
                await stack.enter_async_context(background(self._gateway(link, reader)))
            if "retention" in self.names:
                service = retention(link.backbone, self.settings.retention_days)
                await stack.enter_async_context(background(service.run()))
            self.say(f"serving {', '.join(sorted(self.names))}; stop with Ctrl-C or SIGTERM")
            await stop.wait()
            self.say(f"stopping: finishing what was begun, for at most {self.settings.drain_s:g} s")
            if not await door.idle(self.settings.drain_s):
                self.say("some work was not finished in time; another worker takes it up again")

    async def _work(self, stack: AsyncExitStack, link: Link, door: Door) -> None:
        settings, project, config = self.settings, self.project, self.keys.config
        skills = sandbox = None
        if self.names & {"sandbox", "tool"}:
            skills = skill_lane(settings, project, link.backbone, config)
        if "sandbox" in self.names:
            sandbox = sandbox_lane(
                settings, project, link.backbone, config, skills=skills, fresh=True
            )
        generate = None
        if "loop" in self.names:
            generate = (await stack.enter_async_context(open_models(self.keys))).generate
        parts = await worker_parts(
            settings,
            link,
            door,
            generate=generate,
            sandbox=sandbox,
            skills=skills,
            tools="tool" in self.names,
        )
        await stack.enter_async_context(working(parts))
        if sandbox is not None:
            report = await (await sandbox.service()).report()
            held = sum(report.checks.values())
            self.say(f"sandbox {report.backend} {report.version} holds: {held} checks")

    async def _gateway(self, link: Link, reader: Reader) -> None:
        from gateway.app import create_app  # noqa: PLC0415 - HTTP is for this service alone
        from gateway.deps import LOOPBACK_HOSTS, GatewayDeps, one_tenant  # noqa: PLC0415
        from gateway.server import serve  # noqa: PLC0415
        from peritus.stored_files import SnapshotFiles  # noqa: PLC0415
        from peritus.webhooks import hooks_of, telling  # noqa: PLC0415

        settings = self.settings
        guard = guard_of(settings, self.project.state, link.backbone)
        if guard.key_file is not None:
            self.say(f"the gateway's key is in {guard.key_file}")
        deps = GatewayDeps(
            backbone=link.backbone,
            reader=reader,
            files=SnapshotFiles(link.backbone),
            definitions=self._definition,
            new_id=new_id,
            tenant=one_tenant(settings.tenant),
            token=guard.token,
            auth=guard.auth,
            hosts=LOOPBACK_HOSTS | {settings.gateway_host},
            hooks=hooks_of(settings, link.backbone),
            retaining=Retainer(link.backbone),
            redactor=REDACTIONS.redactor,
            known=partial(self._known, link.backbone),
        )
        host, port = settings.gateway_host, settings.gateway_port
        app = create_app(deps)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(telling(settings, link.backbone, deps.hooks))
            if settings.gateway_mcp:
                from gateway.mcp.http import beside  # noqa: PLC0415 - for those who want it
                from gateway.mcp.server import create_server  # noqa: PLC0415

                server = create_server(self._mcp(link, reader, app.state.closing))
                guarded = guard.token is not None
                mcp = beside(app, server, guarded=guarded, hosts=deps.hosts, tenant=settings.tenant)
                await stack.enter_async_context(mcp)
            await serve(app, host=host, port=port, ready=lambda url: self.say(f"gateway at {url}"))

    def _mcp(self, link: Link, reader: Reader, closing: asyncio.Event) -> "McpDeps":
        from gateway.mcp.deps import McpDeps  # noqa: PLC0415

        settings = self.settings
        open_to_all = settings.gateway_auth == "none"

        async def definition(*, wanted: str | None) -> Definition:
            found = await asyncio.to_thread(self._definition, provider=None, model=None)
            if wanted is None:
                return found
            return await self._known(link.backbone, no_job(settings.tenant), found, wanted)

        return McpDeps(
            backbone=link.backbone,
            reader=reader,
            definition=definition,
            new_id=new_id,
            tenant=settings.tenant,
            by=Principal(name="loopback" if open_to_all else "token", via="mcp"),
            redactor=REDACTIONS.redactor,
            version=version("peritus"),
            closing=closing,
        )

    def _definition(self, *, provider: str | None, model: str | None) -> Definition:
        """The definition as the file says it now: an edit counts for the next run."""
        path: Path = need_config(self.project)
        by = operator_of(self.settings)
        return load_definition(path, provider=provider, model=model, operator=by).definition

    async def _known(
        self, backbone: Backbone, ref: RunRef, definition: Definition, expert: str
    ) -> Definition:
        """What the lockfile does not say is asked of whoever serves sandboxes and tools."""
        lock = await asyncio.to_thread(read_lock, lock_path(need_config(self.project)))
        ask = asker(backbone, ref, definition)
        return await resolve(definition, lock, ask, wanted=expert)
