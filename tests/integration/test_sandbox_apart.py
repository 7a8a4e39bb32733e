"""What is forgiven to a sandbox with a kernel of its own is forgiven to no other. Not gVisor."""

import os
from pathlib import Path

import pytest

from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.self_test import self_test

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

UNFILTERED = frozenset(
    {"foreign_calls_denied", "no_other_sockets", "system_calls_filtered", "tracing_denied"}
)
"""What a sandbox that filters no calls does not hold off."""


async def test_only_another_kernel_than_this_machines_excuses_a_check(tmp_path: Path) -> None:
    backend = BubblewrapBackend(tmp_path)
    backend.seccomp = None
    ours = os.uname().release
    try:
        with pytest.raises(SandboxUnavailable, match="does not hold here") as caught:
            await self_test(backend, version="1", lacks_apart=UNFILTERED, kernel=ours)
        report = await self_test(backend, version="1", lacks_apart=UNFILTERED, kernel="another")
    finally:
        await backend.close()
    not_held = {name for name, held in report.checks.items() if not held}
    assert not_held <= UNFILTERED
    assert all(name in str(caught.value) for name in not_held)
    assert not_held
