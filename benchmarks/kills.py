"""`make kills`: ends the only process of a run with kill -9, again and again. No host crashes.

Every trial is a project of its own: `peritus run` is killed at a random moment of a generation, of
a tool call, or anywhere in a run of quick steps; `peritus resume` takes the run up. What ran is
counted by the tool itself, in a file that no log knows of.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.__main__ import RESULTS, machine
from benchmarks.figures import quantile
from commands.runs import RunStore
from domain.events import ToolCallEnded, ToolCallRequested
from domain.ids import RunRef
from eventlog.embedded import join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from peritus.feed import Heard, stored_events
from peritus.ids import new_id, now_ms

Kind = Literal["generation", "tool", "anywhere"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TRIAL_S = 60.0
"""How long one trial may take, in seconds; one that takes longer counts as not completed."""

SLOW_MS = 1_500
KILL_MS_MAX = 1_000
"""The kill lands within this time of work that takes `SLOW_MS`, in milliseconds."""

QUICK_STEPS = 60
QUICK_MS_MAX = 600

LINE_BYTES_MAX = 1 << 20
PROJECT = '[experts."one"]\ninstruction = "Count."\n'
WORDS = ("run", "one", "go", "--json", "--provider", "scripted", "--model", "script.toml")


def script(kind: Kind, *, slow: bool) -> str:
    """The model's replies: counted calls, one of them slow, or the generation before it."""
    replies: list[str] = []
    for number in range(QUICK_STEPS if kind == "anywhere" else 4):
        due = number == 1 and slow
        delay = f"delay_ms = {SLOW_MS}\n" if due and kind == "generation" else ""
        sleep = f"; sleep {SLOW_MS / 1000}" if due and kind == "tool" else ""
        replies.append(
            f'[[reply]]\ntext = "Count {number}."\n{delay}[[reply.call]]\ntool = "exec"\n'
            f'arguments = {{ command = "bash", args = ["-c", "echo c{number} >> ran{sleep}"] }}\n'
        )
    return "".join([*replies, '[[reply]]\ntext = "done"\n'])


@dataclass
class Trial:
    """What one kill came to."""

    kind: Kind
    completed: bool = False
    lost: int = 0  # events that were seen before the kill and are not in the log after
    not_one_outcome: int = 0  # calls with no outcome, or two
    twice: int = 0  # calls that ran more than once, or less often than the log says
    unknown: int = 0  # calls whose outcome is unknown, as they must be when killed inside
    started_ms: float = 0.0  # from the kill to the first new event
    next_step_ms: float = 0.0  # from the kill until the next reply of the model is in the log
    said: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing was lost and nothing done twice."""
        return self.completed and not (self.lost or self.not_one_outcome or self.twice)


@dataclass
class Command:
    """A `peritus` command that runs, and its events as they came."""

    process: asyncio.subprocess.Process
    seen: list[tuple[float, dict[str, Any]]] = field(
        default_factory=list[tuple[float, dict[str, Any]]]
    )

    @classmethod
    async def start(cls, folder: Path, *words: str) -> "Command":
        """Start it in a project; what it says to people goes to a file there."""
        env = {name: text for name, text in os.environ.items() if not name.startswith("PERITUS_")}
        with (folder / "said").open("ab") as said:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "peritus", *words),
                cwd=folder,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                limit=LINE_BYTES_MAX,
            )
        return cls(process)

    async def until(self, kind: str, step: int = 0) -> float:
        """Read until an event of that type; when it was read, 0 at the end of all events."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.endswith(b"\n"):
                break  # it was killed inside a line
            heard = json.loads(line)
            self.seen.append((time.perf_counter(), heard))
            event = heard["event"]
            if event["type"] == kind and event.get("step", step) >= step:
                return self.seen[-1][0]
        return 0.0

    async def kill(self) -> float:
        """End it with SIGKILL; when."""
        at = time.perf_counter()
        if self.process.returncode is None:
            self.process.kill()
        await self.until("nothing is called so")
        await self.process.wait()
        return at


async def trial(kind: Kind, dice: random.Random) -> Trial | None:
    """One kill; None when the run was over before it."""
    found = Trial(kind)
    with tempfile.TemporaryDirectory(prefix="peritus-kill-") as name:
        folder = Path(name)
        (folder / "perstack.toml").write_text(PROJECT)
        (folder / "script.toml").write_text(script(kind, slow=True))
        commands: list[Command] = []
        try:
            async with asyncio.timeout(TRIAL_S):
                counted = await _trial(found, folder, commands, dice)
        except TimeoutError:
            counted = True
        finally:
            for command in commands:
                await command.kill()
            found.said = (folder / "said").read_text(errors="replace")
            await _stop_server(folder)
    return found if counted else None


