"""What a caller is given of a run: its result, or in plain words why there is none. Not the wait.

A run that did not complete is an error of the tool, not of the protocol: a model can read it.
"""

from typing import Any

import mcp_types as types

from domain.content import BlobRef
from domain.errors import (
    IntegrityViolated,
    NoSuchRun,
    PeritusError,
    Rejected,
    TooLarge,
    Unavailable,
)
from domain.ids import RunRef
from domain.redaction import Redactor
from domain.state import RunState
from eventlog.port import Blobs
from gateway.mcp.offers import Offer
from projections.waits import parsed

META = "peritus/"
"""What the keys of ours in `_meta` begin with."""

RESULT_CHARS_MAX = 1_000_000
"""How much of a text is handed to a client, in characters; the rest stays in the log."""


def text_result(
    text: str, *, meta: dict[str, Any] | None = None, structured: dict[str, Any] | None = None
) -> types.CallToolResult:
    """A result that is a text, and data if there are some."""
    if len(text) > RESULT_CHARS_MAX:
        text = f"{text[:RESULT_CHARS_MAX]}\n[cut here: the text has {len(text)} characters]"
    content: list[types.ContentBlock] = [types.TextContent(text=text)]
    return types.CallToolResult(content=content, structured_content=structured, _meta=meta)


def failure(
    kind: str, message: str, meta: dict[str, Any] | None = None, **more: object
) -> types.CallToolResult:
    """An error that the caller's model reads; programs read its kind in `_meta`."""
    told = {**(meta or {}), f"{META}reason": {"kind": kind, **more}}
    result = text_result(message, meta=told)
    return result.model_copy(update={"is_error": True})


def failure_of(
    error: PeritusError, redactor: Redactor, meta: dict[str, Any] | None = None
) -> types.CallToolResult:
    """An error of ours as one of the tool, without the values of secrets (C15)."""
    match error:
        case NoSuchRun():
            return failure("no_such_run", "There is no such run.", meta)
        case Rejected():
            return failure(error.code, redactor.text(error.message), meta)
        case TooLarge():
            return failure("too_large", "The input is too large.", meta)
        case Unavailable():
            return failure("unavailable", "A part of the system is away; try again.", meta)
        case IntegrityViolated():
            return failure("integrity_violated", "The stored history cannot be read.", meta)
        case _:
            return failure("internal", "Something went wrong inside.", meta)


def meta_of(ref: RunRef, state: RunState | None = None) -> dict[str, Any]:
    """The facts of a run that every result carries; money in micro-USD."""
    meta: dict[str, Any] = {f"{META}run": ref.run, f"{META}job": ref.job}
    if state is None or state.version == 0:
        return meta
    return meta | {
        f"{META}status": state.status,
        f"{META}step": state.step,
        f"{META}tokens": state.tokens_charged,
        f"{META}micro_usd": state.money_charged,
    }


async def result_text(blobs: Blobs, state: RunState) -> str:
    """The result of a run in full, wherever it is kept.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: it is not what was stored.
    """
    if isinstance(state.result, BlobRef):
        found = await blobs.get(state.ref.tenant, state.result.digest)
        return found.decode("utf-8", "replace")
    return state.result or ""


async def result_of(
    blobs: Blobs, state: RunState, offer: Offer | None, redactor: Redactor
) -> types.CallToolResult:
    """The result of a run at rest.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the result is not what was stored.
    """
    meta, run = meta_of(state.ref, state), state.ref.run
    match state.status:
        case "failed":
            message = redactor.text(f"{state.failure_kind}: {state.failure_message}")
            return failure("failed", f"Run {run} failed. {message}", meta, failure=message)
        case "stopped":
            limit = state.stopped_by
            message = f"Run {run} was stopped at its limit of {limit}, before it was done."
            return failure("stopped", message, meta, limit=limit)
        case "cancelled":
            return failure("cancelled", f"Run {run} was cancelled.", meta)
        case _:
            text = await result_text(blobs, state)
    if offer is None or offer.output_schema is None:
        return text_result(text, meta=meta)
    if not state.typed_result or len(text) > RESULT_CHARS_MAX:
        message = f"Run {run} completed, but its result is not data that can be handed on."
        return failure("untyped_result", message, meta)
    return text_result(text, meta=meta, structured=offer.structured(parsed(text)))
