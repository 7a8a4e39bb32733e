"""Tells clients that listen when runs change. What changed they read again; nothing is replayed.

Only in the generation of the protocol in which a client opens a stream for it.
"""

import asyncio
import logging

import mcp_types as types
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
)

from domain.envelope import decode
from domain.errors import Unavailable
from eventlog.port import Stored
from gateway.mcp.deps import McpDeps
from gateway.mcp.open_calls import Ctx
from gateway.mcp.resources import PARTS, RUNS

logger = logging.getLogger(__name__)

LISTENERS_MAX = 256
RETRY_S = 1.0


class Watching:
    """One look at the log for everybody who listens, from when the first one does."""

    def __init__(self, deps: McpDeps) -> None:
        self._deps = deps
        self._bus = InMemorySubscriptionBus()
        self._handler = ListenHandler(self._bus, max_subscriptions=LISTENERS_MAX)
        self._watching = False

    async def listen(
        self, ctx: Ctx, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """`subscriptions/listen`: about resources alone."""
        if not self._watching:
            self._watching = True
            after = (await self._deps.backbone.log.bounds())[1]
            ctx.lifespan_context.start(self._watch(after))
        wanted = params.notifications.model_copy(
            update={"tools_list_changed": None, "prompts_list_changed": None}
        )
        return await self._handler(ctx, params.model_copy(update={"notifications": wanted}))

    def close(self) -> None:
        """End every stream; each client is told that it ends on purpose."""
        self._handler.close()

    async def _watch(self, after: int) -> None:
        log = self._deps.backbone.log
        while True:
            try:
                async with log.follow(after_seq=after, tenant=self._deps.tenant) as envelopes:
                    async for stored in envelopes:
                        after = stored.seq
                        await self._tell(stored)
            except Unavailable:
                logger.warning("who listens to runs is told nothing until the log is back")
                await asyncio.sleep(RETRY_S)

    async def _tell(self, stored: Stored) -> None:
        uri = f"{RUNS}/{stored.ref.run}"
        for part in ("", *(f"/{name}" for name in PARTS)):
            await self._bus.publish(ResourceUpdated(uri + part))
        await self._bus.publish(ResourceUpdated(RUNS))
        if decode(stored.data).version == 1:
            await self._bus.publish(ResourcesListChanged())
