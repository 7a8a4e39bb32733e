"""How SQLite goes about each question: by an index, and in the order it is asked for. Not how fast.

Over 100,000 runs, a question that looks at every row, or sorts all it finds, would be felt.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from projections.queries.activities import activities_of
from projections.queries.audit import AuditFilters, audit
from projections.queries.jobs import JobFilters, job, jobs
from projections.queries.paging import Asked
from projections.queries.reader import Reader
from projections.queries.roots import paused_jobs, roots_of
from projections.queries.search import SearchFilters, search
from projections.queries.steps import CallFilters, calls_of, steps_of
from projections.queries.usage import usage
from tests.support.pen import completed, started
from tests.support.views import desk_path, open_desk, pen_of

pytestmark = pytest.mark.anyio

Question = Callable[[Reader], Awaitable[Any]]

AFTER = "1-1-1"
QUESTIONS: dict[str, Question] = {
    "jobs": lambda r: jobs(r, "acme"),
    "jobs, next page": lambda r: jobs(r, "acme", asked=Asked(cursor="9")),
    "jobs by status": lambda r: jobs(r, "acme", JobFilters(status="failed"), Asked(cursor="9")),
    "jobs by expert": lambda r: jobs(r, "acme", JobFilters(expert="boss"), Asked(cursor="9")),
    "jobs that wait": lambda r: jobs(r, "acme", JobFilters(status="waiting"), Asked(cursor="9")),
    "forks of a job": lambda r: jobs(r, "acme", JobFilters(forked_from="j"), Asked(cursor="9")),
    "a job": lambda r: job(r, "acme", "job1"),
    "some jobs": lambda r: jobs(r, "acme", JobFilters(among=["job1", "job2"]), Asked(cursor="9")),
    "first runs of jobs": lambda r: roots_of(r, "acme", ["job1", "job2"]),
    "paused jobs": lambda r: paused_jobs(r, "acme"),
    "steps": lambda r: steps_of(r, "acme", "job1", "alpha", Asked(cursor="1")),
    "calls of a job": lambda r: calls_of(r, "acme", "job1", asked=Asked(cursor="1-1")),
    "calls by tool": lambda r: calls_of(r, "acme", "job1", filters=CallFilters(tool="look")),
    "activities of a job": lambda r: activities_of(r, "acme", "job1", asked=Asked(cursor="1-1")),
    "acts": lambda r: audit(r, "acme", asked=Asked(cursor=AFTER)),
    "acts by name": lambda r: audit(r, "acme", AuditFilters(name="ann"), Asked(cursor=AFTER)),
    "acts by job": lambda r: audit(r, "acme", AuditFilters(job="job1"), Asked(cursor=AFTER)),
    "acts by action": lambda r: audit(r, "acme", AuditFilters(action="denied")),
    "acts by time": lambda r: audit(r, "acme", AuditFilters(from_ms=1, to_ms=2)),
    "a search": lambda r: search(r, "acme", "fox den", asked=Asked(cursor="9")),
    "a search in a run": lambda r: search(r, "acme", "fox", SearchFilters(job="j", run="r")),
    "usage by all there is": lambda r: usage(r, "acme", "2026-01-01"),
}

SORTING: dict[str, Question] = {
    "calls of a run": lambda r: calls_of(r, "acme", "job1", "alpha", asked=Asked(cursor="1-1")),
    "activities of a run": lambda r: activities_of(r, "acme", "job1", "alpha"),
    "usage by model": lambda r: usage(r, "acme", "2026-01-01", by=["model"]),
}
"""These may sort what one run has, or sums."""


async def plans(folder: Path, question: Question) -> list[str]:
    """What SQLite says it does for a question, line by line."""
    asked: list[tuple[str, Any]] = []
    async with open_desk(desk_path(folder)) as desk:
        await desk.tell(pen_of(), started(), completed(1))
        await desk.reader.position()
        engine = desk.reader._engine  # pyright: ignore[reportPrivateUsage]
        assert engine is not None

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def heard(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            asked.append((statement, parameters))

        await question(desk.reader)
        found: list[str] = []
        async with engine.connect() as db:
            for statement, parameters in [one for one in asked if " places" not in one[0]]:
                explained = f"EXPLAIN QUERY PLAN {statement}"
                rows = (await db.exec_driver_sql(explained, tuple(parameters))).mappings()
                found += [row["detail"] for row in rows]
        return found


@pytest.mark.parametrize("name", [*QUESTIONS, *SORTING])
async def test_no_question_looks_at_every_row(tmp_path: Path, name: str) -> None:
    plan = await plans(tmp_path, {**QUESTIONS, **SORTING}[name])
    assert plan
    scans = [line for line in plan if line.startswith("SCAN") and "VIRTUAL TABLE INDEX" not in line]
    assert scans == [], plan


@pytest.mark.parametrize("name", QUESTIONS)
async def test_no_question_about_many_runs_sorts_what_it_finds(tmp_path: Path, name: str) -> None:
    plan = await plans(tmp_path, QUESTIONS[name])
    assert [line for line in plan if "TEMP B-TREE" in line] == [], plan


async def test_a_plan_that_looks_at_every_row_would_be_seen(tmp_path: Path) -> None:
    async def by_query(reader: Reader) -> None:
        async with reader.look("jobs") as look:
            table = look.tables["jobs"]
            query = table.select().where(table.c.query == "go").order_by(table.c.steps)
            await look.all(query)

    plan = await plans(tmp_path, by_query)
    assert any(line.startswith("SCAN") for line in plan)
    assert any("TEMP B-TREE" in line for line in plan)
