"""Writes the golden logs of this release through the real handlers. Not a test: those only read.

`python -m tests.histories.generate` writes what is missing and refuses to touch what is there: a
released history stays as it is, for ever (rule 12). `--overwrite` is for a release in the making.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from domain import commands as c
from domain.content import BlobRef, CallPart, TextPart, ThinkingPart
from domain.decisions.sandbox import PLACE_RETURN_MS
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.limits import Limits, Usage
from domain.record import digest_of
from domain.sandbox import EgressRow
from domain.state import RunState
from tests.histories import asking, deletion, forks, people
from tests.histories.replay import replay, summary
from tests.support.office import office
from tests.support.runs import (
    call,
    cancel,
    claim,
    delegate,
    fails,
    goes_on,
    replies,
    result,
    tells,
)

RELEASE = "v0_2_0"
FOLDER = Path(__file__).parent / RELEASE
ROOT = RunRef("acme", "golden", "root")


async def demo() -> dict[str, list[bytes]]:
    """Tools, todos, a steer, a late result, completion, and a continue."""
    desk = office()
    await desk.start(ROOT, text="Find out what it costs, then pay.")
    thought = ThinkingPart(provider="anthropic", block='{"type":"thinking","thinking":"h\u00e9"}')
    plan = '{"newTodos": ["look", "pay"]}'
    await desk.tell(
        ROOT,
        replies(thought, "A plan.", call("todo", plan), call("look", '{"at": "price"}')),
        goes_on("It may cost 5 at most.", "steer"),
        result("c1-0", "never asked for"),
        result("c1-1", "It costs 4.", holder="e1"),
        replies(call("pay", '{"amount": 4}'), call("nope"), call("pay", '{"amount"')),
        result("c2-0", "paid"),
        result("c2-0", "paid twice?"),
        replies(call("todo", '{"completedTodos": [0, 1]}'), call("attemptCompletion")),
        goes_on("Thank you.", "thanks", steps_max=5),
        replies("You are welcome.", usage=Usage(input=90, output=4, cached=80)),
    )
    return {"demo": desk.lines(ROOT)}


async def cancelled() -> dict[str, list[bytes]]:
    """Cancelled with one call claimed, one not, and a reply that comes after the second cancel."""
    desk = office()
    await desk.start(ROOT)
    desk.bench.room = False
    await desk.tell(ROOT, replies(call("pay"), call("pay"), call("look")), claim("c1-0", "e2"))
    await desk.tell(ROOT, cancel())
    await desk.fire(ROOT)
    state = await desk.tell(ROOT, goes_on("Go on."))
    late = replies("too late")(state)
    await desk.tell(ROOT, cancel("x2"), late)
    return {"cancelled": desk.lines(ROOT)}


async def retried() -> dict[str, list[bytes]]:
    """Failures with and without Retry-After, and the last one that ends the run."""
    desk = office()
    await desk.start(ROOT)
    await desk.tell(ROOT, fails("rate_limited", retry_after_ms=1_500))
    await desk.fire(ROOT)
    await desk.tell(ROOT, fails("network", usage=Usage(input=12)))
    await desk.fire(ROOT)
    await desk.tell(ROOT, replies("half a sen", stop="max_tokens", known=False))
    await desk.tell(ROOT, fails("auth", retryable=False))
    return {"retried": desk.lines(ROOT)}


async def delegated() -> dict[str, list[bytes]]:
    """A coordinator with two delegates, one of which is stopped by its limits."""
    desk = office()
    await desk.start(ROOT)
    state = await desk.tell(ROOT, replies(delegate("one"), delegate("two"), call("look")))
    first, second = (one.delegation for one in state.open_calls[:2])
    assert first is not None
    assert second is not None
    child = RunRef(ROOT.tenant, ROOT.job, first.child)
    await desk.handle_queued()
    await desk.tell(child, replies("look", call("look")), result("c1-0", "seen"), replies("one!"))
    await desk.handle_queued()
    await desk.tell(ROOT, tells("c1-1", "stopped"), result("c1-2", "saw"), replies("both done"))
    return {"delegated-parent": desk.lines(ROOT), "delegated-child": desk.lines(child)}


async def lost() -> dict[str, list[bytes]]:
    """Workers that die: in a generation, in a call that may be repeated, in one that may not."""
    dead = office("e1")
    await dead.start(ROOT)
    late = replies("so late")(await dead.state(ROOT))
    here = office("e2", dead)
    here.bench.room = False
    gone = c.AbandonHolder(holder="e1")
    await here.tell(ROOT, gone, late, c.ClaimGeneration(step=1, attempt=2, holder="e3"))
    await here.tell(ROOT, replies(call("look"), call("pay")))
    await here.tell(ROOT, claim("c1-1", "e3"), c.RetryToolCall(call="c1-0", attempt=1))
    await here.tell(ROOT, result("c1-0", "seen", holder="e4"), c.AbandonHolder(holder="e3"))
    await here.tell(ROOT, goes_on("Is it paid?"), cancel())
    return {"lost": here.lines(ROOT)}


async def stopped() -> dict[str, list[bytes]]:
    """A run that ends at its limit of steps, and a refusal after it went on."""
    desk = office()
    desk.server.blobs[ROOT.tenant, desk.definition.digest()] = desk.definition.to_bytes()
    start = desk.start_command().model_copy(update={"limits": Limits(steps_max=1)})
    await desk.tell(ROOT, start, replies(call("look")), result("c1-0"))
    no = (TextPart(text="no"), CallPart(provider_id="p", tool="pay", arguments="{}"))
    await desk.tell(ROOT, goes_on("", "bare", steps_max=2), replies(*no, stop="refusal"))
    return {"stopped": desk.lines(ROOT)}


def _asks_place(epoch: str, place: str) -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place=place,
        epoch=epoch,
        backend="bubblewrap",
        report='{"checks": 60}',
        workspace="own",
        snapshots=True,
    )


async def placed() -> dict[str, list[bytes]]:
    """A workspace: taken, stored, its worker lost and back, then lost with its disk; connections.

    The last checkpoint is stored, too, so that the run rests with nothing due.
    """
    desk = office()
    desk.bench.room = False
    await desk.start(ROOT)
    run, write = call("exec", '{"command": "make"}'), call("writeTextFile", '{"path": "a"}')
    await desk.tell(ROOT, replies(write, run), _asks_place("e1", "disk-1"), claim("c1-1", "e1"))
    rows = (EgressRow(host="example.org", port=443, verdict="allowed", bytes_out=9, bytes_in=90),)
    counted = result("c1-1", "built", holder="e1").model_copy(update={"egress": rows})
    state = await desk.tell(ROOT, result("c1-0", "written", holder="e1"), counted)
    await desk.tell(ROOT, _stored(state, b"one"), replies(run))
    await desk.tell(ROOT, c.AbandonHolder(holder="e1"), _asks_place("e2", "disk-1"))
    await desk.tell(ROOT, result("c2-0", "built before the crash", holder="e2"))
    await desk.tell(ROOT, replies(run, write), c.AbandonHolder(holder="e2"))
    desk.now += PLACE_RETURN_MS
    await desk.tell(ROOT, _asks_place("e3", "disk-2"), result("c3-1", "again", holder="e3"))
    state = await desk.state(ROOT)
    await desk.tell(ROOT, _stored(state, b"two"), replies("It is built."))
    return {"placed": desk.lines(ROOT)}


def _stored(state: RunState, data: bytes) -> c.RecordSnapshot:
    due = state.snapshot_due
    if due is None:
        raise AssertionError
    manifest = BlobRef(digest=digest_of(data), size=len(data))
    taken = SnapshotTaken(
        run=state.ref.run, step=due.step, version=due.version, manifest=manifest, files=1
    )
    return c.RecordSnapshot(taken=taken)


SCENARIOS: tuple[Callable[[], Awaitable[dict[str, list[bytes]]]], ...] = (
    demo,
    cancelled,
    retried,
    delegated,
    lost,
    stopped,
    placed,
    people.asked,
    people.held,
    people.bounded,
    people.reformed,
    asking.asking,
    forks.forked,
    deletion.deleted,
)


async def histories() -> dict[str, list[bytes]]:
    """Every history of this release, by the name of its file."""
    found: dict[str, list[bytes]] = {}
    for scenario in SCENARIOS:
        found.update(await scenario())
    return found


def write(*, overwrite: bool) -> list[Path]:
    """Write the golden logs and what they lead to, as far as missing; the files that were written.

    Raises:
        FileExistsError: all of them are there, and it was not asked to overwrite.
    """
    FOLDER.mkdir(exist_ok=True)
    written: list[Path] = []
    found = asyncio.run(histories())
    for name, lines in found.items():
        path = FOLDER / f"{name}.jsonl"
        if path.exists() and not overwrite:
            continue
        path.write_bytes(b"\n".join(lines) + b"\n")
        state = replay(lines, found.get(f"{name}-source"))
        expected = orjson.dumps(summary(state), option=orjson.OPT_INDENT_2)
        path.with_suffix(".expected.json").write_bytes(expected + b"\n")
        written.append(path)
    if not written:
        msg = "all histories are there; a released history is never written again"
        raise FileExistsError(msg)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--overwrite", action="store_true", help="the release is not out yet")
    write(overwrite=parser.parse_args().overwrite)
