"""Deleting, exporting and webhooks over HTTP, and cursors of another deployment. Not the doing."""

import io
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import GatewayDeps
from gateway.webhooks.hooks import Hooks
from peritus.ids import now_ms
from peritus.retention import Retainer
from services.retention.importing import import_job
from tests.support.gateway import deps_of, gateway, projecting, until_closed
from tests.support.office import Office, office
from tests.support.runs import goes_on, replies

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "j1", "j1")


@pytest.fixture
def desk() -> Office:
    return office(server=MemoryServer(now_ms=now_ms))


@pytest.fixture
async def client(desk: Office, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with (
        gateway(retaining(desk.backbone, tmp_path)) as made,
        projecting(desk.backbone, tmp_path),
    ):
        yield made


def retaining(backbone: Backbone, folder: Path) -> GatewayDeps:
    hooks = Hooks(backbone, now_ms=now_ms, plain=False)
    return deps_of(backbone, folder, retaining=Retainer(backbone), hooks=hooks)


async def ended(desk: Office) -> None:
    await desk.start(ROOT)
    await desk.tell(ROOT, replies("done"))


async def test_a_job_is_deleted_and_everybody_hears_of_it(
    client: httpx2.AsyncClient, desk: Office
) -> None:
    await desk.start(ROOT)
    refused = await client.delete("/v1/jobs/j1")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_at_rest")
    await desk.tell(ROOT, replies("done"))
    deleted = await client.delete("/v1/jobs/j1")
    assert (deleted.status_code, deleted.json()["runs"]) == (200, 1)
    told = await until_closed(client, "/v1/runs/j1/events")
    assert [message.event for message in told] == ["hello", "run.deleted.v1", "end"]
    assert told[-1].json["status"] == "deleted"
    again = await client.delete("/v1/jobs/j1")
    assert again.status_code == 200
    for path in ("/v1/jobs/none", "/v1/jobs/no%20job"):
        gone = await client.delete(path)
        assert (gone.status_code, gone.json()["code"]) == (404, "no_such_job")


async def test_an_exported_job_is_read_elsewhere_and_old_cursors_are_reset(
    client: httpx2.AsyncClient, desk: Office, tmp_path: Path
) -> None:
    await ended(desk)
    here = await until_closed(client, "/v1/runs/j1/events")
    exported = await client.get("/v1/jobs/j1/export")
    assert (exported.status_code, exported.headers["content-type"]) == (200, "application/zip")
    server = MemoryServer(now_ms=now_ms, incarnation="b7")
    there = server.backbone()
    found = await import_job(there, "acme", io.BytesIO(exported.content), now_ms())
    assert found.jobs == ("j1",)
    cursor = here[2].id
    assert cursor is not None
    async with gateway(deps_of(there, tmp_path / "there")) as other:
        hello, reset, *events = await until_closed(other, "/v1/runs/j1/events", last=cursor)
    assert (hello.event, reset.event, reset.json["reason"]) == ("hello", "reset", "incarnation")
    assert [one.event for one in events] == [one.event for one in here[1:]]
    assert [one.json["event"] for one in events[:-1]] == [one.json["event"] for one in here[1:-1]]
    assert (await client.get("/v1/jobs/none/export")).status_code == 404
    await client.delete("/v1/jobs/j1")
    gone = await client.get("/v1/jobs/j1/export")
    assert (gone.status_code, gone.json()["code"]) == (409, "gone")


async def test_nothing_can_be_asked_of_a_deleted_job_over_http(
    client: httpx2.AsyncClient, desk: Office
) -> None:
    await ended(desk)
    await client.delete("/v1/jobs/j1")
    answer = await desk.ask(ROOT, goes_on())
    assert answer.code == "gone"
    assert (await client.get("/v1/jobs/j1/export")).json()["code"] == "gone"


async def test_webhooks_are_made_listed_and_removed(client: httpx2.AsyncClient) -> None:
    made = await client.post(
        "/v1/webhooks", json={"url": "https://example.com/in", "types": ["run."]}
    )
    assert made.status_code == 201, made.text
    hook = made.json()
    assert hook["secret"].startswith("whsec_")
    (listed,) = (await client.get("/v1/webhooks")).json()["webhooks"]
    assert listed == {name: value for name, value in hook.items() if name != "secret"}
    for body in ({"url": "http://example.com"}, {"url": "https://example.com", "types": ["?"]}):
        refused = await client.post("/v1/webhooks", json=body)
        assert refused.status_code == 422, refused.text
    removed = await client.delete(f"/v1/webhooks/{hook['id']}")
    assert (removed.status_code, removed.json()["id"]) == (200, hook["id"])
    assert (await client.delete(f"/v1/webhooks/{hook['id']}")).status_code == 404
    assert (await client.delete("/v1/webhooks/a.b")).status_code == 404
    assert (await client.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_a_gateway_without_these_says_so(desk: Office, tmp_path: Path) -> None:
    async with gateway(deps_of(desk.backbone, tmp_path)) as client:
        assert (await client.delete("/v1/jobs/j1")).json()["code"] == "no_retention"
        assert (await client.get("/v1/webhooks")).json()["code"] == "no_webhooks"
