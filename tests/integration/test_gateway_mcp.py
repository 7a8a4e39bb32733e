"""MCP beside the gateway is for callers of its own tenant who may do all it does (C18)."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eventlog.memory import MemoryServer
from gateway.app import create_app
from gateway.callers import Role
from gateway.mcp.http import beside
from gateway.mcp.server import create_server
from gateway.server import serve
from tests.support.credentials import Clock, auth_of, bearer
from tests.support.gateway import deps_of
from tests.support.mcp_server import TENANT
from tests.support.mcp_server import deps_of as mcp_deps_of
from tests.support.people import team

pytestmark = pytest.mark.anyio

BOUND_S = 15.0
HELLO: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


async def test_only_who_may_do_all_that_mcp_does_is_let_in(tmp_path: Path) -> None:
    clock = Clock()
    backbone = MemoryServer(now_ms=clock.ms).backbone()
    auth = auth_of(backbone, clock)
    wanted: list[tuple[str, Role, tuple[str, ...] | None, int]] = [
        (TENANT, "admin", None, 200),
        (TENANT, "operator", None, 200),
        (TENANT, "viewer", None, 403),
        (TENANT, "admin", ("clerk",), 403),
        ("another", "admin", None, 403),
    ]
    keys = [
        (await auth.keys.create(tenant, f"k{at}", role, by="test", experts=experts))[1]
        for at, (tenant, role, experts, _) in enumerate(wanted)
    ]
    app = create_app(deps_of(backbone, tmp_path, auth=auth))
    mcp = mcp_deps_of(backbone, tmp_path, team())
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with (
        beside(app, create_server(mcp), guarded=True, hosts=frozenset(), tenant=TENANT),
        asyncio.TaskGroup() as tasks,
        httpx2.AsyncClient(trust_env=False, timeout=BOUND_S, headers=ACCEPT) as http,
    ):
        serving = tasks.create_task(serve(app, port=0, ready=url.set_result))
        try:
            async with asyncio.timeout(BOUND_S):
                where = f"{await url}/mcp"
            answers = [await http.post(where, json=HELLO, headers=bearer(key)) for key in keys]
            nobody = await http.post(where, json=HELLO)
        finally:
            serving.cancel()
    assert [one.status_code for one in answers] == [status for *_, status in wanted]
    assert nobody.status_code == 401
    assert answers[-1].text == answers[2].text
