"""Puts the lanes of a process together from settings, project and store. Not the lanes."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from domain.ids import check_token
from domain.secrets import SecretRef, SecretValue
from eventlog.port import Backbone
from peritus.backends import chosen_backend, operator_policy
from peritus.ids import new_id, now_ms
from peritus.keys import project_secrets
from peritus.liveness import lives
from peritus.logs import REDACTIONS
from peritus.project import PRIVATE_FOLDER, Project, workspaces_of
from peritus.reach import http_means, http_settings
from peritus.sandbox import SandboxLane
from peritus.settings import Settings, checked
from peritus.skills import SkillLane
from services.sandbox.lives import begun
from services.secrets.config import SecretsConfig
from services.tool.local import LocalToolBox
from services.worker.asks import LogAsks
from services.worker.epoch import this_epoch

if TYPE_CHECKING:
    from services.sandbox.packages.settings import PackageSettings
    from services.sandbox.port import Backend, CapabilityReport
    from services.sandbox.service import SandboxParts


def skill_lane(
    settings: Settings,
    project: Project,
    backbone: Backbone,
    config: SecretsConfig,
    local: LocalToolBox | None = None,
) -> SkillLane:
    """What speaks with MCP servers for a project, and the program's own tools.

    Raises:
        Rejected: a setting is wrong.
    """
    http_settings(settings)
    return SkillLane(
        asks=LogAsks(backbone.log, backbone.blobs, str(this_epoch())),
        means=lambda: http_means(settings, project, config),
        local=local or LocalToolBox({}),
        blobs=backbone.blobs,
        redactor=REDACTIONS.redactor,
    )


def sandbox_lane(
    settings: Settings,
    project: Project,
    backbone: Backbone,
    config: SecretsConfig,
    *,
    skills: SkillLane | None = None,
    looked_at: Path | None = None,
    fresh: bool = False,
) -> SandboxLane:
    """The base skill in the workspaces of a project; `fresh`: the sandbox is attacked anew.

    `skills` speaks with servers that are processes; those of no job are shown the folder
    `looked_at` when they are asked what they offer.
    """
    state = workspaces_of(project, settings).place
    host = skills.host if skills else None

    def parts() -> "SandboxParts":
        own = _parts(settings, project, backbone, config, fresh=fresh)
        return replace(own, host=host, looked_at=looked_at)

    return SandboxLane(
        parts,
        left=lambda: bool(settings.sandbox_warm or begun(state)),
    )


def _parts(
    settings: Settings,
    project: Project,
    backbone: Backbone,
    config: SecretsConfig,
    *,
    fresh: bool,
) -> "SandboxParts":
    from services.sandbox.egress.policy import EgressSettings  # noqa: PLC0415 - at the first call
    from services.sandbox.service import SandboxParts  # noqa: PLC0415

    workspaces = workspaces_of(project, settings)
    state, here = workspaces.place, this_epoch()
    place = place_id(state)
    secrets = project_secrets(project, config)

    async def backend() -> "tuple[Backend, CapabilityReport]":
        return await chosen_backend(settings, state, fresh=fresh)

    async def reveal(ref: SecretRef) -> SecretValue | None:
        return await secrets.resolve(ref, purpose="sandbox")

    def alive(leased: frozenset[str] | None) -> Callable[[str], bool]:
        return lambda epoch: lives(epoch, leased)

    return SandboxParts(
        backbone=backbone,
        place=place,
        epoch=str(here),
        state=state,
        workspaces=workspaces,
        operator=operator_policy(settings),
        backend=backend,
        egress=EgressSettings(
            allow_cidrs=settings.egress_allow_cidrs,
            extra_ca_file=str(settings.egress_ca_file) if settings.egress_ca_file else None,
            secrets=config,
        ),
        reveal=reveal,
        redactor=REDACTIONS.redactor,
        secrets_key=lambda: REDACTIONS.name_of(_key(state)),
        alive=alive,
        now_s=lambda: now_ms() / 1000,
        idle_s=settings.sandbox_idle_s,
        warm=settings.sandbox_warm,
        packages=_packages(settings),
        packages_folder=settings.packages_dir,
    )


def _packages(settings: Settings) -> "PackageSettings":
    from services.sandbox.packages.settings import PackageSettings  # noqa: PLC0415

    ca_file = settings.packages_ca_file
    return checked(
        PackageSettings,
        {
            "fetch": settings.packages_fetch,
            "build": settings.packages_build,
            "npm_registry": settings.npm_registry,
            "npm_hosts": settings.npm_hosts,
            "pypi_index": settings.pypi_index,
            "pypi_hosts": settings.pypi_hosts,
            "allow_cidrs": settings.packages_allow_cidrs,
            "ca_file": str(ca_file) if ca_file else None,
            "timeout_s": settings.packages_timeout_s,
        },
        "",
    )


def place_id(state: Path) -> str:
    """The name of a store of workspaces, written down in it when it is first used."""
    return check_token("place", _kept(state / "place", new_id().encode()).decode().strip())


def _key(state: Path) -> bytes:
    """A random key of this place, so that what names its secrets tells nothing of them."""
    return _kept(state / "key", os.urandom(32))


def _kept(file: Path, first: bytes) -> bytes:
    """What a file holds, `first` when there was none: every process reads the same, whole."""
    if not file.exists():
        file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}.") as fresh:
            fresh.write(first)
            fresh.flush()
            with suppress(FileExistsError):
                os.link(fresh.name, file)
    return file.read_bytes()
