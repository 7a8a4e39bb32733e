"""Files of snapshots, blobs, uploads and attachments over HTTP. Not how snapshots are taken."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.content import BlobRef
from domain.envelope import decode
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_tenant
from tests.support.gateway import deps_of, gateway, projecting, until_closed, working
from tests.support.pen import Pen, completed, replied, requested, started
from tests.support.snapshots import Desk, snapshot
from tests.support.trees import File, Folder, Link, plant

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "job1")
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 40
HTML = b"<script>alert(1)</script>"
BIG = bytes(range(256)) * 8_000  # two packs


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer(now_ms=lambda: 0)


@pytest.fixture
def backbone(server: MemoryServer) -> Backbone:
    return server.backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    deps = deps_of(backbone, tmp_path, upload_bytes_max=4_000_000)
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        yield http


@pytest.fixture
async def stored(server: MemoryServer, backbone: Backbone, tmp_path: Path) -> None:
    """A run of two steps, each with a snapshot."""
    desk = Desk(tmp_path, server)
    workspace, store, root = desk.workspace("w"), desk.store(), tmp_path / "w"
    plant(
        root,
        {
            b"index.html": File(HTML),
            b"sub": Folder({"gr\u00fc\u00df \u201ea\u201c.txt".encode(): File(b"hello\n")}),
            b"old": File(b"1"),
            b"escape": Link(b"/etc/passwd"),
        },
    )
    pen = Pen(REF)
    await pen.write(backbone.log, *started())
    await pen.write(backbone.log, replied(1), e.StepEnded(step=1))
    first = await snapshot(store, workspace)
    await pen.write(backbone.log, taken(1, first.root, first.size), requested(2))
    (root / "old").unlink()
    (root / "big.bin").write_bytes(BIG)
    (root / "index.html").write_bytes(b"<p>\n")
    second = await snapshot(store, workspace)
    await pen.write(backbone.log, *completed(2))
    await pen.write(backbone.log, taken(2, second.root, second.size))
    for one in desk.open:
        one.close()


def taken(step: int, root: str, size: int) -> e.SnapshotTaken:
    manifest = BlobRef(digest=root, size=size, media_type="application/octet-stream")
    return e.SnapshotTaken(run=REF.run, step=step, version=6, manifest=manifest)


async def paths(client: httpx2.AsyncClient, url: str) -> list[str]:
    answer = await client.get(url)
    assert answer.status_code == 200, answer.text
    return [one["path"] for one in answer.json()["files"]]


@pytest.mark.usefixtures("stored")
async def test_files_are_listed_as_of_a_step_and_in_a_folder(client: httpx2.AsyncClient) -> None:
    inside = "sub/gr\u00fc\u00df \u201ea\u201c.txt"
    newest = await paths(client, "/v1/jobs/job1/files")
    assert newest == ["big.bin", "escape", "index.html", "sub", inside]
    first = await paths(client, "/v1/runs/job1/files?step=1")
    assert first == ["escape", "index.html", "old", "sub", inside]
    assert await paths(client, "/v1/jobs/job1/files?path=sub") == [inside]
    body = (await client.get("/v1/jobs/job1/files")).json()
    assert (body["job"], body["run"], body["step"]) == ("job1", "job1", 2)
    by_path = {one["path"]: one for one in body["files"]}
    assert by_path["big.bin"]["digest"] == hashlib.sha256(BIG).hexdigest()
    assert (by_path["escape"]["kind"], by_path["escape"]["digest"]) == ("link", None)


@pytest.mark.usefixtures("stored")
async def test_files_come_page_by_page_of_one_snapshot(client: httpx2.AsyncClient) -> None:
    url, found, cursor = "/v1/jobs/job1/files", list[str](), None
    while True:
        page = await client.get(url, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        found += [one["path"] for one in page.json()["files"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
    assert found == await paths(client, url)
    first = (await client.get(f"{url}?limit=2")).json()["next_cursor"]
    other = await client.get(url, params={"cursor": first, "step": 1})
    wrong = await client.get(url, params={"cursor": "x"})
    assert (other.status_code, other.json()["code"]) == (409, "other_snapshot")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.usefixtures("stored")
async def test_file_is_downloaded_whole_and_never_shown_as_a_page(
    client: httpx2.AsyncClient,
) -> None:
    big = await client.get("/v1/jobs/job1/files/big.bin")
    assert big.content == BIG
    page = await client.get("/v1/jobs/job1/files/index.html?step=1")
    assert page.content == HTML
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"].startswith("attachment;")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in page.headers["content-security-policy"]
    named = await client.get("/v1/jobs/job1/files/sub/gr\u00fc\u00df \u201ea\u201c.txt")
    assert named.content == b"hello\n"
    assert named.headers["content-disposition"] == (
        'attachment; filename="gr____a_.txt"; '
        "filename*=UTF-8''gr%C3%BC%C3%9F%20%E2%80%9Ea%E2%80%9C.txt"
    )


@pytest.mark.usefixtures("stored")
async def test_file_that_a_client_has_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    url = "/v1/jobs/job1/files/index.html"
    tag = (await client.get(url)).headers["etag"]
    same = await client.get(url, headers={"If-None-Match": f'"x", {tag}'})
    other = await client.get(f"{url}?step=1", headers={"If-None-Match": tag})
    assert (same.status_code, same.content) == (304, b"")
    assert (other.status_code, other.content) == (200, HTML)
    head = await client.head(url)
    assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("old", 404, "no_such_file"),
        ("nothing", 404, "no_such_file"),
        ("%2e%2e/%2e%2e/etc/passwd", 404, "no_such_file"),
        ("sub/%2e%2e/index.html", 404, "no_such_file"),
        ("/etc/passwd", 404, "no_such_file"),
        ("%00", 404, "no_such_file"),
        ("%ff", 404, "no_such_file"),
        ("escape", 409, "no_content"),
        ("sub", 409, "no_content"),
        ("index.html?step=9", 404, "no_snapshot"),
        ("index.html?run=nobody", 404, "no_such_run"),
        ("index.html?step=x", 422, "invalid"),
    ],
)
async def test_what_is_no_file_of_the_snapshot_is_not_found(
    client: httpx2.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await client.get(f"/v1/jobs/job1/files/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_job_without_snapshots_has_no_files(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    await Pen(REF).write(backbone.log, *started())
    body = (await client.get("/v1/jobs/job1/files")).json()
    assert body == {"job": "job1", "run": "job1", "step": None, "files": [], "next_cursor": None}
    assert (await client.get("/v1/jobs/job1/files?step=1")).status_code == 404
    assert (await client.get("/v1/jobs/nobody/files")).status_code == 404


@pytest.mark.usefixtures("stored")
async def test_files_of_another_tenant_are_not_found(backbone: Backbone, tmp_path: Path) -> None:
    deps = deps_of(backbone, tmp_path, tenant=one_tenant("umbrella"))
    async with gateway(deps) as http:
        answers = [
            await http.get(f"/v1/{path}")
            for path in ("jobs/job1/files", "jobs/job1/files/index.html", "runs/job1/files")
        ]
    assert [one.status_code for one in answers] == [404] * 3


@pytest.mark.usefixtures("stored")
async def test_two_checkpoints_are_compared_with_their_files(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/v1/runs/job1/diff?a=1&b=2")).json()
    assert (body["a"]["step"], body["b"]["step"], body["files_problem"]) == (1, 2, None)
    assert [(one["what"], one["path"]) for one in body["files"]] == [
        ("added", "big.bin"),
        ("changed", "index.html"),
        ("removed", "old"),
    ]
    state = {one["name"]: (one["before"], one["after"]) for one in body["state"]}
    assert state["step"] == (1, 2)
    assert body["messages"][-1] == "+model: hello"
    (one,) = (await client.get("/v1/runs/job1/diff?a=1&b=2&path=index.html")).json()["files"]
    assert "-<script>alert(1)</script>" in one["diff"]
    beginning = (await client.get("/v1/runs/job1/diff?a=0&b=job1@1")).json()
    assert (beginning["files"], "no snapshot" in beginning["files_problem"]) == (None, True)


@pytest.mark.usefixtures("stored")
async def test_checkpoint_is_shown_with_what_was_said(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/v1/runs/job1/checkpoints/1")).json()
    point = body["checkpoint"]
    assert (point["step"], point["said"], point["snapshot"]) == (1, "hello", True)
    assert (body["state"]["expert"], body["state"]["step"]) == ("coder", 1)
    assert [one["role"] for one in body["messages"]] == ["user", "assistant"]
    for step in ("7", "x", "9" * 30):
        missing = await client.get(f"/v1/runs/job1/checkpoints/{step}")
        assert (missing.status_code, missing.json()["code"]) == (404, "no_such_step")
    wrong = await client.get("/v1/runs/job1/diff?a=1&b=x")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "b")


async def upload(
    client: httpx2.AsyncClient, data: bytes, media_type: str, query: str = ""
) -> httpx2.Response:
    headers = {"Content-Type": media_type}
    return await client.post(f"/v1/uploads{query}", content=data, headers=headers)


async def test_content_that_was_uploaded_is_there_by_its_digest(
    client: httpx2.AsyncClient,
) -> None:
    digest = hashlib.sha256(BIG).hexdigest()
    first = await upload(client, BIG, "application/zip", f"?digest={digest}")
    again = await upload(client, BIG, "application/zip")
    assert (first.status_code, again.json()) == (201, first.json())
    assert first.json() == {"digest": digest, "bytes": len(BIG), "media_type": "application/zip"}
    got = await client.get(f"/v1/blobs/{digest}")
    assert (got.content, got.headers["content-type"]) == (BIG, "application/octet-stream")
    assert "immutable" in got.headers["cache-control"]
    known = await client.get(f"/v1/blobs/{digest}", headers={"If-None-Match": f'"{digest}"'})
    assert known.status_code == 304
    for name in ("0" * 64, "x", digest.upper()):
        assert (await client.get(f"/v1/blobs/{name}")).json()["code"] == "no_such_blob"


async def test_upload_that_is_too_large_or_cut_is_refused(client: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(50):
            yield b"0" * 100_000

    said = await upload(client, b"0" * 4_000_001, "text/plain")
    headers = {"Content-Type": "text/plain"}
    unsaid = await client.post("/v1/uploads", content=endless(), headers=headers)
    assert [(one.status_code, one.json()["code"]) for one in (said, unsaid)] == [
        (413, "too_large")
    ] * 2
    cut = await upload(client, b"hell", "text/plain", f"?digest={'0' * 64}")
    assert (cut.status_code, cut.json()["code"]) == (422, "other_digest")


async def test_expert_is_told_what_is_attached(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    picture = (await upload(client, PNG, "image/png")).json()
    text = (await upload(client, b"a,b\n1,2\n", "text/csv")).json()
    attachments = [
        {"digest": picture["digest"], "media_type": "image/png", "name": "plan.png"},
        {"digest": text["digest"], "media_type": "text/csv", "name": "t.csv"},
    ]
    body = {"expert": "coder", "query": "look", "job": "j1", "attachments": attachments}
    async with working(backbone):
        begun = await client.post("/v1/runs", json=body)
        assert begun.status_code == 202, begun.text
        ended = await until_closed(client, begun.json()["events_url"])
        more = await client.post("/v1/runs/j1/continue", json={"attachments": attachments[1:]})
        assert more.status_code == 202
        await until_closed(client, begun.json()["events_url"], last=ended[-1].id)
    said = [
        [part.model_dump(exclude_none=True) for part in event.parts]
        for item in await backbone.log.load(RunRef("acme", "j1", "j1"))
        for event in decode(item.data).events
        if isinstance(event, e.InputReceived)
    ]
    assert [[part["kind"] for part in parts] for parts in said] == [
        ["text", "file", "text"],
        ["text"],
    ]
    assert said[0][1]["blob"]["media_type"] == "image/png"
    assert said[0][2]["text"] == said[1][0]["text"] == "Attached: t.csv\n\na,b\n1,2\n"


@pytest.mark.parametrize(
    ("data", "media_type", "hint"),
    [
        (PNG, "application/zip", "no expert can be told; there are: image/gif,"),
        (PNG, "image/jpeg", "said to be image/jpeg, and is image/png"),
        (b"nothing", "image/png", "is something else"),
        (b"\xff\xfe", "text/plain", "is not UTF-8"),
        (b"0" * 1_100_000, "text/plain", "it may have 1048576"),
        (None, "text/plain", "nothing was uploaded"),
    ],
)
async def test_attachment_that_no_expert_can_be_told_is_refused(
    client: httpx2.AsyncClient, data: bytes | None, media_type: str, hint: str
) -> None:
    digest = "0" * 64
    if data is not None:
        digest = (await upload(client, data, media_type)).json()["digest"]
    attachments: list[dict[str, Any]] = [{"digest": digest, "media_type": media_type}]
    body = {"expert": "coder", "query": "look", "attachments": attachments}
    refused = await client.post("/v1/runs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_attachment")
    assert hint in refused.json()["detail"]


async def test_upload_that_comes_drop_by_drop_is_ended(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.blobs.UPLOAD_S", 0.05)
    url = client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nContent-Type: text/plain\r\n"
    )
    writer.write(f"{head}Content-Length: 100\r\n\r\nx".encode())
    async with asyncio.timeout(10):
        line = await reader.readline()
    writer.close()
    assert line.split()[1] == b"408"
