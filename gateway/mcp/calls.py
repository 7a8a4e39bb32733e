"""Calls of tools that wait for a run: an expert's, or the one that goes on with a run.

A call is a wait, not the work: the run is durable, and whoever lost the call can follow its run.
"""

import logging
from dataclasses import dataclass
from functools import partial

import mcp_types as types
import orjson
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from domain.errors import PeritusError, Rejected
from domain.ids import RunRef
from eventlog.jetstream.tasks import background
from gateway.mcp.asking import Asking
from gateway.mcp.deps import McpDeps
from gateway.mcp.following import End, Following, name_of
from gateway.mcp.forms import form_of, headline, how_to, said_in
from gateway.mcp.offers import Offer
from gateway.mcp.open_calls import Ctx, OpenCalls, asked_whole, is_modern
from gateway.mcp.results import META, failure, failure_of, meta_of, result_of
from gateway.mcp.telling import LEVEL, Levels, Teller
from projections.waits import Wait

logger = logging.getLogger(__name__)

KEY = f"{META}key"
"""In the `_meta` of a call: the same key is the same run, however often it is called."""

Given = types.CallToolResult | types.InputRequiredResult


@dataclass(frozen=True, slots=True)
class Round:
    """What a client brings back after a person was asked. It was sealed: it is what we said."""

    run: str
    after_version: int = 0
    asked: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Round":
        """What was written."""
        run, after, asked, skipped = orjson.loads(text)
        return cls(run, after, tuple(asked), tuple(skipped))

    @property
    def text(self) -> str:
        """As it is written."""
        return orjson.dumps([self.run, self.after_version, self.asked, self.skipped]).decode()


