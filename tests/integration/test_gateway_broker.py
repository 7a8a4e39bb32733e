"""Gateway and projection over a real server: the same promises as in memory. Not the cases."""

import asyncio
from pathlib import Path

import pytest

from eventlog.port import Backbone, Cursor
from projections.runner import catch_up
from tests.integration.deployment import JetStreamDeployment
from tests.support.gateway import (
    BOUND_S,
    deps_of,
    gateway,
    listening,
    projecting,
    take,
    until_closed,
    working,
)

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

BODY = {"expert": "coder", "query": "build it"}
KEY = {"Idempotency-Key": "k1"}


async def test_a_run_is_started_followed_resumed_and_seen_in_the_view(
    backbone: Backbone, tmp_path: Path
) -> None:
    async with (
        projecting(backbone, tmp_path),
        gateway(deps_of(backbone, tmp_path)) as http,
        working(backbone),
    ):
        begun = (await http.post("/v1/runs", json=BODY, headers=KEY)).json()
        again = (await http.post("/v1/runs", json=BODY, headers=KEY)).json()
        assert again["run"] == begun["run"]
        page = await http.get("/v1/runs", params={"min_position": begun["position"]})
        assert [run["run"] for run in page.json()["runs"]] == [begun["run"]]
        hello, *events, end = await until_closed(http, begun["events_url"])
        for place, event in enumerate(events, start=1):
            _, *rest, last = await until_closed(http, begun["events_url"], last=event.id)
            assert (rest, last) == (events[place:], end)
        run = await http.get(begun["status_url"], params={"min_position": end.id})
    assert (hello.event, end.event, run.json()["result"]) == ("hello", "end", "done")


async def test_a_stream_and_the_view_outlive_a_restart_of_the_server(
    backbone: Backbone, deployment: JetStreamDeployment, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    async with (
        projecting(backbone, tmp_path),
        gateway(deps_of(backbone, tmp_path, wait_s=BOUND_S)) as http,
        working(backbone, lambda: gate),
    ):
        begun = (await http.post("/v1/runs", json=BODY)).json()
        async with listening(http, begun["events_url"]) as messages:
            await take(messages, 5)
            await deployment.restart()
            gate.set()
            async with asyncio.timeout(2 * BOUND_S):
                rest = [message async for message in messages if message.event != "heartbeat"]
        run = await http.get(begun["status_url"], params={"min_position": rest[-1].id})
    assert rest[-1].event == "end"
    assert run.json()["status"] == "completed"


async def test_what_was_attached_is_told_and_what_was_done_is_found(
    backbone: Backbone, tmp_path: Path
) -> None:
    large = b"%PDF-1.7\n" + bytes(range(256)) * 8_000  # more than one message
    async with (
        projecting(backbone, tmp_path),
        gateway(deps_of(backbone, tmp_path)) as http,
        working(backbone),
    ):
        headers = {"Content-Type": "application/pdf"}
        stored = await http.post("/v1/uploads", content=large, headers=headers)
        digest = stored.json()["digest"]
        assert (await http.get(f"/v1/blobs/{digest}")).content == large
        assert (await http.get(f"/v1/blobs/{'0' * 64}")).status_code == 404
        attachments = [{"digest": digest, "media_type": "application/pdf", "name": "plan.pdf"}]
        begun = (await http.post("/v1/runs", json=BODY | {"attachments": attachments})).json()
        end = (await until_closed(http, begun["events_url"]))[-1]
        at = {"min_position": end.id or ""}
        job = (await http.get(f"/v1/jobs/{begun['job']}", params=at)).json()
        steps = (await http.get(f"/v1/runs/{begun['run']}/steps", params=at)).json()["steps"]
        hits = (await http.get("/v1/search", params=at | {"q": "build"})).json()["hits"]
        shown = (await http.get(f"/v1/runs/{begun['run']}/checkpoints/1")).json()
    assert (job["status"], job["steps"], len(steps)) == ("completed", 1, 1)
    assert [one["text"].partition("[")[0] for one in hits] == ["\x02build\x03 it"]
    assert [part["kind"] for part in shown["messages"][0]["parts"]] == ["text", "file"]


async def test_a_view_made_anew_from_a_real_log_is_the_same(
    backbone: Backbone, tmp_path: Path
) -> None:
    deps = deps_of(backbone, tmp_path)
    async with projecting(backbone, tmp_path), gateway(deps) as http, working(backbone):
        for _ in range(3):
            begun = (await http.post("/v1/runs", json=BODY)).json()
            await until_closed(http, begun["events_url"])
        position = Cursor(backbone.log.incarnation, (await backbone.log.bounds())[1])
        seen = await http.get("/v1/runs", params={"min_position": str(position)})
    other = deps_of(backbone, tmp_path / "other")
    await catch_up(backbone.log, tmp_path / "other" / "views.sqlite")
    async with gateway(other) as http:
        assert (await http.get("/v1/runs")).json() == seen.json()
