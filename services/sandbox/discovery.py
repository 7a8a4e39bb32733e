"""Finding out what a skill's server offers, before any run has it. Nothing of it is left after."""

from dataclasses import dataclass
from pathlib import Path

from domain.definition import Expert, McpStdioSkill
from domain.mcp import Catalogue
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.packages.request import pinned
from services.sandbox.skills import Skills
from services.worker.skills import SkillHost


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a server offers; and where it is of a package of a registry, which version that is.

    `args` are the skill's own, with the package at that version.
    """

    catalogue: Catalogue
    version: str | None
    args: tuple[str, ...]


async def discover(
    skills: Skills,
    host: SkillHost,
    tenant: str,
    expert: Expert,
    name: str,
    *,
    folder: Path | None,
) -> Discovered:
    """Ask the server of a skill what it offers; it may read the files of `folder`.

    Raises:
        SkillFailed: it offers nothing that can be used; the message says why.
        Unavailable: it cannot be started.
    """
    skill = expert.skills.get(name)
    if not isinstance(skill, McpStdioSkill):
        message = f"expert {expert.key!r} has no skill {name!r} that is a process"
        raise SandboxUnavailable(message)
    version = await skills.version(expert, name)
    async with skills.looking(tenant, expert, name, folder) as stand:
        catalogue = await host.discover(skill, stand.site)
    args = skill.args if version is None else pinned(skill.command, skill.args, version)
    return Discovered(catalogue, version, args)
