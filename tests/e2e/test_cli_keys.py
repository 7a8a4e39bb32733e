"""`peritus keys` and the key a gateway makes: made, used, taken back, and shown nowhere (C15)."""

import asyncio
import json
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.secrets.config import SecretsConfig
from tests.e2e.cli_project import Project
from tests.e2e.processes import TOKEN, Team, server, team, until
from tests.support.canary import Canary
from tests.support.credentials import bearer
from tests.support.gateway import until_closed

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.slow]

BOUND_S = 60.0


@asynccontextmanager
async def served(project: Project, nats: str) -> AsyncGenerator[tuple[Team, httpx2.AsyncClient]]:
    """All services in one process, as they are without a setting about credentials."""
    settings = {"PERITUS_NATS_URL": nats, "PERITUS_NATS_TOKEN": TOKEN, "PERITUS_GATEWAY_PORT": "0"}
    with team(project.folder, {**settings, "PERITUS_LOG_LEVEL": "debug"}) as services:
        services.start("gateway", "loop", "projections")
        await services.ready()
        async with httpx2.AsyncClient(
            base_url=services.urls[0], trust_env=False, timeout=BOUND_S
        ) as http:
            yield services, http


def keys(project: Project, nats: str, *words: str) -> Any:
    settings = {"PERITUS_NATS_URL": nats, "PERITUS_NATS_TOKEN": TOKEN}
    outcome = project.peritus("keys", *words, env=settings)
    assert outcome.code == 0, outcome.said
    return [json.loads(line) for line in outcome.out.splitlines()]


async def test_a_key_is_made_used_taken_back_and_shown_nowhere_else(project: Project) -> None:
    async with server(project.folder / "nats") as (nats, _):
        async with served(project, nats.url) as (services, http):
            file = project.folder / ".peritus" / "gateway.key"
            own = file.read_text().strip()
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert str(file) in services.services[0].said

            [made] = await asyncio.to_thread(
                keys, project, nats.url, "create", "ci", "--expert", "helper"
            )
            [other] = await asyncio.to_thread(
                keys, project, nats.url, "create", "boss", "--tenant", "umbrella", "--role", "admin"
            )
            canary = canary_of({"OWN": own, "MADE": made["key"], "OTHER": other["key"]}, file)
            said = await used(http, own, made["key"], other["key"])
            [listed] = await asyncio.to_thread(keys, project, nats.url, "list")
            assert (listed["name"], listed["experts"]) == ("ci", ["helper"])
            assert listed["created_by"].startswith("cli:")

            begun = await http.post("/v1/session", json={"key": own})
            assert begun.status_code == 201
            assert (await http.get("/v1/me")).json()["via"] == "session"
            await asyncio.to_thread(keys, project, nats.url, "end-sessions")

            async def signed_out() -> bool:
                return (await http.get("/v1/me")).status_code == 401

            await until("the session to be over", signed_out)
            await asyncio.to_thread(keys, project, nats.url, "revoke", "ci")

            async def refused() -> bool:
                return (await http.get("/v1/me", headers=bearer(made["key"]))).status_code == 401

            await until("the key to be good no more", refused)
            assert (await http.get("/v1/me", headers=bearer(own))).status_code == 200
            found = await canary.shown_in_streams(nats.url, TOKEN, "peritus")
            found += canary.shown_in("the log", services.services[0].said)
            found += canary.shown_in("the answers", "\n".join(said))
            found += canary.shown_in("the list", json.dumps(listed))
        found += canary.shown_below(project.folder / ".peritus")
        assert found == []


async def used(http: httpx2.AsyncClient, own: str, made: str, other: str) -> list[str]:
    """A run is started with one key and looked at with the others; all that was answered."""
    said: list[str] = []
    body = {"expert": "helper", "query": "go", "provider": "scripted", "model": "hello.toml"}
    started = await http.post("/v1/runs", json=body, headers=bearer(made))
    assert started.status_code == 202, started.text
    run = started.json()["run"]
    stream = httpx2.AsyncClient(
        base_url=http.base_url, trust_env=False, timeout=BOUND_S, headers=bearer(made)
    )
    async with stream:
        messages = await until_closed(stream, f"/v1/runs/{run}/events")
    said += [message.data for message in messages]
    assert [message.event for message in messages][-1] == "end"
    for path in (f"/v1/runs/{run}", "/v1/runs", "/v1/keys", "/v1/audit", f"/v1/jobs/{run}/tree"):
        mine = await http.get(path, headers=bearer(own))
        theirs = await http.get(path, headers=bearer(other))
        nobodys = await http.get(path)
        assert mine.status_code == 200, mine.text
        assert nobodys.status_code == 401
        assert run not in theirs.text
        said += [mine.text, theirs.text, nobodys.text]
    audit = (await http.get("/v1/audit", headers=bearer(own))).json()["entries"]
    assert "key:ci" in {entry["name"] for entry in audit}
    assert (await http.get("/v1/keys", headers=bearer(made))).status_code == 403
    assert (await http.post("/v1/session", json={"key": made})).status_code == 201
    http.cookies.clear()
    return said


def canary_of(values: dict[str, str], *planted: Path) -> Canary:
    return Canary(values, SecretsConfig(), {}, frozenset(planted))


def test_keys_are_told_as_lines_to_people_and_what_is_wrong_is_said(project: Project) -> None:
    made = project.peritus("keys", "create", "ci", "--expires", "90d", "--no-json")
    assert made.code == 0, made.said
    text = made.out.strip()
    assert text.startswith("pk_")
    assert "shown this once" in made.said
    assert text not in made.said
    listed = project.peritus("keys", "list", "--no-json")
    key = text.split("_")[1]
    assert listed.out.split()[:3] == [key, "ci", "operator"]
    assert text.split("_", 2)[2] not in listed.out
    for words, code, said in (
        (("create", "ci"), 6, "already"),
        (("create", "c i"), 6, "letters, digits"),
        (("create", "late", "--expires", "0s"), 6, "in the future"),
        (("create", "x", "--expires", "soon"), 2, "90s"),
        (("create", "x", "--role", "root"), 2, "viewer"),
        (("create", "x", "--tenant", "a.b"), 2, "tenant"),
        (("revoke", "nobody"), 6, "peritus keys list"),
        (("revoke", "ci", "--tenant", "umbrella"), 6, "no key"),
    ):
        outcome = project.peritus("keys", *words)
        assert (outcome.code, outcome.out) == (code, ""), outcome.said
        assert said in outcome.said
    assert project.peritus("keys", "revoke", key).code == 0
    assert project.peritus("keys", "list", "--json").out == ""
