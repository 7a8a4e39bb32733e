"""Tools to follow up runs: look, answer, cancel, go on. Not the experts.

There is none to approve: what a rule wants a person to see is not for the model that asked.
"""

from typing import Any, Literal

import mcp_types as types
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.errors import NoSuchRun, Rejected
from domain.ids import TOKEN, RunRef
from domain.state import RunState
from gateway.mcp.asking import Asking
from gateway.mcp.calls import Calls, Given
from gateway.mcp.deps import McpDeps
from gateway.mcp.forms import how_to
from gateway.mcp.open_calls import Ctx
from gateway.mcp.results import failure, meta_of, result_text, text_result
from projections.family import Family, load_family
from projections.waits import QUESTIONS, find_wait, wait_json

STATUS_CHARS_MAX = 20_000
"""How much of a result the status shows, in characters."""

TEXT_CHARS_MAX = 1_000_000


class Arguments(BaseModel):
    """What every one of these tools takes, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run: str = Field(description="The id of a run, as results and progress name it.")


class Status(Arguments):
    """Look at a run: where it is, what it waits for, what it answered."""


class Answer(Arguments):
    """Answer a question that an expert has asked a person. Approvals are not answered here."""

    answer: str = Field(min_length=1, max_length=TEXT_CHARS_MAX, description="What to answer.")
    question: str | None = Field(
        default=None, description="The id of the question, if several are open."
    )


class Cancel(Arguments):
    """Stop a run and everything under it."""

    reason: str = Field(default="", max_length=200, description="Why; it is kept.")


class Continue(Arguments):
    """Say something to a run, so that it goes on if it is at rest, and wait for its end."""

    text: str = Field(default="", max_length=TEXT_CHARS_MAX, description="What to say.")


FollowUp = Literal["peritus_status", "peritus_answer", "peritus_cancel", "peritus_continue"]

TOOLS: dict[str, type[Arguments]] = {
    "peritus_status": Status,
    "peritus_answer": Answer,
    "peritus_cancel": Cancel,
    "peritus_continue": Continue,
}


class FollowUps:
    """The handlers."""

    def __init__(self, deps: McpDeps, asking: Asking, calls: Calls) -> None:
        self._deps = deps
        self._asking = asking
        self._calls = calls

    @property
    def tools(self) -> list[types.Tool]:
        """The tools as clients are told of them."""
        return [
            types.Tool(
                name=name,
                description=(kind.__doc__ or "").strip(),
                input_schema=_schema(kind),
                annotations=types.ToolAnnotations(
                    read_only_hint=kind is Status,
                    destructive_hint=kind is Cancel,
                    idempotent_hint=kind in {Status, Cancel},
                    open_world_hint=kind is Continue,
                ),
            )
            for name, kind in TOOLS.items()
        ]

    async def call(self, ctx: Ctx, params: types.CallToolRequestParams) -> Given:
        """Call one of them.

        Raises:
            Rejected: the arguments are wrong, or it cannot be done to this run.
            Unavailable: not now.
        """
        given = _read(TOOLS[params.name], params.arguments or {})
        ref = await self._find(given.run)
        match given:
            case Answer():
                return await self._answer(ref, given)
            case Cancel():
                await self._asking.cancel(ref, given.reason)
                return text_result(f"Run {ref.run} was asked to stop.", meta=meta_of(ref))
            case Continue():
                return await self._calls.go_on(ctx, params, ref, given.text)
            case _:
                return await self._status(ref)

    async def _find(self, run: str) -> RunRef:
        log, tenant = self._deps.backbone.log, self._deps.tenant
        ref = await log.find(tenant, run) if TOKEN.fullmatch(run) else None
        if ref is None:
            raise NoSuchRun(run)
        return ref

    async def _answer(self, ref: RunRef, given: Answer) -> types.CallToolResult:
        family = await load_family(self._deps.backbone.log, ref)
        wait = find_wait(family.waits(ref.run), given.question, QUESTIONS)
        await self._asking.answer(wait, given.answer)
        return text_result(f"Answered question {wait.id} of run {wait.ref.run}.", meta=meta_of(ref))

    async def _status(self, ref: RunRef) -> types.CallToolResult:
        family = await load_family(self._deps.backbone.log, ref)
        facts = await self._facts(family, family.looks[ref.run].state)
        text = orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode()
        if len(text) > 2 * STATUS_CHARS_MAX:
            message = f"What waits in run {ref.run} is too long to be shown here."
            return failure("too_large", message, meta_of(ref))
        return text_result(text, meta=meta_of(ref), structured=facts)

    async def _facts(self, family: Family, state: RunState) -> dict[str, Any]:
        blobs, ref = self._deps.backbone.blobs, state.ref
        waits = [
            {**await wait_json(blobs, wait), "how_to": how_to(wait)}
            for wait in family.waits(ref.run)
        ]
        facts = {**family.facts(ref.run), "job": ref.job, "waiting": waits}
        redactor = self._deps.redactor()
        if state.status == "completed":
            facts["result"] = (await result_text(blobs, state))[:STATUS_CHARS_MAX]
        if state.status == "failed":
            message = redactor.text(state.failure_message)
            facts["failure"] = {"kind": state.failure_kind, "message": message}
        if state.status == "stopped":
            facts["stopped_by"] = state.stopped_by
        return facts


def _schema(kind: type[Arguments]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    for unused in ("title", "description"):
        schema.pop(unused, None)
    return schema


def _read(kind: type[Arguments], arguments: dict[str, Any]) -> Arguments:
    try:
        return kind.model_validate(arguments)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        message = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)
        raise Rejected("bad_input", message) from None
