"""Forks over HTTP: made once, shown as such, refused where they cannot be. Not how they go on."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from tests.support.gateway import deps_of, gateway, projecting, until_closed, working

pytestmark = pytest.mark.anyio

BODY = {"expert": "coder", "query": "build it", "job": "first"}


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of a gateway whose run `first` has completed in one step."""
    async with (
        projecting(backbone, tmp_path),
        gateway(deps_of(backbone, tmp_path)) as http,
        working(backbone),
    ):
        begun = await http.post("/v1/runs", json=BODY)
        await until_closed(http, begun.json()["events_url"])
        yield http


async def fork(
    client: httpx2.AsyncClient, body: dict[str, Any], key: str = "k1", run: str = "first"
) -> httpx2.Response:
    return await client.post(f"/v1/runs/{run}/fork", json=body, headers={"Idempotency-Key": key})


async def test_fork_goes_on_after_a_step_and_is_shown_with_its_source(
    client: httpx2.AsyncClient,
) -> None:
    made = await fork(client, {"fromStep": 1, "query": "now test it", "maxSteps": 3})
    assert made.status_code == 202
    messages = await until_closed(client, made.json()["events_url"])
    assert messages[1].event == "run.forked.v1"
    assert messages[-1].json["status"] == "completed"
    position = {"min_position": messages[-1].id}
    run = (await client.get(made.json()["status_url"], params=position)).json()
    assert run["forked_from"] == {"job": "first", "run": "first", "version": 6, "step": 1}
    assert (run["query"], run["steps_max"], run["step"]) == ("now test it", 3, 2)
    assert run["usage"]["input"] == 3  # its own
    points = (await client.get(f"/v1/runs/{run['run']}/checkpoints")).json()["checkpoints"]
    assert [(one["run"], one["step"]) for one in points] == [("first", 1), (run["run"], 2)]
    source = (await client.get("/v1/runs/first")).json()
    assert (source["forked_from"], source["status"]) == (None, "completed")


async def test_same_fork_is_made_once(client: httpx2.AsyncClient) -> None:
    body = {"fromStep": 1, "query": "now test it"}
    answers = [await fork(client, body) for _ in range(3)]
    await until_closed(client, answers[0].json()["events_url"])
    assert {(one.status_code, one.json()["run"]) for one in answers} == {
        (202, answers[0].json()["run"])
    }
    other = await fork(client, body | {"query": "no"})
    assert (other.status_code, other.json()["code"]) == (409, "run_exists")


async def test_fork_from_the_beginning_says_something_else_to_another_model(
    client: httpx2.AsyncClient,
) -> None:
    body = {"fromStep": 0, "query": "sell it", "model": "m2", "job": "second"}
    made = await fork(client, body)
    messages = await until_closed(client, made.json()["events_url"])
    forked = next(one.json["event"] for one in messages if one.event == "run.forked.v1")
    assert forked["edited"] == ["query", "model", "definition"]
    run = (await client.get("/v1/runs/second", params={"min_position": messages[-1].id})).json()
    assert (run["model"], run["query"], run["step"]) == ("m2", "sell it", 1)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"fromStep": 7}, 409, "no_such_step"),
        ({"fromStep": 1}, 422, "empty_input"),
        ({"fromStep": 1, "query": "x", "results": {"c1-0": "y"}}, 409, "no_such_call"),
        ({"query": "x"}, 422, "invalid"),
        ({"fromStep": 1, "qurey": "x"}, 422, "invalid"),
    ],
)
async def test_fork_that_cannot_be_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    refused = await fork(client, body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_fork_of_no_run_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await fork(client, {"fromStep": 1, "query": "x"}, run="nobody")).status_code == 404
