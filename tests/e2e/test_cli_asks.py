"""What MCP servers ask in the middle of a call, as people meet it: real servers, real processes."""

import asyncio
import json
from pathlib import Path

import pytest

from domain.content import text_of
from domain.errors import Rejected
from domain.events import ToolCallAsked, ToolCallEnded
from peritus.api import Peritus
from services.loop.models.scripted import ScriptedModel
from tests.e2e.cli_project import Project, Started, scripted
from tests.support.asking_server import asking_skill
from tests.support.people import calls

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

CLERK = """\
[experts.clerk]
description = "Books."
instruction = "Book."
"""

BOOKS = """\
[[reply]]
[[reply.call]]
tool = "book"
arguments = {}
[[reply]]
text = "Done."
"""

RHYMES = """\
[[reply]]
text = "It is late, at any rate."
[[experts.clerk.reply]]
[[experts.clerk.reply.call]]
tool = "poem"
arguments = {}
[[experts.clerk.reply]]
text = "Done."
"""


def begin(project: Project, script: str, *words: str, sampling: str = "deny") -> Started:
    project.write("perstack.toml", CLERK + asking_skill("clerk", sampling=sampling))
    project.write("script.toml", script)
    return project.start("run", "clerk", "Go", *scripted("script.toml"), "--job", "one", *words)


def heard(running: Started) -> object:
    """What the server heard: it is the result of its call."""
    ended = running.until("tool_call.ended.v1")["event"]
    assert not ended["is_error"], ended
    return json.loads(ended["content"][0]["text"])


def test_server_asks_a_person_who_answers_from_a_second_process(project: Project) -> None:
    running = begin(project, BOOKS)
    asked = running.until("tool_call.asked.v1")["event"]

    shown = project.peritus("waiting", "--no-json")
    wrong = project.peritus("answer", "one", "many")
    right = project.peritus("answer", "one", asked["ask"], '{"people": 4}')

    assert "clerk asks by book: For how many?" in shown.out
    assert "people (integer): How many come" in shown.out
    assert f"peritus answer one {asked['ask']} --decline" in shown.out
    assert wrong.code != 0
    assert "people: 'many' is not of type 'integer'" in wrong.said
    assert right.code == 0, right.said
    assert "answered: clerk asks by book: For how many?" in right.said
    assert heard(running) == {"action": "accept", "content": {"people": 4}}
    assert running.until("run.completed.v2")["event"]["result"] == "Done."
    assert running.end() == 0
    assert f"peritus answer one {asked['ask']} TEXT_OR_JSON" in running.said
    assert project.peritus("answer", "one", "--decline").code == 6


@pytest.mark.parametrize(("option", "action"), [("--decline", "decline"), ("--cancel", "cancel")])
def test_person_declines_or_closes_what_a_server_asks(
    project: Project, option: str, action: str
) -> None:
    running = begin(project, BOOKS)
    running.until("tool_call.asked.v1")

    done = project.peritus("answer", "one", option)

    assert done.code == 0, done.said
    said = heard(running)
    assert isinstance(said, dict)
    assert said["action"] == action
    running.until("run.completed.v2")
    assert running.end() == 0


def test_where_nobody_is_to_wait_the_call_goes_on_without_an_answer(project: Project) -> None:
    running = begin(project, BOOKS, "--no-wait")

    said = heard(running)
    assert isinstance(said, dict)
    assert said["action"] == "cancel"
    running.until("run.completed.v2")
    assert running.end() == 0
    assert "closed, for nobody is to wait for an answer" in running.said


def test_server_has_the_runs_own_model_say_something_where_that_is_allowed(
    project: Project,
) -> None:
    """C12."""
    running = begin(project, RHYMES, sampling="allow")
    requested = running.until("sampling.requested.v1")["event"]
    ended = running.until("sampling.ended.v1")["event"]

    said = heard(running)
    assert "It is late" in json.dumps(said)
    assert requested["reserved"] > 0
    assert ended["how"] == "replied"
    running.until("run.completed.v2")
    assert running.end() == 0
    replayed = project.peritus("replay", "one")
    assert replayed.code == 0, replayed.said
    assert f"{requested['ask']} of a tool" in replayed.out


def test_server_that_may_not_use_the_model_hears_so_and_the_run_goes_on(project: Project) -> None:
    running = begin(project, RHYMES)

    ended = running.until("tool_call.ended.v1")["event"]
    running.until("run.completed.v2")

    assert running.end() == 0
    assert "It is late" not in json.dumps(ended)
    assert "sampling.requested.v1" not in project.peritus("events", "one", "--json").out


def test_options_that_exclude_each_other_are_refused(project: Project) -> None:
    both = project.peritus("answer", "one", "--accept", "--decline")
    text = project.peritus("answer", "one", "q1", "2", "--decline")
    nothing = project.peritus("answer", "one")

    assert (both.code, text.code, nothing.code) == (2, 2, 2)
    assert "exclude each other" in both.said
    assert "goes without an answer" in text.said
    assert "say what to answer" in nothing.said


@pytest.mark.anyio
async def test_program_answers_what_a_server_asks_through_the_api(tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text(CLERK + asking_skill("clerk"))
    models = {"books": ScriptedModel([calls(("book", "{}")), calls(("book", "{}")), "Done."])}
    heard: list[str] = []
    async with (
        asyncio.timeout(60),
        Peritus.embedded(tmp_path, models=models, user="ada") as peritus,
    ):
        run = await peritus.start("clerk", "Go", model="books")
        async for one in run.events():
            if isinstance(one.event, ToolCallAsked) and not heard:
                (asked,) = await run.waiting()
                with pytest.raises(Rejected, match="not of type 'integer'"):
                    await run.respond("accept", asked, content={"people": "all"})
                await run.answer("4", to=asked)
            elif isinstance(one.event, ToolCallAsked):
                await run.respond("decline")
            if isinstance(one.event, ToolCallEnded):
                heard.append(text_of(one.event.content))
        result = await run.result()

    assert result.text == "Done."
    assert [json.loads(text) for text in heard] == [
        {"action": "accept", "content": {"people": 4}},
        {"action": "decline"},
    ]
