"""A gateway that recognises callers, and a client of it that brings credentials. Not the tests."""

from dataclasses import dataclass
from typing import Any

import httpx2

from eventlog.port import Backbone
from gateway.auth.means import Auth
from gateway.callers import Role
from gateway.deps import GatewayDeps
from tests.support.credentials import Clock, bearer

TOKEN = "the-one-token-of-an-administrator"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class House:
    """A gateway, what it recognises callers by, and a client of it."""

    http: httpx2.AsyncClient
    auth: Auth
    clock: Clock
    backbone: Backbone

    async def key(self, tenant: str = "acme", role: Role = "admin", **more: Any) -> str:
        name = f"k{len(await self.auth.keys.list(tenant))}"
        return (await self.auth.keys.create(tenant, name, role, by="test", **more))[1]

    async def get(self, path: str, credential: str | None = None) -> httpx2.Response:
        return await self.http.get(path, headers={} if credential is None else bearer(credential))

    async def me(self, credential: str | None = None) -> dict[str, Any]:
        answer = await self.get("/v1/me", credential)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    async def cookie(self, credential: str) -> str:
        answer = await self.http.post("/v1/session", json={"key": credential})
        assert answer.status_code == 201, answer.text
        self.http.cookies.clear()
        return answer.headers["set-cookie"].partition(";")[0]


def house_of(http: httpx2.AsyncClient, deps: GatewayDeps, clock: Clock) -> House:
    assert deps.auth is not None
    return House(http, deps.auth, clock, deps.backbone)
