"""Our MCP client as the official conformance suite starts it: `driver.py URL`. No protocol here.

It connects as a worker does, looks at what the server offers, and calls each tool once, with the
least arguments that fit. A person is there who accepts every form as it is, and logs in wherever
the authorisation server says so.
"""

import asyncio
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from domain.asks import Elicitation, whole_answer
from domain.definition import McpHttpSkill
from domain.errors import PeritusError, Unavailable
from domain.ids import RunRef
from domain.mcp import Catalogue, OAuth, RemoteTool
from domain.secrets import SecretRef, SecretValue
from peritus.ids import now_ms
from services.secrets.redactions import Redactions
from services.secrets.tokens import TokenStore
from services.tool.http_login import log_in
from services.tool.mcp.beside import beside
from services.tool.mcp.calls import Caller
from services.tool.mcp.http_connect import Endpoint, HttpMeans, Trust, server_of
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.oauth_listener import at_browser
from services.tool.mcp.seam import Server
from services.worker.skills import Question, Reply, Sample, Sampled, SampleRefused, SkillFailed
from services.worker.toolbox import ToolCall

TENANT = "conformance"
SECRET = "CLIENT_SECRET"
BOUND_S = 100.0
CALL_MS = 20_000
LOGINS_MAX = 3
NEWEST = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "") >= "2026-07-28"
"""Whether the suite's server takes nothing of what sessions had before."""

ECHO = "json_schema_echo"
"""A tool that wants to be told the schema of the other one."""

PUBLISHED = "https://conformance-test.local/client-metadata.json"
"""Where the suite takes our client to have published what it is."""

ELSEWHERE = re.compile(r"has tokens from (\S+), and the client of the definition is for")
"""How a login says that the definition is to name the authorisation server of its client."""

NEEDS = re.compile(r"a person has to log in first: .*\(scopes: ([^)]*)\)")
"""How a call says that it needs another login."""


class Accepting:
    """Fills `Asks`: a person who accepts every form and leaves all of it out."""

    async def elicit(self, call: ToolCall, question: Question) -> Reply:
        """Accept, as a run has it."""
        del call
        about = Elicitation(message=question.message, form=question.schema, url=question.url)
        return Reply("accept", whole_answer(about, "accept", {}))

    async def sample(self, call: ToolCall, sample: Sample) -> Sampled:
        """Nobody pays for it."""
        del call, sample
        message = "no model is asked here"
        raise SampleRefused(message)


def definition(url: str, scenario: str, context: dict[str, Any]) -> McpHttpSkill:
    """The skill that a person would write for a server of a scenario."""
    if not scenario.startswith("auth/"):
        return McpHttpSkill(endpoint=url)
    if context.get("client_id") is None and scenario == "auth/basic-cimd":
        context = {"client_id": PUBLISHED}
    oauth = OAuth(
        grant="client_credentials" if "client-credentials" in scenario else "authorization_code",
        client_id=context.get("client_id"),
        client_secret=SECRET if context.get("client_secret") else None,
    )
    return McpHttpSkill(endpoint=url, oauth=oauth)


def least(schema: dict[str, Any]) -> object:
    """The least value that fits a schema."""
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    if schema.get("enum"):
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            return {name: least(known.get(name, {})) for name in schema.get("required", ())}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "text"


async def heard(text: str) -> None:
    """What a server says goes where the suite keeps it."""
    sys.stderr.write(text)


