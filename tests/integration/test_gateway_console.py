"""How the console's files are served: to anybody, under a strict policy, once while unchanged."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from eventlog.memory import MemoryServer
from gateway.console.files import FOLDER, console_paths
from tests.support.gateway import deps_of, gateway

pytestmark = pytest.mark.anyio

TEXTS = sorted(FOLDER.glob("*.*"))
AS_MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")
AWAY = re.compile(r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]+(?:https?:)?//""")
"""An address of another machine, where a browser would fetch it."""


@pytest.fixture
async def http(tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client without a credential, of a gateway that asks for one."""
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    async with gateway(deps_of(backbone, tmp_path, token="only-for-tests")) as client:
        client.headers.pop("authorization", None)
        yield client


async def test_the_page_is_for_anybody_and_what_it_shows_is_not(http: httpx2.AsyncClient) -> None:
    page, data = await http.get("/"), await http.get("/v1/jobs")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert data.status_code == 401


async def test_the_page_may_run_its_own_files_and_nothing_else(http: httpx2.AsyncClient) -> None:
    page = await http.get("/")
    policy = dict[str, str]()
    for part in page.headers["content-security-policy"].split(";"):
        name, _, value = part.strip().partition(" ")
        policy[name] = value

    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == (
        "'none'",
        "'self'",
        "'self'",
    )
    assert policy["require-trusted-types-for"] == "'script'"
    assert policy["trusted-types"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text) is None


async def test_every_file_the_page_names_is_served_with_its_type(http: httpx2.AsyncClient) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    named = set(re.findall(r'(?:src|href)="(/console/[^"]+)"', (FOLDER / "index.html").read_text()))
    for path in FOLDER.glob("*.js"):
        named |= {f"/console/{name}" for name in re.findall(r'from "\./([^"]+)"', path.read_text())}

    assert named | {"/"} == console_paths()
    for path in sorted(named):
        answer = await http.get(path)
        kind = answer.headers["content-type"].partition(";")[0]
        assert (answer.status_code, kind) == (200, types[Path(path).suffix])


async def test_a_file_that_is_known_is_not_sent_again(http: httpx2.AsyncClient) -> None:
    first = await http.get("/console/main.js")
    tag = first.headers["etag"]
    again = await http.get("/console/main.js", headers={"If-None-Match": f'"other", W/{tag}'})
    other = await http.get("/console/main.js", headers={"If-None-Match": '"other"'})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize(
    "path",
    [
        "/console",
        "/console/",
        "/console/index.html",
        "/console/files.py",
        "/console/../app.py",
        "/console/%2e%2e/files.py",
        "/console/..%2ffiles.py",
        "/console/no.js",
    ],
)
async def test_nothing_else_is_there(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code in {401, 404}


async def test_the_page_takes_nothing(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/", json={})
    assert answer.status_code == 405


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_file_of_the_console_asks_another_machine_or_reads_text_as_markup(path: Path) -> None:
    text = path.read_text()

    assert AWAY.search(text) is None
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert way not in text
    assert re.search(r"setAttribute\(\"(style|on\w+)\"", text) is None
    assert len(text.splitlines()) <= 500