async def _trial(found: Trial, folder: Path, commands: list[Command], dice: random.Random) -> bool:
    first = await Command.start(folder, *WORDS)
    commands.append(first)
    match found.kind:
        case "generation":
            await first.until("generation.requested.v2", step=2)
            wait_ms = dice.uniform(0, KILL_MS_MAX)
        case "tool":
            await first.until("generation.completed.v2", step=2)
            await first.until("tool_call.claimed.v1")
            wait_ms = dice.uniform(0, KILL_MS_MAX)
        case "anywhere":
            await first.until("run.started.v2")
            wait_ms = dice.uniform(0, QUICK_MS_MAX)
    await asyncio.sleep(wait_ms / 1000)
    killed_at = await first.kill()
    if first.process.returncode == 0:
        return False
    # The model is quick from here on, so that the time to the next step is ours alone.
    (folder / "script.toml").write_text(script(found.kind, slow=False))
    run = first.seen[0][1]["run"]
    second = await Command.start(folder, "resume", run, "--json")
    commands.append(second)
    next_at = await second.until("generation.completed.v2")
    await second.until("run.completed.v2")
    await second.until("nothing is called so")
    found.completed = await second.process.wait() == 0
    if next_at:
        found.started_ms = (second.seen[0][0] - killed_at) * 1000
        found.next_step_ms = (next_at - killed_at) * 1000
    ran = folder / "workspace" / "ran"
    counts = Counter(ran.read_text().split() if ran.exists() else ())
    audit(found, await _log_of(folder, run), [heard for _, heard in first.seen], counts)
    return True


def audit(found: Trial, log: list[Heard], seen: list[dict[str, Any]], counts: Counter[str]) -> None:
    """Compare what was seen before the kill, what is in the log, and what really ran."""
    stored = {(heard.ref.run, heard.version): heard.json for heard in log}
    found.lost = sum(stored.get((one["run"], one["version"])) != one for one in seen)
    ended = [heard.event for heard in log if isinstance(heard.event, ToolCallEnded)]
    outcomes = Counter(event.call for event in ended)
    asked = [heard.event for heard in log if isinstance(heard.event, ToolCallRequested)]
    found.not_one_outcome = sum(outcomes[event.call] != 1 for event in asked)
    succeeded = {event.call for event in ended if event.outcome == "succeeded"}
    found.unknown = sum(event.outcome == "outcome_unknown" for event in ended)
    for event in asked:
        times = counts[_counted_by(str(event.arguments))]
        found.twice += times > 1 or (event.call in succeeded and times != 1)


def _counted_by(arguments: str) -> str:
    """The word that a call writes when it runs."""
    return arguments.partition("echo ")[2].partition(" ")[0]


async def _log_of(folder: Path, run: str) -> list[Heard]:
    """Every event of a run; folding it first checks versions and the chain of hashes."""
    async with (
        join_state_folder(folder / ".peritus") as endpoint,
        connect_backbone(endpoint.url, token=endpoint.token) as backbone,
    ):
        ref = RunRef("default", run, run)
        await RunStore(backbone, epoch="", now_ms=now_ms, new_id=new_id).fresh(ref)
        return await stored_events(backbone.log, [ref])


async def _stop_server(folder: Path) -> None:
    """The last one to leave stops the server, also one that a killed process left behind."""
    async with join_state_folder(folder / ".peritus"):
        return


def summary(trials: list[Trial]) -> dict[str, float]:
    """The figures of some trials."""
    steps = [one.next_step_ms for one in trials]
    starts = [one.started_ms for one in trials]
    return {
        "kills": len(trials),
        "completed": sum(one.completed for one in trials),
        "events_lost": sum(one.lost for one in trials),
        "calls_without_exactly_one_outcome": sum(one.not_one_outcome for one in trials),
        "calls_run_twice": sum(one.twice for one in trials),
        "calls_reported_unknown": sum(one.unknown for one in trials),
        "kill_to_first_event_ms_p50": round(quantile(starts, 0.5)),
        "kill_to_next_step_ms_p50": round(quantile(steps, 0.5)),
        "kill_to_next_step_ms_p99": round(quantile(steps, 0.99)),
    }


async def measure(count: int, seed: int, within_s: float) -> list[Trial]:
    """`count` kills of each kind, as many as fit into a time."""
    dice = random.Random(seed)
    deadline = time.perf_counter() + within_s
    trials: list[Trial] = []
    for _ in range(count):
        for kind in KINDS:
            one = None
            while one is None and time.perf_counter() < deadline:
                one = await trial(kind, dice)
            if one is None:
                return trials
            trials.append(one)
            if not one.good:
                print(one, file=sys.stderr)
    return trials


def main() -> int:
    """Measure, print, and keep; 1 when anything was lost or done twice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="kills of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within-s", type=float, default=1800.0, help="begin no kill after that")
    asked = parser.parse_args()
    report: dict[str, object] = {
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine(),
        "seed": asked.seed,
    }
    trials = asyncio.run(measure(asked.count, asked.seed, asked.within_s))
    for kind in KINDS:
        if some := [one for one in trials if one.kind == kind]:
            report[kind] = summary(some)
    report["all"] = summary(trials)
    report["load_1m_at_the_end"] = machine()["load_1m"]
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (RESULTS / "kills.json").write_text(text)
    sys.stdout.write(text)
    return 0 if all(one.good for one in trials) else 1


if __name__ == "__main__":
    sys.exit(main())
