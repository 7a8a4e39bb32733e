"""Runs over HTTP: started once, continued, cancelled, listed and looked at. Not their events."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.definition import Definition
from domain.errors import Rejected
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.app import create_app
from gateway.deps import one_definition, one_tenant
from gateway.server import serve
from tests.support.gateway import (
    DEFINITION,
    deps_of,
    gateway,
    listening,
    projecting,
    take,
    until_closed,
    working,
)
from tests.support.pen import Pen, completed, started

pytestmark = pytest.mark.anyio

BODY = {"expert": "coder", "query": "build it"}
CANARY = "canary-5f2d"


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with (
        projecting(backbone, tmp_path),
        gateway(deps_of(backbone, tmp_path)) as http,
    ):
        yield http


async def post(
    client: httpx2.AsyncClient, url: str, body: dict[str, Any] | None = None, key: str | None = None
) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(url, json=body or {}, headers=headers)


async def test_c18_two_tenants_may_use_the_same_key_for_the_same_start(
    backbone: Backbone, tmp_path: Path
) -> None:
    """Nobody is at work, so both are stored; a queue drops what has a name it has seen lately."""
    deps = deps_of(backbone, tmp_path)
    async with gateway(deps) as acme, gateway(replace(deps, tenant=one_tenant("b"))) as other:
        assert (await post(acme, "/v1/runs", BODY, "nightly")).status_code == 202
        assert (await post(other, "/v1/runs", BODY, "nightly")).status_code == 202
        async with asyncio.timeout(10), backbone.commands.consume(in_flight_max=2) as commands:
            tenants = {(await anext(commands)).ref.tenant for _ in range(2)}
    assert tenants == {"acme", "b"}


async def test_a_started_run_can_be_followed_to_its_end_and_looked_at(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        begun = await post(client, "/v1/runs", BODY | {"maxSteps": 7, "model": "m2"})
        assert begun.status_code == 202
        answer = begun.json()
        messages = await until_closed(client, answer["events_url"])
    assert messages[-1].json["status"] == "completed"
    seen = await client.get(answer["status_url"], params={"min_position": messages[-1].id})
    run = seen.json()
    assert (run["run"], run["job"], run["status"]) == (answer["run"], answer["job"], "completed")
    assert (run["result"], run["query"], run["steps_max"]) == ("done", "build it", 7)
    assert (run["provider"], run["model"]) == ("scripted", "m2")
    assert run["usage"]["input"] == 3
    points = (await client.get(f"/v1/runs/{run['run']}/checkpoints")).json()["checkpoints"]
    assert [point["step"] for point in points] == [1]


async def test_the_same_post_twice_starts_one_run(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        answers = [await post(client, "/v1/runs", BODY, key="k1") for _ in range(3)]
        other = await post(client, "/v1/runs", BODY, key="k2")
        await until_closed(client, other.json()["events_url"])
    assert {(a.status_code, a.json()["run"], a.json()["job"]) for a in answers} == {
        (202, answers[0].json()["run"], answers[0].json()["job"])
    }
    position = other.json()["position"]
    page = (await client.get("/v1/runs", params={"min_position": position})).json()
    assert [run["run"] for run in page["runs"]] == [other.json()["run"], answers[0].json()["run"]]


async def test_a_key_used_again_for_another_request_is_refused(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        assert (await post(client, "/v1/runs", BODY, key="k1")).status_code == 202
        other_query = await post(client, "/v1/runs", BODY | {"query": "else"}, key="k1")
    assert (other_query.status_code, other_query.json()["code"]) == (409, "run_exists")


async def test_a_named_job_has_one_root_run_of_its_name(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        first = await post(client, "/v1/runs", BODY | {"job": "release-7"}, key="k1")
        again = await post(client, "/v1/runs", BODY | {"job": "release-7"}, key="k2")
    assert (first.json()["job"], first.json()["run"]) == ("release-7", "release-7")
    assert (again.status_code, again.json()["code"]) == (409, "run_exists")


async def test_a_start_without_a_worker_is_stored_and_its_stream_waits_for_one(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    begun = await post(client, "/v1/runs", BODY, key="k1")
    assert (begun.status_code, begun.json()["position"]) == (202, None)
    async with asyncio.timeout(10), listening(client, begun.json()["events_url"]) as messages:
        assert [message.event for message in await take(messages, 1)] == ["hello"]
        async with working(backbone):
            rest = [message async for message in messages]
    assert (rest[0].event, rest[-1].event) == ("run.started.v2", "end")


async def test_a_query_sees_what_was_just_written(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        for n in range(10):
            begun = (await post(client, "/v1/runs", BODY, key=f"k{n}")).json()
            params = {"min_position": begun["position"]}
            page = (await client.get("/v1/runs", params=params)).json()
            assert page["runs"][0]["run"] == begun["run"]


async def test_a_run_that_exists_is_found_although_the_view_is_behind(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    for n in range(10):
        await Pen(RunRef("acme", "job1", f"run{n}")).write(backbone.log, *started())
        assert (await client.get(f"/v1/runs/run{n}")).status_code == 200


async def test_a_position_the_view_does_not_reach_in_time_is_said_to_be_behind(
    backbone: Backbone, tmp_path: Path
) -> None:
    async with gateway(deps_of(backbone, tmp_path, wait_s=0.05)) as http:
        behind = await http.get("/v1/runs", params={"min_position": "a0-5-0"})
        reset = await http.get("/v1/runs", params={"min_position": "ff-5-0"})
        wrong = await http.get("/v1/runs", params={"min_position": "five"})
    assert (behind.status_code, behind.json()["code"]) == (503, "behind")
    assert behind.headers["retry-after"] == "1"
    assert (reset.status_code, reset.json()["code"]) == (409, "reset")
    assert wrong.status_code == 422


async def test_a_completed_run_is_continued_once_for_each_key(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with working(backbone):
        begun = (await post(client, "/v1/runs", BODY)).json()
        first = await until_closed(client, begun["events_url"])
        url = f"/v1/runs/{begun['run']}/continue"
        for _ in range(2):
            assert (await post(client, url, {"query": "more"}, key="c1")).status_code == 202
        second = await until_closed(client, begun["events_url"], last=first[-1].id)
    kinds = [message.event for message in second]
    assert kinds.count("run.continued.v2") == 1
    assert kinds[-2:] == ["run.completed.v2", "end"]


async def test_a_running_run_is_cancelled(backbone: Backbone, client: httpx2.AsyncClient) -> None:
    never = asyncio.Event()
    async with working(backbone, lambda: never):
        begun = (await post(client, "/v1/runs", BODY)).json()
        stop = await post(client, f"/v1/runs/{begun['run']}/cancel", {"reason": "enough"})
        messages = await until_closed(client, begun["events_url"])
    assert stop.status_code == 202
    assert messages[-1].json["status"] == "cancelled"


async def test_what_the_run_refuses_is_a_conflict(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    never = asyncio.Event()
    async with working(backbone, lambda: never):
        begun = (await post(client, "/v1/runs", BODY)).json()
        empty = await post(client, f"/v1/runs/{begun['run']}/continue")
    assert (empty.status_code, empty.json()["code"]) == (422, "empty_input")
    assert empty.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        (BODY | {"max_steps": 3}, "max_steps", "did you mean 'maxSteps'?"),
        (BODY | {"expret": "x"}, "expret", "did you mean 'expert'?"),
        (BODY | {"zzz": 1}, "zzz", "there are: attachments, expert, input, job, maxMicroUsd,"),
        ({"query": "x"}, "expert", "required"),
        (BODY | {"maxSteps": 0}, "maxSteps", "greater than or equal to 1"),
        (BODY | {"maxSteps": "3"}, "maxSteps", "valid integer"),
        (BODY | {"job": "a.b"}, "job", "pattern"),
        (BODY | {"job": "ab\n"}, "job", "pattern"),
    ],
)
async def test_a_wrong_field_is_named_with_a_hint(
    client: httpx2.AsyncClient, body: dict[str, Any], field: str, hint: str
) -> None:
    refused = await post(client, "/v1/runs", body)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == field
    assert hint in error["message"]


async def test_an_unknown_expert_is_answered_with_those_there_are(
    client: httpx2.AsyncClient,
) -> None:
    near = await post(client, "/v1/runs", BODY | {"expert": "codr"})
    far = await post(client, "/v1/runs", BODY | {"expert": "zebra"})
    assert (near.status_code, near.json()["code"]) == (422, "unknown_expert")
    assert near.json()["detail"].endswith("did you mean 'coder'?")
    assert far.json()["detail"].endswith("there are: coder, critic")


async def test_no_problem_and_no_log_repeats_what_was_sent(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Definition:
        raise ZeroDivisionError

    bodies: list[Any] = [
        {"expert": CANARY, "query": CANARY},
        {"expert": "coder", "query": [CANARY]},
        {"expert": "coder", "query": CANARY, "job": f"{CANARY}!"},
        {"expert": "coder", "query": CANARY, "maxSteps": CANARY},
        [CANARY],
        CANARY,
    ]
    with caplog.at_level(logging.DEBUG):
        async with gateway(deps_of(backbone, tmp_path)) as http:
            answers = [await http.post("/v1/runs", json=body) for body in bodies]
            answers.append(
                await http.post(
                    "/v1/runs", content=CANARY, headers={"Content-Type": "application/json"}
                )
            )
        deps = deps_of(backbone, tmp_path, definitions=one_definition(broken))
        async with gateway(deps) as http:
            answers.append(await http.post("/v1/runs", json=BODY | {"query": CANARY}))
    assert [answer.status_code for answer in answers] == [422] * 6 + [400, 500]
    assert not any(CANARY in answer.text for answer in answers)
    ours = [r for r in caplog.records if r.name.startswith(("gateway", "uvicorn", "sse_starlette"))]
    assert not any(CANARY in logging.Formatter().format(record) for record in ours)
    assert answers[-1].json()["code"] == "internal"


async def test_a_definition_that_cannot_be_used_is_the_clients_to_see(
    backbone: Backbone, tmp_path: Path
) -> None:
    def refuse(*, provider: str | None, model: str | None) -> Definition:
        del model
        raise Rejected("unknown_provider", f"provider is one of two, asked {provider is not None}")

    async with gateway(deps_of(backbone, tmp_path, definitions=refuse)) as http:
        refused = await post(http, "/v1/runs", BODY | {"provider": "p"})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_provider")


def test_an_override_goes_into_every_expert_and_drops_the_other_providers_address() -> None:
    source = one_definition(lambda: DEFINITION)
    assert source(provider=None, model=None) == DEFINITION
    by_model = source(provider=None, model="m2")
    assert {x.model.model for x in by_model.experts.values()} == {"m2"}
    assert {x.model.base_url for x in by_model.experts.values()} == {"http://one.invalid"}
    by_provider = source(provider="other", model="m2")
    assert {(x.model.provider, x.model.base_url) for x in by_provider.experts.values()} == {
        ("other", None)
    }


async def test_runs_are_listed_by_filter_and_page(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    last = 0
    for n in range(5):
        pen = Pen(RunRef("acme", "job1", f"run{n}"))
        await pen.write(backbone.log, *started("coder" if n % 2 else "critic"))
        last = await pen.write(backbone.log, *completed(1))
    await Pen(RunRef("umbrella", "job1", "theirs")).write(backbone.log, *started())
    at = {"min_position": f"a0-{last}-0"}

    async def names(**params: str) -> tuple[list[str], str | None]:
        page = (await client.get("/v1/runs", params=at | params)).json()
        return [run["run"] for run in page["runs"]], page["next_cursor"]

    assert await names() == (["run4", "run3", "run2", "run1", "run0"], None)
    assert await names(expert="coder", status="completed", job="job1") == (["run3", "run1"], None)
    first, cursor = await names(limit="3")
    assert first == ["run4", "run3", "run2"]
    assert await names(limit="3", cursor=cursor or "") == (["run1", "run0"], None)


@pytest.mark.parametrize("query", ["status=asleep", "limit=0", "limit=x", "cursor=-1", "colour=1"])
async def test_a_wrong_parameter_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    assert (await client.get(f"/v1/runs?{query}")).status_code == 422


async def test_another_tenants_run_can_neither_be_seen_nor_touched(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    pen = Pen(RunRef("umbrella", "job1", "theirs"))
    seq = await pen.write(backbone.log, *started())
    at = {"min_position": f"a0-{seq}-0"}
    answers = [
        await client.get("/v1/runs/theirs", params=at),
        await client.get("/v1/runs/theirs/checkpoints"),
        await post(client, "/v1/runs/theirs/continue", {"query": "x"}),
        await post(client, "/v1/runs/theirs/cancel"),
        await client.get("/v1/runs/nobody"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5
    assert (await client.get("/v1/runs", params=at)).json()["runs"] == []
    assert len(await backbone.log.load(pen.ref)) == 1


async def test_a_bearer_token_is_asked_for_when_there_is_one(
    backbone: Backbone, tmp_path: Path
) -> None:
    async with gateway(deps_of(backbone, tmp_path, token="s3cret")) as http:
        assert (await http.get("/v1/healthz")).status_code == 200
        bare = await http.get("/v1/runs")
        wrong = await http.get("/v1/runs", headers={"Authorization": "Bearer s3cre"})
        right = await http.get("/v1/runs", headers={"Authorization": "Bearer s3cret"})
        foreign = await http.get(
            "/v1/runs", headers={"Authorization": "Bearer s3cret", "Host": "peritus.example"}
        )
    assert (bare.status_code, wrong.status_code, right.status_code) == (401, 401, 200)
    assert bare.headers["www-authenticate"] == "Bearer"
    assert foreign.status_code == 200


async def test_a_web_page_cannot_reach_a_loopback_gateway(client: httpx2.AsyncClient) -> None:
    rebound = await client.get("/v1/runs", headers={"Host": "evil.example:8080"})
    simple = await client.post("/v1/runs", content="{}", headers={"Content-Type": "text/plain"})
    assert (rebound.status_code, rebound.json()["code"]) == (421, "wrong_host")
    assert (simple.status_code, simple.json()["code"]) == (415, "not_json")
    local = await client.get("/v1/runs", headers={"Host": "LOCALHOST:1"})
    assert local.status_code == 200


async def test_every_error_is_a_problem_document(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.get("/nowhere"),
        await client.put("/v1/runs", json={}),
        await client.post("/v1/runs", json={"expert": "coder", "query": "x" * 2_000_000}),
        await post(client, "/v1/runs", BODY, key="k" * 300),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 413, 422]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert all(answer.json()["status"] == answer.status_code for answer in answers)


async def test_health_says_how_far_log_and_view_are(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    seq = await Pen(RunRef("acme", "job1", "alpha")).write(backbone.log, *started())
    await client.get("/v1/runs", params={"min_position": f"a0-{seq}-0"})
    health = (await client.get("/v1/healthz")).json()
    assert (health["status"], health["last_seq"], health["position"]) == ("ok", seq, f"a0-{seq}-0")


async def test_a_log_that_is_away_is_a_503(tmp_path: Path) -> None:
    server = MemoryServer(now_ms=lambda: 0, timeout_s=0.05)
    async with gateway(deps_of(server.backbone(), tmp_path)) as http:
        server.stop()
        answers = [await http.get("/v1/runs/alpha/events"), await http.get("/v1/healthz")]
    assert [(a.status_code, a.json()["code"]) for a in answers] == [(503, "unavailable")] * 2


async def test_a_gateway_without_a_token_is_not_opened_to_other_machines(
    backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(Rejected) as rejected:
        await serve(create_app(deps_of(backbone, tmp_path)), host="0.0.0.0", port=0)
    assert rejected.value.code == "unguarded"


async def test_a_taken_port_is_said_plainly(backbone: Backbone, tmp_path: Path) -> None:
    deps = deps_of(backbone, tmp_path)
    async with gateway(deps) as http:
        with pytest.raises(Rejected) as rejected:
            await serve(create_app(deps), port=http.base_url.port or 0)
    assert rejected.value.code == "cannot_listen"
