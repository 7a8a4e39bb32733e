"""Tasks beside a block of code, whose own error leaves it as it is: not as one of a group."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def beside() -> AsyncGenerator[asyncio.TaskGroup]:
    """A task group for a block; whatever the block raises is raised when the tasks are over."""
    failed: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001 - raised below
            failed = error
    if failed is not None:
        raise failed
