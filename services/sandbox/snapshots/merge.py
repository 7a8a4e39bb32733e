"""Bringing a delegate's own workspace back into the one it was copied from: file by file.

A path that only the delegate changed is taken over; one that both changed differently is a conflict
and is left alone, unless the policy says whose wins. Nothing is merged inside a file. Planning is a
pure function of three trees; a plan made again after half of it was applied is the other half.
"""

from collections import Counter
from typing import Literal, NamedTuple

from services.sandbox.snapshots.apply import Mode, Steps, apply, open_up_for
from services.sandbox.snapshots.contents import Contents
from services.sandbox.snapshots.tree import Entry, Tree, in_walk_order, parent_of, walk_key

Policy = Literal["fail", "ours", "theirs"]
"""What conflicts mean: nothing is applied at all; ours stay and the rest is applied; theirs win."""


class Conflict(NamedTuple):
    """A path that both changed, as each has it; None where it is not."""

    path: bytes
    base: Entry | None
    ours: Entry | None
    theirs: Entry | None


class Plan(NamedTuple):
    """What a merge does to our workspace, and the conflicts it found."""

    steps: Steps
    conflicts: tuple[Conflict, ...]


def plan_merge(base: Tree, theirs: Tree, ours: Tree, policy: Policy = "fail") -> Plan:
    """How to bring into `ours` what `theirs` did to `base`."""
    merging = _Merging(base, theirs, ours, force=policy == "theirs")
    changed = [
        path
        for path in sorted(base.keys() | theirs.keys(), key=walk_key)
        if theirs.get(path) not in {base.get(path), ours.get(path)}
    ]
    for path in reversed(changed):  # what a folder holds before the folder
        if path not in theirs:
            merging.remove(path)
    for path in changed:
        if path in theirs:
            merging.put(path, theirs[path])
    conflicts = tuple(merging.conflicts[path] for path in sorted(merging.conflicts, key=walk_key))
    if conflicts and policy == "fail":
        return Plan(Steps(), conflicts)
    return Plan(_steps(ours, in_walk_order(merging.result.values())), conflicts)


async def apply_merge(plan: Plan, theirs: Contents, workspace: int) -> None:
    """Do what was planned; what is taken away is taken away last.

    Raises:
        Unavailable: the content cannot be had now; plan and apply again later.
        IntegrityViolated: a content is not what the plan says.
        OSError: the workspace cannot be written.
    """
    if plan.steps:
        await apply(plan.steps, theirs, workspace, whole=True)


class _Merging:
    """Our tree on its way to the merged one, which is a tree all the time."""

    def __init__(self, base: Tree, theirs: Tree, ours: Tree, *, force: bool) -> None:
        self.result: dict[bytes, Entry] = dict(ours)
        self.conflicts: dict[bytes, Conflict] = {}
        self._base = base
        self._theirs = theirs
        self._ours = ours
        self._force = force
        self._held = Counter(parent_of(path) for path in ours)  # how much each folder holds
        self._blocked: set[bytes] = set()  # whose conflict goes for all below it
        self._needed: set[bytes] = set()  # folders in which a conflict keeps something

    def remove(self, path: bytes) -> None:
        """They have removed this path."""
        if path in self._needed and not self._force:
            self._needed.add(parent_of(path))
            return
        alone = self._ours.get(path) == self._base.get(path) and not self._held[path]
        if alone or self._conflict(path):
            self._drop(path)

    def put(self, path: bytes, entry: Entry) -> None:
        """They have made or changed this path."""
        parent = parent_of(path)
        if parent in self._blocked:
            self._blocked.add(path)
            return
        fits = not parent or (parent in self.result and self.result[parent].kind == "folder")
        emptied = entry.kind == "folder" or not self._held[path]
        alone = self._ours.get(path) == self._base.get(path)
        if entry.missing:
            self._conflict(path)  # nobody has its content
        elif (alone and fits and emptied) or self._conflict(path):
            self._make_way(parent)
            if not emptied:
                self._drop(path)
            self._held[parent] += path not in self.result
            self.result[path] = entry

    def _conflict(self, path: bytes) -> bool:
        """Note a conflict; whether theirs is taken nevertheless."""
        of = (self._base.get(path), self._ours.get(path), self._theirs.get(path))
        self.conflicts[path] = Conflict(path, *of)
        if not self._force:
            self._blocked.add(path)
            self._needed.add(parent_of(path))
        return self._force

    def _make_way(self, folder: bytes) -> None:
        """See to it that something can lie in this folder of theirs."""
        if not folder or (folder in self.result and self.result[folder].kind == "folder"):
            return
        self._make_way(parent_of(folder))
        self._held[parent_of(folder)] += folder not in self.result
        self.result[folder] = self._theirs[folder]

    def _drop(self, path: bytes) -> None:
        """Take a path out, with all below it."""
        if self.result.pop(path, None) is None:
            return
        self._held[parent_of(path)] -= 1
        if self._held[path]:
            below = path + b"/"
            for other in [other for other in self.result if other.startswith(below)]:
                del self.result[other]
                self._held[parent_of(other)] -= 1


def _steps(ours: Tree, result: Tree) -> Steps:
    """The steps from our tree to the merged one."""
    steps = Steps()
    cleared = b"\0"  # no path begins like this
    for path, old in ours.items():
        if path.startswith(cleared):
            continue
        new = result.get(path)
        if new is None:
            steps.remove.append(old)
        elif "folder" in {old.kind, new.kind} and old.kind != new.kind:
            steps.clear.append(path)
            cleared = path + b"/"
    steps.remove.reverse()
    for path, aim in result.items():
        entry = ours.get(path)
        if entry == aim:
            continue
        if entry is None or entry._replace(mode=0) != aim._replace(mode=0):
            steps.make.append(aim)
            if aim.kind == "folder":
                steps.modes.append(Mode(path, aim.mode))
        else:
            steps.modes.append(Mode(path, aim.mode))
    open_up_for(steps, ours)
    return steps
