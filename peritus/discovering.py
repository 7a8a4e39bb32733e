"""Has the workers of a deployment ask the servers of a definition what they offer. No server."""

from commands.discovery import discover
from domain.definition import Definition
from domain.ids import RunRef
from domain.mcp import Catalogue
from eventlog.port import Backbone
from peritus.catalogues import Discover, resolve
from peritus.definitions import LoadedDefinition
from peritus.definitions.lock import McpSkill


def asker(backbone: Backbone, ref: RunRef, definition: Definition) -> Discover:
    """Asks whichever worker can start or reach a server; there has to be one, here or elsewhere."""

    async def ask(expert: str, name: str, skill: McpSkill) -> Catalogue:
        del skill  # the definition has it
        return await discover(backbone, ref, definition, expert, name)

    return ask


async def known(
    backbone: Backbone, ref: RunRef, loaded: LoadedDefinition, *, wanted: str
) -> Definition:
    """A definition that a run of that expert can start with: what its servers offer is in it.

    Raises:
        SkillsNotResolved: some cannot be asked, or are not what the lock says; all are named.
        Unavailable: the same, where trying again may help with every one of them.
    """
    ask = asker(backbone, ref, loaded.definition)
    return await resolve(loaded.definition, loaded.lock, ask, wanted=wanted)
