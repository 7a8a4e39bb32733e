"""`peritus tools login` and `logout`, as a person at a terminal meets them."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp.server.auth.settings import AuthSettings
from starlette.types import ASGIApp

from tests.wire.authorisation import Authority
from tests.wire.mcp_http import World, serving

pytestmark = pytest.mark.anyio

BOUND_S = 60.0

DEFINITION = """
[experts."helper"]
version = "1.0.0"
instruction = "Help."

[experts."helper".skills."notes"]
type = "mcpHttpSkill"
endpoint = "{endpoint}"

[experts."helper".skills."notes".oauth]
grant = "authorization_code"

[experts."helper".skills."open"]
type = "mcpHttpSkill"
endpoint = "{endpoint}"
"""


@asynccontextmanager
async def project(folder: Path) -> AsyncGenerator[Authority]:
    """A definition with a skill whose server wants a login, and both servers."""
    world, authority = World(), Authority()

    def app(port: int) -> ASGIApp:
        auth = AuthSettings.model_validate(
            {
                "issuer_url": authority.issuer,
                "resource_server_url": f"http://127.0.0.1:{port}/mcp",
                "validate_token_resource": True,
            }
        )
        server = world.server(token_verifier=authority, auth=auth)
        return world.around(server.streamable_http_app())

    async with serving(authority.app()) as port, asyncio.timeout(BOUND_S):
        authority.issuer = f"http://127.0.0.1:{port}"
        async with serving(at=app) as own:
            endpoint = f"http://127.0.0.1:{own}/mcp"
            (folder / "perstack.toml").write_text(DEFINITION.format(endpoint=endpoint))
            yield authority


async def peritus(folder: Path, *words: str, browse: bool = False) -> tuple[int, str]:
    """The exit code of a command, and what it said; `browse`: a person opens what it shows."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "peritus", "tools", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.getcwd(),  # noqa: PTH109 - of the tests
            "HOME": str(folder / "home"),
            "PERITUS_MCP_ALLOW_CIDRS": "127.0.0.0/8",
        },
    )
    assert process.stdout is not None
    said = ""
    try:
        async for line in process.stdout:
            said += line.decode()
            if browse and "log in at: " in said and line.startswith(b"peritus: log in at: "):
                await _open(line.decode().partition("log in at: ")[2].strip())
        return await process.wait(), said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _open(url: str) -> None:
    async with httpx2.AsyncClient(follow_redirects=True, trust_env=False) as browser:
        assert "logged in" in (await browser.get(url)).text


async def test_a_person_logs_in_and_out(tmp_path: Path) -> None:
    async with project(tmp_path) as authority:
        code, said = await peritus(
            tmp_path, "login", "helper", "notes", "--no-browser", browse=True
        )
        assert code == 0, said
        assert "the token is kept in" in said
        kept = tmp_path / ".peritus" / "mcp-tokens.age"
        assert str(kept) in said
        assert kept.stat().st_mode & 0o777 == 0o600
        assert authority.given
        for value in authority.given:
            assert value not in said
            assert value.encode() not in kept.read_bytes()
        code, said = await peritus(tmp_path, "logout", "helper", "notes")
        assert (code, "is forgotten" in said) == (0, True)
        code, said = await peritus(tmp_path, "logout", "helper", "notes")
        assert (code, "there is no token" in said) == (2, True)


@pytest.mark.parametrize(
    ("skill", "words"), [("note", "did you mean 'notes'?"), ("open", "has no 'oauth'")]
)
async def test_a_skill_without_a_login_is_refused(skill: str, words: str, tmp_path: Path) -> None:
    async with project(tmp_path):
        code, said = await peritus(tmp_path, "login", "helper", skill, "--no-browser")
    assert code == 2
    assert words in said
