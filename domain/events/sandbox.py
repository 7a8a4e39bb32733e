"""Where a job's workspace is, and its snapshots. Not the files."""

from typing import Literal

from domain.content import BlobRef, Text
from domain.record import Clean, Record


class SandboxPlaced(Record):
    """A worker took the job's workspace upon itself: this run's base tools run there.

    The root run decides for its job by optimistic concurrency; `number` counts the job's
    placements from 1, and a later one replaces every earlier one in the other runs, too.
    """

    type: Literal["sandbox.placed.v1"] = "sandbox.placed.v1"
    place: str  # the store of workspaces: it outlives the worker
    epoch: str  # the worker's life: absence from its journal proves "not run" only within it
    number: int
    backend: str
    report: Text  # the capability report, as JSON
    workspace: Literal["mounted", "copied", "own", "isolated"]
    snapshots: bool  # whether the place takes any
    restored: BlobRef | None = None  # the snapshot the files were brought back from
    lost: Clean = ""  # what is gone since the last placement, in plain words


class SandboxLost(Record):
    """The worker that holds the workspace is gone; nothing more is sent to it."""

    type: Literal["sandbox.lost.v1"] = "sandbox.lost.v1"
    place: str
    epoch: str


class SnapshotTaken(Record):
    """The files of the workspace as they were at a checkpoint: recorded later, and by itself.

    In the root run also for the checkpoints of its job's other runs: the newest one is what a
    workspace is brought back from.
    """

    type: Literal["snapshot.taken.v1"] = "snapshot.taken.v1"
    run: str  # whose checkpoint
    step: int
    version: int  # the event version of the checkpoint
    manifest: BlobRef | None  # None: it could not be taken, see `problem`
    files: int = 0
    bytes: int = 0
    new_bytes: int = 0  # stored for it, beside what older ones had
    skipped: int = 0  # sockets, devices and what was over a limit
    withheld: int = 0  # files that held a secret
    exact: bool = True  # False: something may have written since the checkpoint
    problem: Clean = ""
