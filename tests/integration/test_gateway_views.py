"""Jobs, steps, calls, activities, search, usage and audit over HTTP. Not how views are folded."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition, one_tenant
from tests.support.gateway import deps_of, gateway, projecting
from tests.support.pen import Pen, completed, started
from tests.support.people import at_work, calls, rests, state_when, team

pytestmark = pytest.mark.anyio

LETTER = '{"to": "Ada", "text": "Hello"}'
ASKED = calls(("question", '{"text": "Which colour?"}'), text="I need to know.")


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    deps = deps_of(backbone, tmp_path, definitions=one_definition(team))
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        yield http


@pytest.fixture
async def worked(backbone: Backbone, client: httpx2.AsyncClient) -> dict[str, str]:
    """A job that has asked a question, looked, and is done; where the views have to be for it."""
    ref = RunRef("acme", "j1", "j1")
    replies = {"clerk": [ASKED, calls(("look", LETTER)), "The letter is written."]}
    async with at_work(backbone, replies):
        body = {"expert": "clerk", "query": "Write a letter to Ada", "job": "j1"}
        assert (await client.post("/v1/runs", json=body)).status_code == 202
        await state_when(backbone, ref, lambda state: bool(state.waits))
        answered = await client.post("/v1/runs/j1/answer", json={"answer": "blue"})
        assert answered.status_code == 202
        await state_when(backbone, ref, rests)
    return {"min_position": f"{backbone.log.incarnation}-{(await backbone.log.bounds())[1]}-0"}


async def get(client: httpx2.AsyncClient, url: str, **params: Any) -> dict[str, Any]:
    answer = await client.get(url, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def test_job_is_listed_and_shown_with_its_sums(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    (listed,) = (await get(client, "/v1/jobs", **worked))["jobs"]
    assert listed == await get(client, "/v1/jobs/j1")
    steps = (await get(client, "/v1/runs/j1/steps"))["steps"]
    assert (listed["expert"], listed["status"], listed["paused"]) == ("clerk", "completed", False)
    assert (listed["runs"], listed["steps"], listed["running"]) == (1, 3, 0)
    assert listed["usage"]["input"] == sum(one["usage"]["input"] for one in steps) > 5
    assert (listed["result"], listed["query"]) == (
        "The letter is written.",
        "Write a letter to Ada",
    )
    assert listed["events_url"] == "/v1/jobs/j1/events"


async def test_jobs_are_filtered_and_come_page_by_page(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    last = 0
    for n in range(5):
        pen = Pen(RunRef("acme", f"job{n}", f"job{n}"))
        last = await pen.write(backbone.log, *started("coder" if n % 2 else "critic"))
        if n == 2:
            last = await pen.write(backbone.log, e.RunPaused(command="p1"))
        if n > 2:
            last = await pen.write(backbone.log, *completed(1))
    await Pen(RunRef("umbrella", "theirs", "theirs")).write(backbone.log, *started())
    at = {"min_position": f"a0-{last}-0"}

    async def names(**params: str) -> tuple[list[str], str | None]:
        page = await get(client, "/v1/jobs", **(at | params))
        return [one["job"] for one in page["jobs"]], page["next_cursor"]

    assert await names() == (["job4", "job3", "job2", "job1", "job0"], None)
    assert await names(status="completed", expert="coder") == (["job3"], None)
    assert await names(status="paused") == (["job2"], None)
    assert await names(status="waiting") == ([], None)
    first, cursor = await names(limit="3")
    assert first == ["job4", "job3", "job2"]
    assert await names(limit="3", cursor=cursor or "") == (["job1", "job0"], None)
    assert (await get(client, "/v1/jobs/job2"))["paused"] is True
    for wrong in ("job", "theirs", "a.b"):
        missing = await client.get(f"/v1/jobs/{wrong}")
        assert (missing.status_code, missing.json()["code"]) == (404, "no_such_job")


async def test_job_that_exists_is_found_although_the_view_is_behind(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    for n in range(5):
        await Pen(RunRef("acme", f"job{n}", f"job{n}")).write(backbone.log, *started())
        assert (await client.get(f"/v1/jobs/job{n}")).status_code == 200


async def test_steps_and_calls_of_a_run_are_listed_in_order(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    steps = (await get(client, "/v1/runs/j1/steps", **worked))["steps"]
    assert [one["step"] for one in steps] == [1, 2, 3]
    assert [one["calls"] for one in steps] == [1, 1, 0]
    assert all(one["usage"]["input"] for one in steps[:2])
    found = (await get(client, "/v1/runs/j1/calls", **worked))["calls"]
    assert [(one["tool"], one["step"], one["status"]) for one in found] == [
        ("question", 1, "succeeded"),
        ("look", 2, "succeeded"),
    ]
    assert (found[1]["arguments"], found[0]["result"]) == (LETTER, "blue")
    page = await get(client, "/v1/runs/j1/calls", limit=1)
    rest = await get(client, "/v1/runs/j1/calls", limit=1, cursor=page["next_cursor"])
    assert [*page["calls"], *rest["calls"]] == found
    assert (page["position"], rest["next_cursor"]) == (rest["position"], None)
    only = (await get(client, "/v1/runs/j1/calls", tool="look"))["calls"]
    assert only == found[1:]


async def test_activities_of_a_run_and_of_its_job_are_listed(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    of_run = (await get(client, "/v1/runs/j1/activities", **worked))["activities"]
    of_job = (await get(client, "/v1/jobs/j1/activities", **worked))["activities"]
    assert of_run == of_job
    kinds = [one["type"] for one in of_run]
    assert (kinds[0], kinds[-1]) == ("query", "complete")
    assert "interactiveTool" in kinds
    assert {one["expert"] for one in of_run} == {"clerk"}
    for url in ("/v1/jobs/j/activities", "/v1/jobs/nobody/activities"):
        missing = await client.get(url)
        assert (missing.status_code, missing.json()["code"]) == (404, "no_such_job")


async def test_words_are_found_and_marked_and_are_no_syntax(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    hits = (await get(client, "/v1/search", q="LETTER ad", **worked))["hits"]
    assert [(one["kind"], one["text"]) for one in hits] == [
        ("input", "Write a \x02letter\x03 to \x02Ad\x03a")
    ]
    assert (await get(client, "/v1/search", q='"letter" OR zebra'))["hits"] == []
    for query, code in (
        ("q=%20%20", "empty_query"),
        ("", "invalid"),
        ("q=x&cursor=x", "bad_cursor"),
    ):
        wrong = await client.get(f"/v1/search?{query}")
        assert (wrong.status_code, wrong.json()["code"]) == (422, code)


async def test_usage_is_told_apart_by_what_is_asked_for(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    (row,) = (await get(client, "/v1/usage", by="expert,model", **worked))["rows"]
    assert (row["day"], row["expert"], row["model"]) == (None, "clerk", "m1")
    assert (row["generations"], row["provider"]) == (3, "scripted")
    days = (await get(client, "/v1/usage", by=["day", "expert"], **worked))["rows"]
    assert sum(one["generations"] for one in days) == 3
    assert (await get(client, "/v1/usage", to="1999-12-31"))["rows"] == []
    for query in ("from=2026-13-01", "to=yesterday", "by=hour", "by=day&by=x"):
        assert (await client.get(f"/v1/usage?{query}")).status_code == 422


async def test_audit_says_who_asked_and_answered(
    client: httpx2.AsyncClient, worked: dict[str, str]
) -> None:
    entries = (await get(client, "/v1/audit", **worked))["entries"]
    assert [(one["action"], one["name"], one["via"]) for one in entries] == [
        ("answered", "loopback", "http"),
        ("started", "loopback", "http"),
    ]
    only = (await get(client, "/v1/audit", action="answered", job="j1"))["entries"]
    assert only == entries[:1]
    assert (await get(client, "/v1/audit", name="nobody"))["entries"] == []


@pytest.mark.usefixtures("worked")
async def test_nothing_of_another_tenant_is_answered(backbone: Backbone, tmp_path: Path) -> None:
    deps = deps_of(backbone, tmp_path, tenant=one_tenant("umbrella"))
    empty = {
        "jobs": "jobs",
        "runs": "runs",
        "search?q=letter": "hits",
        "usage": "rows",
        "audit": "entries",
    }
    gone = ("jobs/j1", "jobs/j1/activities", "runs/j1/steps", "runs/j1/calls", "runs/j1/activities")
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        for path, name in empty.items():
            assert (await http.get(f"/v1/{path}")).json()[name] == []
        answers = [await http.get(f"/v1/{path}") for path in gone]
    assert [one.status_code for one in answers] == [404] * len(gone)


async def test_experts_are_told_without_what_they_are_instructed(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get("/v1/experts")
    assert [one["expert"] for one in answer.json()["experts"]] == ["boss", "clerk"]
    boss = (await client.get("/v1/experts/boss")).json()
    assert (boss["delegates"], boss["skills"], boss["model"]) == (
        ["clerk"],
        ["ask", "office"],
        "m1",
    )
    assert "Lead." not in answer.text
    missing = await client.get("/v1/experts/bos")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_such_expert")


async def test_caller_is_told_who_he_is(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/me")).json() == {
        "tenant": "acme",
        "name": "loopback",
        "via": "http",
        "role": "admin",
        "experts": None,
    }
