"""Opens connections to MCP servers over HTTP: Streamable HTTP and, for older servers, SSE.

Not the protocol: the SDK's transports speak it. Here are their client, its headers and its login.
"""

import ssl
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from domain.definition import McpHttpSkill
from domain.mcp import OAuth
from services.secrets.tokens import TokenStore
from services.tool.mcp.http_headers import Reveal, addressed, resolved, secret
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.seam import Key, NotOpened, Report, Server, digest_of_skill

if TYPE_CHECKING:
    import httpx2
    from mcp.client import Transport
    from mcp.client._transport import TransportStreams

    from services.tool.mcp.oauth import Person


@dataclass(frozen=True, slots=True)
class HttpMeans:
    """What a process has to reach servers with."""

    settings: HttpSettings
    reveal: Reveal
    tokens: TokenStore
    now_s: Callable[[], float]
    never: Collection[str] = ()
    """Names of secrets that no tool is given."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A skill as one tenant uses it. `login`: what a person does to log in."""

    tenant: str
    skill: McpHttpSkill
    login: str
    person: "Person | None" = None
    """Whoever is there to log in now; None: nobody is."""


@dataclass(slots=True)
class Trust:
    """Whom hosts are believed to be: read from the system once, when it is first needed."""

    settings: HttpSettings
    _context: ssl.SSLContext | None = field(default=None, init=False)

    def context(self) -> ssl.SSLContext:
        """The certificates that count.

        Raises:
            NotOpened: the operator's own cannot be read.
        """
        if self._context is None:
            from services.tool.mcp.http_transport import trust_of  # noqa: PLC0415 - slow

            try:
                self._context = trust_of(self.settings)
            except (OSError, ssl.SSLError) as error:
                message = f"the certificates of PERITUS_EGRESS_CA_FILE cannot be read: {error}"
                raise NotOpened(message) from None
        return self._context


def server_of(means: HttpMeans, trust: Trust, endpoint: Endpoint, place: str) -> Server:
    """A server as calls are made to it: `place` is what its connection is shared within."""
    skill = endpoint.skill

    def connect(report: Report) -> "Transport":
        report.tells_lost = True
        return _connected(means, trust, endpoint, report)

    return Server(
        key=Key(endpoint.tenant, place, digest_of_skill(skill)),
        name=skill.endpoint,
        connect=connect,
        handshake="initialize",  # a server of both kinds asks a person in the older one only
        sampling=skill.sampling == "allow",
    )


@asynccontextmanager
async def _connected(
    means: HttpMeans, trust: Trust, endpoint: Endpoint, report: Report
) -> "AsyncGenerator[TransportStreams]":
    from services.tool.mcp import http_streams  # noqa: PLC0415 - imports the SDK
    from services.tool.mcp.http_client import Talk  # noqa: PLC0415
    from services.tool.mcp.http_transport import Way  # noqa: PLC0415

    skill = endpoint.skill

    async def headers() -> dict[str, str]:
        return await resolved(skill.headers, means.reveal, means.never)

    first = await headers()  # what is wrong with them is said before anything is sent
    if skill.oauth is not None and "authorization" in first:
        message = "the definition has both a header Authorization and a login by OAuth; drop one"
        raise NotOpened(message)
    auth = None if skill.oauth is None else await _auth(means, endpoint, skill.oauth)
    address = await addressed(skill.endpoint, means.reveal, means.never)
    way = Way(address, headers, means.settings, trust.context())
    older = skill.transport == "sse"
    talk = Talk(way, auth, means.settings, report, hint=_hint(endpoint), older=older)
    opened = http_streams.older if older else http_streams.newer
    async with opened(address, talk, means.settings) as streams:
        yield streams


async def _auth(means: HttpMeans, endpoint: Endpoint, oauth: OAuth) -> "httpx2.Auth":
    from services.tool.mcp.oauth import Person, provider_of  # noqa: PLC0415 - imports the SDK
    from services.tool.mcp.oauth_failures import LoginFailed  # noqa: PLC0415
    from services.tool.mcp.oauth_login import Logins  # noqa: PLC0415

    client_secret = None
    if oauth.client_secret is not None:
        client_secret = await secret(oauth.client_secret, "the login", means.reveal, means.never)
    anew = endpoint.person is not None
    logins = Logins(means.tokens, endpoint.tenant, endpoint.skill, means.now_s, anew=anew)
    person = endpoint.person or Person(endpoint.login)
    try:
        return provider_of(endpoint.skill, oauth, logins, client_secret, person)
    except LoginFailed as error:
        raise NotOpened(str(error)) from None


def _hint(endpoint: Endpoint) -> str:
    """What a person can do when a server wants to know who asks."""
    skill = endpoint.skill
    if skill.oauth is not None:
        return f"it does not take the token it gave; log in again: {endpoint.login}"
    if skill.headers:
        return f"check the secrets of the headers {', '.join(sorted(skill.headers))}"
    return "the definition needs a header with a secret, or a login by OAuth"
