"""What this machine keeps for runs: workspaces, sandboxes, journals, snapshots. Only a look."""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

from domain.envelope import decode
from domain.errors import IntegrityViolated, Rejected
from domain.events import SnapshotTaken
from domain.evolve import fold_all
from domain.ids import RunRef, check_token
from eventlog.port import Backbone, EventLog
from peritus.liveness import lives
from peritus.project import Workspaces
from peritus.settings import Settings
from services.sandbox.bubblewrap.remains import label
from services.sandbox.cgroups import Cgroups
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.landlock.backend import labelled
from services.sandbox.quota import Usage, usage_of
from services.sandbox.snapshots.restore import UNLIMITED

PROC = Path("/proc")
RECORDS = "sandboxes"

Kind = Literal["mounted", "own", "isolated"]
"""Whose folder a workspace is: a person's, the job's, or one run's copy."""

Alive = Callable[[str], bool]
"""Whether an epoch may still be at work."""


def known_place(state: Path) -> str | None:
    """The name of a store of workspaces; None when it was never used."""
    try:
        return check_token("place", (state / "place").read_text().strip())
    except (OSError, Rejected):
        return None


async def living(backbone: Backbone, *, alone: bool) -> Alive:
    """Who lives, as far as can be told; `alone`: nobody else uses this server.

    The process table decides for this machine, leases for others; while the server is too young to
    have heard of everybody, nobody elsewhere is taken for dead.

    Raises:
        Unavailable: the store is away.
    """
    settled = alone or await backbone.leases.settled()
    leased = frozenset(await backbone.leases.live()) if settled else None
    return lambda name: lives(name, leased)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the log says of the run that a workspace is of; `status` "" when it says nothing.

    `saved`: the newest snapshot holds the files as the run left them.
    """

    status: str
    at_ms: int = 0
    at_rest: bool = False
    epoch: str = ""
    epochs: frozenset[str] = frozenset()  # whose journals it may yet ask for
    saved: bool = False
    snapshot: SnapshotTaken | None = None  # the newest one that can be brought back


async def facts_of(log: EventLog, ref: RunRef) -> Facts:
    """What is known of a run.

    Raises:
        Unavailable: the log is away.
    """
    try:
        envelopes = [decode(item.data) for item in await log.load(ref)]
        state = fold_all(ref, envelopes)
    except IntegrityViolated:
        return Facts("damaged")
    taken = [event for one in envelopes for event in one.events if isinstance(event, SnapshotTaken)]
    held = state.sandbox
    whole = not (state.wrote or state.snapshot_due or state.unknown_events)
    return Facts(
        status=state.status if envelopes else "",
        at_ms=state.at_ms,
        at_rest=state.at_rest and not state.unknown_events,
        epoch=held.epoch if held else "",
        epochs=frozenset((held.epoch, *held.earlier)) if held else frozenset(),
        saved=whole and bool(taken) and taken[-1].manifest is not None,
        snapshot=state.snapshot,
    )


class Kept(NamedTuple):
    """A workspace on this machine; `run` is empty when it is its job's."""

    tenant: str
    job: str
    run: str
    kind: Kind
    path: Path

    @property
    def ref(self) -> RunRef:
        """The run that says how it is with it."""
        return RunRef(self.tenant, self.job, self.run or self.job)

    @property
    def room(self) -> str:
        """Its name beside those of other workspaces."""
        return f"{self.job}.{self.run}" if self.run else self.job

    def usage(self) -> Usage | None:
        """How much is in it; None when it cannot be looked at. Walks over all of it."""
        try:
            descriptor = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return usage_of(descriptor, UNLIMITED)
        except OSError:
            return None
        finally:
            os.close(descriptor)


def workspaces_here(workspaces: Workspaces) -> list[Kept]:
    """Every workspace of this place, and every folder a person assigned to a job, by name."""
    found: list[Kept] = []
    for folder in _folders(workspaces.default_root):
        for one in _folders(folder):
            job, _, run = one.name.partition(".")
            kind: Kind = "isolated" if run else "own"
            found.append(Kept(folder.name, job, run.removesuffix(".new"), kind, one))
    for record in sorted((workspaces.state / "jobs").glob("*/*.workspace")):
        ref = RunRef(record.parent.name, record.stem, record.stem)
        assigned = workspaces.known(ref)
        if assigned is not None:
            found.append(Kept(ref.tenant, ref.job, "", "mounted", assigned))
    return sorted(found)


