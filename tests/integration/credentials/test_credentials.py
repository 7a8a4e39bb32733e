"""Who comes in, by which credential, and what he may: keys, tokens, roles, rates, origins."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.auth.keys import KEYS_AGE_S
from gateway.auth.sessions import COOKIE
from gateway.callers import Role
from gateway.deps import GatewayDeps
from tests.support.credentials import Authority, Clock, auth_of, bearer, issuer_of
from tests.support.gateway import deps_of, gateway
from tests.support.house import TOKEN, House, house_of
from tests.support.pen import Pen, started
from tests.support.tenants import thread

pytestmark = pytest.mark.anyio


async def test_the_one_token_is_an_administrator_of_the_deployments_tenant(house: House) -> None:
    me = await house.me(TOKEN)
    assert me == {
        "tenant": "acme",
        "name": "token",
        "via": "http",
        "role": "admin",
        "experts": None,
    }


async def test_a_key_is_of_its_tenant_and_role(house: House) -> None:
    key = await house.key("umbrella", "viewer", experts=("coder",))
    me = await house.me(key)
    assert (me["tenant"], me["name"], me["role"]) == ("umbrella", "key:k0", "viewer")
    assert me["experts"] == ["coder"]


async def test_a_token_of_the_issuer_is_of_the_tenant_and_role_it_claims(
    deps: GatewayDeps, clock: Clock, made: Authority
) -> None:
    auth = auth_of(deps.backbone, clock, issuer=issuer_of(made))
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        me = await house.me(made.token("k1", tenant="umbrella", role=["viewer"]))
        assert (me["tenant"], me["name"], me["role"]) == ("umbrella", "user:alice", "viewer")
        assert (await house.get("/v1/me", made.token("k1", aud="other"))).status_code == 401
        made.down = True
        clock.pass_by(10_000)
        away = await house.get("/v1/me", made.token("k1"))
        assert away.status_code == 503
        assert (await house.me(TOKEN))["name"] == "token"


async def test_every_credential_that_is_not_good_is_answered_alike(house: House) -> None:
    """Whether a key exists, has expired or was taken back is nobody's business."""
    expired = await house.key(expires_at_ms=house.clock.ms() + 1)
    revoked = await house.key()
    house.clock.pass_by(1)
    await house.auth.keys.revoke("acme", revoked.split("_")[1])
    good = await house.key()
    wrong: list[dict[str, str]] = [
        {},
        bearer("x"),
        bearer(TOKEN[:-1]),
        bearer(f"{TOKEN}x"),
        bearer(expired),
        bearer(revoked),
        bearer(good[:-1]),
        bearer(f"pk_{'0' * 16}_{'a' * 43}"),
        bearer("a.b.c"),
        bearer("x" * 20_000),
        {"Authorization": f"Basic {good}"},
        {"Authorization": "Bearer"},
        {"Authorization": good},
        {"Cookie": f"{COOKIE}={good}"},
        {"Cookie": f"{COOKIE}=e30.e30"},
        {"X-API-Key": good},
    ]
    answers = [await house.http.get("/v1/runs", headers=headers) for headers in wrong]
    answers.append(await house.http.get("/v1/runs", params={"key": good, "token": TOKEN}))
    answers.append(await house.http.get("/v1/runs/none/events"))
    answers.append(await house.http.get("/v1/not/a/path"))
    assert {(one.status_code, one.content) for one in answers} == {(401, answers[0].content)}
    assert (await house.get("/v1/runs", good)).status_code == 200


async def test_roles_look_act_and_administrate(house: House) -> None:
    viewer, operator, admin = [await house.key("acme", role) for role in ROLES]
    pen = Pen(RunRef("acme", "job1", "job1"))
    await pen.write(house.backbone.log, *started())

    async def statuses(method: str, path: str, **more: Any) -> list[int]:
        return [
            (await house.http.request(method, path, headers=bearer(one), **more)).status_code
            for one in (viewer, operator, admin)
        ]

    assert await statuses("GET", "/v1/runs") == [200, 200, 200]
    assert await statuses("GET", "/v1/runs/job1") == [200, 200, 200]
    assert await statuses("POST", "/v1/runs/job1/cancel", json={}) == [403, 202, 202]
    assert await statuses("GET", "/v1/keys") == [403, 403, 200]
    assert await statuses("DELETE", "/v1/keys/nobody") == [403, 403, 404]
    refused = (await house.get("/v1/keys", operator)).json()
    assert (refused["code"], refused["role"]) == ("forbidden", "admin")
    assert "admin" in refused["detail"]
    assert "operator" in refused["detail"]


ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")


