"""A worker inside a command that asks MCP servers what they offer. Not a run."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from domain.definition import Definition
from peritus.catalogues import Discover
from peritus.cli.observing import Place
from peritus.cli.serving import at_work
from peritus.discovering import asker
from peritus.keys import project_keys
from peritus.runtime import open_backbone, open_models


@asynccontextmanager
async def asking_servers(
    place: Place, definition: Definition, env_files: Sequence[Path]
) -> AsyncGenerator[Discover]:
    """Whoever asks the servers of a definition, while the context is open.

    Raises:
        Unavailable: there is no server to use for the log.
    """
    settings, project = place.settings, place.project
    keys = project_keys(settings, project, env_files)
    async with (
        open_backbone(settings, project.state) as link,
        open_models(keys) as models,
        at_work(settings, project, link, models, keys),
    ):
        yield asker(link.backbone, settings.tenant, definition)
