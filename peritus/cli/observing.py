"""What commands that only look at runs share: a project, its server, its runs. No worker."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from eventlog.port import Backbone
from peritus.cli.loop import log_to_stderr
from peritus.lookup import Runs, views_at
from peritus.project import Project, find_project, need_config
from peritus.runtime import open_backbone
from peritus.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Place:
    """A project and the settings it is looked at with."""

    settings: Settings
    project: Project

    @property
    def nowhere(self) -> bool:
        """Whether no definition, no state and no server says that there is a project."""
        named = self.settings.nats_url is not None or self.settings.state_dir is not None
        return not named and self.project.config is None and not self.project.state.exists()


@dataclass(frozen=True, slots=True)
class Observer:
    """A connection to look through."""

    place: Place
    backbone: Backbone

    @property
    def runs(self) -> Runs:
        """The runs of the tenant."""
        settings = self.place.settings
        views = views_at(settings, self.place.project)
        return Runs(self.backbone.log, settings.tenant, views)


def here(config: Path | None) -> Place:
    """The project of the working directory, or that of a definition file.

    Raises:
        Rejected: a setting is wrong, or there is no project and none is meant to be made here.
    """
    place = anywhere(config)
    if place.nowhere:
        need_config(place.project)
    return place


def anywhere(config: Path | None) -> Place:
    """The same, also where there is no project yet.

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
