"""A small authorisation server on loopback: OAuth 2.1 as an MCP client meets it. Not a product.

It is strict where a client has to be right (PKCE, redirects, resources, one use of a refresh token)
and keeps all it gave, so that a test can look for it.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from mcp.server.auth.provider import AccessToken
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

SECRET = "cl1ent-s3cret-canary"


@dataclass
class Grant:
    """What a person, or a client, was given."""

    client: str
    scope: str
    resource: str
    challenge: str = ""
    redirect: str = ""


@dataclass
class Authority:
    """An authorisation server. `issuer` is where it is."""

    issuer: str = ""
    expires_in: int = 3600
    clients: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    codes: dict[str, Grant] = field(default_factory=dict[str, Grant])
    refreshes: dict[str, Grant] = field(default_factory=dict[str, Grant])
    tokens: dict[str, Grant] = field(default_factory=dict[str, Grant])
    given: list[str] = field(default_factory=list[str])
    """Every value that must not be seen anywhere else."""
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """The forms of token requests, with the way the client showed who it is."""
    ways: tuple[str, ...] = ("client_secret_basic", "client_secret_post", "none")
    garbled_token: bytes = b""
    """What it answers where a token is asked for."""
    garbles: bytes = b""
    """What it says of itself instead."""
    refuses: str = ""
    """The error of token requests; empty: none."""
    forgets: int = 0
    """How often it forgets, once a token was shown, all that it gave."""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/register", self._register, methods=["POST"]),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def register_by_hand(self, client: str, redirect: str = "", secret: str = SECRET) -> None:
        self.clients[client] = {"client_secret": secret, "redirect_uris": [redirect]}

    async def verify_token(self, token: str) -> AccessToken | None:
        """As the MCP server asks."""
        grant = self.tokens.get(token)
        if grant is None:
            return None
        if self.forgets:
            self.forgets -= 1
            self.tokens.clear()
            self.refreshes.clear()
        scopes = grant.scope.split()
        return AccessToken(
            token=token, client_id=grant.client, scopes=scopes, resource=grant.resource
        )

    async def _metadata(self, request: Request) -> Response:
        del request
        if self.garbles:
            return Response(self.garbles, media_type="application/json")
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "registration_endpoint": f"{self.issuer}/register",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": list(self.ways),
            }
        )

    async def _register(self, request: Request) -> Response:
        asked = json.loads(await request.body())
        client = {
            **asked,
            "client_id": f"client-{len(self.clients)}",
            "client_secret": self._new("registered"),
            "token_endpoint_auth_method": "client_secret_basic",
        }
        self.clients[client["client_id"]] = client
        return JSONResponse(client, 201)

    async def _authorize(self, request: Request) -> Response:
        """Somebody has logged in and agreed, at once."""
        given = dict(request.query_params)
        client = self.clients[given["client_id"]]
        assert given["redirect_uri"] in client["redirect_uris"]
        assert given["code_challenge_method"] == "S256"
        code = self._new("code")
        self.codes[code] = Grant(
            given["client_id"],
            given.get("scope", ""),
            given.get("resource", ""),
            given["code_challenge"],
            given["redirect_uri"],
        )
        answer = urlencode({"code": code, "state": given["state"], "iss": self.issuer})
        return RedirectResponse(f"{given['redirect_uri']}?{answer}", 302)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        way, client = self._client(request, form)
        self.asked.append({**form, "way": way})
        if self.garbled_token:
            return Response(self.garbled_token, media_type="application/json")
        if self.refuses or client is None:
            error = {"error": self.refuses or "invalid_client", "error_description": str(form)}
            return JSONResponse(error, 400)
        match form["grant_type"]:
            case "authorization_code":
                grant = self.codes.pop(form["code"])
                digest = hashlib.sha256(form["code_verifier"].encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
                assert challenge == grant.challenge
                assert form["redirect_uri"] == grant.redirect
            case "refresh_token":
                used = self.refreshes.pop(form["refresh_token"], None)
                if used is None:
                    return JSONResponse({"error": "invalid_grant"}, 400)
                grant = used
            case _:
                grant = Grant(client, form.get("scope", ""), form.get("resource", ""))
        lasting = form["grant_type"] != "client_credentials"
        return JSONResponse(self._given(grant, lasting=lasting))

    def _given(self, grant: Grant, *, lasting: bool) -> dict[str, Any]:
        access = self._new("access")
        self.tokens[access] = grant
        token: dict[str, Any] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": grant.scope,
        }
        if lasting:
            token["refresh_token"] = self._new("refresh")
            self.refreshes[token["refresh_token"]] = grant
        return token

    def _client(self, request: Request, form: dict[str, str]) -> tuple[str, str | None]:
        """How a client showed who it is, and which it is; None when it did not."""
        shown = request.headers.get("authorization", "")
        if shown.startswith("Basic "):
            way = "client_secret_basic"
            name, _, secret = base64.b64decode(shown[6:]).decode().partition(":")
            name, secret = unquote(name), unquote(secret)
        else:
            way, name = "client_secret_post", form.get("client_id", "")
            secret = form.pop("client_secret", "")
        known = self.clients.get(name)
        fits = known is not None and known.get("client_secret", "") == secret
        return way, name if fits else None

    def _new(self, kind: str) -> str:
        made = f"{kind}-{secrets.token_urlsafe(24)}"
        self.given.append(made)
        return made
