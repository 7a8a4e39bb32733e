"""What the views answer, in every form of the store. Not how rows come about: the folds' tests."""

from collections.abc import Iterable
from typing import Any

import pytest

from domain import events as e
from domain.content import TextPart
from domain.errors import Rejected
from domain.ids import RunRef
from domain.tools import Lane, Safety
from eventlog.port import Stored
from projections.queries.activities import activities_of
from projections.queries.audit import AuditFilters, audit
from projections.queries.jobs import JobFilters, job, jobs
from projections.queries.paging import Asked
from projections.queries.search import SearchFilters, search
from projections.queries.steps import CallFilters, calls_of, steps_of
from projections.queries.usage import usage
from projections.views import ALL
from projections.where import Where
from tests.support.pen import Pen, completed, continued, replied, requested, started
from tests.support.tables import Rows
from tests.support.views import Desk, open_desk, pen_of
from tests.support.worlds import world

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000


def called(name: str, tool: str = "look", arguments: str = "{}") -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call=name,
        step=1,
        provider_id="p",
        tool=tool,
        skill="own",
        lane=Lane.TOOL,
        safety=Safety.READ_ONLY,
        arguments=arguments,
        key="k",
    )


def ended(name: str, text: str = "seen", outcome: e.Outcome = "succeeded") -> e.ToolCallEnded:
    return e.ToolCallEnded(call=name, outcome=outcome, content=(TextPart(text=text),))


def says(text: str, name: str = "s2") -> e.InputReceived:
    by = e.Principal(name="ann", via="cli")
    return e.InputReceived(input=name, speaker="user", parts=(TextPart(text=text),), by=by)


async def tell_jobs(desk: Desk, names: Iterable[str], tenant: str = "acme") -> list[Pen]:
    pens = [pen_of(name, job=name, tenant=tenant) for name in names]
    for pen in pens:
        await desk.tell(pen, started())
    return pens


async def test_jobs_are_listed_newest_first_page_by_page_whatever_comes_meanwhile(
    where: Where,
) -> None:
    async with open_desk(where) as desk:
        await tell_jobs(desk, ("a", "b", "c", "d", "e"))
        first = await jobs(desk.reader, "acme", asked=Asked(limit=2))
        await tell_jobs(desk, ("f",))
        second = await jobs(desk.reader, "acme", asked=Asked(limit=2, cursor=first.cursor))
        third = await jobs(desk.reader, "acme", asked=Asked(limit=2, cursor=second.cursor))
        assert [row.job for row in first.items] == ["e", "d"]
        assert [row.job for row in second.items] == ["c", "b"]
        assert ([row.job for row in third.items], third.cursor) == (["a"], None)
        assert first.position is not None
        assert first.position.seq == 5


async def test_jobs_are_found_by_status_expert_and_source(where: Where) -> None:
    async with open_desk(where) as desk:
        one, two, three = pen_of("a", job="a"), pen_of("b", job="b"), pen_of("c", job="c")
        await desk.tell(one, started("boss"), completed(1))
        await desk.tell(two, started("chef"), (e.QuestionAsked(call="c1-0"),))
        source = e.Source(job="a", run="a", version=5, hash="f" * 64)
        begun = started()
        forked = e.RunForked.model_validate(
            {
                "command": "f",
                "source": source,
                "generation": 1,
                "step": 1,
                "expert": "boss",
                "definition": "d",
                "limits": {},
            }
        )
        await desk.tell(three, (forked, begun[1], requested(2)))

        async def found(**wanted: str) -> list[str]:
            return [
                row.job for row in (await jobs(desk.reader, "acme", JobFilters(**wanted))).items
            ]

        assert await found(status="completed") == ["a"]
        assert await found(status="running") == ["c", "b"]
        assert await found(status="waiting") == ["b"]
        assert await found(expert="boss") == ["c", "a"]
        assert await found(forked_from="a") == ["c"]
        assert await found(forked_from="a", status="waiting") == []
        row = await job(desk.reader, "acme", "b")
        assert row is not None
        assert (row.job, row.run, row.waiting, row.expert) == ("b", "b", 1, "chef")
        assert await job(desk.reader, "acme", "nope") is None


