"""What all tests share: the event loop they run on. Not fixtures of one area."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
