"""Executes tool calls of one lane: claim, run, report. Not a tool: the toolbox has those."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from domain.commands import ClaimToolCall, RecordToolResult, ResultOutcome
from domain.content import BlobRef, TextPart
from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef
from domain.tools import Safety
from domain.work import CallToolWork, Work
from eventlog.port import Backbone, Delivery
from eventlog.port import Lane as WorkLane
from services.worker.hands import Bench, Stop
from services.worker.insist import insist
from services.worker.live import LiveOutput
from services.worker.queue import consume, read_work
from services.worker.reporter import Reporter
from services.worker.toolbox import ToolBox, ToolCall, ToolResult

logger = logging.getLogger(__name__)

AGAIN_S = 1.0
"""How long work waits that could not be claimed because nobody answered, in seconds."""


def failure(kind: str, message: str) -> ToolResult:
    """A result that says what went wrong, in the form every tool uses."""
    text = json.dumps({"error": kind, "message": message})
    return ToolResult(content=(TextPart(text=text),), is_error=True)


@dataclass(frozen=True, slots=True)
class Executor:
    """One lane's calls in this process."""

    lane: WorkLane
    toolbox: ToolBox
    reporter: Reporter
    backbone: Backbone
    bench: Bench
    epoch: str
    now_ms: Callable[[], int]
    in_flight_max: int

    async def run(self) -> None:
        """Take work of the lane until cancelled."""
        await consume(
            self.backbone.work.consume(self.lane, in_flight_max=self.in_flight_max), self.deliver
        )

    async def deliver(self, delivery: Delivery) -> None:
        """One delivery: claim what must not run twice, execute, and ack when the result is safe."""
        work = read_work(delivery)
        if not isinstance(work, CallToolWork) or self.bench.begun(delivery.ref, work):
            await delivery.ack()
            return
        if work.safety is Safety.UNSAFE:
            claim = ClaimToolCall(call=work.call, attempt=work.attempt, holder=self.epoch)
            granted = await self.reporter.claim(delivery.ref, claim)
            if granted is None:
                await delivery.retry(AGAIN_S)
                return
            if not granted:
                await delivery.ack()
                return
        await self.bench.do(delivery.ref, work)
        await delivery.ack()

    async def execute(self, ref: RunRef, work: Work, stop: Stop) -> None:
        """Run one call that is ours, and report what it came to: exactly once, whatever happens."""
        if not isinstance(work, CallToolWork):
            return
        since_ms = self.now_ms()
        outcome: ResultOutcome
        try:
            async with stop.scope(work.timeout_ms / 1000):
                result = await self._call(ref, work)
            outcome = "failed" if result.is_error else "succeeded"
        except TimeoutError:
            outcome, result = self._ended(work, stop)
        except (Unavailable, IntegrityViolated) as error:
            outcome, result = "failed", failure("unavailable", f"The call did not run: {error}")
        except Exception as error:
            logger.exception("the executor of %s broke at tool %s", self.lane, work.tool)
            outcome = "outcome_unknown" if work.safety is Safety.UNSAFE else "failed"
            result = failure("internal", f"The call broke its executor: {type(error).__name__}")
        await self.reporter.record(
            ref,
            RecordToolResult(
                call=work.call,
                holder=self.epoch,
                outcome=outcome,
                content=result.content,
                is_error=result.is_error,
                full_output=await self._stored(ref, result),
                duration_ms=self.now_ms() - since_ms,
            ),
        )

    async def _call(self, ref: RunRef, work: CallToolWork) -> ToolResult:
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
        )
        return await self.toolbox.call(call, LiveOutput(self.backbone.live, ref, work.call))

    def _ended(self, work: CallToolWork, stop: Stop) -> tuple[ResultOutcome, ToolResult]:
        if stop.requested:
            text = "The run was cancelled while this call ran; it was ended and may be half done."
            return "cancelled", failure("cancelled", text)
        text = f"The call was ended after {work.timeout_ms} ms and may be half done."
        return "failed", failure("timeout", text)

    async def _stored(self, ref: RunRef, result: ToolResult) -> BlobRef | None:
        """The whole output, kept outside the log before the event that names it."""
        if result.full_output is None:
            return None
        data = result.full_output
        digest = await insist(
            lambda: self.backbone.blobs.put(ref.tenant, data), f"the output of a call of {ref.run}"
        )
        return BlobRef(digest=digest, size=len(data), media_type=result.full_output_media_type)