async def test_a_runs_steps_and_calls_come_in_order(where: Where) -> None:
    async with open_desk(where) as desk:
        pen, kid = pen_of("r", job="j"), pen_of("kid", job="j")
        await desk.tell(pen, started(), (replied(1), called("c1-0"), called("c1-1", "pay")))
        await desk.tell(kid, started("helper", e.Parent(run="r", call="c1-0")))
        await desk.tell(kid, (replied(1), called("c1-0")))
        await desk.tell(pen, (ended("c1-1"), e.StepEnded(step=1), requested(2)))

        steps = await steps_of(desk.reader, "acme", "j", "r", Asked(limit=1))
        assert [(row.step, row.calls, row.ended_at_ms) for row in steps.items] == [(1, 2, 1_020)]
        more = await steps_of(desk.reader, "acme", "j", "r", Asked(cursor=steps.cursor))
        assert [(row.step, row.generated_at_ms) for row in more.items] == [(2, None)]

        mine = await calls_of(desk.reader, "acme", "j", "r")
        assert [(row.call, row.status) for row in mine.items] == [
            ("c1-0", "requested"),
            ("c1-1", "succeeded"),
        ]
        every = await calls_of(desk.reader, "acme", "j", asked=Asked(limit=2))
        rest = await calls_of(desk.reader, "acme", "j", asked=Asked(cursor=every.cursor))
        assert [(row.run, row.call) for row in (*every.items, *rest.items)] == [
            ("r", "c1-0"),
            ("r", "c1-1"),
            ("kid", "c1-0"),
        ]
        wanted = CallFilters(status="succeeded", tool="pay")
        some = await calls_of(desk.reader, "acme", "j", filters=wanted)
        assert [row.result for row in some.items] == ["seen"]


async def test_activities_of_a_job_come_in_the_order_of_the_log(where: Where) -> None:
    async with open_desk(where) as desk:
        pen, kid = pen_of("r", job="j"), pen_of("kid", job="j")
        await desk.tell(pen, started(), (replied(1), called("c1-0"), called("c1-1")))
        await desk.tell(kid, started("helper", e.Parent(run="r", call="c1-0")))
        await desk.tell(pen, (ended("c1-1"),))
        every = await activities_of(desk.reader, "acme", "j", asked=Asked(limit=3))
        shown = [(row.run, row.id, row.type) for row in every.items]
        assert shown == [("r", "3", "query"), ("r", "6", "generalTool"), ("r", "7", "generalTool")]
        rest = await activities_of(desk.reader, "acme", "j", asked=Asked(cursor=every.cursor))
        assert [(row.run, row.type, row.delegated_by) for row in rest.items] == [
            ("kid", "query", "r")
        ]
        mine = await activities_of(desk.reader, "acme", "j", "r")
        assert [row.status for row in mine.items] == ["user", "requested", "succeeded"]


async def test_usage_is_summed_by_what_is_asked_for(where: Where) -> None:
    async with open_desk(where) as desk:
        one, two = pen_of("a", job="a"), pen_of("b", job="b")
        two.at_ms = 3 * DAY_MS
        await desk.tell(one, started("boss"), completed(1))
        await desk.tell(two, started("chef"), completed(1), continued(), completed(2))

        days = (await usage(desk.reader, "acme", by=["day"])).rows
        assert [(row.day, row.generations, row.expert) for row in days] == [
            ("1970-01-01", 1, None),
            ("1970-01-04", 2, None),
        ]
        experts = (await usage(desk.reader, "acme", by=["expert", "model"])).rows
        assert [(row.expert, row.model, row.tokens_charged) for row in experts] == [
            ("boss", "m1", 8),
            ("chef", "m1", 16),
        ]
        (whole,) = (await usage(desk.reader, "acme", by=())).rows
        assert (whole.day, whole.runs, whole.generations, whole.input_tokens) == (None, 2, 3, 21)
        (late,) = (await usage(desk.reader, "acme", "1970-01-02", "1970-01-04", by=())).rows
        assert late.generations == 2
        assert (await usage(desk.reader, "acme", "1970-01-05", by=())).rows == ()
        assert (await usage(desk.reader, "acme", to_day="1969-12-31")).rows == ()


