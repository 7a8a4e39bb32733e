"""What is forgiven to a sandbox with a kernel of its own is forgiven to no other. Not gVisor."""

import os

import pytest

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.landlock.backend import LACKS, LandlockBackend
from services.sandbox.self_test import self_test
from tests.contract.sandbox_backends import landlock_missing

MISSING = landlock_missing()

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sandbox,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


async def test_only_another_kernel_than_this_machines_excuses_a_check() -> None:
    backend = LandlockBackend()
    ours = os.uname().release
    try:
        with pytest.raises(SandboxUnavailable, match="does not hold here"):
            await self_test(backend, version="1", lacks_apart=LACKS, kernel=ours)
        report = await self_test(backend, version="1", lacks_apart=LACKS, kernel=f"{ours}-other")
    finally:
        await backend.close()
    assert {name for name, held in report.checks.items() if not held} == LACKS
