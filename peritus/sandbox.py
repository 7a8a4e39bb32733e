"""The base skill's tool box, put together at its first call: most starts need none. No sandbox."""

import asyncio
from typing import TYPE_CHECKING

from peritus.project import WorkspaceOf
from services.worker.toolbox import OnOutput, ToolCall, ToolResult

if TYPE_CHECKING:
    from services.sandbox.tools import BaseToolBox


class SandboxOnDemand:
    """Fills the port `ToolBox`."""

    def __init__(self, workspace_of: WorkspaceOf) -> None:
        self._workspace_of = workspace_of
        self._built: BaseToolBox | None = None
        self._building = asyncio.Lock()

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        """Execute one call.

        Raises:
            SandboxUnavailable: there is no sandbox or no workspace; the call did not run.
        """
        if self._built is None:
            async with self._building:
                if self._built is None:
                    self._built = await asyncio.to_thread(_build, self._workspace_of)
        return await self._built.call(call, on_output)


def _build(workspace_of: WorkspaceOf) -> "BaseToolBox":
    from services.sandbox.bubblewrap import Bubblewrap  # noqa: PLC0415 - see the module's docstring
    from services.sandbox.orphans import end_orphans  # noqa: PLC0415
    from services.sandbox.tools import BaseToolBox  # noqa: PLC0415

    bubblewrap = Bubblewrap.find()
    end_orphans(bubblewrap.binary)
    return BaseToolBox(workspace_of, bubblewrap)
