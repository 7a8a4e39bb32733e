"""The gateway answers as its OpenAPI document says, whatever it is asked. Not what it answers."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from tests.support.credentials import Clock, auth_of, bearer
from tests.support.gateway import deps_of, gateway, projecting, until_closed, working

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "support" / "schemathesis.toml"
PHASES = "examples,coverage,fuzzing,stateful"
BOUND_S = 120
LONG_BOUND_S = 1_800
SEED = 20261128
TOKEN = "s3cret-of-the-test"


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@asynccontextmanager
async def served(
    backbone: Backbone, folder: Path, *, wait_s: float
) -> AsyncGenerator[httpx2.AsyncClient]:
    """A gateway with a worker behind it, and a run that has ended."""
    auth = auth_of(backbone, Clock())
    deps = deps_of(backbone, folder, auth=auth, token=TOKEN, wait_s=wait_s)
    async with projecting(backbone, folder), gateway(deps) as http, working(backbone):
        http.headers.update(bearer(TOKEN))
        body = {"expert": "coder", "query": "build it", "job": "j1"}
        begun = await http.post("/v1/runs", json=body)
        end = (await until_closed(http, begun.json()["events_url"]))[-1]
        while (await http.get("/v1/runs/j1", params={"min_position": end.id})).status_code == 503:
            pass  # until the view is there; each time it waits a little
        yield http


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    async with served(backbone, tmp_path, wait_s=5.0) as http:
        yield http


@pytest.fixture
async def hasty(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client whose gateway hardly waits for a view that is not where it is asked to be."""
    async with served(backbone, tmp_path, wait_s=0.1) as http:
        yield http


async def asked_at_random(
    client: httpx2.AsyncClient, folder: Path, *, examples: int, bound_s: float
) -> None:
    """Have Schemathesis ask the gateway whatever its document allows, and what it does not."""
    words = [
        "--config-file",
        str(CONFIG),
        "run",
        f"{client.base_url}/v1/openapi.json",
        "--header",
        f"Authorization: {client.headers['Authorization']}",
        "--seed",
        str(SEED),
        "--no-color",
        "--phases",
        PHASES,
        "--max-examples",
        str(examples),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        *words,
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.api_hooks", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(bound_s):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode(errors="replace")[-20_000:]


@pytest.mark.slow
async def test_every_operation_answers_as_the_document_says(
    hasty: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await asked_at_random(hasty, tmp_path, examples=6, bound_s=BOUND_S)


@pytest.mark.thorough
async def test_every_operation_answers_as_the_document_says_for_long(
    hasty: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await asked_at_random(hasty, tmp_path, examples=150, bound_s=LONG_BOUND_S)


async def test_path_says_which_methods_it_has(client: httpx2.AsyncClient) -> None:
    wrong = await client.delete("/v1/runs/j1")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET, HEAD, OPTIONS"
    assert wrong.headers["content-type"] == "application/problem+json"
    asked = await client.options("/v1/runs")
    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    head = await client.head("/v1/runs/j1")
    assert (head.status_code, head.content) == (200, b"")
    streamed = await client.head("/v1/runs/j1/events")
    assert (streamed.status_code, streamed.headers["allow"]) == (405, "GET, OPTIONS")
    for path in ("/v1/nothing", "/v1/runs/", "/v2/runs"):
        missing = await client.get(path)
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert missing.headers["content-type"] == "application/problem+json"


async def test_role_that_is_missing_is_named(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/keys", json={"name": "looker", "role": "viewer"})
    viewer = {"Authorization": f"Bearer {made.json()['key']}"}
    looked = await client.get("/v1/runs", headers=viewer)
    refused = await client.post("/v1/runs", json={"expert": "coder"}, headers=viewer)
    assert (looked.status_code, refused.status_code) == (200, 403)
    assert (refused.json()["code"], refused.json()["role"]) == ("forbidden", "operator")


async def test_caller_of_some_experts_sees_starts_and_forks_no_others(
    client: httpx2.AsyncClient,
) -> None:
    body = {"name": "critics", "role": "operator", "experts": ["critic"]}
    made = await client.post("/v1/keys", json=body)
    client.headers["Authorization"] = f"Bearer {made.json()['key']}"
    seen = (await client.get("/v1/experts")).json()["experts"]
    assert [one["expert"] for one in seen] == ["critic"]
    assert (await client.get("/v1/experts/coder")).status_code == 404
    answers = [
        await client.post("/v1/runs", json={"expert": "coder", "query": "x"}),
        await client.post("/v1/runs", json={"expert": "nobody", "query": "x"}),
        await client.post("/v1/runs/j1/fork", json={"fromStep": 1, "query": "x"}),
        await client.post("/v1/runs", json={"expert": "critic", "query": "x"}),
    ]
    assert [one.status_code for one in answers] == [403, 403, 403, 202]


@pytest.mark.parametrize(
    ("query", "field", "hint"),
    [
        ("limti=3", "limti", "there is no such parameter; did you mean 'limit'?"),
        ("colour=1", "colour", "there are: cursor, expert, job, limit, min_position, status"),
        ("limit=3&limit=4", "limit", "is given twice"),
        ("limit=%2B3", "limit", "valid integer"),
        ("min_position=five", "min_position", "pattern"),
    ],
)
async def test_wrong_parameter_is_named_with_a_hint(
    client: httpx2.AsyncClient, query: str, field: str, hint: str
) -> None:
    refused = await client.get(f"/v1/runs?{query}")
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert (error["field"], hint in error["message"]) == (field, True), error


async def test_page_of_the_document_asks_nobody_else_and_needs_no_credential(
    client: httpx2.AsyncClient,
) -> None:
    async with httpx2.AsyncClient(base_url=client.base_url, trust_env=False) as bare:
        page = await bare.get("/v1/docs")
        script = await bare.get("/v1/docs/docs.js")
        style = await bare.get("/v1/docs/docs.css")
        document = await bare.get("/v1/openapi.json")
    assert [one.status_code for one in (page, script, style, document)] == [200] * 4
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    everything = page.text + script.text + style.text
    assert not any(word in everything for word in ("http://", "https://", "innerHTML", "<script>"))
    assert " style=" not in page.text
    assert {"list_runs", "get_file", "run_events"} <= {
        one["operationId"] for path in document.json()["paths"].values() for one in path.values()
    }
