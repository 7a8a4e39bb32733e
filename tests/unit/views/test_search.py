"""Which texts are found, under which kind, and how what people type is taken. Not the finding."""

import pytest

from domain import events as e
from domain.asks import Elicitation, SampleReply
from domain.content import AssistantPart, BlobRef, FilePart, TextPart, ThinkingPart
from domain.errors import Rejected
from domain.ids import RunRef
from domain.tools import Lane, Safety
from eventlog.port import Stored
from projections.queries.search import MARKS, pattern_of, snippet, words_of
from projections.seeing import see
from projections.views.search import PLACES, TEXT_CHARS_MAX, SearchView
from tests.support.asking import SAY
from tests.support.pen import Pen, completed, started
from tests.support.tables import Rows

REF = RunRef("acme", "j1", "j1")
BLOB = BlobRef(digest="b" * 64, size=99_000)


def texts(*batches: tuple[e.Event, ...]) -> list[tuple[str, str]]:
    """Kinds and texts after those a run begins with."""
    rows = Rows(SearchView()).tell(Pen(REF), started(), *batches).of("search")
    return [(row["kind"], row["text"]) for row in rows[1:]]


def reply(*parts: AssistantPart) -> e.GenerationCompleted:
    return e.GenerationCompleted(
        step=1, attempt=1, stop_reason="end", parts=parts, usage=None, charged=1
    )


def call(lane: Lane = Lane.TOOL, arguments: str | BlobRef = '{"at": 1}') -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call="c1-0",
        step=1,
        provider_id="p",
        tool="look",
        skill="own",
        lane=lane,
        safety=Safety.READ_ONLY,
        arguments=arguments,
        key="k",
    )


def ended(text: str = "seen") -> e.ToolCallEnded:
    return e.ToolCallEnded(call="c1-0", outcome="succeeded", content=(TextPart(text=text),))


def test_a_text_says_where_it_is_said_and_a_newer_one_has_a_greater_id() -> None:
    rows = Rows(SearchView()).tell(Pen(REF), started(), (reply(TextPart(text="hi")), call()))
    first, second, third = rows.of("search")
    assert (first["id"], first["kind"], first["text"]) == (PLACES, "input", "go on then")
    assert (first["tenant"], first["job"], first["run"]) == REF
    assert (first["version"], first["at_ms"]) == (3, 1_000)
    assert (second["id"], second["version"]) == (2 * PLACES, 5)
    assert (third["id"], third["version"]) == (2 * PLACES + 1, 6)


def test_what_a_model_says_and_thinks_is_found() -> None:
    thinks = ThinkingPart(provider="x", block='{"type":"thinking","thinking":"hm"}')
    assert texts((reply(thinks, TextPart(text="one "), TextPart(text="two")),)) == [
        ("thinking", "hm"),
        ("text", "one two"),
    ]


def test_calls_and_what_came_of_them_are_found() -> None:
    assert texts((call(),), (ended(),)) == [("tool", 'look {"at": 1}'), ("result", "seen")]


def test_questions_and_answers_are_found_once() -> None:
    said = e.QuestionAnswered(call="c1-0", command="a", parts=(TextPart(text="blue"),))
    found = texts((call(Lane.PERSON), e.QuestionAsked(call="c1-0")), (said, ended("blue")))
    assert found == [("question", 'look {"at": 1}'), ("answer", "blue")]


def test_a_question_that_nobody_answered_has_no_answer() -> None:
    late = e.QuestionAnswered(call="c1-0", command="a", parts=(), expired=True)
    assert texts((late, ended("nobody answered"))) == [("result", "nobody answered")]