class Person:
    """A person with a browser: writes a definition, logs in, and reads what calls come to."""

    def __init__(self, skill: McpHttpSkill, context: dict[str, Any], folder: Path) -> None:
        """`context`: what the suite says of the scenario."""
        secret = str(context.get("client_secret", ""))
        self._wanted: list[dict[str, Any]] = context.get("toolCalls", [])

        async def reveal(ref: SecretRef) -> SecretValue | None:
            return SecretValue(ref, secret) if ref.name == SECRET and secret else None

        tokens = TokenStore(folder / "tokens.age", folder / "identity", Redactions())
        networks: dict[str, Any] = {"allow_cidrs": ("127.0.0.0/8", "::1/128")}
        settings = HttpSettings.model_validate(networks)
        self._means = HttpMeans(settings, reveal, tokens, lambda: now_ms() / 1000)
        self._skill = skill
        self._offered: tuple[RemoteTool, ...] = ()
        self._numbers = itertools.count(1)

    async def run(self) -> int:
        """Log in if need be, look at the server and call its tools; the exit code."""
        try:
            self._offered = (await self._met()).tools
            return max([await self._called(tool) for tool in self._offered], default=0)
        except SkillFailed as error:
            sys.stderr.write(f"{error}\n")
            return 0 if str(error).endswith("offers nothing that can be used.") else 1
        except PeritusError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return 1

    async def _met(self) -> Catalogue:
        """What the server offers; the issuer of a client is named when it turns out to be one."""
        try:
            return await self._logged_in()
        except PeritusError as error:
            named = ELSEWHERE.search(str(error))
            if named is None or self._skill.oauth is None:
                raise
            self._have(issuer=named[1])
        return await self._logged_in()

    async def _logged_in(self) -> Catalogue:
        await self._log_in()
        async with self._caller() as caller:
            return await caller.discover(self._server())

    def _have(self, **more: object) -> None:
        """Write something more of the login into the definition."""
        assert self._skill.oauth is not None
        oauth = self._skill.oauth.model_copy(update=more)
        self._skill = self._skill.model_copy(update={"oauth": oauth})

    async def _log_in(self) -> None:
        oauth = self._skill.oauth
        if oauth is None or oauth.grant == "client_credentials":
            return
        async with asyncio.TaskGroup() as tasks:

            def show(address: str) -> None:
                tasks.create_task(browse(address))

            async with at_browser(show) as person:
                try:
                    await log_in(self._means, TENANT, self._skill, person)
                except PeritusError as error:
                    failed = error
                else:
                    return
        raise failed

    async def _called(self, tool: RemoteTool) -> int:
        """A call; once more with further scopes, if that is what it needs."""
        for _ in range(LOGINS_MAX):
            async with self._caller() as caller:
                text = await self._call(caller, tool)
            wanted = NEEDS.search(text)
            if wanted is None or self._skill.oauth is None:
                return 0
            self._have(scopes=tuple(wanted[1].split()))
            await self._log_in()
        return 1

    async def _call(self, caller: Caller, tool: RemoteTool) -> str:
        name = f"c{next(self._numbers)}-0"
        call = ToolCall(
            ref=RunRef(TENANT, "job", "run"),
            call=name,
            key=name,
            tool=tool.name,
            arguments=json.dumps(self._arguments(tool)),
            timeout_ms=CALL_MS,
            skill="server",
            remote=tool.remote,
        )
        try:
            answer = await caller.call(self._server(), tool, call, heard)
        except Unavailable as error:
            text = str(error)
        else:
            text = "".join(str(getattr(part, "text", part)) for part in answer.content)
        sys.stderr.write(f"{tool.remote}: {text}\n")
        return text

    def _arguments(self, tool: RemoteTool) -> object:
        given = next((one for one in self._wanted if one["name"] == tool.name), None)
        if given is not None:
            return given["arguments"]
        if tool.name == ECHO:
            return {"schema": next(one.input_schema for one in self._offered if one != tool)}
        return least(tool.input_schema)

    def _server(self) -> Server:
        end = Endpoint(TENANT, self._skill, "peritus tools login", None)
        server = server_of(self._means, Trust(self._means.settings), end, "job")
        return replace(server, handshake="auto" if NEWEST else "initialize")

    @asynccontextmanager
    async def _caller(self) -> AsyncGenerator[Caller]:
        async with beside() as tasks:
            caller = Caller(tasks, Accepting())
            try:
                yield caller
            finally:
                await caller.close()


async def main(url: str, scenario: str, context: dict[str, Any]) -> int:
    """Be the client of one scenario."""
    skill = definition(url, scenario, context)
    with tempfile.TemporaryDirectory(prefix="peritus-conformance-") as folder:
        async with asyncio.timeout(BOUND_S):
            return await Person(skill, context, Path(folder)).run()


async def browse(address: str) -> None:
    """Open an address as a browser does, where the server lets everybody in."""
    async with httpx2.AsyncClient(follow_redirects=True, trust_env=False) as browser:
        await browser.get(address)


if __name__ == "__main__":
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    sys.exit(asyncio.run(main(sys.argv[1], os.environ["MCP_CONFORMANCE_SCENARIO"], given)))
