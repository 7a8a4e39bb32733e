"""How rows look to clients: the models of the wire, with links. Not the rows, nor the problems."""

from typing import Any

from starlette.requests import Request

from domain.ids import RunRef
from eventlog.port import Cursor
from gateway.models.common import Tokens
from gateway.models.runs import Checkpoint, Run
from projections.queries.jobs import JobRow
from projections.queries.paging import Listing
from projections.queries.steps import StepRow
from projections.queries.usage import UsageRow
from projections.rows import CheckpointRow, RunRow


def links(request: Request, ref: RunRef | RunRow) -> dict[str, str]:
    """Where a run is looked at and followed."""
    url = url_of(request, f"/v1/runs/{ref.run}")
    return {"status_url": url, "events_url": f"{url}/events"}


def url_of(request: Request, path: str) -> str:
    """A path of the gateway, below where it is mounted."""
    return f"{request.scope.get('app_root_path', request.scope.get('root_path', ''))}{path}"


def told(position: Cursor | None) -> str | None:
    """How far a view is, as clients hand it in again."""
    return None if position is None else str(position)


def rest_of(found: Listing[Any]) -> dict[str, str | None]:
    """What asks for the rest of a list, and how far its view is: the fields of a `Page`."""
    return {"next_cursor": found.cursor, "position": told(found.position)}


def tokens_of(row: JobRow | StepRow | UsageRow) -> Tokens:
    """Its tokens as clients see them."""
    return Tokens(
        input=row.input_tokens,
        output=row.output_tokens,
        reasoning=row.reasoning_tokens,
        cached=row.cached_tokens,
        cache_written=row.cache_written_tokens,
    )


def run_of(request: Request, row: RunRow) -> Run:
    """A run as clients see it, with links."""
    return Run.model_validate({**run_facts(row), **links(request, row)})


def run_facts(row: RunRow) -> dict[str, Any]:
    """A run as clients see it."""
    failure = row.failure_kind and {"kind": row.failure_kind, "message": row.failure_message}
    return {
        "run": row.run,
        "job": row.job,
        "parent_run": row.parent_run,
        "forked_from": source_of(row),
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
        "failure": failure or None,
        "definition": row.definition,
        "version": row.version,
        "integrity": row.integrity,
    }


def source_of(row: RunRow) -> dict[str, Any] | None:
    """Where a fork has its past from."""
    if row.source_run is None:
        return None
    return {
        "job": row.source_job,
        "run": row.source_run,
        "version": row.source_version,
        "step": row.source_step,
    }


def checkpoint_of(row: CheckpointRow) -> Checkpoint:
    """A checkpoint as clients see it."""
    return Checkpoint(**checkpoint_json(row))


def checkpoint_json(row: CheckpointRow) -> dict[str, Any]:
    """The same as plain JSON."""
    return {
        "run": row.run,
        "step": row.step,
        "version": row.version,
        "at_ms": row.at_ms,
        "tokens": row.tokens,
    }
