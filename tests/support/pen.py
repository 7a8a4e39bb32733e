"""Writes histories of runs straight into a log, for tests of what reads them. Not a decision."""

from dataclasses import dataclass, field

from domain import events as e
from domain.content import TextPart
from domain.envelope import FIRST_HASH, Cause, Envelope, encode, hash_of
from domain.events import Event
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.tools import Lane, Safety
from eventlog.port import EventLog

MODEL = ModelChoice(provider="scripted", model="m1")


@dataclass
class Pen:
    """One run's next envelope: its version, its time and the hash of the one before."""

    ref: RunRef
    seq: int = 0
    version: int = 1
    at_ms: int = 1_000
    prev: str = FIRST_HASH
    cause: str = "test"
    written: list[tuple[int, Envelope]] = field(default_factory=list[tuple[int, Envelope]])

    def envelope(self, *events: Event) -> Envelope:
        cause = Cause(type=self.cause, id="t")
        name = f"{self.ref.run}-{self.version}"
        return Envelope(
            name, self.ref, self.version, self.at_ms, cause, "ep", self.prev, tuple(events)
        )

    def next(self, *events: Event) -> bytes:
        """The bytes of the next envelope; the pen goes on as if they were stored."""
        envelope = self.envelope(*events)
        data = encode(envelope)
        self.version, self.at_ms, self.prev = envelope.next_version, self.at_ms + 10, hash_of(data)
        self.written.append((0, envelope))
        return data

    async def write(self, log: EventLog, *events: Event) -> int:
        data = self.next(*events)
        self.seq = await log.append(self.ref, data, expected_seq=self.seq)
        self.written[-1] = (self.seq, self.written[-1][1])
        return self.seq


def started(expert: str = "coder", parent: e.Parent | None = None) -> tuple[Event, ...]:
    return (
        e.RunStarted(
            command="s1", expert=expert, definition="d" * 64, limits=Limits(), parent=parent
        ),
        e.ContextPinned(renderer="r1", context="c" * 64, context_bytes=1, model=MODEL, tools=()),
        e.InputReceived(input="s1", speaker="user", parts=(TextPart(text="go on then"),)),
        requested(1),
    )


def requested(step: int) -> Event:
    return e.GenerationRequested(step=step, attempt=1, request="r" * 64, reserved=10, holder="ep")


def replied(step: int, text: str = "hello", tokens: int = 7) -> Event:
    return e.GenerationCompleted(
        step=step,
        attempt=1,
        stop_reason="end",
        parts=(TextPart(text=text),),
        usage=Usage(input=tokens, output=1),
        charged=tokens + 1,
    )


def completed(step: int, result: str = "done") -> tuple[Event, ...]:
    return (replied(step), e.StepEnded(step=step), e.RunCompleted(step=step, result=result))


def continued(command: str = "c1", step: int = 2) -> tuple[Event, ...]:
    parts = (TextPart(text="more"),)
    return (
        e.RunContinued(command=command),
        e.InputReceived(input=command, speaker="user", parts=parts),
        requested(step),
    )


def forked() -> e.RunForked:
    """The first event of a run that goes on from the end of step 4 of another."""
    return e.RunForked(
        command="f",
        source=e.Source(job="j0", run="r0", version=9, hash="f" * 64),
        generation=1,
        step=4,
        expert="boss",
        definition="d",
        limits=Limits(),
    )


def called(name: str, lane: Lane = Lane.TOOL) -> e.ToolCallRequested:
    """A call of step 1."""
    return e.ToolCallRequested(
        call=name,
        step=1,
        provider_id="p",
        tool="look",
        skill="own",
        lane=lane,
        safety=Safety.READ_ONLY,
        arguments="{}",
        key="k",
    )


def ended(name: str, outcome: e.Outcome = "succeeded") -> e.ToolCallEnded:
    """The end of a call, without a word."""
    return e.ToolCallEnded(call=name, outcome=outcome, content=())
