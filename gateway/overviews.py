"""The routes over all jobs: what a search finds, what was used, who did what. Not single jobs."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from gateway.deps import GatewayDeps
from gateway.looking import Looking
from gateway.models.rest import Audit, AuditEntry, Hit, Hits, Usage, UsageRow
from gateway.operations import Asked, Operation
from gateway.parameters import NUMBER, Listing, Reading, separated
from gateway.shapes import rest_of, tokens_of, told
from projections.queries.audit import AuditFilters, audit
from projections.queries.search import SearchFilters, search
from projections.queries.usage import GROUPS, usage

TIME_MAX_MS = 10_000_000_000_000

Name = Annotated[str, Field(max_length=200)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Time = Annotated[int, Field(ge=0, le=TIME_MAX_MS), NUMBER]
Group = Literal["day", "expert", "provider", "model"]


class SearchQuery(Listing):
    """What to search for, and where."""

    q: str = Field(min_length=1, max_length=2_000)
    """Words, all of which have to occur; the last one may be the beginning of one. No syntax."""
    job: Name | None = None
    run: Name | None = None
    kind: Name | None = None
    """Of the text: `input`, `text`, `tool`, `result`, `question` or `answer`."""


class UsageQuery(Reading):
    """What time, and how it is told apart."""

    from_day: Day | None = Field(default=None, alias="from")
    """The first day, UTC, as 2026-01-31."""
    to_day: Day | None = Field(default=None, alias="to")
    """The last day."""
    by: Annotated[list[str], Field(max_length=8), AfterValidator(separated(GROUPS))] = Field(
        default_factory=lambda: list(GROUPS)
    )
    """`day`, `expert`, `provider`, `model`; repeated, or with commas. `model` is with providers."""


class AuditQuery(Listing):
    """Whose acts, about what, and when."""

    name: Name | None = None
    job: Name | None = None
    action: Name | None = None
    from_ms: Time | None = None
    to_ms: Time | None = None


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Search, usage, audit."""
    overviews = Overviews(deps)
    return (
        Operation(
            "GET",
            "/v1/search",
            "search",
            "viewer",
            "Where words occur in histories, newest first",
            overviews.search,
            Hits,
            query=SearchQuery,
            problems=(409,),
            tag="overviews",
            description="In inputs, replies, tool calls, results, questions and answers. Matches "
            "are between U+0002 and U+0003.",
        ),
        Operation(
            "GET",
            "/v1/usage",
            "get_usage",
            "viewer",
            "What was used, by day, expert, provider and model",
            overviews.usage,
            Usage,
            query=UsageQuery,
            problems=(409,),
            tag="overviews",
        ),
        Operation(
            "GET",
            "/v1/audit",
            "list_audit",
            "viewer",
            "Who asked and decided what, newest first",
            overviews.audit,
            Audit,
            query=AuditQuery,
            problems=(409,),
            tag="overviews",
        ),
    )


class Overviews(Looking):
    """The handlers."""

    async def search(self, asked: Asked[SearchQuery, Any]) -> Hits:
        """`GET /v1/search`.

        Raises:
            Problem: the view does not come to the position asked for.
            Rejected: there is no word in it, or too many; or the cursor is none of this list.
            Unavailable: the view cannot be read.
        """
        query = asked.query
        await self.wait(query.position, "search")
        filters = SearchFilters(query.job, query.run, query.kind)
        found = await search(self.reader, asked.tenant, query.q, filters, query.page)
        hits = [
            Hit(
                job=one.job,
                run=one.run,
                version=one.version,
                at_ms=one.at_ms,
                kind=one.kind,
                text=one.snippet,
            )
            for one in found.items
        ]
        return Hits(hits=hits, **rest_of(found))

    async def usage(self, asked: Asked[UsageQuery, Any]) -> Usage:
        """`GET /v1/usage`.

        Raises:
            Problem: the view does not come to the position asked for.
            Rejected: a day is none, or there are too many rows.
            Unavailable: the view cannot be read.
        """
        query = asked.query
        await self.wait(query.position, "usage")
        by = {*query.by, *(("provider",) if "model" in query.by else ())}
        found = await usage(self.reader, asked.tenant, query.from_day, query.to_day, by=by)
        rows = [
            UsageRow(
                day=one.day,
                expert=one.expert,
                provider=one.provider,
                model=one.model,
                runs=one.runs,
                generations=one.generations,
                failures=one.failures,
                tool_calls=one.tool_calls,
                usage=tokens_of(one),
                tokens_charged=one.tokens_charged,
                micro_usd_charged=one.money_charged,
            )
            for one in found.rows
        ]
        return Usage(rows=rows, position=told(found.position))

    async def audit(self, asked: Asked[AuditQuery, Any]) -> Audit:
        """`GET /v1/audit`.

        Raises:
            Problem: the view does not come to the position asked for.
            Rejected: the cursor is none of this list.
            Unavailable: the view cannot be read.
        """
        query = asked.query
        await self.wait(query.position, "audit")
        filters = AuditFilters(query.name, query.job, query.action, query.from_ms, query.to_ms)
        found = await audit(self.reader, asked.tenant, filters, query.page)
        entries = [
            AuditEntry(
                at_ms=one.at_ms,
                job=one.job,
                run=one.run,
                action=one.action,
                what=one.what,
                name=one.name,
                via=one.via,
                detail=one.detail,
            )
            for one in found.items
        ]
        return Audit(entries=entries, **rest_of(found))