async def test_a_key_for_some_experts_starts_no_others(house: House) -> None:
    key = await house.key("acme", "operator", experts=("critic",))
    answers = [
        await house.http.post("/v1/runs", json={"expert": name, "query": "go"}, headers=bearer(key))
        for name in ("critic", "coder", "nobody")
    ]
    assert [one.status_code for one in answers] == [202, 403, 403]
    assert answers[1].json()["detail"] == answers[2].json()["detail"]


SAID = {"role": "user", "content": "go on"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/agui", thread("t1")),
        ("/v1/agui/coder", thread("t2")),
        (
            "/v1/chat/completions",
            {"model": "coder", "messages": [{"role": "user", "content": "x"}]},
        ),
        ("/v1/runs/job1/fork", {"fromStep": 0, "query": "else"}),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
async def test_a_key_for_some_experts_starts_no_others_by_any_way(
    house: House, path: str, body: dict[str, Any]
) -> None:
    pen = Pen(RunRef("acme", "job1", "job1"))
    await pen.write(house.backbone.log, *started("coder"))
    before = await house.backbone.log.bounds()
    key = await house.key("acme", "operator", experts=("critic",))
    answer = await house.http.post(path, json=body, headers=bearer(key))
    assert answer.status_code == 403, answer.text
    assert "critic" in answer.text
    assert await house.backbone.log.bounds() == before


async def test_keys_are_made_listed_and_taken_back_over_http(house: House) -> None:
    body = {"name": "ci", "role": "operator", "experts": ["coder"]}
    made = await house.http.post("/v1/keys", json=body, headers=bearer(TOKEN))
    assert made.status_code == 201, made.text
    text, key = made.json()["key"], made.json()["id"]
    assert (await house.me(text))["name"] == "key:ci"
    listed = await house.get("/v1/keys", TOKEN)
    assert [one["id"] for one in listed.json()["keys"]] == [key]
    assert listed.json()["keys"][0]["created_by"] == "token"
    assert text.split("_", 2)[2] not in listed.text
    for word in ("salt", "digest"):
        assert word not in listed.text + made.text
    again = await house.http.post("/v1/keys", json=body, headers=bearer(TOKEN))
    assert again.status_code == 409
    gone = await house.http.delete(f"/v1/keys/{key}", headers=bearer(TOKEN))
    assert (gone.status_code, gone.json()["name"]) == (200, "ci")
    assert (await house.get("/v1/me", text)).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "ci"},
        {"name": "ci", "role": "root"},
        {"name": "c i", "role": "viewer"},
        {"name": "ci", "role": "viewer", "tenant": "umbrella"},
        {"name": "ci", "role": "viewer", "experts": []},
        {"name": "ci", "role": "viewer", "expires_at_ms": 1},
    ],
    ids=str,
)
async def test_a_key_that_is_not_described_right_is_not_made(
    house: House, body: dict[str, Any]
) -> None:
    answer = await house.http.post("/v1/keys", json=body, headers=bearer(TOKEN))
    assert 400 <= answer.status_code < 500
    assert await house.auth.keys.list("acme") == []


async def test_nobody_makes_a_key_that_may_start_more_than_his_own(house: House) -> None:
    own = bearer(await house.key("acme", "admin", experts=("critic",)))
    for experts, status in ((None, 403), (["coder"], 403), (["critic"], 201)):
        body = {"name": "made", "role": "admin", "experts": experts}
        answer = await house.http.post("/v1/keys", json=body, headers=own)
        assert answer.status_code == status, answer.text


