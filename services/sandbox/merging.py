"""Workspaces of delegates that work apart: copied when they begin, brought back when asked.

Not the comparing: `snapshots.merge` plans, this carries it out between two workspaces of a job.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from domain.base_tools import MergeWorkspace
from domain.content import TextPart
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from domain.sandbox import SandboxLimits
from eventlog.port import Blobs
from services.sandbox.failures import Code, SandboxUnavailable, ToolError
from services.sandbox.room import Room
from services.sandbox.rooms import Whose, Workspaces
from services.sandbox.snapshots.contents import FolderContents
from services.sandbox.snapshots.copying import clone
from services.sandbox.snapshots.local import Captured, Look
from services.sandbox.snapshots.merge import Plan, apply_merge, plan_merge
from services.sandbox.snapshots.restore import load
from services.sandbox.snapshots.scan import live_tree
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshots.tree import Problem, Tree, shown
from services.sandbox.tools.answers import failure
from services.sandbox.tools.arguments import parse_arguments
from services.sandbox.workspace import Workspace
from services.worker.toolbox import ToolCall, ToolResult

MERGE = "mergeWorkspace"

NAMED_MAX = 200
"""How many paths an answer names of each kind; it counts them all."""


class Merging:
    """Copies and merges. The state of a copy when it was made is a snapshot of its own."""

    def __init__(
        self,
        state: Path,
        workspaces: Workspaces,
        store: SnapshotStore,
        blobs: Blobs,
        limits: Callable[[], SandboxLimits],
    ) -> None:
        """`state` is where the place notes what its copies began with."""
        self._state = state
        self._workspaces = workspaces
        self._store = store
        self._blobs = blobs
        self._limits = limits

    async def copy(self, whose: Whose, path: Path) -> None:
        """Make the workspace of a run that works apart: as its caller's is now.

        Raises:
            SandboxUnavailable: it cannot be copied.
        """
        caller = RunRef(whose.ref.tenant, whose.ref.job, whose.parent)
        source = self._workspaces.isolated(caller)
        if not source.exists():
            source = self._workspaces.of(whose.ref)
        fresh = path.with_name(f"{path.name}.new")
        try:
            await asyncio.to_thread(self._clone, source, fresh)
            with await asyncio.to_thread(Workspace, fresh) as copied:
                captured = await self._store.capture(whose.ref.tenant, path.name, copied, Look())
        except OSError as error:
            message = f"the workspace cannot be copied: {error.strerror}"
            raise SandboxUnavailable(message) from error
        if isinstance(captured, Problem):
            raise SandboxUnavailable(captured.message)
        await self._remember(whose.ref, captured)
        fresh.rename(path)

    def _clone(self, source: Path, fresh: Path) -> None:
        if fresh.exists():
            shutil.rmtree(fresh)  # of a copy that was cut off; nobody has worked in it
        fresh.mkdir(mode=0o700, parents=True)
        with Workspace(source) as out_of:
            if os.geteuid() == 0:
                os.chown(fresh, *out_of.owner())
        with Workspace(source) as out_of, Workspace(fresh) as into:
            copied = clone(out_of.fileno(), into.fileno(), self._limits())
        if isinstance(copied, Problem):
            raise SandboxUnavailable(copied.message)

    async def _remember(self, ref: RunRef, captured: Captured) -> None:
        stored = await self._store.publish(captured)
        note = self._note(ref)
        note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note.write_text(stored.root)

    async def call(self, call: ToolCall, room: Room) -> ToolResult:
        """`mergeWorkspace`: bring what a delegate changed in its copy into this room.

        Raises:
            Unavailable: what the copy began with cannot be read now.
        """
        try:
            arguments = parse_arguments(MERGE, call.arguments)
            if not isinstance(arguments, MergeWorkspace):
                raise TypeError(type(arguments))
            async with room.gate.writing(), room.changes:
                return await self._merge(call.ref, arguments, room)
        except ToolError as error:
            return failure(error)
        except (IntegrityViolated, OSError) as error:
            return failure(ToolError(Code.IO_ERROR, f"nothing more was merged: {error}"))

    async def _merge(self, ref: RunRef, arguments: MergeWorkspace, room: Room) -> ToolResult:
        child = RunRef(ref.tenant, ref.job, arguments.run)
        note, path = self._note(child), self._workspaces.isolated(child)
        if not (note.exists() and path.is_dir()):
            message = (
                f"run {arguments.run!r} has no workspace of its own here; the answer of a delegate "
                "that worked in a copy names its run"
            )
            raise ToolError(Code.NOT_FOUND, message)
        base = await load(self._blobs, ref.tenant, note.read_text())
        with await asyncio.to_thread(Workspace, path) as copied:
            theirs = await self._tree(copied)
            ours = await self._tree(room.workspace)
            plan = plan_merge(base.tree, theirs, ours, arguments.on_conflict or "fail")
            if not arguments.dry_run:
                await apply_merge(plan, FolderContents(copied.fileno()), room.workspace.fileno())
        return _answer(plan, arguments)

    async def _tree(self, workspace: Workspace) -> Tree:
        tree = await asyncio.to_thread(live_tree, workspace.fileno(), self._limits())
        if isinstance(tree, Problem):
            raise ToolError(Code.TOO_LARGE, tree.message)
        return tree

    def _note(self, ref: RunRef) -> Path:
        return self._state / ref.tenant / f"{ref.job}.{ref.run}"


def _answer(plan: Plan, arguments: MergeWorkspace) -> ToolResult:
    stopped = bool(plan.conflicts) and (arguments.on_conflict or "fail") == "fail"
    written = [shown(entry.path) for entry in plan.steps.make]
    removed = [shown(entry.path) for entry in plan.steps.remove]
    conflicts = [shown(conflict.path) for conflict in plan.conflicts]
    body = {
        "applied": not (stopped or arguments.dry_run),
        "written": written[:NAMED_MAX],
        "removed": removed[:NAMED_MAX],
        "conflicts": conflicts[:NAMED_MAX],
        "counts": {
            "written": len(written),
            "removed": len(removed),
            "conflicts": len(conflicts),
        },
    }
    if stopped:
        body["message"] = (
            "nothing was merged: these paths changed on both sides; look at both, then merge with "
            'onConflict "ours" or "theirs"'
        )
    text = json.dumps(body, ensure_ascii=False)
    return ToolResult((TextPart(text=text),), is_error=stopped)
