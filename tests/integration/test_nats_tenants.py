"""C18 at the server: the user in `docs/consumers.md` is held to one tenant. Not our own access."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from domain.ids import RunRef
from eventlog.embedded.config import find_binary, free_port
from eventlog.jetstream.backbone import connect_backbone
from tests.contract.deployment import until

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

PAGE = Path(__file__).parents[2] / "docs" / "consumers.md"
PASSWORD = "acmes"
STREAM = "PERITUS_EVENTS"
CREATE = f"$JS.API.CONSUMER.CREATE.{STREAM}"


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[str]:
    """Where a server with our own user and that of the document listens."""
    [user] = re.findall(r"^```text\n(\{ user: .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    port = free_port(folder)
    config = folder / "server.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'jetstream {{ store_dir: "{folder}" }}\n'
        'authorization { users: [ { user: "peritus", password: "ours" }\n'
        f"{user.replace('$ACME', PASSWORD)} ] }}\n"
    )
    process = await asyncio.create_subprocess_exec(
        str(find_binary()), "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Acme:
    """A client that connects as the document says."""

    client: Any = field(default_factory=Client)  # its types are not complete
    heard: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    refused: list[str] = field(default_factory=list[str])

    async def open(self, where: str) -> None:
        async def error(problem: Exception) -> None:
            self.refused.append(str(problem))

        await self.client.connect(
            f"nats://acme:{PASSWORD}@{where}", inbox_prefix=b"_INBOX.acme", error_cb=error
        )

    async def hear(self, message: Msg) -> None:
        self.heard.append((message.subject, message.data))

    async def consume(self, filtered: str, *, asked: str | None = None) -> dict[str, Any]:
        """Ask for a consumer of a filter, with the subject of perhaps another one."""
        inbox = self.client.new_inbox()
        await self.client.subscribe(inbox, cb=self.hear)
        config = {
            "name": "reports",
            "deliver_subject": inbox,
            "filter_subject": filtered,
            "ack_policy": "none",
        }
        body = json.dumps({"stream_name": STREAM, "config": config}).encode()
        answer = await self.client.request(f"{CREATE}.reports.{asked or filtered}", body, timeout=5)
        return json.loads(answer.data)  # type: ignore[no-any-return]

    async def refusal(self, subject: str) -> bool:
        """Whether the server refused that subject: it says so without an answer."""
        await self.client.flush()
        return any(subject in line.replace("permissions violation", "") for line in self.refused)


async def test_a_user_of_one_tenant_reads_and_writes_that_tenant_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as where:
        url = f"nats://peritus:ours@{where}"
        async with connect_backbone(url, durability="process") as ours:
            for tenant in ("acme", "umbrella"):
                ref = RunRef(tenant, "job", "run")
                await ours.log.append(ref, tenant.encode(), expected_seq=0)
            acme = Acme()
            await acme.open(where)
            try:
                await look_and_listen(acme)
                for tenant in ("acme", "umbrella"):
                    ref = RunRef(tenant, "job", "later")
                    await ours.log.append(ref, tenant.encode(), expected_seq=0)
                await until(lambda: heard(acme, 3))
                assert sorted(acme.heard) == [
                    ("peritus.evt.acme.job.later", b"acme"),
                    ("peritus.evt.acme.job.run", b"acme"),
                    ("peritus.liveevt.acme.job.later", b"acme"),
                ]
                await others_are_refused(acme)
            finally:
                await acme.client.close()


async def heard(acme: Acme, number: int) -> bool:
    return len(acme.heard) >= number


async def look_and_listen(acme: Acme) -> None:
    assert "error" not in await acme.consume("peritus.evt.acme.>")
    await acme.client.subscribe("peritus.liveevt.acme.>", cb=acme.hear)
    await acme.client.publish("peritus.cmd.acme.job.run", b"{}")
    await acme.client.flush()
    assert acme.refused == []


async def others_are_refused(acme: Acme) -> None:
    """Whatever names another tenant, all tenants, or what cannot be told apart by tenant."""
    wider = await acme.consume("peritus.evt.>", asked="peritus.evt.acme.>")
    assert "did not match" in wider["error"]["description"]
    subjects = [
        f"{CREATE}.reports.peritus.evt.umbrella.>",
        f"{CREATE}.reports.peritus.evt.>",
        f"{CREATE}.reports",
        f"$JS.API.STREAM.MSG.GET.{STREAM}",
        f"$JS.API.DIRECT.GET.{STREAM}",
        f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.reports",
        "$JS.API.STREAM.MSG.GET.PERITUS_REGISTRY",
        "$JS.API.STREAM.DELETE.PERITUS_EVENTS",
        "peritus.cmd.umbrella.job.run",
        "peritus.ask.umbrella.job.run",
        "peritus.evt.acme.job.run",
        "peritus.reg.key.acme.one",
    ]
    for subject in subjects:
        await acme.client.publish(subject, b"{}")
    for subject in ("peritus.liveevt.umbrella.>", "peritus.liveevt.>", "_INBOX.>", ">"):
        await acme.client.subscribe(subject, cb=acme.hear)
        subjects.append(subject)
    before = list(acme.heard)
    for subject in subjects:
        await until(lambda one=subject: acme.refusal(f'"{one.lower()}"'))  # type: ignore[misc]
    assert acme.heard == before
