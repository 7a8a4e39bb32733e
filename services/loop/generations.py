"""Makes generations: request from the log, one provider call, reply to the desk. No retries."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from commands.desk import Desk
from commands.step_run import claim_generation, end_generation
from domain.commands import ClaimGeneration, CompleteGeneration, FailGeneration
from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef
from domain.limits import Usage
from domain.prompt import ModelContext, ModelRequest
from domain.state import RunState
from domain.work import GenerateWork, Work
from eventlog.port import Delivery
from services.loop.attempts import attempt, recorded, unmade
from services.loop.limiter import WAIT_MAX_MS, Asked, Limiter
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.worker.hands import Bench, Stop
from services.worker.insist import insist
from services.worker.live import LiveReply
from services.worker.queue import read_work

logger = logging.getLogger(__name__)

CONTEXTS_MAX = 256

Generate = Callable[[ModelRequest, Callable[[Delta], Awaitable[None]]], Awaitable[ModelReply]]
"""Asks the provider that the request's model names; raises ModelFailure."""


@dataclass(slots=True)
class Generations:
    """All generations of this process."""

    desk: Desk
    generate: Generate
    bench: Bench
    epoch: str
    limiter: Limiter
    _contexts: dict[str, ModelContext] = field(default_factory=dict[str, ModelContext])

    async def deliver(self, delivery: Delivery) -> None:
        """Work of lane `step`: claim the attempt, make the call, and ack when its end is stored."""
        work = read_work(delivery)
        if isinstance(work, GenerateWork):
            claim = ClaimGeneration(step=work.step, attempt=work.attempt, holder=self.epoch)
            if await claim_generation(self.desk, delivery.ref, claim):
                await self.bench.do(delivery.ref, work)
        await delivery.ack()

    async def execute(self, ref: RunRef, work: Work, stop: Stop) -> None:
        """Make the call of an attempt that is ours, and record how it ended."""
        if not isinstance(work, GenerateWork):
            return
        try:
            state = (await self.desk.runs.known(ref)).state
        except (Unavailable, IntegrityViolated):
            logger.warning("the attempt of run %s is taken up again later", ref.run)
            return
        if not _ours(state, work, self.epoch):
            return
        command = await self._attempt(ref, state, work, stop)
        if command is None:
            return  # cancelled: the attempt is abandoned and charged in the log already
        await self._record(ref, command)

    async def _attempt(
        self, ref: RunRef, state: RunState, work: GenerateWork, stop: Stop
    ) -> CompleteGeneration | FailGeneration | None:
        reply = await attempt(
            lambda: self._permitted(ref, state, work),
            ref,
            stop,
            timeout_ms=state.limits.generation_timeout_ms,
        )
        if isinstance(reply, ModelFailure):
            return _failed(work, reply)
        if reply is None:
            return None
        return CompleteGeneration(
            step=work.step,
            attempt=work.attempt,
            parts=reply.parts,
            stop_reason=reply.stop_reason,
            usage=reply.usage,
            response_id=reply.response_id,
            model=reply.model,
        )

    async def _permitted(
        self, ref: RunRef, state: RunState, work: GenerateWork
    ) -> ModelReply | None:
        """One call, once the limits all workers share allow it; None: it was taken from us by then.

        Raises:
            ModelFailure: there is no reply, or the call has to wait for long.
        """
        try:
            request = await self.request(state)
        except (Unavailable, IntegrityViolated) as error:
            raise unmade(error, Usage()) from error
        with await self.limiter.permit(_asked(ref, state, work, request)) as permit:
            if permit.waited and not await self._still_ours(ref, work):
                permit.unused()
                return None
            reply = await self._generate(request, self._live(ref, work))
            permit.replied(reply)
        return reply

    async def _still_ours(self, ref: RunRef, work: GenerateWork) -> bool:
        """Whether it is ours after a wait; what we cannot know of now is taken up again later."""
        try:
            state = (await self.desk.runs.known(ref)).state
        except (Unavailable, IntegrityViolated):
            return False
        return _ours(state, work, self.epoch)

    async def _generate(self, request: ModelRequest, live: LiveReply) -> ModelReply:
        async def tell(delta: Delta) -> None:
            await live.tell(delta.kind, delta.part, delta.text, tool=delta.tool)

        reply = await self.generate(request, tell)
        await live.end()
        return reply

    async def request(self, state: RunState) -> ModelRequest:
        """The request of the open generation, made from the log alone (rule 13).

        Raises:
            Unavailable: a blob could not be read now.
            IntegrityViolated: a blob is not what was stored.
        """
        blobs = self.desk.backbone.blobs
        tenant = state.ref.tenant
        context = self._contexts.get(state.context)
        if context is None:
            data = await blobs.get(tenant, state.context)
            context = ModelContext.model_validate_json(data)
            if len(self._contexts) >= CONTEXTS_MAX:
                self._contexts.clear()
            self._contexts[state.context] = context
        conversation = state.conversation
        if not conversation.whole:
            conversation = (await self.desk.runs.whole(state.ref)).state.conversation
        needed = sorted(conversation.blobs)
        contents = {digest: await blobs.get(tenant, digest) for digest in needed}
        digest = state.generation.request if state.generation else ""
        return ModelRequest(context, conversation.messages, digest, contents)

    def _live(self, ref: RunRef, work: GenerateWork) -> LiveReply:
        channel = self.desk.backbone.live
        return LiveReply(channel, ref, work.step, work.attempt, self.desk.redactor)

    async def _record(self, ref: RunRef, command: CompleteGeneration | FailGeneration) -> None:
        """Record the end, however long the log is away."""
        try:
            await insist(lambda: end_generation(self.desk, ref, command), f"a reply of {ref.run}")
        except IntegrityViolated:
            logger.exception("RunIntegrityViolated: run %s takes no reply", ref.run)


def _ours(state: RunState, work: GenerateWork, epoch: str) -> bool:
    generation = state.generation
    return (
        generation is not None
        and generation.phase == "open"
        and not state.cancelling
        and (generation.step, generation.attempt) == (work.step, work.attempt)
        and generation.holder == epoch
    )


def _asked(ref: RunRef, state: RunState, work: GenerateWork, request: ModelRequest) -> Asked:
    """What the call needs of the limits: it waits for half of its own time at most."""
    return Asked(
        ref=ref,
        step=work.step,
        attempt=work.attempt,
        model=request.context.model,
        tokens=state.generation.reserved if state.generation else 0,
        within_ms=min(WAIT_MAX_MS, state.limits.generation_timeout_ms // 2),
    )


def _failed(work: GenerateWork, failure: ModelFailure) -> FailGeneration:
    return FailGeneration(
        step=work.step,
        attempt=work.attempt,
        failure=recorded(failure),
        retryable=failure.retryable,
        retry_after_ms=failure.retry_after_ms,
        usage=failure.usage,
    )
