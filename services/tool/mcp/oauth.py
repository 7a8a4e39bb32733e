"""Tokens for MCP servers by OAuth 2.1: the SDK's own providers, with logins that are kept.

A token that another process got meanwhile counts, and requests do not wait for one another while
there is one.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.auth.utils import (
    extract_field_from_www_auth,
    extract_scope_from_www_auth,
    issuers_match,
)
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from domain.definition import McpHttpSkill
from domain.errors import PeritusError
from domain.mcp import OAuth
from services.tool.mcp.oauth_failures import LoginFailed, LoginNeeded
from services.tool.mcp.oauth_login import OVER, Logins, restore

CLIENT_NAME = "Peritus"
UNSEEN_REDIRECT = "http://127.0.0.1/callback"
"""Stands for the address of a listener where nobody listens: no login begins there."""

UNKNOWN, FORBIDDEN = 401, 403
BASIC, POST = "client_secret_basic", "client_secret_post"

UNREADABLE = (ValueError, TypeError, LookupError, httpx2.InvalidURL)
"""How nonsense in an authorisation server's answers shows."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a definition says of a login. `issuer`: the only server it may be made at."""

    issuer: str | None
    scope: str | None
    client: OAuthClientInformationFull | None


class Kept:
    """Fills the SDK's `TokenStorage` from a login that is kept."""

    def __init__(self, logins: Logins, *, named: bool) -> None:
        """`named`: the definition names the client, so none is kept."""
        self.logins = logins
        self._named = named
        self.provider: OAuthClientProvider | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """Nothing: the provider takes a login as a whole."""
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep a token that was just given."""
        if self.provider is not None:
            context = self.provider.context
            client = None if self._named else context.client_info
            await self.logins.save(context, tokens, client)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Nothing: see `get_tokens`."""
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """It is kept with the token that it gets."""
        self.logins.hide(None, client_info.client_secret)


class _Remembering(OAuthClientProvider):
    """What both providers have: a login that is kept, and one authorisation server."""

    def __init__(self, *given: Any, kept: Kept, ask: Ask, **more: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*given, **more)
        self._kept = kept
        self._ask = ask
        self._spoiled: str | None = None
        kept.provider = self

    async def _initialize(self) -> None:
        await super()._initialize()
        self.context.client_info = self._ask.client or self.context.client_info
        login = await self._kept.logins.load()
        if login is not None:
            restore(self.context, login, spoiled=self._spoiled)
        self._suit()

    async def _perform_authorization(self) -> httpx2.Request:
        only, metadata = self._ask.issuer, self.context.oauth_metadata
        if only is not None and (metadata is None or not issuers_match(str(metadata.issuer), only)):
            raise LoginFailed(_elsewhere(None if metadata is None else str(metadata.issuer), only))
        if self._ask.scope is not None:  # the SDK would ask for all that a server offers
            self.context.client_metadata.scope = self._ask.scope
        self._suit()
        return await super()._perform_authorization()

    def _suit(self) -> None:
        """Have a client that the definition names show its secret the way the server takes it."""
        client, server = self.context.client_info, self.context.oauth_metadata
        if client is None or server is None or self._ask.client is None:
            return
        ways = server.token_endpoint_auth_methods_supported or [BASIC]
        if client.client_secret is not None and BASIC not in ways and POST in ways:
            self.context.client_info = client.model_copy(
                update={"token_endpoint_auth_method": POST}
            )

    def _select_authorization_server(self, advertised: list[str]) -> str:
        only = self._ask.issuer
        if only is None:
            return super()._select_authorization_server(advertised)
        for server in advertised:
            if issuers_match(server, only):
                return server
        raise LoginFailed(_elsewhere(advertised[0], only))

    async def _auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if not self._initialized:
            await self._read()
        if self.context.is_token_valid():
            self._add_auth_header(request)
            token = self.context.current_tokens
            response = yield request
            if not _wants_more(response):
                return
            self._check_scope(response)
            if response.status_code == UNKNOWN and token is not None:
                self._spoil(token.access_token)
        async with AsyncExitStack() as turn:
            await self._take_turn(turn)
            flow = super()._auth_flow(request)
            try:
                outgoing = await _next(flow, None)
                while outgoing is not None:
                    if outgoing is request and self.context.is_token_valid():
                        await turn.aclose()
                    response = yield outgoing
                    outgoing = await _next(flow, response)
            finally:
                await flow.aclose()

    def _check_scope(self, response: httpx2.Response) -> None:
        """A login with the scopes of the definition again would change nothing."""
        if response.status_code != FORBIDDEN or self._ask.scope is None:
            return
        wanted = extract_scope_from_www_auth(response) or ""
        missing = sorted(set(wanted.split()) - set(self._ask.scope.split()))
        if missing:
            message = f"the server wants scopes that the definition does not ask for: {missing}"
            raise LoginFailed(message)

    async def _read(self) -> None:
        try:
            await self._initialize()
        except PeritusError as error:
            raise LoginFailed(str(error)) from None

    async def _take_turn(self, turn: AsyncExitStack) -> None:
        try:
            await turn.enter_async_context(self._kept.logins.turn())
        except PeritusError as error:
            raise LoginFailed(str(error)) from None
        self._initialized = False  # somebody else may have got a token while we waited

    def _spoil(self, access_token: str) -> None:
        """A server did not take that token: it does not count any more."""
        self._spoiled = access_token
        current = self.context.current_tokens
        if current is not None and current.access_token == access_token:
            self.context.token_expiry_time = OVER


