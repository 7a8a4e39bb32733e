"""The two transports of MCP over HTTP, as the SDK has them, with errors of ours. No client."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from domain.errors import Unavailable
from services.tool.mcp.http_client import Talk
from services.tool.mcp.http_failures import LATER, refusal
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.http_transport import Forbidden
from services.tool.mcp.seam import NotOpened


@asynccontextmanager
async def newer(
    endpoint: str, talk: Talk, settings: HttpSettings
) -> AsyncGenerator[TransportStreams]:
    """Streamable HTTP: nothing is sent before the session begins."""
    limit = settings.body_bytes_max
    async with (
        talk,
        streamable_http_client(endpoint, http_client=talk, max_sse_event_size=limit) as streams,
    ):
        talk.hang_up = streams[1].aclose
        yield streams


@asynccontextmanager
async def older(
    endpoint: str, talk: Talk, settings: HttpSettings
) -> AsyncGenerator[TransportStreams]:
    """SSE, as servers had it before: one stream for all answers, which is opened first.

    Raises:
        Unavailable: it is not there now.
        NotOpened: it never will be like that.
    """

    def client(
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        del headers, timeout, auth  # it has its own
        return talk

    del settings
    async with AsyncExitStack() as stack:
        try:
            streams = await stack.enter_async_context(
                sse_client(endpoint, httpx_client_factory=client)
            )
        except httpx2.HTTPStatusError as error:
            told = refusal(error.response, hint=talk.hint)
            raise (Unavailable if error.response.status_code in LATER else NotOpened)(
                told
            ) from None
        except (Forbidden, httpx2.SSEError) as error:
            raise NotOpened(str(error)) from None
        except httpx2.RequestError as error:
            raise Unavailable(str(error)) from None
        yield streams