async def test_usage_is_asked_for_with_days_and_groups_there_are(where: Where) -> None:
    async with open_desk(where) as desk:
        with pytest.raises(Rejected, match="write YYYY-MM-DD"):
            await usage(desk.reader, "acme", "yesterday")
        with pytest.raises(Rejected, match="told apart by day, expert, provider, model"):
            await usage(desk.reader, "acme", by=["day", "job"])


async def test_acts_are_found_by_who_what_where_and_when(where: Where) -> None:
    async with open_desk(where) as desk:
        ann, bob = e.Principal(name="ann", via="cli"), e.Principal(name="bob", via="http")
        pen = pen_of("a", job="a")
        await desk.tell(pen, started(), (e.RunPaused(command="p", by=ann),))
        await desk.tell(pen, (e.RunResumed(command="q", by=bob),), (says("hurry"),))
        await desk.tell(pen_of("b", job="b"), started())

        async def found(**wanted: str | int) -> list[tuple[str, str]]:
            filters = AuditFilters(**wanted)  # type: ignore[arg-type]
            rows = (await audit(desk.reader, "acme", filters)).items
            return [(row.job, row.action) for row in rows]

        said, resumed, paused, begun = (
            ("a", "said"),
            ("a", "resumed"),
            ("a", "paused"),
            ("a", "started"),
        )
        assert await found(job="a") == [said, resumed, paused, begun]
        assert await found(name="ann") == [said, paused]
        assert await found(name="ann", action="paused") == [paused]
        assert await found(action="started", to_ms=1_000) == [("b", "started"), begun]
        assert await found(from_ms=1_010, to_ms=1_020) == [resumed, paused]
        first = await audit(desk.reader, "acme", asked=Asked(limit=3))
        rest = await audit(desk.reader, "acme", asked=Asked(limit=3, cursor=first.cursor))
        assert [row.at_ms for row in (*first.items, *rest.items)] == [
            1_030,
            1_020,
            1_010,
            1_000,
            1_000,
        ]
        assert [row.job for row in rest.items] == ["b", "a"]


async def test_a_search_finds_texts_with_all_words_newest_first(where: Where) -> None:
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(pen, started(), (replied(1, "The red fox jumps over the fence."),))
        await desk.tell(pen, (called("c1-0", "look", '{"path": "src/Red_fox.py"}'),))
        await desk.tell(pen, (ended("c1-0", "No fox here, only fences."),))

        async def found(text: str, **wanted: str) -> list[str]:
            hits = await search(desk.reader, "acme", text, SearchFilters(**wanted))
            return [hit.kind for hit in hits.items]

        assert await found("fox") == ["result", "tool", "text"]
        assert await found("RED fox") == ["tool", "text"]
        assert await found("fox fenc") == ["result", "text"]
        assert await found("fenc fox") == []
        assert await found("src/red_fox.py") == ["tool"]
        assert await found("fox", kind="text") == ["text"]
        assert await found("fox", job="a", run="a") == ["result", "tool", "text"]
        assert await found("fox", job="b") == []
        assert await found("wolf") == []


