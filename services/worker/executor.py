"""Executes tool calls of one lane: claim, run, report. Not a tool: the toolbox has those."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

from domain.commands import ClaimToolCall, RecordToolResult, ResultOutcome
from domain.content import BlobRef, ContentPart, FilePart, TextPart
from domain.decisions.stopping import CANCELLED_BODY
from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef
from domain.record import canonical
from domain.redaction import Redactor
from domain.tools import Safety
from domain.work import CallToolWork, SnapshotWork, Work
from eventlog.port import Backbone, Delivery, lane_of
from eventlog.port import Lane as WorkLane
from services.worker.cancels import goes_on
from services.worker.clean import clean_result
from services.worker.hands import Bench, Stop
from services.worker.insist import insist
from services.worker.keeper import Elsewhere, Keeper, Known, Later
from services.worker.live import LiveOutput
from services.worker.patience import Patience
from services.worker.queue import consume, read_work
from services.worker.reporter import Reporter
from services.worker.toolbox import ToolBox, ToolCall, ToolResult

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""How long work waits that could not be claimed because nobody answered, in seconds."""


CLAIM_TRIES_MAX = 20
"""How often a claim is asked for before its work goes back to the queue: about as long as a leader
election and a reconnect take together."""


def failure(kind: str, message: str) -> ToolResult:
    """A result that says what went wrong, in the form every tool uses."""
    text = json.dumps({"error": kind, "message": message})
    return ToolResult(content=(TextPart(text=text),), is_error=True)


def _outcome_of(result: ToolResult, work: CallToolWork) -> ResultOutcome:
    if result.unknown and work.safety is Safety.UNSAFE:
        return "outcome_unknown"
    return "failed" if result.is_error else "succeeded"


def _needs_claim(work: Work) -> TypeGuard[CallToolWork]:
    """What changes anything begins under a claim only: so none begins after a cancel or a pause."""
    return isinstance(work, CallToolWork) and work.safety is not Safety.READ_ONLY


