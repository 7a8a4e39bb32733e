"""`make sandbox-jobs`: jobs that are cancelled at random moments, and what is left of them (C10).

Each job has a worker's whole service under it: placement, journal, bubblewrap, snapshots. Its
commands fork daemons that leave their session. Everything is counted before and after: while the
worker still lives and its rooms were closed, and when it is gone. Also measured: the first call of
a job, and the next ones. Nothing of other programs of this machine is counted.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from domain.commands import CancelRun
from domain.ids import RunRef
from tests.support.cluster import asks
from tests.support.service import Place, Yard, crew, places, plays, sh

JOBS = 500
AT_ONCE = 8
CANCEL_S_MAX = 0.5
COLD = 40
WARM = 100


@dataclass(frozen=True)
class Left:
    """What there is of us: counts, so that two of them can be compared."""

    processes: int  # under this one, and any that has the word of these jobs
    namespaces: int  # of networks, that we hold or our processes are in
    mounts: int  # of this place
    cgroups: int
    descriptors: int
    files: int  # of sandboxes, in the state folder

    @classmethod
    def of(cls, word: str, place: Place) -> "Left":
        """Count now."""
        own = list(_processes(word))
        return cls(
            processes=len(own),
            namespaces=len({*_networks(own), *_held_networks()}),
            mounts=Path("/proc/self/mountinfo").read_text().count(place.folder.parent.name),
            cgroups=sum(1 for _ in _cgroups(place)),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
            files=sum(1 for name in ("sandboxes", "lives") for _ in place.state.glob(f"{name}/*")),
        )


def _processes(word: str) -> Iterator[Path]:
    parents: dict[int, int] = {}
    named: set[int] = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[pid] = int(fields[1])
            if word.encode() in (entry / "cmdline").read_bytes():
                named.add(pid)
    for pid in parents:
        above = pid
        while above in parents and parents[above] != os.getpid():
            above = parents[above]
        if pid != os.getpid() and (above in parents or pid in named):
            yield Path("/proc") / str(pid)


def _networks(processes: list[Path]) -> Iterator[str]:
    for process in processes:
        with suppress(OSError):
            yield str((process / "ns/net").readlink())


def _held_networks() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if (name := str(entry.readlink())).startswith("net:["):
                yield name


def _cgroups(place: Place) -> Iterator[str]:
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"{folder}/{one}" for one in folders if one == place.name)


def boss(word: str) -> Yard:
    """A yard whose experts do what leaves something behind, if anything can."""
    daemons = (
        f"echo 1 > f; (setsid sleep 1000 &) ; (setsid sh -c 'sleep 1000 # {word}' &); : {word}"
    )
    stays = json.dumps({"shell": f"trap '' TERM; while :; do sleep 1; done # {word}"})
    endless = sh(f"{daemons}; sleep 1000")
    return Yard(
        crew(),
        plays(boss=[sh(daemons), asks(("startProcess", stays)), endless, "done"]),
        idle_s=0,
    )


async def soak(jobs: int, seed: int = 1) -> dict[str, object]:
    """Start and cancel so many jobs; what there was of us before, between and after."""
    dice = random.Random(seed)
    word = f"soak-{os.getpid()}"
    with places("soak") as (place,):
        yard = boss(word)
        async with yard.sandboxed("warm-up", place) as lane:  # what is loaded once is loaded now
            await _job(yard, 0, CANCEL_S_MAX)
            await (await lane.service()).tidy()
        before = Left.of(word, place)
        begun = time.perf_counter()
        async with yard.sandboxed("soak", place) as lane:
            service = await lane.service()
            await _job(yard, 1, CANCEL_S_MAX)
            await service.tidy()
            alive = Left.of(word, place)
            await _jobs(yard, range(2, jobs), dice)
            await service.tidy()
            idle = Left.of(word, place)
        after = Left.of(word, place)
        return {
            "jobs": jobs,
            "at_once": AT_ONCE,
            "took_s": time.perf_counter() - begun,
            "before": vars(before),
            "first_job_over": vars(alive),
            "all_jobs_over": vars(idle),
            "after": vars(after),
            "equal": before == after and alive == idle,
        }


async def _jobs(yard: Yard, numbers: range, dice: random.Random) -> None:
    todo = iter(numbers)

    async def some() -> None:
        for number in todo:
            await _job(yard, number, dice.uniform(0, CANCEL_S_MAX))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(some())


async def _job(yard: Yard, number: int, after_s: float) -> None:
    ref = Yard.job(f"job{number}")
    await yard.begin(ref)
    await asyncio.sleep(after_s)
    await yard.client.submit(ref, CancelRun(id="stop"), "stop")
    await yard.reached("the end", lambda one: bool(one.expert) and one.at_rest, ref)


async def measure() -> dict[str, float]:
    """The first call of a job that is cold, and further ones of a job that is warm."""
    with places("times") as (place,):
        yard = Yard(crew(), plays(boss=[*[sh("true")] * WARM, "done"]))
        cold = Yard(crew(), plays(boss=[sh("true"), "done"]))
        firsts: list[float] = []
        async with cold.sandboxed("cold", place):
            for number in range(COLD + 1):
                ref = Yard.job(f"job{number}")
                await cold.begin(ref)
                await cold.rested(ref)
                firsts.extend(await _durations(cold, ref))
        async with yard.sandboxed("warm", place):
            ref = Yard.job("warm")
            await yard.begin(ref)
            await yard.rested(ref)
            nexts = await _durations(yard, ref)
    return {
        "cold_first_call_ms_p50": quantile(firsts[1:], 0.5),  # the very first makes the service
        "cold_first_call_ms_p95": quantile(firsts[1:], 0.95),
        "warm_exec_ms_p50": quantile(nexts[1:], 0.5),
        "warm_exec_ms_p95": quantile(nexts[1:], 0.95),
    }


async def _durations(yard: Yard, ref: RunRef) -> list[float]:
    """How long each call took, from its beginning to its result, sandbox and all."""
    return [float(one.duration_ms or 0) for one in await yard.outcomes(ref)]


def main() -> int:
    """Measure, print, and keep; fails when anything is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=JOBS)
    jobs = parser.parse_args().jobs
    report = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "soak": asyncio.run(soak(jobs)),
        "calls": asyncio.run(measure()),
    }
    text = json.dumps(report, indent=2)
    sys.stdout.write(f"{text}\n")
    if jobs == JOBS:
        (RESULTS / "sandbox_jobs.json").write_text(f"{text}\n")
    soaked = report["soak"]
    return 0 if isinstance(soaked, dict) and soaked["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