class Standing(NamedTuple):
    """What an epoch has made outside itself, for one backend."""

    backend: str
    epoch: str
    what: str


async def standing(settings: Settings, state: Path, place: str) -> list[Standing]:
    """The sandboxes of a place by the labels on them, also what is left of dead ones."""
    found = await asyncio.to_thread(lambda: [*_bubblewrap(state, place), *_landlock(place)])
    with suppress(SandboxUnavailable):  # no engine: no containers of ours
        found += await _docker(settings, place)
    return sorted(found)


def _bubblewrap(state: Path, place: str) -> list[Standing]:
    groups = Cgroups.find()
    numbers = {
        epoch: len({one.name for folder in folders for one in _folders(folder)})
        for epoch, folders in (groups.epochs(place) if groups else {}).items()
    }
    processes = Counter(_processes(label(place, "").encode()))
    records = {
        unquote(file.parent.name)
        for file in (state / RECORDS).glob(f"*/{quote(place, safe='')}.json")
    }
    return [
        Standing(
            "bubblewrap",
            epoch,
            f"{processes[epoch]} processes, {numbers.get(epoch, 0)} control groups",
        )
        for epoch in sorted({*numbers, *processes, *records})
    ]


def _processes(prefix: bytes) -> Iterator[str]:
    """The epochs on the command lines of bubblewraps that serve a place."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # gone meanwhile, or not ours to look at
                for word in (entry / "cmdline").read_bytes().split(b"\0"):
                    if word.startswith(prefix):
                        yield unquote(word.removeprefix(prefix).decode("utf-8", "replace"))


def _landlock(place: str) -> list[Standing]:
    found = Counter(epoch for _, epoch in labelled(place))
    return [Standing("landlock", epoch, f"{number} processes") for epoch, number in found.items()]


async def _docker(settings: Settings, place: str) -> list[Standing]:
    if settings.sandbox_image is None:
        return []
    from services.sandbox.docker.container import LABEL  # noqa: PLC0415 - only where it is used
    from services.sandbox.docker.engine import Engine  # noqa: PLC0415

    engine = Engine()
    try:
        containers = await engine.call(
            lambda api: api.containers(all=True, filters={"label": [f"{LABEL}place={place}"]})
        )
    finally:
        await engine.close()
    return [
        Standing(
            "docker",
            str(one["Labels"].get(f"{LABEL}epoch", "")),
            f"container {one['Names'][0].lstrip('/')} {_of_job(one['Labels'].get(f'{LABEL}job'))}",
        )
        for one in containers
    ]


def _of_job(job: str | None) -> str:
    return f"of job {job}" if job else "made ahead of any job"


class Stored(NamedTuple):
    """A file or a folder that this place keeps beside the workspaces; `name` says what of."""

    name: str
    path: Path
    bytes: int
    changed_s: float


def journals(state: Path) -> list[Stored]:
    """What each epoch has begun, by epoch."""
    found: list[Stored] = []
    for path in sorted((state / "journal").glob("*.jsonl")):
        with suppress(FileNotFoundError):
            about = path.stat()
            found.append(Stored(path.stem, path, about.st_size, about.st_mtime))
    return found


def snapshot_stores(state: Path, rooms: Mapping[str, str]) -> list[Stored]:
    """The local part of snapshots; `rooms` are the names of workspaces by those of their stores."""
    found: list[Stored] = []
    for path in _folders(state / "snapshots"):
        with suppress(FileNotFoundError):
            inside = [one.stat() for one in (path, *path.rglob("*"))]
            size = sum(one.st_size for one in inside)
            changed = max(one.st_mtime for one in inside)
            found.append(Stored(rooms.get(path.name, ""), path, size, changed))
    return found


def store_name(tenant: str, room: str) -> str:
    """How the local store names what it keeps of a workspace."""
    return hashlib.sha256(f"{tenant}\0{room}".encode()).hexdigest()[:32]


def _folders(place: Path) -> list[Path]:
    try:
        found = [one for one in place.iterdir() if one.is_dir() and not one.is_symlink()]
    except OSError:
        return []
    return sorted(one for one in found if not one.name.startswith("."))
