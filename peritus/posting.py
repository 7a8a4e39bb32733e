"""Sends what webhooks are told: to checked addresses, in bounded time, following nothing."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import httpcore2

from domain.addresses import Guard, networks
from domain.errors import Unavailable
from peritus.settings import Settings
from services.network.own import is_own
from services.network.roots import system_roots
from services.tool.mcp.addresses import CheckedBackend, plain_admits

if TYPE_CHECKING:
    from gateway.webhooks.sender import Post

ANSWER_S = 10.0
"""How long connecting, and an answer's head, may take, in seconds: each; all of it twice that."""

CONNECTIONS_MAX = 64
REFUSAL = "it is not public; an operator allows networks by PERITUS_WEBHOOK_ALLOW_CIDRS"
PLAIN_REFUSAL = "http:// is for networks of PERITUS_WEBHOOK_ALLOW_CIDRS only; use https://"


@asynccontextmanager
async def posting(settings: Settings) -> "AsyncGenerator[Post]":
    """A way to send while the context is open."""
    trust = ssl.create_default_context(cafile=system_roots())
    guard = Guard(is_own, networks(settings.webhook_allow_cidrs))
    dials = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
    checked = {
        "https": CheckedBackend(guard.admits, REFUSAL, dials),
        "http": CheckedBackend(plain_admits(guard), PLAIN_REFUSAL, dials),
    }
    pools = {
        scheme: httpcore2.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=CONNECTIONS_MAX,
            keepalive_expiry=30.0,
            network_backend=backend,
        )
        for scheme, backend in checked.items()
    }

    async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
        pool = pools.get(url.partition(":")[0])
        if pool is None:
            msg = f"nothing is sent to {url!r}: only https:// and http:// are spoken"
            raise Unavailable(msg)
        names = [(name.encode(), value.encode()) for name, value in headers.items()]
        patience = dict.fromkeys(("connect", "read", "write", "pool"), ANSWER_S)
        try:
            async with (
                asyncio.timeout(2 * ANSWER_S),
                pool.stream(
                    b"POST", url, headers=names, content=body, extensions={"timeout": patience}
                ) as answer,
            ):
                return int(answer.status)
        except TimeoutError:
            msg = f"no answer in {2 * ANSWER_S:g} s"
            raise Unavailable(msg) from None
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as no:
            raise Unavailable(str(no) or type(no).__name__) from no
        except ssl.SSLError as no:
            msg = f"TLS: {no}"
            raise Unavailable(msg) from no

    try:
        yield post
    finally:
        for pool in pools.values():
            await pool.aclose()
