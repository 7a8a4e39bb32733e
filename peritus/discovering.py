"""Has the workers of a deployment ask the servers of a definition what they offer. No server."""

from commands.discovery import discover
from domain.definition import Definition
from domain.mcp import Catalogue
from eventlog.port import Backbone
from peritus.catalogues import Discover
from peritus.definitions.lock import McpSkill


def asker(backbone: Backbone, tenant: str, definition: Definition) -> Discover:
    """Asks whichever worker can start or reach a server; there has to be one, here or elsewhere."""

    async def ask(expert: str, name: str, skill: McpSkill) -> Catalogue:
        del skill  # the definition has it
        return await discover(backbone, tenant, definition, expert, name)

    return ask
