"""Removes what no run needs any more on this machine. Never a folder that a person chose.

A workspace is moved aside first, then looked at again: who has it open, or goes on with its run
meanwhile, gets it back.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from domain.errors import IntegrityViolated
from domain.ids import RunRef
from eventlog.port import Backbone
from peritus import places
from peritus.backends import backends
from peritus.ids import new_id
from peritus.places import Alive, Facts, Kept
from peritus.project import PRIVATE_FOLDER, Workspaces
from peritus.settings import Settings
from services.sandbox import lives
from services.sandbox.cleared import Cleared, Notes
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.journal_file import JournalFiles
from services.sandbox.snapshots.folders import Target
from services.sandbox.snapshots.restore import UNLIMITED, load

ASIDE = "removed"
"""Where a workspace is while it is being removed, beside the others."""


GONE = ".gone"
"""What its name there ends with once that is decided: what has not this end is still needed."""


class Said(NamedTuple):
    """A line about one thing: removed (or to be), or kept although it is old."""

    what: str
    where: str
    why: str
    removed: bool = True


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `unsaved`: also workspaces whose files no snapshot holds."""

    now_s: float
    older_than_s: float
    dry_run: bool
    unsaved: bool


@dataclass
class Removal:
    """One round over a place."""

    settings: Settings
    workspaces: Workspaces
    backbone: Backbone
    alive: Alive
    wish: Wish
    _open: frozenset[RunRef] = frozenset()
    _needed: frozenset[str] = frozenset()  # epochs whose journals open runs may ask for
    _facts: dict[RunRef, Facts] = field(default_factory=dict[RunRef, Facts])

    async def run(self) -> AsyncIterator[Said]:
        """Do it, and tell of each thing.

        Raises:
            Unavailable: the store is away; nothing more is removed.
        """
        self._open = frozenset(await self.backbone.open_runs.list())
        epochs = [(await self._known(ref)).epochs for ref in sorted(self._open)]
        self._needed = frozenset[str]().union(*epochs)
        state = self.workspaces.place
        place = places.known_place(state)
        if place is not None:
            async for said in self._reap(state, place):
                yield said
        here = places.workspaces_here(self.workspaces)
        left = set(here)
        for kept in here:
            told = None if kept.kind == "mounted" else await self._workspace(kept)
            if told is not None:
                yield told
                left -= {kept} if told.removed else set()
        for said in await asyncio.to_thread(self._beside, state, left):
            yield said

    async def _known(self, ref: RunRef) -> Facts:
        if ref not in self._facts:
            self._facts[ref] = await places.facts_of(self.backbone.log, ref)
        return self._facts[ref]

    async def _reap(self, state: Path, place: str) -> AsyncIterator[Said]:
        """What dead epochs left behind."""
        if self.wish.dry_run:
            for one in await places.standing(self.settings, state, place):
                if not self.alive(one.epoch):
                    yield Said(one.backend, one.what, f"epoch {one.epoch} is gone")
            return
        for name, make in backends(self.settings, state).items():
            with suppress(SandboxUnavailable):  # not there: nothing of it can be ended
                backend = make()
                try:
                    lines = await backend.reap(place, self.alive)
                finally:
                    await backend.close()
                for line in lines:
                    yield Said(name, line, "its worker is gone")
        lives.forget(state, self.alive)

    async def _workspace(self, kept: Kept) -> Said | None:
        """Remove a workspace of ours if nobody needs it; None when it is simply not old."""
        facts, what = await self._known(kept.ref), f"workspace of {kept.room}"
        if self._busy(kept, facts):
            return None
        age_s = self.wish.now_s - facts.at_ms / 1000
        if age_s < self.wish.older_than_s:
            return None
        why = await asyncio.to_thread(self._unsaved, kept, facts) or await self._lost(kept, facts)
        if why:
            return Said(what, str(kept.path), why, removed=False)
        if self.wish.dry_run:
            in_use = await asyncio.to_thread(_users_of, kept.path)
        else:
            in_use = await self._take_away(kept, facts)
        if in_use:
            return Said(what, str(kept.path), in_use, removed=False)
        return Said(what, str(kept.path), f"{facts.status} {_days(age_s)} ago")

    def _busy(self, kept: Kept, facts: Facts) -> bool:
        """Whether its job is open, or nothing is known of it: then it may be anything."""
        jobs = {(ref.tenant, ref.job) for ref in self._open}
        return (kept.tenant, kept.job) in jobs or not facts.at_rest

    def _unsaved(self, kept: Kept, facts: Facts) -> str:
        if self.wish.unsaved or facts.saved or facts.status == "deleted":
            return ""
        usage = kept.usage()
        if usage is not None and usage.files == 0:
            return ""
        return "no snapshot holds all its files; --unsaved removes it too"

    async def _lost(self, kept: Kept, facts: Facts) -> str:
        """Why the snapshot that the log names could not replace the files.

        Raises:
            Unavailable: the store is away.
        """
        manifest = facts.snapshot.manifest if facts.snapshot else None
        if self.wish.unsaved or manifest is None:
            return ""
        try:
            await load(self.backbone.blobs, kept.tenant, manifest.digest, UNLIMITED)
        except IntegrityViolated:
            return "its snapshot cannot be read; --unsaved removes it all the same"
        return ""

    def _note(self, kept: Kept, facts: Facts) -> None:
        """Leave word for a run that goes on: what its files are to be brought back from.

        A delegate does not go on, so its copy is gone for good.
        """
        taken = facts.snapshot
        if kept.kind == "isolated" or (taken is None and not self.wish.unsaved):
            return  # of a job that has no file and never had one, nothing is missing
        cleared = Cleared(path=str(kept.path))
        if taken is not None:
            update = {"manifest": taken.manifest, "step": taken.step, "run": taken.run}
            cleared = cleared.model_copy(update=update)
        Notes(self.workspaces.place).write(kept.ref, cleared)

    async def _take_away(self, kept: Kept, facts: Facts) -> str:
        """Remove a folder of ours; why not, when it is in use after all."""
        aside = self.workspaces.place / ASIDE
        aside.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        moved = aside / new_id()
        kept.path.rename(moved)
        try:
            why = await asyncio.to_thread(_users_of, moved)
            if not why and await places.facts_of(self.backbone.log, kept.ref) != facts:
                why = "its run goes on"
            if not why:
                await asyncio.to_thread(self._note, kept, facts)
        except BaseException:
            moved.rename(kept.path)
            raise
        if why:
            moved.rename(kept.path)
            return why
        gone = moved.rename(moved.with_suffix(GONE))  # from here on there is no way back
        await asyncio.to_thread(_remove, gone)
        note = self.workspaces.place / "isolated" / kept.tenant / kept.path.name
        note.unlink(missing_ok=True)
        return ""

    def _beside(self, state: Path, left: set[Kept]) -> list[Said]:
        """Journals of dead epochs, and local snapshots of workspaces that are gone."""
        said: list[Said] = []
        ended = list(self._ended_journals(state))
        said.extend(
            Said("local snapshots", str(one.path), "their workspace is gone")
            for one in places.snapshot_stores(state, self._rooms(left))
            if not one.name and self._old(one.changed_s)
        )
        said.extend(
            Said("rest of a workspace", str(path), "an earlier removal was cut off")
            for path in (state / ASIDE).glob(f"*{GONE}")
        )
        if not self.wish.dry_run:
            for line in said:
                _remove(Path(line.where))
        return [*ended, *said]

    def _ended_journals(self, state: Path) -> Iterator[Said]:
        files = JournalFiles(state / "journal")
        for one in places.journals(state):
            spare = not self.alive(one.name) and one.name not in self._needed
            if not spare or not self._old(one.changed_s):
                continue
            if self.wish.dry_run or files.retire(one.name):
                yield Said(f"journal of {one.name}", str(one.path), "it has ended")

    def _rooms(self, left: set[Kept]) -> Mapping[str, str]:
        rooms = {(kept.tenant, kept.room) for kept in left}
        rooms |= {(ref.tenant, ref.job) for ref in self._open}
        rooms |= {(ref.tenant, f"{ref.job}.{ref.run}") for ref in self._open}
        return {places.store_name(*one): one[1] for one in rooms}

    def _old(self, changed_s: float) -> bool:
        return self.wish.now_s - changed_s >= self.wish.older_than_s


def _users_of(folder: Path) -> str:
    """Which process has a folder, or something in it, open or as its own; "" for none we see."""
    for entry in places.PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # gone meanwhile, or not ours to look at
                for link in (entry / "cwd", *(entry / "fd").iterdir()):
                    with suppress(OSError):
                        if link.readlink().is_relative_to(folder):
                            return f"process {entry.name} has it open"
    return ""


def _remove(path: Path) -> None:
    """Remove a file or a folder with all in it, whatever its modes are; no link is followed."""
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Target(parent) as target:
            target.remove(os.fsencode(path.name))
    finally:
        os.close(parent)


def _days(age_s: float) -> str:
    return f"{age_s / 86_400:.1f} days"
