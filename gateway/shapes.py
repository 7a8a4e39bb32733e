"""How rows look to clients: plain JSON with links. Not the rows, and not the problems."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from projections.views import CheckpointRow, RunRow


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
    """A run as clients see it, with links."""
    return {**run_facts(row), **links(request, row.run)}


def run_facts(row: RunRow) -> dict[str, Any]:
    """A run as clients see it."""
    failure = row.failure_kind and {"kind": row.failure_kind, "message": row.failure_message}
    return {
        "run": row.run,
        "job": row.job,
        "parent_run": row.parent_run,
        "forked_from": _source(row),
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
        "waiting": [name.rpartition("/")[2] for name in row.waiting.split()],
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
    }


def _source(row: RunRow) -> dict[str, Any] | None:
    if row.source_run is None:
        return None
    return {"run": row.source_run, "version": row.source_version, "step": row.source_step}


def checkpoint_json(row: CheckpointRow) -> dict[str, Any]:
    """A checkpoint as clients see it."""
    return {
        "run": row.run,
        "step": row.step,
        "version": row.version,
        "at_ms": row.at_ms,
        "tokens": row.tokens,
    }