async def test_a_hit_shows_where_it_is_and_marks_the_words(where: Where) -> None:
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        words = f"{'so ' * 100}The red fox\njumps. {'and ' * 200}"
        await desk.tell(pen, started(), (replied(1, words),))
        (hit,) = (await search(desk.reader, "acme", "fox jum")).items
        assert (hit.job, hit.run, hit.version, hit.at_ms) == ("a", "a", 5, 1_010)
        assert "red \x02fox\x03 \x02jum\x03ps. and" in hit.snippet
        assert (hit.snippet[0], hit.snippet[-1]) == ("…", "…")


async def test_hits_come_page_by_page(where: Where) -> None:
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(
            pen, started(), *[(says(f"fox {count}", f"s{count}"),) for count in range(5)]
        )
        first = await search(desk.reader, "acme", "fox", asked=Asked(limit=2))
        await desk.tell(pen, (says("fox again", "late"),))
        second = await search(desk.reader, "acme", "fox", asked=Asked(limit=9, cursor=first.cursor))
        snippets = [hit.snippet for hit in (*first.items, *second.items)]
        assert snippets == [f"\x02fox\x03 {count}" for count in (4, 3, 2, 1, 0)]
        assert second.cursor is None


TYPED = [
    'fox" OR text : "cat',
    "fox OR cat",
    "fox AND NOT cat",
    "NEAR(fox cat)",
    "fox* cat*",
    "text:cat fox",
    "{text} : fox cat",
    "^fox cat",
    "fox -cat",
    "(fox) cat",
    "fox & !cat",
    "fox | cat",
    "fox <-> cat",
    "'fox' ':* | cat",
    "fox'; DROP TABLE search; -- cat",
    "fox \\ cat",
    "fox\x00cat",
    "tenant : acme OR fox cat",
    "fox:* cat:*",
    "%fox% cat",
]


async def test_what_people_type_is_words_and_never_a_query(where: Where) -> None:
    """Each has the word cat, which no text has."""
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(
            pen, started(), (replied(1, "a fox, and text or near and not tenant acme"),)
        )
        for typed in TYPED:
            assert (await search(desk.reader, "acme", typed)).items == (), typed


SIGNS = ['"fox"', "fox?", "(fox)", "-fox", "fox*", "'fox'", "«fox»", "fox:", "a & fox"]


async def test_signs_around_a_word_are_not_in_the_way(where: Where) -> None:
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(pen, started(), (replied(1, "a fox"),))
        for typed in SIGNS:
            assert len((await search(desk.reader, "acme", typed)).items) == 1, typed


WORDS = ["Füchse", "лиса", "हिन्दी", "日本語", "naïve", "50€", "ﬁx", "Ⅷ"]


async def test_words_of_any_language_are_found(where: Where) -> None:
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(pen, started(), *[(replied(1, f"one {word} two"),) for word in WORDS])
        for word in WORDS:
            (hit,) = (await search(desk.reader, "acme", word)).items
            assert hit.snippet.replace("\x03", "").replace("\x02", "") == f"one {word} two"
            assert hit.snippet.startswith(f"one \x02{word[:2]}")
            assert (await search(desk.reader, "acme", f"{word} three")).items == ()
        assert (await search(desk.reader, "acme", "naive")).items == ()  # accents count


async def test_texts_that_are_no_prose_are_no_hindrance(where: Where) -> None:
    """A word of 9,000 letters, signs alone, a NUL, quotes, and 3,000 words that are all others."""
    many = " ".join(f"w{count:x}" for count in range(3_000))
    strange = (
        "x" * 9_000,
        "!?" * 4_000,
        "a\x00b fox",
        "'fox' \\ \"fox\" :* & | !",
        many,
        "\u202e fox",
    )
    async with open_desk(where) as desk:
        pen = pen_of("a", job="a")
        await desk.tell(pen, started(), *[(replied(1, text),) for text in strange])
        assert len((await search(desk.reader, "acme", "fox")).items) == 3
        assert len((await search(desk.reader, "acme", "w1 w2 w3 w1f")).items) == 1
        assert len((await search(desk.reader, "acme", "b")).items) == 1


