"""C18: whatever can be asked, a tenant meets nothing of another, and learns nothing of it either.

Every operation of the table is tried. What is another's and what nobody has is answered alike.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from domain import events as e
from domain.content import BlobRef
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from gateway.app import create_app
from gateway.callers import Role
from gateway.operations import Operation
from gateway.webhooks.hooks import Hooks
from peritus.retention import Retainer
from tests.support.credentials import Clock, auth_of, bearer
from tests.support.gateway import DEFINITION, deps_of, gateway, projecting
from tests.support.pen import Pen, completed, replied, requested, started
from tests.support.snapshots import Desk, snapshot
from tests.support.tenants import ASKS, Ask, Names
from tests.support.trees import File, plant

pytestmark = pytest.mark.anyio

CANARY = "canary-7c41"
BOUND_S = 15.0
NOBODYS = Names("job0", "job0", "0" * 16, "0" * 64, "1" * 16)
TABLE: tuple[Operation, ...] = create_app(
    deps_of(MemoryServer(now_ms=lambda: 0).backbone(), Path("/nonexistent"))
).state.table
QUIET = re.compile(r"^(:|event: heartbeat)", re.MULTILINE)


@dataclass
class World:
    """Acme has a job with files and a key; Umbrella has a key and nothing else."""

    http: httpx2.AsyncClient
    server: MemoryServer
    names: Names
    acme: str
    umbrella: str

    async def ask(self, operation: Operation, ask: Ask, credential: str) -> "Answer":
        """The whole answer, or of a stream what comes before it is silent."""
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: ask.path[found[1]], operation.path)
        headers = {**bearer(credential), **ask.headers}
        if ask.content is not None:
            headers["Content-Type"] = operation.body_media_type
        request = self.http.build_request(
            operation.method,
            path,
            params=dict(ask.query),
            headers=headers,
            content=ask.content,
            json=ask.body,
        )
        self.http.cookies.clear()
        async with asyncio.timeout(BOUND_S):
            response = await self.http.send(request, stream=True)
            text = ""
            try:
                async for part in response.aiter_text():
                    text += part
                    if "text/event-stream" in response.headers["content-type"] and QUIET.search(
                        text
                    ):
                        break
            finally:
                await response.aclose()
        kind = response.headers.get("content-type", "")
        return Answer(response.status_code, kind, text)

    def state(self) -> tuple[object, ...]:
        """All that is kept of Acme."""
        log = [one for one in self.server.log.all if one.ref.tenant == "acme"]
        commands = self.server.commands.queue.messages.values()
        waiting = [one for one in commands if "acme" in str(one)]
        blobs = sorted(key for key in self.server.blobs if key[0] == "acme")
        keys = [one for one in self.server.registry.entries.values() if one.tenant == "acme"]
        return log, waiting, blobs, keys


@dataclass(frozen=True)
class Answer:
    """What somebody was answered."""

    status: int
    kind: str
    text: str

    def without(self, names: Names) -> "Answer":
        """The same with the names that were asked for taken out, as they may be repeated."""
        text = self.text
        for what, name in names.all.items():
            text = re.sub(rf"(?<![0-9a-zA-Z]){name}(?![0-9a-zA-Z])", f"<{what}>", text)
        return replace(self, text=text.replace("<job>", "<run>"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    clock = Clock()
    server = MemoryServer(now_ms=clock.ms)
    backbone = server.backbone()
    auth = auth_of(backbone, clock)
    digest = await history(server, tmp_path)
    _, umbrella = await auth.keys.create("umbrella", "theirs", "admin", by="test")
    _, acme = await auth.keys.create("acme", "ours", "admin", by="test")
    spare, _ = await auth.keys.create("acme", CANARY, "admin", by=CANARY)
    hooks = Hooks(backbone, now_ms=clock.ms, plain=True)
    hook = await hooks.create("acme", f"http://one.example/{CANARY}", (), CANARY)
    deps = deps_of(
        backbone,
        tmp_path,
        auth=auth,
        hooks=hooks,
        retaining=Retainer(backbone),
        heartbeat_s=0.1,
    )
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        names = Names("job1", "job1", spare.id, digest, hook.id)
        made = World(http, server, names, acme, umbrella)
        await until_shown(made)
        yield made


async def history(server: MemoryServer, folder: Path) -> str:
    """A run with a step, files and a result, all with the canary; the digest of a blob with it."""
    backbone = server.backbone()
    digest = await backbone.blobs.put("acme", CANARY.encode() * 40)
    definition = await backbone.blobs.put("acme", DEFINITION.to_bytes())
    desk = Desk(folder / "desk", server)
    desk.folder.mkdir()
    workspace, store = desk.workspace("w"), desk.store()
    plant(folder / "desk" / "w", {b"canary.txt": File(CANARY.encode())})
    first, pinned, said, asked = started()
    assert isinstance(first, e.RunStarted)
    assert isinstance(said, e.InputReceived)
    [part] = said.parts
    parts = (part.model_copy(update={"text": f"{CANARY} go on"}),)
    pen = Pen(RunRef("acme", "job1", "job1"))
    await pen.write(
        backbone.log,
        first.model_copy(update={"definition": definition}),
        pinned,
        said.model_copy(update={"parts": parts}),
        asked,
    )
    await pen.write(backbone.log, replied(1, CANARY), e.StepEnded(step=1))
    taken = await snapshot(store, workspace)
    manifest = BlobRef(digest=taken.root, size=taken.size, media_type="application/octet-stream")
    shot = e.SnapshotTaken(run="job1", step=1, version=6, manifest=manifest)
    await pen.write(backbone.log, shot, requested(2))
    await pen.write(backbone.log, *completed(2, CANARY))
    for one in desk.open:
        one.close()
    return digest


async def until_shown(world: World) -> None:
    """The views have come to the end of the history."""
    last = world.server.log.all[-1].seq
    async with asyncio.timeout(BOUND_S):
        while True:
            position = (await world.http.get("/v1/healthz")).json()["position"]
            if position is not None and int(position.split("-")[1]) >= last:
                return
            await asyncio.sleep(0.01)


def operation_of(name: str) -> Operation:
    return next(one for one in TABLE if one.name == name)


def test_every_operation_is_tried_across_tenants() -> None:
    """One that was added has to be described in `tests/support/tenants.py`."""
    assert {one.name for one in TABLE} == set(ASKS)


@pytest.mark.parametrize("name", [one.name for one in TABLE])
async def test_another_tenants_things_are_as_if_nobody_had_them(world: World, name: str) -> None:
    operation, before = operation_of(name), world.state()
    theirs = ASKS[name](world.names)
    for ask, other in zip(theirs, ASKS[name](NOBODYS), strict=True):
        met = await world.ask(operation, ask, world.umbrella)
        missed = await world.ask(operation, other, world.umbrella)
        assert CANARY not in met.text
        if not ask.own_words:
            assert met.without(world.names) == missed.without(NOBODYS)
    assert world.state() == before
    for ask in theirs:  # else nothing was asked
        own = await world.ask(operation, ask, world.acme)
        assert own.status in ask.owner, own
        assert not ask.shows or CANARY in own.text or world.names.run in own.text, own


@pytest.mark.parametrize("name", [one.name for one in TABLE if not one.open])
async def test_who_has_no_credential_is_told_nothing(world: World, name: str) -> None:
    operation = operation_of(name)
    for ask in ASKS[name](world.names):
        answer = await world.ask(operation, ask, "pk_none")
        assert answer.status == 401
        assert "A valid credential is needed" in answer.text


@pytest.mark.parametrize("name", [one.name for one in TABLE if one.role != "viewer"])
async def test_a_role_that_is_too_low_is_told_which_is_needed(
    world: World, tmp_path: Path, name: str
) -> None:
    """Before anything is looked at: what is asked about makes no difference."""
    operation, before = operation_of(name), world.state()
    auth = auth_of(world.server.backbone(), Clock())
    low: Role = "viewer" if operation.role == "operator" else "operator"
    _, credential = await auth.keys.create("umbrella", "low", low, by="test")
    del tmp_path
    for names in (world.names, NOBODYS):
        for ask in ASKS[name](names):
            answer = await world.ask(operation, ask, credential)
            assert answer.status == 403, answer
            assert f"needs the role {operation.role}" in answer.text
    assert world.state() == before
