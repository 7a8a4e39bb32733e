"""A person logs in for an MCP server, or takes that back. Not what the login is used for."""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from domain.definition import McpHttpSkill
from domain.errors import PeritusError, Rejected, Unavailable
from domain.mcp import Catalogue
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.calls import Caller
from services.tool.mcp.http_connect import Endpoint, HttpMeans, Trust, server_of
from services.tool.mcp.oauth_login import Logins
from services.worker.skills import Question, Reply, Sample, Sampled, SampleRefused, SkillFailed
from services.worker.toolbox import ToolCall

if TYPE_CHECKING:
    from services.tool.mcp.oauth import Person

LOGIN_S = 900.0
"""How long a login may take, with a person in it."""


async def log_in(
    means: HttpMeans, tenant: str, skill: McpHttpSkill, person: "Person"
) -> Catalogue | None:
    """Get a token for a server, whatever was kept before; what it then offers.

    None: the server wanted to know nobody, so there is no token.

    Raises:
        Rejected: the definition says nothing of a login.
        SkillFailed: there is no token; the message says why.
        Unavailable: the server cannot be reached now.
    """
    if skill.oauth is None:
        message = f"the server {skill.endpoint} is used without a login by OAuth"
        raise Rejected("no_login", message)
    endpoint = Endpoint(tenant, skill, "the same command", person)
    server = server_of(means, Trust(means.settings), endpoint, "login")
    logins = Logins(means.tokens, tenant, skill, means.now_s)
    before = await logins.load()
    problem: PeritusError | None = None
    found: Catalogue | None = None
    async with asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, _Nobody(), replace(Bounds(), open_s=LOGIN_S))
        try:
            found = await caller.discover(server)
        except (SkillFailed, Unavailable) as error:
            problem = error
        finally:
            await caller.close()
    if problem is not None:
        raise problem
    return None if await logins.load() == before else found


async def log_out(means: HttpMeans, tenant: str, skill: McpHttpSkill) -> bool:
    """Forget the token for a server; False when there was none."""
    return await Logins(means.tokens, tenant, skill, means.now_s).forget()


class _Nobody:
    """Who a server asks in a login: it has no call yet. Fills the port `Asks`."""

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        """Nobody answers."""
        del call, question
        return Reply("cancel")

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        """No model is asked."""
        del call, sample
        message = "no run asks for it"
        raise SampleRefused(message)
