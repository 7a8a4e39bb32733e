"""The person at the terminal: what is asked, what their keys do, what is settled elsewhere."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from domain.commands import AnswerQuestion, ChangePolicy, Command, DecideApproval
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from peritus.cli.loop import Out
from peritus.cli.person import Person
from projections.waits import Wait, WaitKind

pytestmark = pytest.mark.anyio

REF = RunRef("t", "root", "child")
ROOT = RunRef("t", "root", "root")
LETTER = '{"to":"Ada"}'


def wait(kind: WaitKind = "approval", name: str = "c1-0") -> Wait:
    digest = "" if kind == "budget" else "d" * 64
    made = Wait(REF, "clerk", name, kind, 0, tool="send", skill="office", digest=digest)
    return replace(made, arguments=LETTER)


class Shown(Out):
    """Standard output as text."""

    def __init__(self) -> None:
        self.text = ""

    async def write(self, text: str | bytes) -> None:
        self.text += text if isinstance(text, str) else text.decode()


@dataclass
class Keys:
    """A terminal at which somebody types these lines, and then thinks for ever."""

    lines: list[str | None]
    prompts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    waits: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, prompt: str, text: str = "") -> str | None:
        self.prompts.append((prompt, text))
        if not self.lines:
            self.waits.set()
            await asyncio.Event().wait()
        return self.lines.pop(0)


@dataclass
class Table:
    """A person, what they see, and what they send."""

    keys: Keys
    out: Shown = field(default_factory=Shown)
    sent: list[tuple[RunRef, Command]] = field(default_factory=list[tuple[RunRef, Command]])
    refusals: list[Exception] = field(default_factory=list[Exception])
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, ref: RunRef, command: Command) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append((ref, command))
        self.heard.set()


@asynccontextmanager
async def sitting(*lines: str | None) -> AsyncGenerator[tuple[Table, Person]]:
    table = Table(Keys([*lines]))
    blobs = MemoryServer(now_ms=lambda: 0).backbone().blobs
    person = Person(table.keys, table.out, blobs, table.send, ROOT)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(person.run())
        yield table, person
        running.cancel()


async def after(table: Table, person: Person, *waits: Wait) -> list[tuple[RunRef, Command]]:
    """What was sent when the person has typed all they had to."""
    person.update(waits)
    await table.keys.waits.wait()
    return table.sent


async def sends(kind: WaitKind, *lines: str | None) -> tuple[list[tuple[RunRef, Command]], Table]:
    async with sitting(*lines) as (table, person):
        # A second thing waits, so that the person is asked again once the first is settled.
        sent = await after(table, person, wait(kind), wait("question", "c9-9"))
        return list(sent), table


async def test_a_question_is_answered_by_the_line_and_an_empty_one_is_asked_again() -> None:
    sent, table = await sends("question", "", "  dark blue ")

    ((ref, command),) = sent
    assert ref == REF
    assert isinstance(command, AnswerQuestion)
    assert (command.call, command.parts[0].model_dump()["text"]) == ("c1-0", "dark blue")
    assert [prompt for prompt, _ in table.keys.prompts[:2]] == ["answer> ", "answer> "]


async def test_approve_sends_the_digest_of_what_was_shown() -> None:
    sent, table = await sends("approval", "a")

    ((_, command),) = sent
    assert isinstance(command, DecideApproval)
    assert (command.approve, command.digest, command.arguments) == (True, "d" * 64, None)
    assert 'to: "Ada"' in table.out.text


async def test_always_approves_first_and_then_gives_the_job_a_rule() -> None:
    sent, _ = await sends("approval", "A")

    (_, decided), (root, ruled) = sent
    assert isinstance(decided, DecideApproval)
    assert isinstance(ruled, ChangePolicy)
    assert root == ROOT
    assert [(rule.verdict, rule.tool) for rule in ruled.rules] == [("allow", "send")]


async def test_a_denial_takes_a_reason_and_none_for_a_budget() -> None:
    of_call, _ = await sends("approval", "d", "not today")
    of_budget, _ = await sends("budget", "d")

    assert [(c.approve, c.reason) for _, c in of_call if isinstance(c, DecideApproval)] == [
        (False, "not today")
    ]
    assert [(c.approve, c.reason) for _, c in of_budget if isinstance(c, DecideApproval)] == [
        (False, "")
    ]


async def test_an_edit_begins_with_the_arguments_and_is_asked_again_until_it_fits() -> None:
    async with sitting("e", "[1", '{"to":"Eve"}') as (table, person):
        table.refusals = [Rejected("bad_arguments", "the arguments must be a JSON object")]
        sent = await after(table, person, wait(), wait("question", "c9-9"))

    ((_, command),) = sent
    assert isinstance(command, DecideApproval)
    assert command.arguments == '{"to":"Eve"}'
    assert table.keys.prompts[1:3] == [("arguments> ", LETTER), ("arguments> ", "[1")]
    assert "! the arguments must be a JSON object" in table.out.text


async def test_an_edit_that_is_given_up_leaves_the_choice_open() -> None:
    sent, table = await sends("approval", "e", None, "a")

    assert [c.arguments for _, c in sent if isinstance(c, DecideApproval)] == [None]
    assert len(table.keys.prompts) == 4


@pytest.mark.parametrize("key", ["l", None])
async def test_what_is_left_for_later_is_told_with_its_commands_and_not_asked_again(
    key: str | None,
) -> None:
    sent, table = await sends("approval", "what?", key)

    assert sent == []
    assert "peritus approve child c1-0@dddddddd" in table.out.text
    assert [prompt for prompt, _ in table.keys.prompts][-1] == "answer> "


async def test_an_answer_of_one_letter_is_an_answer() -> None:
    sent, _ = await sends("question", "l")
    assert [type(command) for _, command in sent] == [AnswerQuestion]


async def test_what_is_decided_elsewhere_is_asked_no_longer() -> None:
    async with sitting() as (table, person):
        await after(table, person, wait())
        table.keys.waits.clear()
        await after(table, person, wait("question", "c2-0"))

    assert "it was decided elsewhere" in table.out.text
    assert [prompt for prompt, _ in table.keys.prompts][-1] == "answer> "


async def test_a_decision_that_comes_too_late_is_told_and_over() -> None:
    async with sitting("a") as (table, person):
        table.refusals = [Rejected("not_waiting", "it does not wait any more")]
        await after(table, person, wait(), wait("question", "c9-9"))

    assert "! it does not wait any more" in table.out.text


async def test_what_cannot_be_sent_now_is_asked_again() -> None:
    async with sitting("a", "a") as (table, person):
        table.refusals = [Unavailable("the server is away")]
        sent = await after(table, person, wait(), wait("question", "c9-9"))

    assert len(sent) == 1
    assert "! not now: the server is away" in table.out.text
