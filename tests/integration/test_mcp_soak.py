"""Servers of skills that misbehave leave nothing (C11): a small form of the benchmark."""

import pytest

from benchmarks.mcp_soak import soak

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.faults]


async def test_c11_twenty_runs_leave_no_process_task_descriptor_mount_or_group() -> None:
    found = await soak(20, first=6)
    assert found["equal"], found
    assert found["calls"], "no call was made"
