"""Jobs that are cancelled at random moments leave nothing (C10): a small form of the benchmark."""

import pytest

from benchmarks.sandbox_jobs import soak

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox, pytest.mark.faults]


async def test_thirty_cancelled_jobs_leave_no_process_group_descriptor_or_file() -> None:
    found = await soak(30)
    assert found["equal"], found
