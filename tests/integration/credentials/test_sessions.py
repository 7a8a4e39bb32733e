"""Sessions of browsers at the gateway, and what pages of other sites cannot do with them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.auth.issuer import LEEWAY_S
from gateway.deps import GatewayDeps
from tests.support.credentials import Authority, Clock, auth_of, bearer, issuer_of
from tests.support.gateway import gateway
from tests.support.house import OWN_PAGE, TOKEN, House, house_of

pytestmark = pytest.mark.anyio

BOUND_S = 15.0


async def test_a_key_that_is_taken_back_ends_its_sessions(house: House) -> None:
    key = await house.key()
    cookie = {"Cookie": await house.cookie(key)}
    assert (await house.http.get("/v1/me", headers=cookie)).json()["via"] == "session"
    await house.auth.keys.revoke("acme", "k0")
    assert (await house.http.get("/v1/me", headers=cookie)).status_code == 401


async def test_a_session_made_from_a_token_ends_when_the_token_is_another_one(
    house: House, deps: GatewayDeps
) -> None:
    cookie = {"Cookie": await house.cookie(TOKEN)}
    me = (await house.http.get("/v1/me", headers=cookie)).json()
    assert (me["tenant"], me["name"], me["role"], me["via"]) == (
        "acme",
        "token",
        "admin",
        "session",
    )
    async with gateway(replace(deps, token="another")) as http:
        assert (await http.get("/v1/me", headers=cookie)).status_code == 401
    async with gateway(replace(deps, token=None)) as http:
        assert (await http.get("/v1/me", headers=cookie)).status_code == 401


async def test_a_session_made_from_an_issuers_token_ends_with_the_token(
    deps: GatewayDeps, clock: Clock, made: Authority
) -> None:
    auth = auth_of(deps.backbone, clock, issuer=issuer_of(made))
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        cookie = {"Cookie": await house.cookie(made.token("k1", role="viewer"))}
        me = (await http.get("/v1/me", headers=cookie)).json()
        assert (me["tenant"], me["name"], me["role"]) == ("acme", "user:alice", "viewer")
        clock.pass_by(600 + LEEWAY_S)
        assert (await http.get("/v1/me", headers=cookie)).status_code == 401


async def test_a_sessions_cookie_is_for_no_script_and_no_other_site(house: House) -> None:
    here = await house.http.post("/v1/session", json={"key": TOKEN})
    away = await house.http.post(
        "/v1/session", json={}, headers={"Host": "peritus.example", **bearer(TOKEN)}
    )
    assert (here.status_code, away.status_code) == (201, 201)
    flags = here.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/"} <= set(flags)
    assert "secure" not in flags
    assert "secure" in away.headers["set-cookie"].lower().split("; ")
    for answer in (here, away):
        assert TOKEN not in answer.text + str(answer.headers)
    gone = await house.http.delete("/v1/session")
    assert gone.status_code == 204
    assert 'peritus_session=""' in gone.headers["set-cookie"]


async def test_what_is_no_key_begins_no_session(house: House) -> None:
    for body, headers in (
        ({"key": "x"}, {}),
        ({}, {}),
        ({}, bearer("x")),
        ({"key": "x"}, bearer(TOKEN)),
    ):
        answer = await house.http.post("/v1/session", json=body, headers=headers)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (OWN_PAGE, 404),
        ({"Origin": "{own}"}, 404),
        ({**OWN_PAGE, "Origin": "{own}"}, 404),
        ({}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{own}"}, 401),
        ({**OWN_PAGE, "Content-Type": "text/plain"}, 415),
        ({**OWN_PAGE, "Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({**OWN_PAGE, "Content-Type": "application/json;charset=utf-8"}, 404),
    ],
    ids=str,
)
async def test_with_a_session_only_our_own_pages_change_anything(
    house: House, headers: dict[str, str], status: int
) -> None:
    """A browser adds the cookie to whatever page asks; what it says of the page decides."""
    url = house.http.base_url
    own = f"{url.scheme}://{url.host}:{url.port}"
    given = {"Content-Type": "application/json", "Cookie": await house.cookie(await house.key())}
    given |= {name: value.format(own=own) for name, value in headers.items()}
    answer = await house.http.post("/v1/runs/none/cancel", content=b"{}", headers=given)
    assert answer.status_code == status, answer.text


async def test_with_a_session_other_sites_pages_upload_and_delete_nothing(house: House) -> None:
    cookie = {"Cookie": await house.cookie(await house.key())}
    evil = {**cookie, "Origin": "http://evil.example"}
    deleted = await house.http.delete("/v1/keys/k0", headers=evil)
    uploaded = await house.http.post(
        "/v1/uploads", content=b"x", headers={**evil, "Content-Type": "text/plain"}
    )
    assert (deleted.status_code, uploaded.status_code) == (403, 403)
    own = await house.http.post(
        "/v1/uploads", content=b"x", headers={**cookie, **OWN_PAGE, "Content-Type": "text/plain"}
    )
    assert own.status_code in (200, 201), own.text
    assert (
        await house.http.delete("/v1/keys/k0", headers={**cookie, **OWN_PAGE})
    ).status_code == 200


async def test_no_other_sites_page_begins_or_ends_a_session(house: House) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        begun = await house.http.post("/v1/session", json={"key": TOKEN}, headers=headers)
        ended = await house.http.delete("/v1/session", headers=headers)
        assert (begun.status_code, ended.status_code) == (403, 403)
        assert "set-cookie" not in begun.headers
    simple = await house.http.post(
        "/v1/session", content=b'{"key": "x"}', headers={"Content-Type": "text/plain"}
    )
    assert simple.status_code == 415


@pytest.mark.parametrize("way", ["revoked", "expired", "session", "token", "ended"])
async def test_a_stream_ends_when_what_its_caller_came_with_is_good_no_more(
    deps: GatewayDeps, clock: Clock, made: Authority, way: str
) -> None:
    auth = auth_of(deps.backbone, clock, issuer=issuer_of(made))
    quick = replace(deps, auth=auth, heartbeat_s=0.05)
    async with gateway(quick) as http:
        house = house_of(http, quick, clock)
        key = await house.key(expires_at_ms=clock.ms() + 60_000)
        headers = bearer(made.token("k1", exp=int(clock.s()) + 60) if way == "token" else key)
        if way in ("session", "ended"):
            headers = {"Cookie": await house.cookie(key)}
        async with (
            asyncio.timeout(BOUND_S),
            http.stream("GET", "/v1/events", headers=headers) as response,
        ):
            assert response.status_code == 200
            lines = response.aiter_lines()
            await until_heartbeat(lines)
            if way == "revoked":
                await auth.keys.revoke("acme", "k0")
            elif way == "ended":
                await auth.sessions.end_all()
            else:
                clock.pass_by(60 + LEEWAY_S)
            async for _ in lines:  # it ends
                pass
        assert (await http.get("/v1/events", headers=headers)).status_code == 401


async def until_heartbeat(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        if line == "event: heartbeat":
            return
