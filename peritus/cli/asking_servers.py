"""A worker inside a command that asks MCP servers what they offer, and does nothing else."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from commands.discovery import no_job
from domain.definition import Definition
from peritus.catalogues import Discover
from peritus.cli.observing import Place
from peritus.discovering import asker
from peritus.door import Door
from peritus.keys import project_keys
from peritus.lane import sandbox_lane, skill_lane
from peritus.runtime import open_backbone, worker_parts, working


@asynccontextmanager
async def asking_servers(
    place: Place, definition: Definition, env_files: Sequence[Path]
) -> AsyncGenerator[Discover]:
    """Whoever asks the servers of a definition, while the context is open.

    Open runs of the project are left alone: nobody thinks of them who asks for a lock.

    Raises:
        Unavailable: there is no server to use for the log.
    """
    settings, project = place.settings, place.project
    keys = project_keys(settings, project, env_files)
    async with open_backbone(settings, project.state) as link:
        skills = skill_lane(settings, project, link.backbone, keys.config)
        files = project.workspace if project.workspace.is_dir() else None
        sandbox = sandbox_lane(
            settings, project, link.backbone, keys.config, skills=skills, looked_at=files
        )
        parts = await worker_parts(
            settings, link, Door(), generate=None, sandbox=sandbox, skills=skills
        )
        async with working(replace(parts, toolboxes={}, keepers={})):
            yield asker(link.backbone, no_job(settings.tenant), definition)
