"""One deployment a test, in every form of the ports. Not the tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventlog.embedded import EmbeddedServer
from eventlog.port import Backbone
from tests.contract.deployment import Deployment, JetStreamDeployment, MemoryDeployment


@pytest.fixture(params=["memory", pytest.param("jetstream", marks=pytest.mark.broker)])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Deployment]:
    if request.param == "memory":
        yield MemoryDeployment()
        return
    async with EmbeddedServer(tmp_path / "s", durability="process", token="contract") as server:
        yield JetStreamDeployment(server)


@pytest.fixture
async def backbone(deployment: Deployment) -> AsyncGenerator[Backbone]:
    async with deployment.client() as ports:
        yield ports


@pytest.fixture
async def other(deployment: Deployment) -> AsyncGenerator[Backbone]:
    """The ports of another process of the same deployment."""
    async with deployment.client() as ports:
        yield ports
