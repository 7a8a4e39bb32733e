"""Opening a workspace without waiting for the disk on the event loop. Not the workspace."""

import asyncio
from pathlib import Path

from services.sandbox.workspace import Workspace


async def open_workspace(path: Path) -> Workspace:
    """The workspace of a folder; when the caller is cancelled meanwhile, it is closed again.

    Raises:
        SandboxUnavailable: it cannot be opened.
    """
    opening = asyncio.get_running_loop().run_in_executor(None, Workspace, path)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: "asyncio.Future[Workspace]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
