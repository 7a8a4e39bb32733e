"""A real server for each test: a free port, its own store. Not the contract suite's fixtures."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from eventlog.jetstream.backbone import Timing
from eventlog.jetstream.connection import Link, open_link
from eventlog.port import Backbone
from tests.integration.deployment import TOKEN, JetStreamDeployment

TIMING = Timing(request_s=2.0, connect_s=5.0, lease_s=1.0, command_ack_wait_s=2.0)


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncGenerator[JetStreamDeployment]:
    made = JetStreamDeployment(tmp_path / "nats", TIMING)
    async with made.server:
        yield made


@pytest.fixture
async def backbone(deployment: JetStreamDeployment) -> AsyncGenerator[Backbone]:
    async with deployment.client() as ports:
        yield ports


@pytest.fixture
async def link(deployment: JetStreamDeployment) -> AsyncGenerator[Link]:
    async with open_link(
        deployment.server.url, token=TOKEN, name="test", timeout_s=2.0, connect_s=5.0
    ) as opened:
        yield opened