class ForPerson(_Remembering):
    """`authorization_code` with PKCE: a person logs in once."""


class ForClient(_Remembering, ClientCredentialsOAuthProvider):
    """`client_credentials`: the client has a secret."""


def _wants_more(response: httpx2.Response) -> bool:
    if response.status_code == FORBIDDEN:
        return extract_field_from_www_auth(response, "error") == "insufficient_scope"
    return response.status_code == UNKNOWN


async def _next(
    flow: AsyncGenerator[httpx2.Request, httpx2.Response], response: httpx2.Response | None
) -> httpx2.Request | None:
    """What the SDK sends next; None when it has what it wanted."""
    try:
        return await (anext(flow) if response is None else flow.asend(response))
    except StopAsyncIteration:
        return None
    except OAuthFlowError:
        raise
    except PeritusError as error:
        raise LoginFailed(str(error)) from None
    except UNREADABLE as error:
        message = f"the authorisation server answers with nonsense ({type(error).__name__})"
        raise LoginFailed(message) from None


class Person:
    """Whoever logs in. Here nobody is: a worker can only say how it is done."""

    redirect = UNSEEN_REDIRECT

    def __init__(self, how: str) -> None:
        """`how`: what a person is to do."""
        self._how = how

    async def send(self, url: str) -> None:
        """Show a person the address of a login.

        Raises:
            LoginNeeded: there is nobody.
        """
        scope = httpx2.URL(url).params.get("scope", "")
        wanted = f" (scopes: {scope})" if scope else ""
        message = f"a person has to log in first: {self._how}{wanted}"
        raise LoginNeeded(message)

    async def hear(self) -> AuthorizationCodeResult:
        """What came of it."""
        raise LoginNeeded(self._how)


def provider_of(
    skill: McpHttpSkill, oauth: OAuth, logins: Logins, client_secret: str | None, person: Person
) -> OAuthClientProvider:
    """Whatever gets tokens for an endpoint, as its definition says.

    Raises:
        LoginFailed: the definition says too little.
    """
    kept = Kept(logins, named=oauth.client_id is not None)
    if client_secret is not None:
        logins.hide(None, client_secret)
    ask = Ask(
        # Else whoever runs an MCP server could have the secret sent to a server of theirs.
        issuer=oauth.issuer or (None if client_secret is None else _origin(skill.endpoint)),
        scope=" ".join(oauth.scopes) or None,
        client=None if oauth.client_id is None else _client(oauth.client_id, client_secret, person),
    )
    if oauth.grant == "client_credentials":
        if oauth.client_id is None or client_secret is None:
            message = "client_credentials needs the id and the secret of a client"
            raise LoginFailed(message)
        return ForClient(
            skill.endpoint,
            kept,
            oauth.client_id,
            client_secret,
            scope=ask.scope,
            issuer=ask.issuer,
            kept=kept,
            ask=ask,
        )
    metadata = OAuthClientMetadata(
        client_name=CLIENT_NAME, redirect_uris=[AnyUrl(person.redirect)], scope=ask.scope
    )
    return ForPerson(skill.endpoint, metadata, kept, person.send, person.hear, kept=kept, ask=ask)


def _client(
    client_id: str, client_secret: str | None, person: Person
) -> OAuthClientInformationFull:
    return OAuthClientInformationFull(
        client_id=client_id,
        client_secret=client_secret,
        redirect_uris=[AnyUrl(person.redirect)],
        token_endpoint_auth_method="none" if client_secret is None else BASIC,
    )


def _origin(endpoint: str) -> str:
    url = httpx2.URL(endpoint)
    return str(url.copy_with(raw_path=b"/", fragment=None)).removesuffix("/")


def _elsewhere(named: str | None, only: str) -> str:
    """Why a login is not made at the server that an MCP server names."""
    found = "names no authorisation server" if named is None else f"has tokens from {named}"
    return (
        f"the server {found}, and the client of the definition is for {only}: if that is wrong, "
        "name the right one as the issuer in the definition"
    )
