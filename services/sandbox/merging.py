"""Workspaces of delegates that work apart: copied when they begin, brought back when asked.

Not the comparing: `snapshots.merge` plans, this carries it out between two workspaces of a job.
"""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from domain.base_tools import MergeWorkspace
from domain.content import TextPart
from domain.errors import IntegrityViolated
from domain.ids import TOKEN, RunRef
from domain.sandbox import SandboxLimits
from services.sandbox.failures import Code, SandboxUnavailable, ToolError
from services.sandbox.opening import open_workspace
from services.sandbox.room import Room
from services.sandbox.rooms import Workspaces
from services.sandbox.snapshots.contents import FolderContents
from services.sandbox.snapshots.copying import clone
from services.sandbox.snapshots.format import entry_of, row_of
from services.sandbox.snapshots.merge import Plan, apply_merge, plan_merge
from services.sandbox.snapshots.scan import live_tree
from services.sandbox.snapshots.tree import Problem, Tree, in_walk_order, shown
from services.sandbox.syncing import Sync, sync_all
from services.sandbox.tools.answers import failure
from services.sandbox.tools.arguments import parse_arguments
from services.sandbox.tools.box import in_thread
from services.sandbox.workspace import Workspace
from services.worker.toolbox import ToolCall, ToolResult

MERGE = "mergeWorkspace"

NAMED_MAX = 200
"""How many paths an answer names of each kind; it counts them all."""


class Merging:
    """Copies and merges. What a copy began with is noted beside it, as a tree."""

    def __init__(
        self,
        state: Path,
        workspaces: Workspaces,
        limits: Callable[[], SandboxLimits],
        sync: Sync = sync_all,
    ) -> None:
        """`state` is where the place notes what its copies began with."""
        self._state = state
        self._workspaces = workspaces
        self._limits = limits
        self._sync = sync

    async def copy(self, ref: RunRef, source: Workspace, path: Path) -> None:
        """Make the workspace of a run that works apart: as its caller's is now.

        Raises:
            SandboxUnavailable: it cannot be copied.
        """
        try:
            await in_thread(lambda: self._copy(ref, source, path), threading.Event())
        except OSError as error:
            message = f"the workspace cannot be copied: {error.strerror}"
            raise SandboxUnavailable(message) from error

    def _copy(self, ref: RunRef, source: Workspace, path: Path) -> None:
        """The copy is complete, and on the disk, before it has its name; so is its note.

        Else a power cut could leave empty files, which a merge would take for the delegate's work.
        """
        fresh = path.with_name(f"{path.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)  # of a copy that was cut off; nobody has worked in it
        fresh.mkdir(mode=0o700, parents=True)
        if os.geteuid() == 0:
            os.chown(fresh, *source.owner())
        try:
            with Workspace(fresh) as into:
                _sound(clone(source.fileno(), into.fileno(), self._limits()))
                tree = _sound(live_tree(into.fileno(), self._limits()))
                _write(self._note(ref), tree)
                self._sync(into.fileno())
            fresh.rename(path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    async def call(self, call: ToolCall, room: Room, *, read_only: bool) -> ToolResult:
        """`mergeWorkspace`: bring what a delegate changed in its copy into this room.

        Two workspaces are read at once, so whoever works in the copy should be at rest.
        """
        try:
            arguments = parse_arguments(MERGE, call.arguments)
            if not isinstance(arguments, MergeWorkspace):
                raise TypeError(type(arguments))
            _check_writable(read_only=read_only)
            async with room.gate.writing(), room.changes:
                return await self._merge(call.ref, arguments, room)
        except ToolError as error:
            return failure(error)
        except (IntegrityViolated, OSError) as error:
            return failure(ToolError(Code.IO_ERROR, f"nothing more was merged: {error}"))

    async def _merge(self, ref: RunRef, arguments: MergeWorkspace, room: Room) -> ToolResult:
        child = ref._replace(run=arguments.run)
        base = await asyncio.to_thread(self._began_with, child)
        with await open_workspace(self._workspaces.isolated(child)) as copied:
            theirs = await self._tree(copied)
            ours = await self._tree(room.workspace)
            plan = plan_merge(base, theirs, ours, arguments.on_conflict or "fail")
            if not arguments.dry_run:
                await apply_merge(plan, FolderContents(copied.fileno()), room.workspace.fileno())
        return _answer(plan, arguments)

    def _began_with(self, child: RunRef) -> Tree:
        """What the copy of a run was at first. The model names the run: it may be anything."""
        known = TOKEN.fullmatch(child.run) and self._workspaces.isolated(child).is_dir()
        if not (known and self._note(child).exists()):
            message = (
                f"run {child.run!r} has no workspace of its own here; the answer of a delegate "
                "that worked in a copy names its run"
            )
            raise ToolError(Code.NOT_FOUND, message)
        return _read(self._note(child))

    async def _tree(self, workspace: Workspace) -> Tree:
        tree = await asyncio.to_thread(live_tree, workspace.fileno(), self._limits())
        if isinstance(tree, Problem):
            raise ToolError(Code.TOO_LARGE, tree.message)
        return tree

    def _note(self, ref: RunRef) -> Path:
        return self._state / ref.tenant / f"{ref.job}.{ref.run}"


T = TypeVar("T")


def _sound(made: T | Problem) -> T:
    if isinstance(made, Problem):
        raise SandboxUnavailable(made.message)
    return made


def _check_writable(*, read_only: bool) -> None:
    if read_only:
        message = f"{MERGE} was not run: this expert may not change the workspace"
        raise ToolError(Code.READ_ONLY, message)


def _write(note: Path, tree: Tree) -> None:
    note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = note.with_name(f"{note.name}.new")
    fresh.write_bytes(orjson.dumps({"rows": [*map(row_of, tree.values())]}))
    fresh.replace(note)


def _read(note: Path) -> Tree:
    """The tree of a note.

    Raises:
        IntegrityViolated: it is not one.
    """
    try:
        found = orjson.loads(note.read_bytes())
        return in_walk_order(map(entry_of, found["rows"]))
    except (ValueError, KeyError, TypeError) as error:
        message = "what the copy began with cannot be read"
        raise IntegrityViolated(message) from error


def _answer(plan: Plan, arguments: MergeWorkspace) -> ToolResult:
    stopped = bool(plan.conflicts) and (arguments.on_conflict or "fail") == "fail"
    written = [shown(entry.path) for entry in plan.steps.make]
    removed = [shown(entry.path) for entry in plan.steps.remove]
    conflicts = [shown(conflict.path) for conflict in plan.conflicts]
    body: dict[str, Any] = {
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
