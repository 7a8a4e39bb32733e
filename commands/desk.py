"""What every use case needs: run store, ports, dispatch of effects. Not a use case itself."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from commands.hands import Hands
from commands.offload import offload
from commands.runs import Decision, RunStore
from domain.commands import (
    CancelRun,
    ChangeTeam,
    Command,
    FireTimer,
    Origin,
    PinnedContext,
    Situation,
)
from domain.definition import Definition
from domain.effects import (
    ArmTimer,
    CallTool,
    CancelChild,
    Effect,
    Generate,
    ReformTeam,
    Sample,
    StartChild,
    TakeSnapshot,
    TellParent,
    effects,
)
from domain.errors import Rejected, TooLarge, Unavailable
from domain.events import GenerationAbandoned
from domain.ids import RunRef, derive_id
from domain.policy import PolicyRule
from domain.record import canonical
from domain.redaction import Redactor, redact_command
from domain.state import RunState
from domain.tools import Lane, LocalTool
from domain.work import CallToolWork, GenerateWork, SampleWork, SnapshotWork
from eventlog.port import Backbone, lane_of

logger = logging.getLogger(__name__)


def no_definitions(text: str) -> Definition:
    """What a worker does that cannot read definition files.

    Raises:
        Rejected: always.
    """
    del text
    raise Rejected("not_supported", "this worker cannot read definition files")


WORK_LANES: dict[Lane, str] = {
    Lane.SANDBOX: "sandbox",
    Lane.TOOL: "tool",
    Lane.MCP: "mcp",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """One worker's way to decide and to have things done."""

    backbone: Backbone
    runs: RunStore
    hands: Hands
    epoch: str
    new_id: Callable[[], str]
    local_tools: Mapping[str, LocalTool]
    gone: Callable[[str], bool] = lambda _: False  # whether an epoch is known to have ended
    redactor: Callable[[], Redactor] = Redactor
    operator_rules: tuple[PolicyRule, ...] = ()
    parse_definition: Callable[[str], Definition] = no_definitions
    """The definition that a file's text holds; raises Rejected."""

    def situation(
        self,
        context: PinnedContext | None = None,
        gone: frozenset[str] = frozenset(),
        origin: Origin | None = None,
    ) -> Situation:
        """The time, and what this process takes upon itself."""
        return Situation(
            now_ms=self.runs.now_ms(),
            holder=self.epoch if self.hands.free() else None,
            lanes=self.hands.free_lanes(),
            epoch=self.epoch,
            context=context,
            gone=gone,
            origin=origin,
        )

    async def execute(
        self,
        ref: RunRef,
        command: Command,
        context: PinnedContext | None = None,
        *,
        gone: frozenset[str] = frozenset(),
        origin: Origin | None = None,
    ) -> Decision:
        """Take out secrets, store large content, decide, append, dispatch what follows.

        Raises:
            Rejected: the command is wrong for this run.
            Unavailable: not now; the same command may be sent again.
        """
        slim, blobs = offload(redact_command(self.redactor(), command))
        for data in blobs.values():
            await self.backbone.blobs.put(ref.tenant, data)
        decision = await self.runs.execute(ref, slim, self.situation(context, gone, origin))
        if decision.events:
            await self.follow_up(decision)
        return decision

    async def follow_up(self, decision: Decision) -> None:
        """Dispatch the effects that a decision added; the reconciler repairs what fails here."""
        if decision.after.cancelling and not decision.before.cancelling:
            self.hands.stop(decision.after.ref)
        if decision.before.at_rest and not decision.after.at_rest:
            self.hands.resume(decision.after.ref)
        for event in decision.events:
            if isinstance(event, GenerationAbandoned) and event.reason == "interrupted":
                self.hands.interrupt(decision.after.ref, event.step, event.attempt)
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
            except TooLarge:
                done = False
                logger.exception("an effect of run %s is too large to be sent", state.ref.run)
        return done

    async def _dispatch(  # noqa: C901, PLR0912 - one case an effect
        self, state: RunState, effect: Effect
    ) -> None:
        ref = state.ref
        match effect:
            case Generate():
                work = GenerateWork(step=effect.step, attempt=effect.attempt)
                if effect.holder == self.epoch:
                    self.hands.take(ref, work)
                elif effect.holder is None:
                    await self.backbone.work.put("step", ref, canonical(work))
            case Sample():
                sample = SampleWork(ask=effect.ask)
                if effect.holder == self.epoch:
                    self.hands.take(ref, sample)
                elif effect.holder is None:
                    await self.backbone.work.put("step", ref, canonical(sample))
            case CallTool():
                await self._dispatch_call(state, effect)
            case ReformTeam():
                await self.send(ref, ChangeTeam(call=effect.call.id))
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
            case TakeSnapshot():
                point = effect.checkpoint
                await self._dispatch_sandboxed(
                    state,
                    SnapshotWork(
                        step=point.step,
                        version=point.version,
                        expert=state.expert,
                        definition=state.definition,
                        parent=state.parent.run if state.parent else "",
                        number=state.sandbox.number if state.sandbox else 0,
                    ),
                )
            case TellParent():
                await self.send(effect.parent, effect.command)

    async def _dispatch_call(self, state: RunState, effect: CallTool) -> None:
        call = effect.call
        if call.lane not in WORK_LANES:
            return
        held = state.sandbox if call.lane is Lane.SANDBOX else None
        entry = state.tool(call.tool)  # None: it was taken from the team since
        work = CallToolWork(
            number=held.number if held is not None and held.lost_ms is None else None,
            call=call.id,
            attempt=call.attempt,
            lane=call.lane,
            tool=call.tool,
            skill=call.skill,
            remote=entry.remote if entry else "",
            safety=call.safety,
            arguments=call.arguments,
            key=call.key,
            timeout_ms=(entry and entry.timeout_ms) or state.limits.call_timeout_ms,
            expert=state.expert,
            definition=state.definition,
            parent=state.parent.run if state.parent else "",
        )
        if call.holder == self.epoch:
            self.hands.take(state.ref, work)
        elif call.holder is None and call.lane is Lane.SANDBOX:
            await self._dispatch_sandboxed(state, work)
        elif call.holder is None:
            await self.backbone.work.put(WORK_LANES[call.lane], state.ref, canonical(work))

    async def _dispatch_sandboxed(self, state: RunState, work: SnapshotWork | CallToolWork) -> None:
        """Send work to the worker that holds the workspace; to any, when there is none."""
        held = state.sandbox
        here = held is not None and held.epoch == self.epoch
        if here and Lane.SANDBOX in self.hands.free_lanes():
            self.hands.take(state.ref, work)
            return
        known = held is not None and held.lost_ms is None and not self.gone(held.epoch)
        lane = lane_of(held.epoch) if held is not None and known else WORK_LANES[Lane.SANDBOX]
        await self.backbone.work.put(lane, state.ref, canonical(work))

    async def send(self, ref: RunRef, command: Command) -> None:
        """Put a command into COMMANDS; durable when this returns.

        Its message id is new each time: what is sent again must not be taken for a copy.
        """
        await self.backbone.commands.put(ref, canonical(command), message_id=self.new_id())