async def test_a_caller_that_asks_too_often_is_told_when_to_come_again(
    deps: GatewayDeps, clock: Clock
) -> None:
    auth = auth_of(deps.backbone, clock, rate=60)
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        one, other = await house.key("acme", "viewer"), await house.key("acme", "viewer")
        answers = [await house.get("/v1/me", one) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        assert answers[0].headers["ratelimit"] == '"caller";r=9;t=1'
        refused = answers[-1]
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-policy"] == '"caller";q=60;w=60'
        assert refused.json()["code"] == "rate_limited"
        assert (await house.get("/v1/me", other)).status_code == 200
        clock.pass_by(1)
        assert (await house.get("/v1/me", one)).status_code == 200
        assert (await house.get("/v1/healthz")).status_code == 200


async def test_who_guesses_is_stopped_and_keys_that_were_seen_go_on(
    deps: GatewayDeps, clock: Clock
) -> None:
    auth = auth_of(deps.backbone, clock, rate=6_000)
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        seen, unseen = await house.key("acme", "viewer"), await house.key("acme", "viewer")
        assert (await house.get("/v1/me", seen)).status_code == 200
        guesses = [await house.get("/v1/me", f"guess{number}") for number in range(12)]
        assert [one.status_code for one in guesses] == [401] * 10 + [429] * 2
        assert int(guesses[-1].headers["retry-after"]) > 1
        assert (await house.get("/v1/me", TOKEN)).status_code == 429  # it could be guessed
        assert (await house.get("/v1/me", unseen)).status_code == 429
        assert (await house.get("/v1/me", seen)).status_code == 200
        assert (await house.get("/v1/me")).status_code == 401  # nothing was guessed
        begun = await http.post("/v1/session", json={"key": "guess"})
        assert begun.status_code == 429
        clock.pass_by(60)
        assert (await house.get("/v1/me", TOKEN)).status_code == 200


async def test_pages_of_other_origins_ask_only_where_they_may(
    deps: GatewayDeps, clock: Clock
) -> None:
    origin = "https://app.example.com"
    auth = auth_of(deps.backbone, clock, origins=(origin,))
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        key = await house.key()
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        may = await http.options("/v1/runs", headers=asks)
        assert may.status_code == 204
        assert may.headers["access-control-allow-origin"] == origin
        assert "authorization" in may.headers["access-control-allow-headers"].lower()
        read = await http.get("/v1/runs", headers={"Origin": origin, **bearer(key)})
        assert read.headers["access-control-allow-origin"] == origin
        refused = await http.get("/v1/runs", headers={"Origin": origin})
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (
            401,
            True,
        )
        for other in ("https://evil.example", f"{origin}.evil.example", "null", origin.upper()):
            answer = await http.options("/v1/runs", headers={**asks, "Origin": other})
            assert "access-control-allow-origin" not in answer.headers
            answer = await http.get("/v1/runs", headers={"Origin": other, **bearer(key)})
            assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in str(may.headers) + str(read.headers)
        assert "Origin" in read.headers["vary"]
        cookie = {"Cookie": await house.cookie(key), "Origin": origin}
        written = await http.post("/v1/runs/none/cancel", json={}, headers=cookie)
        assert written.status_code == 403


async def test_what_one_stream_is_told_in_its_head_is_in_no_other(
    deps: GatewayDeps, clock: Clock
) -> None:
    origin = "https://app.example.com"
    auth = auth_of(deps.backbone, clock, origins=(origin,), rate=6_000)
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        heads: list[httpx2.Headers] = []
        for more in ({"Origin": origin}, {}):
            headers = {**bearer(await house.key()), **more}
            async with http.stream("GET", "/v1/events", headers=headers) as response:
                heads.append(response.headers)
    assert heads[0]["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in heads[1]
    for head in heads:
        assert head.get_list("ratelimit") == ['"caller";r=999;t=1']
        assert len(head.get_list("x-content-type-options")) == 1


async def test_by_default_no_page_of_another_origin_asks(house: House) -> None:
    answer = await house.http.get("/v1/me", headers={"Origin": "http://a.example", **bearer(TOKEN)})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_every_answer_tells_browsers_to_be_careful(house: House) -> None:
    answers = [
        await house.get("/v1/me", TOKEN),
        await house.get("/v1/me"),
        await house.get("/v1/healthz"),
        await house.get("/v1/runs/none", TOKEN),
        await house.get("/v1/not/a/path", TOKEN),
        await house.http.post("/v1/runs", content=b"{", headers=bearer(TOKEN)),
    ]
    assert [one.status_code for one in answers] == [200, 401, 200, 404, 404, 415]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


async def test_when_the_registry_is_away_keys_wait_and_the_token_does_not(
    clock: Clock, tmp_path: Path
) -> None:
    server = MemoryServer(now_ms=clock.ms)
    backbone = server.backbone()
    auth = auth_of(backbone, clock)
    deps = deps_of(backbone, tmp_path, token=TOKEN, auth=auth)
    async with gateway(deps) as http:
        house = house_of(http, deps, clock)
        key = await house.key()
        server.stop()
        clock.pass_by(KEYS_AGE_S)
        away = await house.get("/v1/me", key)
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert (await house.me(TOKEN))["name"] == "token"
        server.start()
        assert (await house.me(key))["name"] == "key:k0"


async def test_no_credential_is_in_a_log_an_answer_an_event_or_the_registry(
    deps: GatewayDeps, clock: Clock, made: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """C15: what lets somebody in is nowhere but in his hands."""
    caplog.set_level(logging.DEBUG)
    auth = auth_of(deps.backbone, clock, issuer=issuer_of(made), rate=6_000)
    said: list[str] = []
    async with gateway(replace(deps, auth=auth)) as http:
        house = house_of(http, replace(deps, auth=auth), clock)
        key, wrong = await house.key(), f"pk_{'1' * 16}_{'canary' * 7}x"
        token, bad = made.token("k1"), made.token("k1", aud="other")
        cookie = await house.cookie(key)
        given = [key, TOKEN, token, wrong, bad]
        for one in given:
            for method, path, body in (
                ("GET", "/v1/runs", None),
                ("POST", "/v1/runs", {"expert": "coder", "query": "go"}),
                ("POST", "/v1/runs", {"expert": "nobody"}),
                ("POST", "/v1/session", {"key": one}),
                ("POST", "/v1/session", {"key": one, "more": 1}),
                ("POST", "/v1/keys", {"name": "x", "role": "admin", "more": 1}),
                ("DELETE", "/v1/keys/none", None),
            ):
                answer = await http.request(method, path, json=body, headers=bearer(one))
                http.cookies.clear()
                said.append(answer.text)
        answer = await http.get("/v1/runs", headers={"Cookie": cookie})
        said.append(answer.text)
    entries = [
        entry for kind in ("key", "session") for entry in await deps.backbone.registry.list(kind)
    ]
    assert entries
    said += [entry.data.decode("latin-1") for entry in entries]
    stored = await all_of(deps.backbone)
    assert stored
    said += [data.decode("latin-1") for data in stored]
    ours = [one for one in caplog.records if not one.name.startswith("httpcore2")]
    said += [one.getMessage() for one in ours]  # not what the test's own client says
    assert any("credential" in line for line in said)  # something was said of those that failed
    secrets = [one.rsplit("_", 1)[-1] for one in given if one.startswith("pk_")]
    for needle in (*given, *secrets, cookie.partition("=")[2]):
        assert [line for line in said if needle in line] == []


async def all_of(backbone: Backbone) -> list[bytes]:
    """All that is in the log, and the commands that wait."""
    found: list[bytes] = []
    _, last = await backbone.log.bounds()
    if last:
        async with asyncio.timeout(5), backbone.log.follow(after_seq=0) as items:
            while len(found) < last:
                found.append((await anext(items)).data)
    async with backbone.commands.consume(in_flight_max=100) as waiting:
        try:
            async with asyncio.timeout(0.5):
                async for one in waiting:
                    found.append(one.data)
                    await one.ack()
        except TimeoutError:
            pass
    return found
