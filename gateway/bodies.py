"""What clients may send, field by field. Not what becomes of it: `writes` does that."""

import difflib
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from gateway.problems import Problem

NAME_CHARS_MAX = 200
SHOWN_CHARS_MAX = 64
COUNT_MAX = 1_000_000_000
MONEY_MAX = 1_000_000_000_000_000
REASON_CHARS_MAX = 2_000
RULES_MAX = 255
RESULTS_MAX = 64
PATTERNS_MAX = 32
ATTACHMENTS_MAX = 16


class Body(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class LimitsBody(Body):
    """What a run may use; money in micro-USD."""

    steps_max: int | None = Field(default=None, ge=1, le=COUNT_MAX, alias="maxSteps")
    """Replies of the model."""
    tokens_max: int | None = Field(default=None, ge=1, le=COUNT_MAX, alias="maxTokens")
    """Tokens, with those of whom it asks."""
    money_max: int | None = Field(default=None, ge=0, le=MONEY_MAX, alias="maxMicroUsd")
    """Money, with that of whom it asks, in micro-USD."""
    tool_calls_max: int | None = Field(default=None, ge=0, le=COUNT_MAX, alias="maxToolCalls")
    """Tool calls, with those of whom it asks."""
    wall_ms_max: int | None = Field(default=None, ge=1, le=MONEY_MAX, alias="maxWallMs")
    """Time, in milliseconds."""

    @property
    def limits(self) -> dict[str, int]:
        """Those that are given."""
        given = {name: getattr(self, name) for name in LimitsBody.model_fields}
        return {name: value for name, value in given.items() if value is not None}


class AttachmentBody(Body):
    """Content that was uploaded: an image, a PDF or a text."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """What the upload answered."""
    media_type: str = Field(min_length=3, max_length=NAME_CHARS_MAX)
    """Of an image, `application/pdf`, or of a text."""
    name: str = Field(default="", max_length=NAME_CHARS_MAX)
    """What the expert is told that it is called."""


class SayingBody(LimitsBody):
    """What an expert is told beside words."""

    attachments: list[AttachmentBody] = Field(
        default_factory=list[AttachmentBody], max_length=ATTACHMENTS_MAX
    )


class StartBody(SayingBody):
    """Start a run of an expert."""

    expert: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    query: str = ""
    """What it is to do."""
    data: dict[str, Any] | None = Field(default=None, alias="input")
    """The same as data, for an expert with an input schema."""
    job: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """A name for the job and its first run; without it they get one."""
    provider: str | None = Field(default=None, min_length=1, max_length=NAME_CHARS_MAX)
    """Another provider than the definition says."""
    model: str | None = Field(default=None, min_length=1, max_length=NAME_CHARS_MAX)
    """Another model than the definition says."""


class ContinueBody(SayingBody):
    """Say something to a run."""

    query: str = ""
    """What is said; it may be empty if only limits are raised."""


class ForkBody(LimitsBody):
    """Go on from the end of a step in a run of its own; step 0 is the beginning."""

    step: int = Field(ge=0, le=COUNT_MAX, alias="fromStep")
    query: str = ""
    """What is said next; from the beginning, instead of what was said first."""
    results: dict[str, str] = Field(default_factory=dict[str, str], max_length=RESULTS_MAX)
    """Other results of calls, by the call's id."""
    job: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    provider: str | None = Field(default=None, min_length=1, max_length=NAME_CHARS_MAX)
    model: str | None = Field(default=None, min_length=1, max_length=NAME_CHARS_MAX)


class CancelBody(Body):
    """Stop a run."""

    reason: str = Field(default="", max_length=NAME_CHARS_MAX)


class AnswerBody(Body):
    """Answer a question: a text, or any JSON, which the expert reads as its text.

    To what a tool asks: the values of its form, or an `action` without an `answer`.
    """

    call: str | None = Field(default=None, min_length=1, max_length=NAME_CHARS_MAX)
    """Which question, if several are open: its id."""
    answer: Any = None
    action: Literal["accept", "decline", "cancel"] | None = None


class DecideBody(Body):
    """Decide about what waits. `digest` is that of what the person was shown (C14)."""

    approval: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    """The id of what waits."""
    digest: str = Field(max_length=NAME_CHARS_MAX)
    """The one that was told with it; empty for a soft limit."""
    verdict: Literal["approve", "deny"] = "approve"
    arguments: dict[str, Any] | None = None
    """Approve with these instead."""
    reason: str = Field(default="", max_length=REASON_CHARS_MAX)
    remember: Literal["no", "tool", "exact"] = "no"
    """Whether it holds for the job from now on: for all calls of the tool, or with the same
    arguments."""


class SteerBody(Body):
    """Say something to a run at work."""

    text: str = Field(min_length=1)
    now: bool = False
    """Stop the reply in the making, instead of waiting for the end of the step."""


class NoBody(Body):
    """Nothing needs to be said."""


class RuleBody(Body):
    """One rule about calls."""

    verdict: Literal["allow", "ask", "deny"]
    expert: str = Field(default="*", max_length=NAME_CHARS_MAX)
    skill: str = Field(default="*", max_length=NAME_CHARS_MAX)
    tool: str = Field(default="*", max_length=NAME_CHARS_MAX)
    arguments: dict[str, str] = Field(default_factory=dict[str, str], max_length=PATTERNS_MAX)
    reason: str = Field(default="", max_length=REASON_CHARS_MAX)


class PolicyBody(Body):
    """Rules for a run and those under it."""

    rules: list[RuleBody] = Field(max_length=RULES_MAX)
    replace: bool = False
    """Instead of the rules that people gave before, not beside them."""


BodyT = TypeVar("BodyT", bound=Body)


async def read_body(request: Request, kind: type[BodyT], *, bytes_max: int) -> BodyT:
    """The body of a request; an empty one is an empty object.

    Raises:
        Problem: it is too large, not JSON, or not what is asked for: every wrong field is named.
    """
    data = await _read(request, bytes_max)
    try:
        raw: object = orjson.loads(data) if data else {}
    except orjson.JSONDecodeError:
        raise Problem(400, "bad_json", "The body is not valid JSON.") from None
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise field_errors(kind, error, what="field") from None


def invalid(field: str, message: str) -> Problem:
    """The problem that one field or parameter is wrong."""
    errors = [{"field": field, "message": message}]
    return Problem(422, "invalid", f"{field}: {message}", errors=errors)


def field_errors(kind: type[BaseModel], error: ValidationError, *, what: str) -> Problem:
    """The problem that fields or parameters are wrong: each is named, and what was sent is not."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    errors = [_field_error(kind, item["loc"], item["type"], item["msg"], what) for item in found]
    detail = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    return Problem(422, "invalid", detail, errors=errors)


async def _read(request: Request, bytes_max: int) -> bytes:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > bytes_max:
            raise Problem(413, "too_large", f"The body may have {bytes_max} bytes.")
    return bytes(data)


def _field_error(
    kind: type[BaseModel], loc: tuple[int | str, ...], error: str, message: str, what: str
) -> dict[str, str]:
    field = ".".join(str(part) for part in loc)[:SHOWN_CHARS_MAX] or "body"
    if error == "extra_forbidden":
        message = f"there is no such {what}{_did_you_mean(field, kind)}"
    return {"field": field, "message": message}


def _did_you_mean(field: str, kind: type[BaseModel]) -> str:
    names = [info.alias or name for name, info in kind.model_fields.items()]
    known = {name.lower().replace("_", ""): name for name in names}
    near = difflib.get_close_matches(field.lower().replace("_", ""), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {known[near[0]]!r}?"
    return f"; there are: {', '.join(sorted(names)) or 'none'}"
