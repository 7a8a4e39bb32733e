"""How what tools ask reads, and how a person's words become an answer. Not the deciding."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from domain import events as e
from domain.asks import Elicitation, SampleMessage, SampleReply, SampleRequest
from domain.commands import AnswerAsk, Command
from domain.content import BlobRef
from domain.errors import Rejected
from domain.ids import RunRef
from domain.schemas import wrong_fields
from domain.tools import Lane, Safety
from eventlog.memory import MemoryServer
from peritus.cli.asks import Shown, block, commands_for, form_lines, headline
from peritus.cli.people_lines import people_line
from peritus.cli.person import CONFIRM, Person
from peritus.people import answer, answer_ask, filled_in
from projections.waits import ANSWERABLE, APPROVALS, Look, Wait, find_wait, wait_json
from tests.support.asking import CONFIRM as SURE
from tests.support.asking import FORM, LINK, SAY
from tests.support.pen import replied, started
from tests.unit.test_cli_person import Keys, Table

pytestmark = pytest.mark.anyio

REF = RunRef("t", "root", "root")
RICH = Elicitation(
    message="When, and for how many?",
    form={
        "type": "object",
        "properties": {
            "day": {"type": "string", "enum": ["saturday", "sunday"], "description": "Which day"},
            "people": {"type": "integer", "title": "How many"},
        },
        "required": ["day"],
    },
)


def wait(about: Elicitation = FORM, name: str = "q1") -> Wait:
    return Wait(REF, "clerk", name, "ask", 0, tool="book", skill="trips", about=about)


def requested(name: str = "c1-0") -> e.ToolCallRequested:
    return e.ToolCallRequested(
        call=name,
        step=1,
        provider_id="p",
        tool="book",
        skill="trips",
        lane=Lane.TOOL,
        safety=Safety.UNSAFE,
        arguments="{}",
        key="k",
    )


def asked(about: Elicitation | SampleRequest = FORM, name: str = "q1") -> e.ToolCallAsked:
    return e.ToolCallAsked(call="c1-0", ask=name, holder="e1", about=about, due_ms=900)


def look(*more: e.Event) -> Look:
    found = Look(REF)
    events = (*started("clerk"), replied(1), requested(), *more)
    for version, event in enumerate(events, start=1):
        found.hear(event, version, version * 10)
    return found


def answered(**facts: Any) -> e.ToolCallAnswered:
    made = {"call": "c1-0", "ask": "q1", "action": "accept", "source": "person"} | facts
    return e.ToolCallAnswered.model_validate(made)


# ------------------------------------------------------------------------------------ what waits


def test_what_a_tool_asks_waits_until_it_is_answered_or_its_call_is_over() -> None:
    (found,) = look(asked()).waits
    assert (found.kind, found.id, found.tool, found.about) == ("ask", "q1", "book", FORM)
    assert (found.due_ms, found.name) == (900, "q1")
    assert look(asked(), answered()).waits == ()
    over = e.ToolCallEnded(call="c1-0", outcome="failed", content=())
    assert look(asked(), over).waits == ()
    assert look(asked(SAY)).waits == ()


def test_question_of_a_tool_is_found_where_questions_are_and_not_where_decisions_are() -> None:
    one = wait()
    assert find_wait([one], None, ANSWERABLE) == one
    with pytest.raises(Rejected, match="no approval"):
        find_wait([one], "q1", APPROVALS)
    with pytest.raises(Rejected, match="no question 'c9-9' waits here; q1 does"):
        find_wait([one], "c9-9", ANSWERABLE)


async def test_program_is_told_the_message_the_form_and_the_link() -> None:
    blobs = MemoryServer(now_ms=lambda: 0).backbone().blobs
    form = await wait_json(blobs, wait(FORM))
    link = await wait_json(blobs, wait(LINK))
    assert (form["kind"], form["message"], form["form"]) == ("ask", "How many?", FORM.form)
    assert (link["url"], link["form"]) == ("https://example.org/sign-in", None)


# ---------------------------------------------------------------------------------- how it reads


def test_form_is_shown_field_by_field() -> None:
    text = block(Shown(wait(RICH)), 0)
    assert headline(Shown(wait(RICH))) == "clerk asks by book: When, and for how many?"
    assert "  day (saturday|sunday): Which day\n" in text
    assert "  people (integer, optional): How many\n" in text
    assert commands_for(wait(RICH)) == [
        "peritus answer root q1 TEXT_OR_JSON",
        "peritus answer root q1 --decline",
    ]


def test_default_of_a_field_is_shown_where_it_is_filled_in() -> None:
    form = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    assert "  n (integer, else 3)\n" in block(Shown(wait(Elicitation(message="x", form=form))), 0)


def test_link_is_shown_whole_and_accepted_by_a_word() -> None:
    assert "  open: https://example.org/sign-in\n" in block(Shown(wait(LINK)), 0)
    assert commands_for(wait(LINK))[0] == "peritus answer root q1 --accept"


def test_what_a_server_says_cannot_paint_on_the_terminal() -> None:
    evil = Elicitation(
        message="a\x1b[2Jb",
        form={"type": "object", "properties": {"\x1b[1m": {"description": "\x1b]0;x\x07"}}},
    )
    assert "\x1b" not in block(Shown(wait(evil)), 0)
    assert "\x1b" not in "".join(form_lines(evil))


def test_odd_forms_are_shown_without_a_fault() -> None:
    odd = Elicitation(message="x", form={"type": "object", "properties": {"a": True, "b": {}}})
    assert form_lines(odd) == ["a (any, optional)", "b (any, optional)"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (asked(), "book asks you: How many?"),
        (asked(SAY), "book asks the model"),
        (answered(content={"count": 2}), 'to book: {"count": 2}  — somebody'),
        (answered(), 'to book: "accepted"  — somebody'),
        (answered(action="decline"), "declined by somebody: what book asked"),
        (answered(action="cancel"), "closed by somebody: what book asked"),
        (answered(action="cancel", source="expired"), "nobody answered book in time"),
        (
            answered(action="decline", source="limit", reason="no room"),
            "no reply for book: no room",
        ),
        (answered(action="decline", source="model", reason="busy"), "no reply for book: busy"),
    ],
)
def test_what_tools_ask_is_a_line_of_the_live_view(event: e.Event, text: str) -> None:
    line = people_line(event, {"c1-0": requested()})
    assert line is not None
    assert line.text == text


def test_what_goes_with_its_call_is_no_line_of_its_own() -> None:
    said = SampleReply(text=BlobRef(digest="b" * 64, size=9), model="m", stop_reason="end")
    calls = {"c1-0": requested()}
    assert people_line(answered(action="cancel", source="withdrawn"), calls) is None
    assert people_line(answered(source="model", sampled=said.model_dump()), calls) is None


# ------------------------------------------------------------------------------- what is answered


@pytest.mark.parametrize(
    ("about", "text", "content"),
    [
        (FORM, '{"count": 2}', {"count": 2}),
        (FORM, "2", {"count": 2}),
        (FORM, "two", {"count": "two"}),
        (RICH, '{"day": "sunday"}', {"day": "sunday"}),
        (
            Elicitation(message="x", form={"type": "object", "properties": {"n": {}}}),
            "12",
            {"n": "12"},
        ),
        (
            Elicitation(
                message="x", form={"type": "object", "properties": {"n": {"default": "me"}}}
            ),
            " ",
            {},
        ),
    ],
)
def test_words_become_the_content_of_a_form(
    about: Elicitation, text: str, content: dict[str, Any]
) -> None:
    assert filled_in(about, text) == content


@pytest.mark.parametrize(
    ("about", "why"),
    [(RICH, "day, people"), (SURE, "accept or decline it"), (LINK, "accept or decline it")],
)
def test_words_that_cannot_become_one_are_refused_with_what_to_do(
    about: Elicitation, why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        filled_in(about, "sunday")


async def test_answer_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    sent: list[Command] = []

    async def send(ref: RunRef, command: Command) -> None:
        assert ref == REF
        sent.append(command)

    with pytest.raises(Rejected, match="not of type 'integer'"):
        await answer(send, wait(), "two")
    with pytest.raises(Rejected, match="answer it with a text"):
        await answer_ask(send, replace(wait(), about=None, kind="question"), "decline")
    await answer(send, wait(), "2")
    await answer_ask(send, wait(LINK), "accept")
    assert [(one.action, one.content) for one in sent if isinstance(one, AnswerAsk)] == [
        ("accept", {"count": 2}),
        ("accept", None),
    ]


async def typed(about: Elicitation, *lines: str | None) -> tuple[list[AnswerAsk], Table]:
    """What was sent when a person at a terminal has typed that."""
    table = Table(Keys([*lines]))
    blobs = MemoryServer(now_ms=lambda: 0).backbone().blobs
    person = Person(table.keys, table.out, blobs, table.send, REF)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(person.run())
        person.update([wait(about), wait(SURE, "q9")])
        await table.keys.waits.wait()
        running.cancel()
    return [one for _, one in table.sent if isinstance(one, AnswerAsk)], table


async def test_form_is_filled_in_at_the_terminal_and_asked_again_until_it_fits() -> None:
    sent, table = await typed(FORM, "", "two", "2")
    assert [(one.ask, one.content) for one in sent] == [("q1", {"count": 2})]
    assert "not of type 'integer'" in table.out.text


@pytest.mark.parametrize(("line", "action"), [("/decline", "decline"), ("/cancel", "cancel")])
async def test_form_is_declined_or_closed_at_the_terminal(line: str, action: str) -> None:
    sent, _ = await typed(FORM, line)
    assert [(one.action, one.content) for one in sent] == [(action, None)]


@pytest.mark.parametrize(("line", "action"), [("a", "accept"), ("d", "decline"), ("c", "cancel")])
async def test_link_is_decided_by_a_key_at_the_terminal(line: str, action: str) -> None:
    sent, table = await typed(LINK, "x", line)
    assert [one.action for one in sent] == [action]
    assert table.keys.prompts[0][0] == CONFIRM
    assert "https://example.org/sign-in" in table.out.text


@pytest.mark.parametrize(("about", "line"), [(FORM, "/later"), (LINK, "l"), (FORM, None)])
async def test_what_is_left_for_later_is_told_with_its_commands(
    about: Elicitation, line: str | None
) -> None:
    sent, table = await typed(about, line)
    assert sent == []
    assert "$ peritus answer root q1 --decline" in table.out.text


def test_wrong_fields_are_named_without_what_is_in_them() -> None:
    """C15."""
    schema = RICH.form or {}
    found = wrong_fields(schema, {"day": "canary", "people": "canary"})
    assert found == [("day", '{"enum": ["saturday", "sunday"]}'), ("people", '{"type": "integer"}')]
    assert wrong_fields(schema, {}) == [("", '{"required": ["day"]}')]
    assert wrong_fields(schema, {"day": "sunday"}) == []


def test_messages_of_models_are_no_questions_to_people() -> None:
    about = SampleRequest(messages=(SampleMessage(speaker="user", text="x"),), output_tokens_max=1)
    assert look(asked(about)).state.questions == ()
