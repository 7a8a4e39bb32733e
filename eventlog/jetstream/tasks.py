"""Background tasks with an owner, for context managers. Not a scheduler."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def background(*work: Coroutine[None, None, None]) -> AsyncGenerator[asyncio.TaskGroup]:
    """Run some coroutines while the context is open; cancel them when it closes.

    One failure, of the body or of a task, leaves as itself and not inside a group.

    Raises:
        BaseException: what the body raised, or what a task died of.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in work]
            try:
                yield group
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as failed:
        if len(failed.exceptions) == 1:
            raise failed.exceptions[0] from None
        raise
