"""A gateway that asks for credentials, and an issuer of tokens. Not the tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import GatewayDeps
from tests.support.credentials import Authority, Clock, auth_of, authority
from tests.support.gateway import deps_of, gateway, projecting
from tests.support.house import TOKEN, House, house_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backbone(clock: Clock) -> Backbone:
    return MemoryServer(now_ms=clock.ms).backbone()


@pytest.fixture
def deps(backbone: Backbone, clock: Clock, tmp_path: Path) -> GatewayDeps:
    return deps_of(backbone, tmp_path, token=TOKEN, auth=auth_of(backbone, clock))


@pytest.fixture
async def house(deps: GatewayDeps, clock: Clock, tmp_path: Path) -> AsyncGenerator[House]:
    async with projecting(deps.backbone, tmp_path), gateway(deps) as http:
        yield house_of(http, deps, clock)


@pytest.fixture
async def made(clock: Clock) -> AsyncGenerator[Authority]:
    async with authority(clock) as there:
        there.new_key("k1")
        yield there
