"""What commands that only look at runs share: a project, its server, its runs. No worker."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from eventlog.port import Backbone
from peritus.cli.loop import log_to_stderr
from peritus.lookup import Runs, views_path
from peritus.project import Project, find_project
from peritus.runtime import open_backbone
from peritus.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Place:
    """A project and the settings it is looked at with."""

    settings: Settings
    project: Project


@dataclass(frozen=True, slots=True)
class Observer:
    """A connection to look through."""

    place: Place
    backbone: Backbone

    @property
    def runs(self) -> Runs:
        """The runs of the tenant."""
        settings = self.place.settings
        views = views_path(settings, self.place.project)
        return Runs(self.backbone.log, settings.tenant, views)


def here(config: Path | None) -> Place:
    """The project of the working directory, or that of a definition file.

    Raises:
        Rejected: a setting is wrong.
    """
    settings = load_settings()
    log_to_stderr(settings.log_level)
    return Place(settings, find_project(Path.cwd(), settings, config))


@asynccontextmanager
async def observing(place: Place) -> AsyncGenerator[Observer]:
    """Be connected while the context is open.

    Raises:
        Unavailable: there is no server to use.
    """
    async with open_backbone(place.settings, place.project.state) as link:
        yield Observer(place, link.backbone)
