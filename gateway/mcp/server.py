"""The MCP server: which method goes where, and what becomes of errors. Not a transport."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import RequestHandler
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from domain.errors import PeritusError, Rejected
from gateway.mcp.asking import Asking
from gateway.mcp.calls import Calls, Given
from gateway.mcp.deps import McpDeps
from gateway.mcp.follow_ups import TOOLS, FollowUps
from gateway.mcp.offers import Offer, offers_of
from gateway.mcp.open_calls import Ctx, Life
from gateway.mcp.resources import Resources
from gateway.mcp.results import failure_of
from gateway.mcp.telling import Levels
from gateway.mcp.watching import Watching

logger = logging.getLogger(__name__)

NAME = "peritus"

ROUND_S = 7 * 24 * 3600.0
"""How long a client may take to bring back what a person said, in seconds: as questions wait."""

INSTRUCTIONS = """\
Each tool is an expert: an agent that works for seconds to hours on what you give it. Ask for
progress to see what it does. A run is durable: its id is in the first progress message and in the
result's `_meta` as `peritus/run`, and a call that was cut off has not ended it. Cancelling a call
cancels its run. Runs, their events and checkpoints are resources below peritus://runs."""


class Handlers:
    """The methods of the server."""

    def __init__(self, deps: McpDeps) -> None:
        asking, self.levels = Asking(deps), Levels()
        self.calls = Calls(deps, asking, self.levels)
        self.resources = Resources(deps)
        self.watching = Watching(deps)
        self._deps = deps
        self._follow_ups = None if deps.experts_only else FollowUps(deps, asking, self.calls)
        self._offers: dict[str, Offer] = {}

    async def list_tools(
        self, ctx: Ctx, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """`tools/list`: the experts as the definition has them now, then the follow-ups."""
        del ctx, params
        try:
            offers = await self._read()
        except PeritusError as error:
            raise self._refusal(error) from None
        tools = [offer.tool for offer in offers.values()]
        return types.ListToolsResult(
            tools=tools + (self._follow_ups.tools if self._follow_ups else [])
        )

    async def call_tool(self, ctx: Ctx, params: types.CallToolRequestParams) -> Given:
        """`tools/call`.

        Raises:
            MCPError: there is no such tool.
        """
        try:
            if self._follow_ups is not None and params.name in TOOLS:
                return await self._follow_ups.call(ctx, params)
            offer = (await self._read()).get(params.name)
            if offer is None:
                raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:64]}")
            return await self.calls.expert(ctx, params, offer)
        except PeritusError as error:
            return failure_of(error, self._deps.redactor())

    async def list_resources(
        self, ctx: Ctx, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """`resources/list`."""
        try:
            return await self.resources.list_runs(ctx, params)
        except PeritusError as error:
            raise self._refusal(error) from None

    async def read_resource(
        self, ctx: Ctx, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """`resources/read`."""
        try:
            return await self.resources.read(ctx, params)
        except PeritusError as error:
            raise self._refusal(error) from None

    @asynccontextmanager
    async def life(self, _: Server[Life]) -> AsyncGenerator[Life]:
        """What lives as long as the server."""
        async with asyncio.TaskGroup() as tasks:
            life = Life(tasks)
            life.start(self._until_closing())
            try:
                yield life
            finally:
                life.end()

    async def _until_closing(self) -> None:
        await self._deps.closing.wait()
        self.watching.close()

    def input_schema(self, name: str) -> dict[str, object] | None:
        """What a tool takes, as far as it was read last."""
        offer = self._offers.get(name)
        return None if offer is None else offer.input_schema

    async def _read(self) -> dict[str, Offer]:
        definition = await self._deps.definition(wanted=None)
        self._offers = offers_of(definition, frozenset(TOOLS))
        return self._offers

    def _refusal(self, error: PeritusError) -> MCPError:
        """An error of ours as one of the protocol, without the values of secrets (C15)."""
        code = INVALID_PARAMS if isinstance(error, Rejected) else INTERNAL_ERROR
        told = failure_of(error, self._deps.redactor())
        text = "".join(one.text for one in told.content if isinstance(one, types.TextContent))
        return MCPError(code, text)


def create_server(deps: McpDeps) -> Server[Life]:
    """The server, for any transport."""
    handlers = Handlers(deps)
    server = Server(
        NAME,
        version=deps.version,
        title="Peritus",
        instructions=INSTRUCTIONS,
        lifespan=handlers.life,
        get_tool_input_schema=handlers.input_schema,
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.resources.templates,
        on_read_resource=handlers.read_resource,
        on_subscriptions_listen=handlers.watching.listen,
    )
    server.add_request_handler("server/discover", types.RequestParams, _discover(server))
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, handlers.levels.set)
    server.add_notification_handler(
        "notifications/cancelled", types.CancelledNotificationParams, handlers.calls.open.cancelled
    )
    sealed = RequestStateSecurity.ephemeral(ttl=ROUND_S)
    server.middleware.append(RequestStateBoundary(sealed, default_audience=NAME))
    return server


def _discover(server: Server[Life]) -> RequestHandler[Life, types.RequestParams]:
    """`server/discover`: tools are not announced as changing, though listening to runs is."""

    async def discover(ctx: Ctx, params: types.RequestParams) -> types.DiscoverResult:
        del params
        found = server.get_capabilities(protocol_version=ctx.protocol_version)
        still = types.ToolsCapability(list_changed=False)
        return types.DiscoverResult(
            supported_versions=list(MODERN_PROTOCOL_VERSIONS),
            capabilities=found.model_copy(update={"tools": still}),
            instructions=server.instructions,
        )

    return discover
