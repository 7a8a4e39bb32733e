"""What every use case needs: run store, ports, dispatch of effects. Not a use case itself."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from commands.hands import Hands
from commands.offload import offload
from commands.runs import Decision, RunStore
from domain.commands import CancelRun, Command, FireTimer, PinnedContext, Situation
from domain.effects import (
    ArmTimer,
    CallTool,
    CancelChild,
    Effect,
    Generate,
    StartChild,
    TellParent,
    effects,
)
from domain.errors import Unavailable
from domain.ids import RunRef, derive_id
from domain.record import canonical
from domain.state import RunState
from domain.tools import Lane, LocalTool
from domain.work import CallToolWork, GenerateWork, Work
from eventlog.port import Backbone
from eventlog.port import Lane as WorkLane

logger = logging.getLogger(__name__)

WORK_LANES: dict[Lane, WorkLane] = {Lane.SANDBOX: "sandbox", Lane.TOOL: "tool"}


@dataclass(frozen=True, slots=True)
class Desk:
    """One worker's way to decide and to have things done."""

    backbone: Backbone
    runs: RunStore
    hands: Hands
    epoch: str
    new_id: Callable[[], str]
    local_tools: Mapping[str, LocalTool]

    def situation(self, context: PinnedContext | None = None) -> Situation:
        """The time, and what this process takes upon itself."""
        return Situation(
            now_ms=self.runs.now_ms(),
            holder=self.epoch if self.hands.free() else None,
            lanes=self.hands.free_lanes(),
            epoch=self.epoch,
            context=context,
        )

    async def execute(
        self, ref: RunRef, command: Command, context: PinnedContext | None = None
    ) -> Decision:
        """Store large content, decide, append, dispatch what follows.

        Raises:
            Rejected: the command is wrong for this run.
            Unavailable: not now; the same command may be sent again.
        """
        slim, blobs = offload(command)
        for data in blobs.values():
            await self.backbone.blobs.put(ref.tenant, data)
        decision = await self.runs.execute(ref, slim, self.situation(context))
        if decision.events:
            await self.follow_up(decision)
        return decision

    async def follow_up(self, decision: Decision) -> None:
        """Dispatch the effects that a decision added; the reconciler repairs what fails here."""
        if decision.after.cancelling and not decision.before.cancelling:
            self.hands.stop(decision.after.ref)
        known = effects(decision.before)
        wanted = [effect for effect in effects(decision.after) if effect not in known]
        done = await self.dispatch(decision.after, wanted)
        if decision.after.at_rest and not decision.before.at_rest:
            self.hands.stop(decision.after.ref)
            if done:
                await self.close(decision.after)

    async def finish(self, state: RunState) -> None:
        """Tell the end of a run at rest where it must be, then close it."""
        if await self.dispatch(state, effects(state)):
            await self.close(state)

    async def close(self, state: RunState) -> None:
        """Take a run at rest out of the index, once its end is where it must be."""
        try:
            await self.backbone.open_runs.remove(state.ref)
            if (await self.runs.fresh(state.ref)).state.status == "running":
                await self.backbone.open_runs.add(state.ref)  # continued meanwhile
        except Unavailable:
            logger.warning("run %s stays in the index of open runs for now", state.ref.run)

    async def dispatch(self, state: RunState, wanted: Iterable[Effect]) -> bool:
        """Hand each effect to whoever does it; False when one has to wait for the reconciler."""
        done = True
        for effect in wanted:
            try:
                await self._dispatch(state, effect)
            except Unavailable as error:
                done = False
                logger.warning("an effect of run %s waits: %s", state.ref.run, error)
        return done

    async def _dispatch(self, state: RunState, effect: Effect) -> None:
        ref = state.ref
        match effect:
            case Generate():
                work = GenerateWork(step=effect.step, attempt=effect.attempt)
                if effect.holder == self.epoch:
                    self.hands.take(ref, work)
                elif effect.holder is None:
                    await self.backbone.work.put("step", ref, canonical(work))
            case CallTool():
                await self._dispatch_call(state, effect)
            case StartChild():
                await self.send(effect.child, effect.command)
            case CancelChild():
                cancel = CancelRun(
                    id=derive_id("cancel", effect.child.run),
                    reason="the run that asked for it was cancelled",
                    parent=effect.parent,
                )
                await self.send(effect.child, cancel)
            case ArmTimer():
                timer = effect.timer
                data = canonical(FireTimer(timer=timer.timer))
                await self.backbone.commands.put_at(ref, timer.timer, timer.due_ms, data)
            case TellParent():
                await self.send(effect.parent, effect.command)

    async def _dispatch_call(self, state: RunState, effect: CallTool) -> None:
        call = effect.call
        if call.lane not in WORK_LANES:
            return
        work: Work = CallToolWork(
            call=call.id,
            attempt=call.attempt,
            lane=call.lane,
            tool=call.tool,
            skill=call.skill,
            safety=call.safety,
            arguments=call.arguments,
            key=call.key,
            timeout_ms=state.limits.call_timeout_ms,
        )
        if call.holder == self.epoch:
            self.hands.take(state.ref, work)
        elif call.holder is None:
            await self.backbone.work.put(WORK_LANES[call.lane], state.ref, canonical(work))

    async def send(self, ref: RunRef, command: Command) -> None:
        """Put a command into COMMANDS; durable when this returns.

        Its message id is new each time: what is sent again must not be taken for a copy.
        """
        await self.backbone.commands.put(ref, canonical(command), message_id=self.new_id())
