"""How rows look to clients: plain JSON with links. Not the rows, and not the problems."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from projections.family import Family
from projections.views import CheckpointRow, RunRow
from projections.waits import Look


def json_answer(body: dict[str, Any], *, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


def links(request: Request, run: str) -> dict[str, str]:
    """Where a run is looked at and followed."""
    return {
        "status_url": str(request.url_for("run", run=run).path),
        "events_url": str(request.url_for("events", run=run).path),
    }


def run_json(request: Request, row: RunRow) -> dict[str, Any]:
    """A run as clients see it."""
    failure = row.failure_kind and {"kind": row.failure_kind, "message": row.failure_message}
    return {
        "run": row.run,
        "job": row.job,
        "parent_run": row.parent_run,
        "expert": row.expert,
        "status": row.status,
        "query": row.query,
        "step": row.step,
        "steps_max": row.steps_max,
        "provider": row.provider,
        "model": row.model,
        "started_at_ms": row.started_at_ms,
        "updated_at_ms": row.updated_at_ms,
        "ended_at_ms": row.ended_at_ms,
        "cancel_requested_at_ms": row.cancel_requested_at_ms,
        "paused_at_ms": row.paused_at_ms,
        "waiting": row.waiting.split(),
        "usage": row.usage.model_dump(),
        "tokens_charged": row.tokens_charged,
        "micro_usd_charged": row.money_charged,
        "result": row.result,
        "result_digest": row.result_digest,
        "stopped_by": row.stopped_by,
        "failure": failure,
        "definition": row.definition,
        "version": row.version,
        "integrity": row.integrity,
        **links(request, row.run),
    }


def checkpoint_json(row: CheckpointRow) -> dict[str, Any]:
    """A checkpoint as clients see it."""
    return {
        "run": row.run,
        "step": row.step,
        "version": row.version,
        "at_ms": row.at_ms,
        "tokens": row.tokens,
    }


def member_json(family: Family, look: Look) -> dict[str, Any]:
    """A run in the tree of its job."""
    state = look.state
    return {
        "run": state.ref.run,
        "parent_run": family.parent(state.ref.run),
        "depth": state.depth,
        "expert": family.expert(state.ref.run),
        "status": state.status,
        "paused": state.paused,
        "cancelling": state.cancelling,
        "waiting": [{"id": wait.id, "kind": wait.kind, "tool": wait.tool} for wait in look.waits],
        "step": state.step,
        "steps_left": state.steps_left,
        "tokens_charged": state.tokens_charged,
        "tokens_left": state.tokens_left,
        "micro_usd_charged": state.money_charged,
        "micro_usd_left": state.money_left,
        "tool_calls": state.tool_calls,
        "tool_calls_left": state.tool_calls_left,
        "children": list(family.children(state.ref.run)),
    }