@dataclass(frozen=True, slots=True)
class Executor:
    """One lane's calls in this process. With a keeper, its journal is their claim."""

    lane: WorkLane
    toolbox: ToolBox
    reporter: Reporter
    backbone: Backbone
    bench: Bench
    epoch: str
    now_ms: Callable[[], int]
    in_flight_max: int
    keeper: Keeper | None = None
    redactor: Callable[[], Redactor] = Redactor

    async def run(self) -> None:
        """Take work of the lane until cancelled; with a keeper, also what only this worker can."""
        async with asyncio.TaskGroup() as tasks:
            lanes = (self.lane,) if self.keeper is None else (self.lane, lane_of(self.epoch))
            for lane in lanes:
                source = self.backbone.work.consume(lane, in_flight_max=self.in_flight_max)
                tasks.create_task(consume(source, self.deliver), name=f"lane {lane}")

    async def deliver(self, delivery: Delivery) -> None:
        """One delivery: claim what must not run twice, execute, and ack when the result is safe."""
        work = read_work(delivery)
        if not isinstance(work, CallToolWork | SnapshotWork):
            await delivery.ack()
            return
        if self.bench.begun(delivery.ref, work):
            await delivery.ack()
            return
        if self.keeper is None and _needs_claim(work):
            granted = await self._claimed(delivery.ref, work)
            if granted is None:
                await delivery.retry(AGAIN_S)
                return
            if not granted:
                await delivery.ack()
                return
        await self.bench.do(delivery.ref, work)
        await delivery.ack()

    async def _claimed(self, ref: RunRef, work: CallToolWork) -> bool | None:
        """Whether the call is ours; None when nobody said so.

        A claim whose answer got lost is ours all the same: so it is asked for again from here,
        before another worker hears that it is taken and lets go of it.
        """
        claim = ClaimToolCall(call=work.call, attempt=work.attempt, holder=self.epoch)
        for _ in range(CLAIM_TRIES_MAX):
            granted = await self.reporter.claim(ref, claim)
            if granted is not None:
                return granted
            await asyncio.sleep(AGAIN_S)
        return None

    async def execute(self, ref: RunRef, work: Work, stop: Stop) -> None:
        """Do one piece of work that is ours, and report what it came to, whatever happens."""
        try:
            ours = await self._kept(ref, work)
        except Exception:
            # Of one run, and of one that is broken it may be: no reason to end all others.
            logger.exception("the keeper of %s broke at run %s", self.lane, ref.run)
            self.bench.forget(ref, work)
            return
        if ours and isinstance(work, CallToolWork):
            await self._execute(ref, work, stop)

    async def _kept(self, ref: RunRef, work: Work) -> bool:
        """Whether a call is left to be run here, once the keeper has had its say."""
        if isinstance(work, SnapshotWork):
            if self.keeper is not None:
                await self._snapshot(self.keeper, ref, work)
            return False
        if self.keeper is None or not isinstance(work, CallToolWork):
            return True
        return await self._admitted(self.keeper, ref, work)

    async def _snapshot(self, keeper: Keeper, ref: RunRef, work: SnapshotWork) -> None:
        try:
            answer = await keeper.snapshot(ref, work)
        except Unavailable as error:
            answer = Later(str(error))
        if answer is not None:
            await self._pass_on(ref, work, answer)

    async def _admitted(self, keeper: Keeper, ref: RunRef, work: CallToolWork) -> bool:
        """Whether the call is to be run here; else it was answered, or passed on."""
        try:
            admission = await keeper.admit(ref, work)
        except Unavailable as error:
            admission = Later(str(error))
        if isinstance(admission, Elsewhere | Later):
            await self._pass_on(ref, work, admission)
            return False
        if isinstance(admission, Known):
            self.bench.forget(ref, work)
            if admission.result is not None:
                await self.reporter.record(ref, admission.result)
            return False
        if await self._is_stopped(ref):  # only now is it sure that the call did not begin before
            text = TextPart(text=json.dumps(CANCELLED_BODY))
            result = ToolResult(content=(text,), is_error=True)
            await self._report(ref, work, "cancelled", result, 0)
            return False
        return True

    async def _is_stopped(self, ref: RunRef) -> bool:
        seq = self.bench.stopped(ref)
        if seq is None:
            return False
        if await insist(
            lambda: goes_on(self.backbone.log, ref, seq), f"a call of {ref.run} that may be over"
        ):
            self.bench.resume(ref)
            return False
        return True

    async def _pass_on(
        self, ref: RunRef, work: CallToolWork | SnapshotWork, why: Elsewhere | Later
    ) -> None:
        """Give work back to the worker that can do it; losing it costs time, never the work."""
        self.bench.forget(ref, work)
        if isinstance(why, Later):
            logger.info("work of run %s waits: %s", ref.run, why.why)
            await asyncio.sleep(AGAIN_S)
        lane = lane_of(why.epoch) if isinstance(why, Elsewhere) else self.lane
        try:
            await self.backbone.work.put(lane, ref, canonical(work))
        except Unavailable:
            logger.info("work of run %s is left to the reconciler", ref.run)

    async def _execute(self, ref: RunRef, work: CallToolWork, stop: Stop) -> None:
        since_ms = self.now_ms()
        outcome: ResultOutcome
        try:
            patience = Patience(work.timeout_ms / 1000)
            async with stop.scope(patience):
                result = await self._call(ref, work, patience)
            outcome = _outcome_of(result, work)
        except TimeoutError:
            outcome, result = self._ended(work, stop)
        except (Unavailable, IntegrityViolated) as error:
            outcome, result = "failed", failure("unavailable", f"The call did not run: {error}")
        except Exception as error:
            logger.exception("the executor of %s broke at tool %s", self.lane, work.tool)
            outcome = "outcome_unknown" if work.safety is Safety.UNSAFE else "failed"
            result = failure("internal", f"The call broke its executor: {type(error).__name__}")
        await self._report(ref, work, outcome, result, since_ms)

    async def _report(
        self,
        ref: RunRef,
        work: CallToolWork,
        outcome: ResultOutcome,
        result: ToolResult,
        since_ms: int,
    ) -> None:
        """Write down what a call came to, then hand it over: exactly once, whatever happens."""
        result = clean_result(self.redactor(), result)
        command = RecordToolResult(
            call=work.call,
            holder=self.epoch,
            outcome=outcome,
            content=(*result.content, *await self._files(ref, result)),
            is_error=result.is_error,
            full_output=await self._stored(ref, result.full_output, result.full_output_media_type),
            duration_ms=self.now_ms() - since_ms if since_ms else None,
            egress=result.egress,
            full_egress=await self._stored(ref, result.full_egress, "application/json"),
        )
        if self.keeper is not None:
            await self.keeper.ended(ref, command)
        await self.reporter.record(ref, command)
        if self.keeper is not None:
            await self.keeper.recorded(ref, work.call)

    async def _call(self, ref: RunRef, work: CallToolWork, patience: Patience) -> ToolResult:
        arguments = work.arguments
        if isinstance(arguments, BlobRef):
            arguments = (await self.backbone.blobs.get(ref.tenant, arguments.digest)).decode()
        call = ToolCall(
            ref=ref,
            call=work.call,
            key=work.key,
            tool=work.tool,
            arguments=arguments,
            timeout_ms=work.timeout_ms,
            expert=work.expert,
            definition=work.definition,
            parent=work.parent,
            skill=work.skill,
            remote=work.remote,
            safety=work.safety,
            patience=patience,
        )
        live = LiveOutput(self.backbone.live, ref, work.call, redactor=self.redactor)
        try:
            return await self.toolbox.call(call, live)
        finally:
            await live.end()

    def _ended(self, work: CallToolWork, stop: Stop) -> tuple[ResultOutcome, ToolResult]:
        if stop.requested:
            text = "The run was cancelled while this call ran; it was ended and may be half done."
            return "cancelled", failure("cancelled", text)
        text = f"The call was ended after {work.timeout_ms} ms and may be half done."
        return "failed", failure("timeout", text)

    async def _files(self, ref: RunRef, result: ToolResult) -> tuple[ContentPart, ...]:
        parts: list[ContentPart] = []
        for file in result.files:
            blob = await self._stored(ref, file.data, file.media_type)
            if blob is not None:
                parts.append(FilePart(blob=blob, name=file.name))
        return tuple(parts)

    async def _stored(self, ref: RunRef, data: bytes | None, media_type: str) -> BlobRef | None:
        """Content kept outside the log before the event that names it."""
        if data is None:
            return None
        digest = await insist(
            lambda: self.backbone.blobs.put(ref.tenant, data), f"the output of a call of {ref.run}"
        )
        return BlobRef(digest=digest, size=len(data), media_type=media_type)