class Calls:
    """The handlers of what waits for runs."""

    def __init__(self, deps: McpDeps, asking: Asking, levels: Levels) -> None:
        self.open = OpenCalls(asking, deps.closing, deps.calls_max)
        self._deps = deps
        self._asking = asking
        self._levels = levels

    async def expert(self, ctx: Ctx, params: types.CallToolRequestParams, offer: Offer) -> Given:
        """Run an expert and wait for its end.

        Raises:
            Rejected: the input is wrong, or the key was used for another call.
            Unavailable: not now.
        """
        if params.request_state is not None:
            return await self._again(ctx, params, offer)
        key = _key(ctx)
        ref = self._asking.ref_of(key)
        following = await self._look(ctx, ref)
        async with self.open.call(ctx, ref, keyed=key is not None) as one:
            async with background(following.beat()):
                command = await self._asking.prepared(ref, offer, params.arguments or {})
            await asked_whole(one, partial(self._asking.start, ref, command))
            return await self._wait(ctx, following, Round(ref.run), offer)

    async def go_on(
        self, ctx: Ctx, params: types.CallToolRequestParams, ref: RunRef, text: str
    ) -> Given:
        """Say something to a root run, at rest or at work, and wait for what follows.

        Raises:
            Rejected: it cannot be continued.
            Unavailable: not now.
        """
        if params.request_state is not None:
            return await self._again(ctx, params, None)
        following = await self._look(ctx, ref)
        after = following.state.version if following.state.at_rest else 0
        async with self.open.call(ctx, ref, keyed=_key(ctx) is not None) as one:
            await asked_whole(one, partial(self._asking.say, ref, text))
            return await self._wait(ctx, following, Round(ref.run, after), None)

    async def _again(
        self, ctx: Ctx, params: types.CallToolRequestParams, offer: Offer | None
    ) -> Given:
        """The client brings what a person said; the call goes on waiting."""
        round_ = Round.of(params.request_state or "")
        ref = RunRef(self._deps.tenant, round_.run, round_.run)
        following = await self._look(ctx, ref)
        waits = {name_of(wait): wait for wait in following.waits}
        brought = params.input_responses or {}
        skipped = list(round_.skipped)
        for name in round_.asked:
            result, wait = brought.get(name), waits.get(name)
            if isinstance(result, types.ElicitResult):  # without one, it is asked again
                skipped.append(name)
                if wait is not None:
                    await self._hand_on(wait, result)
        async with self.open.call(ctx, ref, keyed=_key(ctx) is not None) as one:
            one.exists = True
            left = Round(ref.run, round_.after_version, skipped=tuple(skipped))
            return await self._wait(ctx, following, left, offer)

    async def _look(self, ctx: Ctx, ref: RunRef) -> Following:
        """Where the run is before anything is asked of it: what comes then is news."""
        following = Following(self._deps, ref, Teller(ctx, self._levels, ref.run))
        await following.look()
        return following

    async def _wait(
        self, ctx: Ctx, following: Following, round_: Round, offer: Offer | None
    ) -> Given:
        ref, asks = following.ref, _takes_forms(ctx)
        try:
            await following.teller.say(f"run {ref.run} is at work", LEVEL)
            while True:
                end = await following.until(
                    after_version=round_.after_version,
                    ask=partial(self._ask, ctx) if asks and not is_modern(ctx) else None,
                    hand_out=asks and is_modern(ctx),
                    skipped=round_.skipped,
                )
                if end != "asked":
                    return await self._given(end, following, offer)
                round_, requests = await self._handed_out(following, round_)
                if requests:
                    return types.InputRequiredResult(
                        input_requests=requests,
                        request_state=round_.text,
                        _meta=meta_of(ref, following.state),
                    )
        except PeritusError as error:
            return failure_of(error, self._deps.redactor(), meta_of(ref, following.state))

    async def _given(
        self, end: End, following: Following, offer: Offer | None
    ) -> types.CallToolResult:
        state, run = following.state, following.ref.run
        if end == "rest":
            return await result_of(self._deps.backbone.blobs, state, offer, self._deps.redactor())
        meta = meta_of(following.ref, state)
        if end == "closing":
            text = f"The server stops. Run {run} is not lost: it goes on when a worker is there."
            return failure("closing", text, meta)
        lines = [f"{headline(wait)}: {how_to(wait)}" for wait in following.waits]
        text = "\n".join([f"Run {run} waits for a person, and nobody answered yet.", *lines])
        return failure("waiting", text, meta, waiting=[wait.id for wait in following.waits])

    async def _handed_out(
        self, following: Following, round_: Round
    ) -> tuple[Round, types.InputRequests]:
        """What the client is to ask; what cannot be shown there in full is left to others."""
        skipped, requests = list(round_.skipped), types.InputRequests()
        for wait in following.waits:
            name = name_of(wait)
            if name in skipped:
                continue
            form = await form_of(self._deps.backbone.blobs, wait)
            if form is None:
                skipped.append(name)
            else:
                requests[name] = types.ElicitRequest(params=form)
        after = round_.after_version
        return Round(round_.run, after, tuple(requests), tuple(skipped)), requests

    async def _ask(self, ctx: Ctx, wait: Wait) -> None:
        """Ask the client's person now. Whatever fails there, others can still answer."""
        try:
            form = await form_of(self._deps.backbone.blobs, wait)
            if form is None:
                return
            schema, request = form.requested_schema, ctx.request_id
            result = await ctx.session.elicit_form(form.message, schema, request)
        except (MCPError, ValidationError, PeritusError):
            logger.warning("a client could not ask about what waits in run %s", wait.ref.run)
        else:
            await self._hand_on(wait, result)

    async def _hand_on(self, wait: Wait, result: types.ElicitResult) -> None:
        try:
            await self._asking.take(wait, said_in(wait, result))
        except Rejected:
            logger.info("what waited in run %s was decided elsewhere", wait.ref.run)


def _key(ctx: Ctx) -> str | None:
    key = (ctx.meta or {}).get(KEY)
    if key is not None and not isinstance(key, str):
        raise Rejected("bad_key", f"{KEY} must be a text")
    return key


def _takes_forms(ctx: Ctx) -> bool:
    """Whether the client says that it can ask its person; without a mode, forms are meant."""
    capabilities = ctx.session.client_capabilities
    asks = None if capabilities is None else capabilities.elicitation
    return asks is not None and (asks.form is not None or asks.url is None)