async def test_a_search_without_a_word_or_with_too_many_says_so(where: Where) -> None:
    async with open_desk(where) as desk:
        for typed in ("", " ", "--", '"', "🦊"):
            with pytest.raises(Rejected, match="type a word"):
                await search(desk.reader, "acme", typed)
        for typed in ("a " * 17, "x" * 101):
            with pytest.raises(Rejected, match="at most 16 words of 100 characters"):
                await search(desk.reader, "acme", typed)


STRANGE = ["", "x", "1-2-3-4", "-1", "1 OR 1=1", "٣", "9" * 30, "1-"]


async def test_a_cursor_of_something_else_is_refused(where: Where) -> None:
    async with open_desk(where) as desk:
        await tell_jobs(desk, ("a",))
        for cursor in STRANGE:
            asked = Asked(cursor=cursor)
            for listing in (
                jobs(desk.reader, "acme", asked=asked),
                audit(desk.reader, "acme", asked=asked),
                search(desk.reader, "acme", "fox", asked=asked),
                activities_of(desk.reader, "acme", "a", asked=asked),
            ):
                with pytest.raises(Rejected, match="no cursor of this list"):
                    await listing


async def test_no_tenant_sees_anything_of_another(where: Where) -> None:
    """C18: names that are alike in all but their signs are others."""
    reader_names = ("acme", "acme-x", "ACME", "x-acme", "acme_x")
    async with open_desk(where) as desk:
        for name in reader_names:
            pen = pen_of("r", job="j", tenant=name)
            await desk.tell(pen, started(), (replied(1, f"secret of {name}"), called("c1-0")))
        for name in reader_names:
            ref = RunRef(name, "j", "r")
            rows: list[Any] = [
                *(await jobs(desk.reader, name)).items,
                *(await steps_of(desk.reader, *ref)).items,
                *(await calls_of(desk.reader, *ref)).items,
                *(await activities_of(desk.reader, *ref)).items,
                *(await audit(desk.reader, name)).items,
            ]
            rows.append(await job(desk.reader, name, "j"))
            assert {row.tenant for row in rows} == {name}
            assert len(rows) == 7
            (hit,) = (await search(desk.reader, name, "secret")).items
            assert hit.snippet == f"\x02secret\x03 of {name}"
            assert [row.runs for row in (await usage(desk.reader, name)).rows] == [1]
        for name in ("", "acm", "acme x", "%", "acme' OR '1'='1"):
            assert (await jobs(desk.reader, name)).items == ()
            assert await job(desk.reader, name, "j") is None
            assert (await search(desk.reader, name, "secret")).items == ()


async def test_a_store_that_is_not_there_is_empty(where: Where) -> None:
    async with open_desk(where) as desk:
        assert (await jobs(desk.reader, "acme")).items == ()
        assert (await search(desk.reader, "acme", "fox")).items == ()
        assert (await usage(desk.reader, "acme", by=())).rows == ()
        assert (await audit(desk.reader, "acme")).items == ()


@pytest.fixture
def log() -> tuple[Stored, ...]:
    return world(2)


async def test_a_world_is_kept_as_it_is_folded(where: Where, log: tuple[Stored, ...]) -> None:
    """The store's rows are those of the folds, whatever the batches."""
    async with open_desk(where) as desk:
        for start in range(0, len(log), 37):
            await desk.feed(*log[start : start + 37])
        for view in ALL:
            rows = Rows(view).tell_all(log)
            for name, table in rows.tables.items():
                names = [column.name for column in table.columns]
                keys = [column.name for column in table.primary_key.columns]
                found = [[row[one] for one in names] for row in await desk.rows(view.name, name)]
                wanted = [[row[one] for one in names] for row in rows.of(name)]
                assert names[: len(keys)] == keys or name == "checkpoints"
                assert sorted(found, key=repr) == sorted(wanted, key=repr)
