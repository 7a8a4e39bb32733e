"""Secrets in headers and addresses, and certificates: who is shown what."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server.transport_security import TransportSecuritySettings

from domain.definition import McpHttpSkill
from domain.errors import Unavailable
from services.tool.mcp.http_settings import HttpSettings
from services.worker.clean import clean_result
from services.worker.skills import SkillFailed
from tests.integration.egress_world import certificates
from tests.support.mcp_http import LOOPBACK, Desk, desk, text_of
from tests.wire.mcp_http import Reply, Seen, World, serving

pytestmark = pytest.mark.anyio

BOUND_S = 20.0
CANARY = "c4nary-in-a-header"
OTHER = "an0ther&canary=1"
SECRETS = {"KEY": CANARY, "QUERY": OTHER, "SHORT": "öffnen-ü", "ANTHROPIC_API_KEY": "sk-model-key"}


@asynccontextmanager
async def at_work(
    world: World, folder: Path, headers: dict[str, str], query: str = "", **more: Any
) -> AsyncGenerator[Desk]:
    app = world.around(world.server().streamable_http_app())
    async with serving(app) as port, asyncio.timeout(BOUND_S):
        skill = McpHttpSkill(endpoint=f"http://127.0.0.1:{port}/mcp{query}", headers=headers)
        async with desk(skill, folder, secrets=SECRETS, **more) as made:
            yield made


async def test_a_secret_is_put_into_a_header_and_every_request_has_it(tmp_path: Path) -> None:
    world = World()
    headers = {"Authorization": "Bearer ${KEY}", "X-Key": "a ${KEY} b"}
    async with at_work(world, tmp_path, headers) as found:
        await found.discover()
        result = await found.call("tool:who")
    assert f"a {CANARY} b" in text_of(result)
    assert {seen.headers["authorization"] for seen in world.seen} == {f"Bearer {CANARY}"}
    assert {seen.method for seen in world.seen} >= {"POST", "DELETE"}


async def test_a_secret_that_was_changed_counts_when_the_old_one_is_not_taken(
    tmp_path: Path,
) -> None:
    world = World()
    secrets = {"KEY": "the-first-value"}

    async def check(seen: Seen) -> Reply | None:
        return None if seen.headers["x-key"] == secrets["KEY"] else Reply(401)

    world.meddle = check
    app = world.around(world.server().streamable_http_app())
    async with serving(app) as port, asyncio.timeout(BOUND_S):
        endpoint = f"http://127.0.0.1:{port}/mcp"
        skill = McpHttpSkill(endpoint=endpoint, headers={"X-Key": "${KEY}"})
        async with desk(skill, tmp_path, secrets=secrets) as found:
            await found.discover()
            assert not (await found.call("tool:add", a=1, b=2)).is_error
            secrets["KEY"] = "the-second-value"
            assert not (await found.call("tool:add", a=1, b=2)).is_error
            del secrets["KEY"]
            world.meddle = lambda _: refused()
            result = await found.call("tool:add", a=1, b=2)
            assert "the secret KEY, which is not set" in text_of(result)
    assert world.calls == ["add", "add"]


async def refused() -> Reply:
    return Reply(401)


async def test_a_definition_names_itself_to_a_server(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, tmp_path, {"User-Agent": "ours/1"}) as found:
        await found.discover()
    assert {seen.headers["user-agent"] for seen in world.seen} == {"ours/1"}


async def test_a_secret_of_an_address_is_spelled_as_an_address_wants_it(tmp_path: Path) -> None:
    world, queries = World(), set[str]()

    async def look(seen: Seen) -> Reply | None:
        queries.add(seen.query)
        return None

    world.meddle = look
    async with at_work(world, tmp_path, {}, "?key=${QUERY}") as found:
        await found.discover()
        assert not (await found.call("tool:add", a=1, b=2)).is_error
    assert queries == {"key=an0ther%26canary%3D1"}


async def test_no_value_is_in_a_result_or_a_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    headers = {"Authorization": "Bearer ${KEY}", "X-Key": "${KEY}"}
    async with at_work(world, tmp_path, headers) as found:
        await found.discover()
        redactor = found.redactions.redactor()
        said = await found.call("tool:who")
        for status in (401, 403, 404, 500):

            async def echo(seen: Seen, status: int = status) -> Reply | None:
                return Reply(
                    status,
                    f"you sent {seen.headers['x-key']}".encode(),
                    {"content-type": "text/plain"},
                )

            world.meddle = echo
            told = await _told(found)
            assert CANARY not in redactor.text(told)
            assert CANARY in told or status == 404
    assert CANARY in text_of(said)  # the server said it back
    assert CANARY not in text_of(clean_result(redactor, said))
    shown = [line for line in caplog.text.splitlines() if CANARY in line]
    assert not [line for line in shown if CANARY in redactor.text(line)]
    assert not [line for line in shown if "uthorization" in line]


async def _told(found: Desk) -> str:
    """What a call comes to, whatever that is."""
    try:
        return text_of(await found.call("tool:add", a=1, b=2))
    except Unavailable as error:
        return str(error)


async def test_a_catalogue_holds_no_secret_that_a_server_says_back(tmp_path: Path) -> None:
    world = World()
    server = world.server()

    @server.tool(description=f"Your key is {CANARY}.")
    def leak() -> str:
        return ""

    app = world.around(server.streamable_http_app())
    async with serving(app) as port, asyncio.timeout(BOUND_S):
        skill = McpHttpSkill(endpoint=f"http://127.0.0.1:{port}/mcp", headers={"X": "${KEY}"})
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            catalogue = await found.discover()
    tool = catalogue.find("tool:leak")
    assert tool is not None
    assert tool.description == "Your key is [secret:KEY]."


async def test_headers_are_not_sent_to_another_origin(tmp_path: Path) -> None:
    world, elsewhere = World(), World()
    app = elsewhere.around(elsewhere.server().streamable_http_app())
    async with serving(app) as other:

        async def away(seen: Seen) -> Reply | None:
            location = {"location": f"http://127.0.0.1:{other}/mcp"}
            return Reply(307, b"", location) if seen.is_call else None

        world.meddle = away
        async with at_work(world, tmp_path, {"X-Key": "${KEY}"}) as found:
            await found.discover()
            assert (await found.call("tool:add", a=1, b=2)).is_error
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"X-Key": "${MISSING}"}, "the secret MISSING, which is not set"),
        ({"X-Key": "${ANTHROPIC_API_KEY}"}, "no tool is given"),
        ({"X-Key": "${SHORT}"}, "the secret SHORT cannot be sent in a header"),
        ({"X-Key": "${not a name}"}, "no reference to a secret"),
        ({"Host": "example.com"}, "not for a definition to set"),
        ({"Mcp-Session-Id": "x"}, "not for a definition to set"),
        ({"X Key": "x"}, "not the name of a header"),
        ({"X-Key": "a\r\nb: c"}, "not one line"),
    ],
)
async def test_headers_that_cannot_be_sent_are_an_error_that_says_why(
    headers: dict[str, str], words: str, tmp_path: Path
) -> None:
    world = World()
    async with at_work(world, tmp_path, headers) as found:
        with pytest.raises(SkillFailed, match=words) as told:
            await found.discover()
    assert not [value for value in SECRETS.values() if value in str(told.value)]
    assert world.seen == []


async def test_a_server_has_to_prove_its_name(tmp_path: Path) -> None:
    certificates(tmp_path, ("localhost",))
    trusting = LOOPBACK.model_copy(update={"extra_ca_file": str(tmp_path / "outside.pem")})
    world = World()
    app = world.around(world.server().streamable_http_app())
    async with serving(app, certificate=tmp_path / "host.pem") as port, asyncio.timeout(BOUND_S):

        async def problem(host: str, settings: HttpSettings) -> str:
            skill = McpHttpSkill(endpoint=f"https://{host}:{port}/mcp")
            async with desk(skill, tmp_path, settings=settings) as found:
                try:
                    await found.discover()
                except SkillFailed as error:
                    return str(error)
                return ""

        assert await problem("localhost", trusting) == ""
        seen = len(world.seen)
        assert "CERTIFICATE_VERIFY_FAILED" in await problem("localhost", LOOPBACK)
        assert "not valid for '127.0.0.1'" in await problem("127.0.0.1", trusting)
        assert len(world.seen) == seen


async def test_without_an_exception_of_the_operator_nothing_here_is_reached(tmp_path: Path) -> None:
    world = World()
    async with at_work(world, tmp_path, {}, settings=HttpSettings()) as found:
        with pytest.raises(SkillFailed, match="PERITUS_MCP_ALLOW_CIDRS"):
            await found.discover()
    assert world.seen == []


async def test_a_proxy_of_the_operator_carries_everything(tmp_path: Path) -> None:
    certificates(tmp_path, ("mcp.test",))
    world, asked = World(), list[str]()
    anywhere = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = world.around(world.server().streamable_http_app(transport_security=anywhere))

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        there, away = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pass_on(reader, away))
            tasks.create_task(_pass_on(there, writer))

    async with (
        serving(app, certificate=tmp_path / "host.pem") as port,
        asyncio.timeout(BOUND_S),
        await asyncio.start_server(carry, "127.0.0.1", 0) as proxy,
    ):
        by = proxy.sockets[0].getsockname()[1]
        settings = HttpSettings(
            proxy=f"http://127.0.0.1:{by}", extra_ca_file=str(tmp_path / "outside.pem")
        )
        skill = McpHttpSkill(endpoint="https://mcp.test/mcp")
        async with desk(skill, tmp_path, settings=settings) as found:
            await found.discover()
            assert '"total": 3' in text_of(await found.call("tool:add", a=1, b=2))
    assert set(asked) == {"CONNECT mcp.test:443 HTTP/1.1"}


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
