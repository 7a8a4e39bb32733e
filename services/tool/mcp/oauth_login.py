"""What is kept of a login at an authorisation server, and where. Not how one is made."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Literal

from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import BaseModel, ConfigDict, ValidationError

from domain.definition import McpHttpSkill
from domain.record import canonical
from services.secrets.tokens import TokenStore

EARLY_S = 30.0
"""How long before its end a token does not count any more: a request takes a while."""

OVER = 1.0
"""An expiry of the past. Not 0: the SDK takes that for none."""


class Login(BaseModel):
    """A token, and what is needed to get the next one without asking anybody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    token: OAuthToken
    expires_at_s: float | None = None
    client: OAuthClientInformationFull | None = None
    server: OAuthMetadata | None = None
    resource: ProtectedResourceMetadata | None = None
    issuer: str | None = None


class Logins:
    """The login of one tenant at one endpoint, as a definition asks for it."""

    def __init__(
        self,
        store: TokenStore,
        tenant: str,
        skill: McpHttpSkill,
        now_s: Callable[[], float],
        *,
        anew: bool = False,
    ) -> None:
        """`anew`: what was kept before does not count."""
        self._anew = anew
        self._store = store
        self._tenant = tenant
        self._owner = owner_of(skill)
        self._now_s = now_s

    async def load(self) -> Login | None:
        """The login, None when there is none or none that this release can read."""
        text = None if self._anew else await self._store.load(self._tenant, self._owner)
        if text is None:
            return None
        try:
            login = Login.model_validate_json(text)
        except ValidationError:
            return None
        self.hide(login.token, secret_of(login.client))
        return login

    async def save(
        self, context: OAuthContext, token: OAuthToken, client: OAuthClientInformationFull | None
    ) -> None:
        """Keep a token that was just given, with what the SDK found out about who gave it.

        `client`: the one that was registered for it, None where the definition names one.
        """
        self.hide(token, secret_of(client))
        expires_in = token.expires_in
        login = Login(
            token=token,
            expires_at_s=None if expires_in is None else self._now_s() + expires_in,
            client=client,
            server=context.oauth_metadata,
            resource=context.protected_resource_metadata,
            issuer=context.auth_server_url,
        )
        text = login.model_dump_json(exclude_none=True)
        await self._store.save(self._tenant, self._owner, text)
        self._anew = False

    async def forget(self) -> bool:
        """Forget the login; False when there was none."""
        return await self._store.forget(self._tenant, self._owner)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """One at a time gets the next token. A person who logs in keeps nobody from it."""
        if self._anew:
            return nullcontext()
        return self._store.turn(self._tenant, self._owner)

    def hide(self, token: OAuthToken | None, client_secret: str | None) -> None:
        """Let no part of a login out of this process."""
        values = {
            "mcp_access_token": token and token.access_token,
            "mcp_refresh_token": token and token.refresh_token,
            "mcp_client_secret": client_secret,
        }
        self._store.hide({name: value for name, value in values.items() if value})


def restore(context: OAuthContext, login: Login, *, spoiled: str | None) -> None:
    """Have the SDK go on from a login. `spoiled`: a token that the server did not take."""
    context.current_tokens = login.token
    context.client_info = context.client_info or login.client
    context.oauth_metadata = login.server
    context.protected_resource_metadata = login.resource
    context.auth_server_url = login.issuer
    context.token_expiry_time = None
    if login.token.access_token == spoiled:
        context.token_expiry_time = OVER
    elif login.expires_at_s is not None:
        context.token_expiry_time = max(OVER, login.expires_at_s - EARLY_S)


def secret_of(client: OAuthClientInformationFull | None) -> str | None:
    """The secret of a client that was registered with one."""
    return None if client is None else client.client_secret


def owner_of(skill: McpHttpSkill) -> str:
    """Names the login of an endpoint: a definition that asks for another one has its own."""
    return f"{skill.endpoint} {canonical(skill.oauth).decode()}"
