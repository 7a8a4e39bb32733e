"""Logins by OAuth 2.1: an authorisation server, and an MCP server that wants its tokens."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from mcp.server.auth.settings import AuthSettings
from starlette.types import ASGIApp

from domain.definition import McpHttpSkill
from domain.errors import Rejected, Unavailable
from domain.mcp import Catalogue, OAuth
from services.tool.http_login import log_out
from services.tool.mcp.oauth_listener import LOGINS_MAX, at_browser
from services.worker.clean import clean_result
from services.worker.skills import SkillFailed
from tests.support.mcp_http import HOUR_S, LOOPBACK, TENANT, Desk, desk, text_of
from tests.wire.authorisation import SECRET, Authority
from tests.wire.mcp_http import Reply, Seen, World, serving

pytestmark = pytest.mark.anyio

BOUND_S = 30.0
SECRETS = {"CLIENT_SECRET": SECRET}


@dataclass
class Place:
    """An MCP server, who gives tokens for it, and where both are."""

    world: World
    authority: Authority
    endpoint: str
    gate: World
    """What the authorisation server was sent."""

    def client(self, *, named: bool = True, scopes: tuple[str, ...] = ()) -> McpHttpSkill:
        oauth = OAuth(
            grant="client_credentials",
            client_id="machine",
            client_secret="CLIENT_SECRET",
            issuer=self.authority.issuer if named else None,
            scopes=scopes,
        )
        return McpHttpSkill(endpoint=self.endpoint, oauth=oauth)

    def person(self, *, scopes: tuple[str, ...] = ()) -> McpHttpSkill:
        oauth = OAuth(grant="authorization_code", scopes=scopes)
        return McpHttpSkill(endpoint=self.endpoint, oauth=oauth)

    @property
    def forms(self) -> list[str]:
        """What tokens were asked for with, in order."""
        return [form["grant_type"] for form in self.authority.asked]


@asynccontextmanager
async def place(
    *, scopes: list[str] | None = None, older: bool = False, plain: bool = False
) -> AsyncGenerator[Place]:
    world, gate, authority = World(), World(), Authority()
    path = "sse" if older else "mcp"
    authority.register_by_hand("machine")

    def app(port: int) -> ASGIApp:
        server = world.server(
            token_verifier=authority,
            auth=AuthSettings.model_validate(
                {
                    "issuer_url": authority.issuer,
                    "resource_server_url": f"http://127.0.0.1:{port}/{path}",
                    "validate_token_resource": True,
                    "required_scopes": scopes,
                }
            ),
        )
        newer = server.streamable_http_app(json_response=plain)
        return world.around(server.sse_app() if older else newer)

    async with serving(gate.around(authority.app())) as port, asyncio.timeout(BOUND_S):
        authority.issuer = f"http://127.0.0.1:{port}"
        async with serving(at=app) as own:
            yield Place(world, authority, f"http://127.0.0.1:{own}/{path}", gate)


async def log_in(found: Desk) -> Catalogue | None:
    """A person opens what they are shown, and follows where it leads."""
    async with asyncio.TaskGroup() as tasks:

        def show(url: str) -> None:
            tasks.create_task(_browse(url))

        async with at_browser(show) as person:
            return await found.log_in(person)


async def _browse(url: str) -> None:
    async with httpx2.AsyncClient(follow_redirects=True, trust_env=False) as browser:
        answer = await browser.get(url)
        assert answer.status_code == 200
        assert "logged in" in answer.text


async def test_a_client_with_a_secret_gets_a_token_and_keeps_it(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.client(), tmp_path, secrets=SECRETS) as found:
            await found.discover()
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
            skill = found.skill
        assert at.forms == ["client_credentials"]
        assert at.authority.asked[0]["way"] == "client_secret_basic"
        assert at.authority.asked[0]["resource"] == at.endpoint
        async with desk(skill, tmp_path, secrets=SECRETS) as again:
            await again.pin(skill.catalogue or Catalogue())
            assert '"total": 5' in text_of(await again.call("tool:add", a=2, b=3))
        assert at.forms == ["client_credentials"]


async def test_a_token_that_has_ended_is_replaced(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.client(), tmp_path, secrets=SECRETS, behind_s=HOUR_S) as found:
            await found.discover()
            skill = found.skill
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.pin(skill.catalogue or Catalogue())
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
    assert at.forms == ["client_credentials"] * 2


async def test_a_token_that_a_server_does_not_take_is_replaced(tmp_path: Path) -> None:
    async with place() as at, desk(at.client(), tmp_path, secrets=SECRETS) as found:
        await found.discover()
        at.authority.tokens.clear()
        assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
    assert at.forms == ["client_credentials"] * 2


async def test_a_client_shows_its_secret_the_way_the_server_takes_it(tmp_path: Path) -> None:
    async with place() as at:
        at.authority.ways = ("client_secret_post",)
        async with desk(at.client(), tmp_path, secrets=SECRETS) as found:
            await found.discover()
    assert at.authority.asked[0]["way"] == "client_secret_post"


async def test_a_definition_says_what_is_asked_for(tmp_path: Path) -> None:
    async with place(scopes=["read"]) as at:
        skill = at.client(scopes=("read", "extra"))
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.discover()
    assert at.authority.asked[0]["scope"] == "read extra"


async def test_a_secret_is_not_shown_to_a_server_that_the_definition_does_not_name(
    tmp_path: Path,
) -> None:
    async with place() as at:
        skill = at.client(named=False)
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            with pytest.raises(SkillFailed, match="name the right one as the issuer"):
                await found.discover()
    assert at.authority.asked == []


@pytest.mark.parametrize(
    "where", ["http://127.0.0.2:9", "https://169.254.169.254", "https://[::1]:9"]
)
async def test_a_server_cannot_lead_a_login_to_an_address_inside(
    where: str, tmp_path: Path
) -> None:
    async def lead(seen: Seen) -> Reply | None:
        if "oauth-protected-resource" not in seen.path:
            return None
        body = {"resource": at.endpoint, "authorization_servers": [where]}
        return Reply(200, json.dumps(body).encode(), {"content-type": "application/json"})

    only = LOOPBACK.model_copy(update={"allow_cidrs": ("127.0.0.1/32",)})
    async with place() as at:
        at.world.meddle = lead
        async with desk(at.person(), tmp_path, settings=only) as found:
            with pytest.raises(SkillFailed, match="may not be reached"):
                await found.discover()


@pytest.mark.parametrize(
    "body", [b"[]", b"nonsense", b"\xff", b'{"issuer": 1}', b'{"access_token": ["t0ken"]}', b"{}"]
)
async def test_nonsense_of_an_authorisation_server_is_a_failure(
    body: bytes, tmp_path: Path
) -> None:
    async with place() as at, desk(at.client(), tmp_path, secrets=SECRETS) as found:
        for attribute in ("garbled_token", "garbles"):
            setattr(at.authority, attribute, body)
            with pytest.raises(SkillFailed, match=r"token|authorisation server") as told:
                await found.discover()
            assert "t0ken" not in str(told.value)


async def test_a_server_that_wants_more_than_the_definition_asks_for_says_so(
    tmp_path: Path,
) -> None:
    async def more(seen: Seen) -> Reply | None:
        wanted = 'Bearer error="insufficient_scope", scope="read admin"'
        return Reply(403, b"", {"www-authenticate": wanted}) if seen.is_call else None

    async with place() as at:
        skill = at.client(scopes=("read",))
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.discover()
            at.world.meddle = more
            result = await found.call("tool:add", a=2, b=3)
    assert result.is_error
    assert "['admin']" in text_of(result)


async def test_the_older_transport_has_logins_too(tmp_path: Path) -> None:
    async with place(older=True) as at:
        skill = at.client().model_copy(update={"transport": "sse"})
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.discover()
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
        nobody = at.person().model_copy(update={"transport": "sse"})
        async with desk(nobody, tmp_path) as found:
            with pytest.raises((SkillFailed, Unavailable), match="peritus tools login"):
                await found.discover()


async def test_headers_of_a_definition_are_not_sent_to_an_authorisation_server(
    tmp_path: Path,
) -> None:
    async with place() as at:
        skill = at.client().model_copy(update={"headers": {"X-Key": "${CLIENT_SECRET}"}})
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.discover()
    assert {seen.headers["x-key"] for seen in at.world.seen} == {SECRET}
    assert len(at.gate.seen) >= 2
    assert not any("x-key" in seen.headers for seen in at.gate.seen)


async def test_a_client_that_is_refused_is_told_without_what_it_sent(tmp_path: Path) -> None:
    async with place() as at:
        at.authority.refuses = "invalid_client"
        async with desk(at.client(), tmp_path, secrets=SECRETS) as found:
            with pytest.raises(SkillFailed, match=r"gave no token \(400, invalid_client\)") as told:
                await found.discover()
    assert SECRET not in str(told.value)


async def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    async with place() as at, desk(at.client(), tmp_path) as found:
        with pytest.raises(SkillFailed, match="peritus secrets set CLIENT_SECRET"):
            await found.discover()
    assert at.world.seen == []


async def test_without_a_login_a_call_names_the_command_that_logs_in(tmp_path: Path) -> None:
    async with place() as at, desk(at.person(), tmp_path) as found:
        with pytest.raises(SkillFailed, match="peritus tools login helper tools"):
            await found.discover()
    assert at.authority.asked == []


async def test_a_person_logs_in_once_and_runs_go_on_with_that(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.person(), tmp_path) as found:
            assert await log_in(found) is not None
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
            skill = found.skill
        assert at.forms == ["authorization_code"]
        async with desk(skill, tmp_path) as found:
            await found.pin(skill.catalogue or Catalogue())
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
        assert at.forms == ["authorization_code"]


async def test_a_login_is_refreshed_when_its_token_has_ended(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.person(), tmp_path, behind_s=HOUR_S) as found:
            await log_in(found)
            skill = found.skill
        async with desk(skill, tmp_path) as found:
            await found.pin(skill.catalogue or Catalogue())
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
            assert '"total": 7' in text_of(await found.call("tool:add", a=3, b=4))
        assert at.forms == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize("secret", [SECRET, ""])
async def test_a_client_that_the_definition_names_is_used_and_none_registered(
    secret: str, tmp_path: Path
) -> None:
    async with place() as at:
        oauth = OAuth(
            grant="authorization_code",
            client_id="webapp",
            client_secret="CLIENT_SECRET" if secret else None,
            issuer=at.authority.issuer,
        )
        skill = McpHttpSkill(endpoint=at.endpoint, oauth=oauth)
        async with (
            desk(skill, tmp_path, secrets=SECRETS, behind_s=HOUR_S) as found,
            asyncio.TaskGroup() as tasks,
        ):

            def show(url: str) -> None:
                tasks.create_task(_browse(url))

            async with at_browser(show) as person:
                at.authority.register_by_hand("webapp", person.redirect, secret)
                assert await found.log_in(person) is not None
            skill = found.skill
        async with desk(skill, tmp_path, secrets=SECRETS) as found:
            await found.pin(skill.catalogue or Catalogue())
            assert '"total": 5' in text_of(await found.call("tool:add", a=2, b=3))
        assert at.forms == ["authorization_code", "refresh_token"]
        assert set(at.authority.clients) == {"machine", "webapp"}
        ways = {form["way"] for form in at.authority.asked}
        assert ways == {"client_secret_basic" if secret else "client_secret_post"}


async def test_two_that_refresh_at_once_use_each_token_once(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.person(), tmp_path) as found:
            await log_in(found)
            skill = found.skill
        at.authority.tokens.clear()
        async with desk(skill, tmp_path) as one, desk(skill, tmp_path) as two:
            for found in (one, two):
                await found.pin(skill.catalogue or Catalogue())
            async with asyncio.TaskGroup() as tasks:
                calls = [
                    tasks.create_task(found.call("tool:add", a=2, b=3)) for found in (one, two)
                ]
            assert all('"total": 5' in text_of(call.result()) for call in calls)
        assert at.forms == ["authorization_code", "refresh_token"]


async def test_a_login_that_is_worth_nothing_any_more_names_the_command(tmp_path: Path) -> None:
    async with place() as at:
        async with desk(at.person(), tmp_path) as found:
            await log_in(found)
            assert not (await found.call("tool:add", a=2, b=3)).is_error
            at.authority.tokens.clear()
            at.authority.refreshes.clear()
            result = await found.call("tool:add", a=2, b=3)
        assert result.is_error
        assert "peritus tools login helper tools" in text_of(result)
        assert "did not run" in text_of(result)
        assert at.world.calls == ["add"]


async def test_a_login_is_of_one_tenant_and_is_forgotten(tmp_path: Path) -> None:
    async with place() as at, desk(at.person(), tmp_path) as found:
        await log_in(found)
        assert not await log_out(found.means, "another", found.skill)
        assert await log_out(found.means, TENANT, found.skill)
        assert not await log_out(found.means, TENANT, found.skill)
        with pytest.raises(SkillFailed, match="peritus tools login"):
            await found.discover()


async def test_calls_do_not_wait_for_one_another_while_there_is_a_token(tmp_path: Path) -> None:
    async with place(plain=True) as at, desk(at.client(), tmp_path, secrets=SECRETS) as found:
        await found.discover()
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(found.call("tool:slow"))
            await at.world.begun.wait()
            assert '"total": 5' in text_of(await found.call("tool:add", "r2", a=2, b=3))
            at.world.go_on.set()
            await slow


async def test_an_answer_to_another_login_is_not_taken(tmp_path: Path) -> None:
    async def meddle(url: str, redirect: str) -> None:
        async with httpx2.AsyncClient(trust_env=False) as browser:
            for query in ("", "?code=c&state=wrong", "?error=no&state=wrong", "?code=c"):
                assert (await browser.get(f"{redirect}{query}")).status_code == 404
            assert (await browser.get(redirect.replace("/callback", "/x"))).status_code == 404
        await _browse(url)

    async with (
        place() as at,
        desk(at.person(), tmp_path) as found,
        asyncio.TaskGroup() as tasks,
    ):

        def show(url: str) -> None:
            tasks.create_task(meddle(url, person.redirect))

        async with at_browser(show) as person:
            assert await found.log_in(person) is not None


async def test_a_person_who_is_refused_has_no_login(tmp_path: Path) -> None:
    async def refuse(url: str, redirect: str) -> None:
        state = httpx2.URL(url).params["state"]
        async with httpx2.AsyncClient(trust_env=False) as browser:
            await browser.get(redirect, params={"error": "access_denied", "state": state})

    async with place() as at, desk(at.person(), tmp_path) as found:
        async with asyncio.TaskGroup() as tasks:

            def show(url: str) -> None:
                tasks.create_task(refuse(url, person.redirect))

            async with at_browser(show) as person:
                with pytest.raises(SkillFailed, match="access_denied"):
                    await found.log_in(person)
        assert not await log_out(found.means, TENANT, found.skill)


async def test_a_person_logs_in_again_when_a_login_is_forgotten_but_not_for_ever(
    tmp_path: Path,
) -> None:
    async with place() as at, desk(at.person(), tmp_path) as found:
        at.authority.forgets = LOGINS_MAX - 1
        assert await log_in(found) is not None
        at.authority.forgets = LOGINS_MAX
        with pytest.RaisesGroup(
            pytest.RaisesExc(SkillFailed, match=f"takes no login: {LOGINS_MAX} were made")
        ):
            await log_in(found)


async def test_a_server_that_wants_nobody_to_log_in_says_so(tmp_path: Path) -> None:
    world = World()
    async with serving(world.around(world.server().streamable_http_app())) as port:
        endpoint = f"http://127.0.0.1:{port}/mcp"
        oauth = OAuth(grant="authorization_code")
        async with desk(McpHttpSkill(endpoint=endpoint, oauth=oauth), tmp_path) as found:
            assert await log_in(found) is None
        plain = McpHttpSkill(endpoint=endpoint)
        async with desk(plain, tmp_path) as found, at_browser(print) as person:
            with pytest.raises(Rejected, match="without a login"):
                await found.log_in(person)


async def test_no_token_and_no_secret_is_seen_outside_the_encrypted_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "services")
    caplog.set_level(logging.DEBUG, "mcp")
    caplog.set_level(logging.DEBUG, "httpx2")
    caplog.set_level(logging.DEBUG, "httpcore2")
    async with place() as at:
        async with desk(at.person(), tmp_path) as found:
            await log_in(found)
            result = await found.call("tool:who")
            redactor = found.redactions.redactor()
        lasting = [value for value in at.authority.given if not value.startswith("code")]
        assert any(value in text_of(result) for value in lasting)  # the server said it back
        for value in lasting:
            assert redactor.finds(value.encode()) is not None
            assert value not in text_of(clean_result(redactor, result))
            assert all(value not in redactor.text(line) for line in caplog.text.splitlines())
            assert not any(value.encode() in data for data in _files(tmp_path))


def _files(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
