"""A small view that uses all a view can do, for tests of stores. Not a view of the product."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from sqlalchemy import Column, Index, MetaData, Table, Text

from domain import events as e
from domain.content import text_of
from domain.ids import RunRef
from projections.columns import key, key_number, maybe_text, number, text
from projections.view import Add, Change, Drop, Folded, Put, Seen


@dataclass(frozen=True)
class TallyHead:
    """What is remembered of a run."""

    version: int = 0
    steps: int = 0


@dataclass
class Tally:
    """How much each run and each tenant did. Steps of a run are there until it has ended.

    `breaks` says at which sequence folding fails, as no view should.
    """

    version: int = 1
    breaks: Callable[[int], bool] = lambda _: False
    name: str = "tally"
    hears_deletions: bool = False

    def tables(self, metadata: MetaData, suffix: str) -> Mapping[str, Table]:
        ref = (key("tenant"), key("job"), key("run"))
        steps = (key("tenant"), key("job"), key("run"), key_number("step"))
        runs = Table(
            f"tally{suffix}",
            metadata,
            *ref,
            number("events"),
            number("at_ms"),
            text("said"),
            maybe_text("ended"),
            Index(f"tally{suffix}_ended", "tenant", "ended"),
        )
        kinds = (key("tenant"), Column("kind", Text, primary_key=True))
        return {
            "runs": runs,
            "kinds": Table(f"tally_kinds{suffix}", metadata, *kinds, number("count")),
            "steps": Table(f"tally_steps{suffix}", metadata, *steps, text("state")),
        }

    def fresh(self, ref: RunRef, seq: int) -> TallyHead:
        del ref, seq
        return TallyHead()

    def load(self, data: str) -> TallyHead:
        return TallyHead(*orjson.loads(data))

    def dump(self, head: TallyHead) -> str:
        return orjson.dumps((head.version, head.steps)).decode()

    def fold(self, head: TallyHead, seen: Seen) -> Folded[TallyHead]:
        if self.breaks(seen.seq):
            msg = f"broken at {seen.seq}"
            raise RuntimeError(msg)
        changes: list[Change] = []
        if seen.envelope is None:
            return Folded(head, (), seen.broken)
        ref = seen.ref._asdict()
        violation = None
        if seen.envelope.version != head.version + 1:
            violation = f"{seen.envelope.version} follows {head.version}"
        for event in seen.envelope.events:
            changes.append(Add("runs", ref, {"events": 1}))
            changes.append(Put("runs", ref, {"at_ms": seen.envelope.at_ms}))
            kind = {"tenant": seen.ref.tenant, "kind": event.type}
            changes.append(Add("kinds", kind, {"count": 1}))
            match event:
                case e.InputReceived():
                    changes.append(Put("runs", ref, {"said": text_of(event.parts)}))
                case e.GenerationRequested():
                    head = TallyHead(head.version, head.steps + 1)
                    state = {"state": f"asked {head.steps}"}
                    changes.append(Put("steps", ref | {"step": event.step}, state))
                case e.StepEnded():
                    changes.append(Drop("steps", ref | {"step": event.step}))
                case e.RunCompleted():
                    changes.append(Put("runs", ref, {"ended": event.type}))
                case _:
                    pass
        version = seen.envelope.next_version - 1
        return Folded(TallyHead(version, head.steps), tuple(changes), violation)