def test_what_tools_ask_and_are_told_is_found() -> None:
    asked = e.ToolCallAsked(call="c1-0", ask="q", holder="e", about=Elicitation(message="Sure?"))
    model = asked.model_copy(update={"ask": "m", "about": SAY})
    answer = e.ToolCallAnswered(
        call="c1-0", ask="q", action="accept", source="person", content={"why": "ja"}
    )
    reply = SampleReply(text="Short.", model="m", stop_reason="end")
    said = e.ToolCallAnswered(call="c1-0", ask="m", action="accept", source="model", sampled=reply)
    gone = answer.model_copy(update={"content": None})
    assert texts((asked, model), (answer, said, gone)) == [
        ("question", "Sure?"),
        ("answer", '{"why":"ja"}'),
        ("text", "Short."),
    ]


def test_what_a_person_made_of_arguments_is_an_answer() -> None:
    edited = e.ApprovalDecided(approval="c1-0", verdict="edited", arguments='{"at": 2}')
    approved = e.ApprovalDecided(approval="c1-0", verdict="approved", reason="fine")
    assert texts((edited, approved)) == [("answer", '{"at": 2}')]


def test_notes_of_the_runtime_and_results_of_runs_are_not_found_by_themselves() -> None:
    note = e.InputReceived(input="n", speaker="runtime", parts=(TextPart(text="psst"),))
    assert texts((note, *completed(1)[1:])) == []


def test_long_texts_are_found_by_their_beginning_and_those_kept_elsewhere_by_digest() -> None:
    said = e.InputReceived(input="s", speaker="user", parts=(TextPart(text="x" * 9_000),))
    file = e.InputReceived(input="f", speaker="user", parts=(FilePart(blob=BLOB),))
    found = texts((said, file, call(arguments=BLOB)))
    name = f"[99000 bytes: {BLOB.digest}]"
    assert found == [("input", "x" * TEXT_CHARS_MAX), ("input", name), ("tool", f"look {name}")]


def test_what_nobody_can_read_or_knows_is_not_found() -> None:
    """C17."""
    pen = Pen(REF)
    rows = Rows(SearchView()).tell(pen, started())
    rows.hear(see(Stored(9, REF, b"{}")))
    rows.tell(pen, (e.OpaqueEvent(type="run.sang.v1", body={"text": "la"}),))
    assert len(rows.of("search")) == 1


def test_words_are_what_stands_between_spaces_and_signs_alone_are_none() -> None:
    assert words_of(' fox-trot  "a b" -- & src/x.py ') == ["fox-trot", '"a', 'b"', "src/x.py"]
    with pytest.raises(Rejected, match="type a word"):
        words_of("-- & !")


def seen(marked: str) -> str:
    """With marks that can be read, in place of those that nobody types."""
    return marked.replace(MARKS[0], "«").replace(MARKS[1], "»")


def test_marks_that_a_text_has_itself_are_not_shown() -> None:
    forged = f"{MARKS[1]}fox{MARKS[0]} den"
    assert seen(snippet(forged, pattern_of(["den"]))) == "fox «den»"


@pytest.mark.parametrize(
    ("typed", "whole", "shown"),
    [
        ("fox", "A Fox, a foxes' fox.", "A «Fox», a «fox»es' «fox»."),
        ("fox den", "fox foxes den dens", "«fox» foxes «den» «den»s"),
        ("red_fox", "the red-fox runs", "the «red-fox» runs"),
        ("fo*", "fo foo of", "«fo» «fo»o of"),
        ("(a|b)", "a|b ab", "«a|b» ab"),
        ("wolf", "no match at all", "no match at all"),
        ("fox", "line one\nfox\tline", "line one «fox» line"),
    ],
)
def test_a_snippet_marks_whole_words_and_beginnings_of_the_last(
    typed: str, whole: str, shown: str
) -> None:
    assert seen(snippet(whole, pattern_of(words_of(typed)))) == shown


def test_a_snippet_is_the_place_around_the_first_match() -> None:
    found = seen(snippet(f"{'a ' * 500}fox {'b ' * 500}", pattern_of(["fox"])))
    assert found.startswith("…a a ")
    assert "a «fox» b" in found
    assert found.endswith("b…")
    assert len(found) < 210
