"""What snapshots of a workspace cost: 50,000 files to the local store, to BLOBS, and back."""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.__main__ import RESULTS, machine
from domain.sandbox import SandboxLimits
from eventlog.embedded import join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.durability import Durability
from eventlog.port import Blobs
from services.sandbox.quota import QuotaWatch
from services.sandbox.snapshots.copying import clone
from services.sandbox.snapshots.local import Captured
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.workspace import Workspace

FILES = 50_000
FILE_BYTES = 4_960
CHANGED = 10
ROUNDS = 9
CLASSES: tuple[Durability, ...] = ("os", "process")


def plant(root: Path, dice: random.Random) -> None:
    """50,000 files of random bytes (248 MB) in 500 folders."""
    for number in range(FILES):
        folder = root / f"area{number // 2_500}" / f"part{number // 100 % 25}"
        if number % 100 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}.txt").write_bytes(dice.randbytes(FILE_BYTES))


def change(root: Path, dice: random.Random) -> None:
    """Other bytes in ten files anywhere."""
    for number in dice.sample(range(FILES), CHANGED):
        folder = root / f"area{number // 2_500}" / f"part{number // 100 % 25}"
        (folder / f"file{number}.txt").write_bytes(dice.randbytes(FILE_BYTES))


class Took(NamedTuple):
    """How long the frozen part of a snapshot and its publication took, in milliseconds."""

    capture: float
    capture_cpu: float
    publish: float
    root: str

    @property
    def whole(self) -> float:
        return self.capture + self.publish


async def timed_snapshot(store: SnapshotStore, workspace: Workspace) -> Took:
    begun, cpu = time.perf_counter(), time.process_time()
    captured = await store.capture("bench", "job", workspace)
    done, cpu = time.perf_counter(), time.process_time() - cpu
    if not isinstance(captured, Captured):
        raise TypeError(captured)
    ref = await store.publish(captured)
    publish = (time.perf_counter() - done) * 1000
    return Took((done - begun) * 1000, cpu * 1000, publish, ref.root)


async def measure(blobs: Blobs, folder: Path, dice: random.Random) -> dict[str, float]:
    """All figures over one server."""
    figures: dict[str, float] = {}
    root = folder / "workspace"
    root.mkdir()
    plant(root, dice)
    with Workspace(root) as workspace:
        store = SnapshotStore(folder / "store", blobs)
        first = await timed_snapshot(store, workspace)
        figures |= {"first_capture_ms": first.capture, "first_capture_cpu_ms": first.capture_cpu}
        figures |= {"first_publish_ms": first.publish}
        rounds: list[Took] = []
        for _ in range(ROUNDS):
            change(root, dice)
            rounds.append(await timed_snapshot(store, workspace))
        figures |= {
            "ten_changed_capture_ms_p50": statistics.median(one.capture for one in rounds),
            "ten_changed_capture_ms_min": min(one.capture for one in rounds),
            "ten_changed_capture_cpu_ms_p50": statistics.median(one.capture_cpu for one in rounds),
            "ten_changed_publish_ms_p50": statistics.median(one.publish for one in rounds),
            "ten_changed_whole_ms_p50": statistics.median(one.whole for one in rounds),
            "ten_changed_whole_ms_min": min(one.whole for one in rounds),
        }
        begun = time.perf_counter()
        await store.restore("bench", "job", first.root, workspace)
        figures["rewind_restore_ms"] = (time.perf_counter() - begun) * 1000
        figures |= await elsewhere(blobs, folder, first.root)
        figures |= beside(workspace, folder)
    return figures


async def elsewhere(blobs: Blobs, folder: Path, root: str) -> dict[str, float]:
    """A restore by a worker that knows nothing, and its first capture after it."""
    (folder / "restored").mkdir()
    with Workspace(folder / "restored") as workspace:
        store = SnapshotStore(folder / "other-store", blobs)
        begun = time.perf_counter()
        await store.restore("bench", "job", root, workspace)
        restored = (time.perf_counter() - begun) * 1000
        again = await timed_snapshot(store, workspace)
    return {
        "restore_into_empty_ms": restored,
        "capture_after_restore_ms": again.capture,
        "publish_after_restore_ms": again.publish,
    }


def beside(workspace: Workspace, folder: Path) -> dict[str, float]:
    """A copy for a delegate, with `cp -a` as the floor, and what the quota costs."""
    begun = time.perf_counter()
    subprocess.run(["cp", "-a", folder / "workspace", folder / "floor"], check=True)
    floor = (time.perf_counter() - begun) * 1000
    (folder / "clone").mkdir()
    with Workspace(folder / "clone") as target:
        begun = time.perf_counter()
        clone(workspace.fileno(), target.fileno())
        cloned = (time.perf_counter() - begun) * 1000
    watch = QuotaWatch(workspace.fileno(), SandboxLimits())
    begun = time.perf_counter()
    watch.check(full=True)
    walked = time.perf_counter()
    watch.check()
    return {
        "clone_ms": cloned,
        "cp_a_ms": floor,
        "quota_walk_ms": (walked - begun) * 1000,
        "quota_check_ms": (time.perf_counter() - walked) * 1000,
    }


async def one_class(durability: Durability) -> dict[str, float]:
    """All figures of one durability class, with a server of its own."""
    with tempfile.TemporaryDirectory(prefix="peritus-bench-") as name:
        folder = Path(name)
        async with (
            join_state_folder(folder / "state", durability) as endpoint,
            connect_backbone(endpoint.url, token=endpoint.token, durability=durability) as backbone,
        ):
            return await measure(backbone.blobs, folder, random.Random(1))


def main() -> int:
    """Measure, print, and keep."""
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "files": FILES,
        "bytes": FILES * FILE_BYTES,
    }
    for durability in CLASSES:
        report[durability] = {k: round(v, 1) for k, v in uvloop.run(one_class(durability)).items()}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "snapshots.json").write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
