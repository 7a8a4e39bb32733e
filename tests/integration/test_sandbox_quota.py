"""A workspace that is too full: what may still be done in it, and what is ended."""

import asyncio
from pathlib import Path

import pytest

from domain.content import TextPart
from domain.sandbox import MIB, SandboxLimits
from services.sandbox.quotas import within_quota
from services.sandbox.room import Room
from services.sandbox.workspace import Workspace
from services.worker.toolbox import ToolResult

pytestmark = pytest.mark.anyio

LIMITS = SandboxLimits(workspace_bytes=2 * MIB, workspace_files=100)
DONE = ToolResult((TextPart(text="done"),), is_error=False)


async def done() -> ToolResult:
    return DONE


async def test_a_full_workspace_takes_no_more_writes_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 * MIB))
    with Workspace(tmp_path) as workspace:
        room = Room("job", workspace)
        refused = await within_quota(room, LIMITS, "writeTextFile", done)
        assert refused.is_error
        assert "delete" in str(refused.content)
        assert await within_quota(room, LIMITS, "deleteFile", done) is DONE
        (tmp_path / "big").unlink()
        assert await within_quota(room, LIMITS, "writeTextFile", done) is DONE


async def test_a_command_that_fills_the_workspace_is_ended(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def fill() -> ToolResult:
        (tmp_path / "big").write_bytes(bytes(3 * MIB))
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return DONE

    with Workspace(tmp_path) as workspace:
        async with asyncio.timeout(60):
            result = await within_quota(Room("job", workspace), LIMITS, "exec", fill)
    assert result.is_error
    assert "the command was ended" in str(result.content)
    assert ended.is_set()


async def test_a_command_may_run_in_a_full_workspace_to_tidy_it_up(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(3 * MIB))

    async def tidy() -> ToolResult:
        (tmp_path / "big").unlink()
        return DONE

    with Workspace(tmp_path) as workspace:
        assert await within_quota(Room("job", workspace), LIMITS, "exec", tidy) is DONE


async def test_errors_and_cancellation_come_through_as_they_are(tmp_path: Path) -> None:
    async def breaks() -> ToolResult:
        msg = "as it is"
        raise ValueError(msg)

    with Workspace(tmp_path) as workspace:
        room = Room("job", workspace)
        with pytest.raises(ValueError, match="as it is"):
            await within_quota(room, LIMITS, "exec", breaks)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await within_quota(room, LIMITS, "exec", asyncio.Event().wait)  # type: ignore[arg-type]
