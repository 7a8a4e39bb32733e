"""`peritus mcp`: experts as tools for any MCP client, until it goes or we stop. Not the server."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from commands.discovery import no_job
from domain.definition import Definition
from domain.errors import Rejected
from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.interrupts import stopped_by_signal
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.cli.serving import at_work, leave
from peritus.definitions import (
    LoadedDefinition,
    load_definition,
    parse_duration,
    parse_variables,
)
from peritus.discovering import known
from peritus.guard import LOOPBACK
from peritus.ids import new_id
from peritus.keys import Keys, env_files, project_keys
from peritus.logs import REDACTIONS
from peritus.lookup import views_at
from peritus.people import this_user
from peritus.project import need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models
from projections.queries.reader import Reader
from projections.runner import run_projection

PORT = 8090
WAIT = "1h"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    address: tuple[str, int] | None  # None: standard input and output
    experts_only: bool
    people_wait_s: float
    provider: str | None
    model: str | None
    variables: dict[str, str]
    workspace: Path | None
    own_workspaces: bool


class Transport(NamedTuple):
    """How clients are served, and the event that lets open calls end."""

    run: Coroutine[Any, Any, None]
    closing: asyncio.Event


def command(  # noqa: PLR0913 - the options
    *,
    http: Annotated[
        bool, typer.Option("--http", help="Serve Streamable HTTP instead of this one client.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen on, with --http.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="TCP port, with --http; 0: a free one.", min=0, max=65_535)
    ] = PORT,
    experts_only: Annotated[
        bool, typer.Option("--experts-only", help="Leave out the tools that follow up runs.")
    ] = False,
    wait: Annotated[
        str,
        typer.Option(help="How long a call waits when only a person can go on, as `90s` or `1h`."),
    ] = WAIT,
    provider: options.Provider = None,
    model: options.Model = None,
    workspace: options.Workspace = None,
    own_workspaces: Annotated[
        bool, typer.Option("--own-workspaces", help="A new, empty folder for each call.")
    ] = False,
    variables: options.Variables = None,
    config: options.Config = None,
    env_path: options.EnvPath = None,
) -> None:
    """Offer the definition's experts as tools, and runs as resources, to MCP clients.

    Without --http the client is the process that started this one, and it ends with its input. The
    process is a worker: it carries on what it starts, and other open runs of the project.
    """
    if workspace is not None and own_workspaces:
        options.refuse("--workspace names one folder for all calls; leave out --own-workspaces")
    place = here(config)
    need_config(place.project)
    if http and host not in LOOPBACK and place.settings.gateway_token is None:
        message = f"{host} can be reached by other machines: set PERITUS_GATEWAY_TOKEN"
        raise Rejected("bad_setting", message)
    wish = Wish(
        address=(host, port) if http else None,
        experts_only=experts_only,
        people_wait_s=(parse_duration(wait) or 0) / 1_000,
        provider=provider,
        model=model,
        variables=parse_variables(variables),
        workspace=workspace,
        own_workspaces=own_workspaces,
    )
    paths = tuple(env_path) if env_path else env_files(place.project, notice)
    keys = project_keys(place.settings, place.project, paths)
    run_async(_serve(place, keys, wish))
    raise typer.Exit(Exit.COMPLETED)


async def _serve(place: Place, keys: Keys, wish: Wish) -> None:
    settings, project = place.settings, place.project
    read(place, wish)  # what is wrong with it is told now, not to the first client
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        link = await stack.enter_async_context(open_backbone(settings, project.state))
        models = await stack.enter_async_context(open_models(keys))
        working = at_work(settings, project, link, models, keys)
        _, door = await stack.enter_async_context(working)
        views = views_at(settings, project)
        await stack.enter_async_context(background(run_projection(link.backbone.log, views)))
        reader = await stack.enter_async_context(Reader(views))
        await _until_stopped(_transport(place, link, wish, reader), stop)
        await leave(door, settings)


def _transport(place: Place, link: Link, wish: Wish, reader: Reader) -> Transport:
    """The transport to run, and the event that lets its calls end."""
    from gateway.mcp.deps import McpDeps  # noqa: PLC0415 - MCP is for this command alone
    from gateway.mcp.server import create_server  # noqa: PLC0415

    settings, project = place.settings, place.project
    workspaces = workspaces_of(project, settings)
    folder = wish.workspace or project.workspace
    deps = McpDeps(
        backbone=link.backbone,
        reader=reader,
        definition=Definitions(place, wish, link.backbone),
        new_id=new_id,
        tenant=settings.tenant,
        by=this_user("mcp"),
        prepare=workspaces.of
        if wish.own_workspaces
        else lambda ref: workspaces.assign(ref, folder),
        redactor=REDACTIONS.redactor,
        experts_only=wish.experts_only,
        people_wait_s=wish.people_wait_s,
        version=version("peritus"),
    )
    server = create_server(deps)
    if wish.address is None:
        from gateway.mcp.stdio import serve_stdio  # noqa: PLC0415

        return Transport(serve_stdio(server), deps.closing)
    from gateway.mcp.http import serve_http  # noqa: PLC0415

    host, port = wish.address
    token = settings.gateway_token
    serving = serve_http(
        server,
        deps,
        host=host,
        port=port,
        token=token.get_secret_value() if token else None,
        ready=lambda url: notice(f"MCP at {url}; stop with Ctrl-C or SIGTERM"),
    )
    return Transport(serving, deps.closing)


async def _until_stopped(serving: Transport, stop: asyncio.Event) -> None:
    """Serve until the client goes or we are told to stop; open calls are told that we do."""

    async def served() -> None:
        await serving.run
        stop.set()

    async with background(served()):
        await stop.wait()
        serving.closing.set()


@dataclass(frozen=True, slots=True)
class Definitions:
    """The definition as the file says it now: an edit counts for the next list, or call."""

    place: Place
    wish: Wish
    backbone: Backbone

    async def __call__(self, *, wanted: str | None) -> Definition:
        """The definition; for a run of `wanted` with what the servers of its skills offer.

        Raises:
            Rejected: it cannot be used.
            Unavailable: a server cannot be asked now.
        """
        loaded = await asyncio.to_thread(read, self.place, self.wish)
        if wanted is None:
            return loaded.definition
        return await known(self.backbone, no_job(self.place.settings.tenant), loaded, wanted=wanted)


def read(place: Place, wish: Wish) -> LoadedDefinition:
    """The definition file, with what the command line puts above it.

    Raises:
        Rejected: it cannot be used.
    """
    return load_definition(
        need_config(place.project),
        provider=wish.provider,
        model=wish.model,
        variables=wish.variables,
        operator=operator_of(place.settings),
    )
