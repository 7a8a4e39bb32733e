"""What Peritus needs on this machine, checked one by one. Not a repair."""

import asyncio
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from domain.errors import PeritusError, Rejected, Unavailable
from peritus.definitions import LoadedDefinition, load_definition
from peritus.keys import env_files, project_keys
from peritus.lookup import views_at
from peritus.project import Project, operator_of
from peritus.runtime import Link, open_backbone
from peritus.settings import Settings
from services.loop.models.registry import PROVIDERS

GREETING_S = 2.0
"""How long a server may take to greet, in seconds."""

Verdict = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `note`: worth knowing, nothing is broken."""

    name: str
    verdict: Verdict
    detail: str


async def examine(settings: Settings, project: Project, *, with_server: bool) -> list[Finding]:
    """Check everything, in the order a first run needs it; a server has to have a place to be."""
    loaded = _loaded(project, settings)
    found = [_definition(project, loaded), *_keys(loaded, settings, project)]
    if with_server:
        found.append(_state(project, settings))
        found.extend(await _server(settings, project))
    found.append(await _sandbox(settings))
    return found


def _loaded(project: Project, settings: Settings) -> LoadedDefinition | Rejected | None:
    if project.config is None:
        return None
    try:
        by = operator_of(settings)
        return load_definition(project.config, variables_open=True, operator=by)
    except Rejected as error:
        return error


def _definition(project: Project, loaded: LoadedDefinition | Rejected | None) -> Finding:
    if loaded is None:
        return Finding("definition", "note", f"no perstack.toml in {project.folder} or above it")
    if isinstance(loaded, Rejected):
        return Finding("definition", "broken", loaded.message)
    experts = ", ".join(sorted(loaded.definition.experts))
    return Finding("definition", "ok", f"{project.config}: {experts}")


def _keys(
    loaded: LoadedDefinition | Rejected | None, settings: Settings, project: Project
) -> list[Finding]:
    """Which providers' keys are set; the value of one is never shown."""
    used: set[str] = set()
    paths = env_files(project)
    if isinstance(loaded, LoadedDefinition):
        used = {expert.model.provider for expert in loaded.definition.experts.values()}
        paths = loaded.env_paths
    keys = project_keys(settings, project, paths)
    found: list[Finding] = []
    for name, provider in PROVIDERS.items():
        if keys(provider.key) is not None:
            found.append(Finding(f"provider {name}", "ok", f"{provider.key} is set"))
        elif name in used and provider.key_needed:
            detail = (
                f"{provider.key} is not set, and experts use it; --provider scripted needs none"
            )
            found.append(Finding(f"provider {name}", "note", detail))
    return found


def _state(project: Project, settings: Settings) -> Finding:
    if settings.nats_url is not None:
        return Finding("state", "ok", f"PERITUS_NATS_URL is set; {project.state} holds no server")
    state = project.state
    if not state.exists():
        return Finding("state", "ok", f"{state}: made at the first run")
    if not state.is_dir() or not os.access(state, os.W_OK | os.X_OK):
        return Finding("state", "broken", f"{state} cannot be written")
    mode = state.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("state", "note", f"{state} has mode {mode:o}; others can look into it")
    return Finding("state", "ok", str(state))


async def _server(settings: Settings, project: Project) -> list[Finding]:
    try:
        async with open_backbone(settings, project.state) as link:
            return [*await _connected(settings, link), await _views(settings, project, link)]
    except PeritusError as error:
        return [Finding("server", "broken", str(error))]


async def _version(url: str) -> str:
    """What a server says it is when a client connects."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(GREETING_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            greeting = await reader.readline()
            writer.close()
        said = json.loads(greeting.removeprefix(b"INFO "))
    except (OSError, TimeoutError, ValueError):
        return "of a version it does not tell"
    return str(said.get("version", "of a version it does not tell"))


async def _connected(settings: Settings, link: Link) -> list[Finding]:
    log = link.backbone.log
    first, last = await log.bounds()
    version = await _version(link.url)
    open_runs = await link.backbone.open_runs.list()
    lives = await link.backbone.leases.live()
    found = [
        Finding("server", "ok", f"nats-server {version} at {link.url}"),
        Finding("log", "ok", f"{log.incarnation}, {last - first + 1} envelopes"),
        Finding("durability", "ok", f"{settings.durability!r} declared, and kept by the server"),
        Finding("runs", "ok", f"{len(open_runs)} open; {len(lives)} workers have a lease"),
    ]
    if link.endpoint is not None:
        endpoint = link.endpoint
        who = "nobody else uses it" if endpoint.alone else "others use it now"
        found.append(Finding("lock", "ok", f"embedded server pid {endpoint.pid}; {who}"))
    if dead := await link.backbone.dead.list(1):
        detail = f"commands were given up on, the last: {dead[0].reason}; see `peritus dead list`"
        found.append(Finding("dead letters", "note", detail))
    return found


async def _views(settings: Settings, project: Project, link: Link) -> Finding:
    """How far the views are; they may be made at any time, so nothing about them is broken."""
    from projections.lag import states_of  # noqa: PLC0415 - long to import
    from projections.queries.reader import Reader  # noqa: PLC0415
    from projections.views import ALL  # noqa: PLC0415

    log = link.backbone.log
    async with Reader(views_at(settings, project)) as reader:
        places = await reader.places()
    states = states_of(ALL, places, log.incarnation, (await log.bounds())[1])
    live = [state for state in states if state.condition == "live"]
    if not places:
        return Finding("views", "ok", "made when something is looked up")
    behind = max((state.behind for state in live), default=0)
    detail = f"{len(live)} of {len(states)} live, at most {behind} envelopes behind"
    if len(live) == len(states):
        return Finding("views", "ok", detail)
    return Finding("views", "note", f"{detail}; see `peritus projections list`")


async def _sandbox(settings: Settings) -> Finding:
    from peritus.backends import chosen_backend  # noqa: PLC0415 - imported when it is tried

    with tempfile.TemporaryDirectory(prefix="peritus-doctor-") as state:
        try:
            backend, report = await chosen_backend(settings, Path(state), fresh=True)
        except Unavailable as error:
            return Finding("sandbox", "broken", str(error))
        await backend.close()
    held = sum(report.checks.values())
    detail = f"{report.backend} {report.version}, {held} checks held; see `peritus sandbox doctor`"
    return Finding("sandbox", "ok" if held == len(report.checks) else "note", detail)
