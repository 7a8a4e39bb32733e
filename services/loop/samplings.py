"""Asks the run's model once for an open call, and records what it said. No retries, no deltas."""

import logging
from dataclasses import dataclass

from commands.ask_in_call import claim_sampling, end_sampling
from commands.desk import Desk
from domain.asks import SampleReply, SampleRequest
from domain.commands import ClaimSampling, EndSampling
from domain.content import text_of
from domain.errors import IntegrityViolated, Rejected, Unavailable
from domain.events import Failure
from domain.ids import RunRef
from domain.limits import Usage
from domain.prompt import ModelRequest
from domain.sampling import sample_context, sample_conversation
from domain.state import Ask, ModelCall, RunState
from domain.work import SampleWork
from eventlog.port import Delivery
from services.loop.attempts import attempt, recorded, unmade
from services.loop.generations import Generate
from services.loop.limiter import WAIT_MAX_MS, Asked, Limiter
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.worker.hands import Bench, Stop
from services.worker.insist import insist

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Samplings:
    """All calls of models for tools in this process."""

    desk: Desk
    generate: Generate
    bench: Bench
    epoch: str
    limiter: Limiter

    async def deliver(self, delivery: Delivery, work: SampleWork) -> None:
        """Work of lane `step`: claim the call, make it, and ack when its end is stored."""
        claim = ClaimSampling(ask=work.ask, holder=self.epoch)
        if await claim_sampling(self.desk, delivery.ref, claim):
            await self.bench.do(delivery.ref, work)
        await delivery.ack()

    async def execute(self, ref: RunRef, work: SampleWork, stop: Stop) -> None:
        """Make the call that is ours, and record how it ended."""
        try:
            state = (await self.desk.runs.known(ref)).state
        except (Unavailable, IntegrityViolated):
            logger.warning("a sampling of run %s is left to the reconciler", ref.run)
            return
        found = _ours(state, work, self.epoch)
        if found is None:
            return
        command = await self._attempt(ref, state, found, stop)
        if command is None:
            return  # cancelled: it is given up and charged in the log already
        try:
            await insist(lambda: end_sampling(self.desk, ref, command), f"a sampling of {ref.run}")
        except (IntegrityViolated, Rejected):
            logger.exception("run %s takes no sampling", ref.run)

    async def _attempt(
        self, ref: RunRef, state: RunState, found: tuple[Ask, ModelCall], stop: Stop
    ) -> EndSampling | None:
        ask = found[0].id
        reply = await attempt(
            lambda: self._permitted(ref, state, *found),
            ref,
            stop,
            timeout_ms=state.limits.generation_timeout_ms,
        )
        if isinstance(reply, ModelFailure):
            return EndSampling(ask=ask, failure=recorded(reply), usage=reply.usage)
        return None if reply is None else _ended(ask, reply)

    async def _permitted(
        self, ref: RunRef, state: RunState, ask: Ask, call: ModelCall
    ) -> ModelReply:
        """One call, once the limits all workers share allow it.

        Raises:
            ModelFailure: there is no reply, or the call has to wait for long.
        """
        try:
            request = await self.request(state, ask, call)
        except (Unavailable, IntegrityViolated) as error:
            raise unmade(error, Usage()) from error
        asked = Asked(
            ref=ref,
            step=ask.step,
            attempt=0,
            model=request.context.model,
            tokens=call.reserved,
            within_ms=min(WAIT_MAX_MS, state.limits.generation_timeout_ms // 2),
        )
        with await self.limiter.permit(asked) as permit:
            reply = await self.generate(request, _unheard)
            permit.replied(reply)
        return reply

    async def request(self, state: RunState, ask: Ask, call: ModelCall) -> ModelRequest:
        """The request of an ask, made from the log alone (rule 13).

        Raises:
            Unavailable: a blob could not be read now.
            IntegrityViolated: a blob is not what was stored.
        """
        if not isinstance(ask.about, SampleRequest):
            msg = f"{ask.id!r} asks a person"
            raise TypeError(msg)
        conversation = sample_conversation(ask.about)
        blobs = self.desk.backbone.blobs
        needed = sorted(conversation.blobs)
        contents = {digest: await blobs.get(state.ref.tenant, digest) for digest in needed}
        context = sample_context(state.renderer, call.model, ask.about)
        return ModelRequest(context, conversation.messages, call.request, contents)


async def _unheard(delta: Delta) -> None:
    """Nobody watches what a model says to a tool while it says it."""
    del delta


def _ours(state: RunState, work: SampleWork, epoch: str) -> tuple[Ask, ModelCall] | None:
    ask = state.asks.get(work.ask)
    call = ask.model_call if ask else None
    if ask is None or call is None or not call.is_open or call.holder != epoch:
        return None
    return ask, call


def _ended(ask: str, reply: ModelReply) -> EndSampling:
    if reply.stop_reason == "refusal":
        failure = Failure(kind="refusal", message="the model refused to answer this")
        return EndSampling(ask=ask, failure=failure, usage=reply.usage)
    said = SampleReply(
        text=text_of(reply.parts),
        model=reply.model,
        stop_reason="max_tokens" if reply.stop_reason == "max_tokens" else "end",
    )
    return EndSampling(ask=ask, reply=said, usage=reply.usage)
