"""What a server nobody here wrote asks in the middle of a call: of a person, and of the model."""

import json

import pytest

from tests.e2e.cli_project import Project, Started, scripted
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import (
    EVERYTHING_SKILL,
    HELPER,
    Turn,
    call,
    ended,
    played,
    script_of,
    turn,
    verified,
)
from tests.e2e.people_project import waiting
from tests.e2e.test_cli_terminal import terminal

pytestmark = [pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

DEFINITION = HELPER + EVERYTHING_SKILL
SAMPLES = f'{DEFINITION}sampling = "allow"\n'
LOGIN = {"url": "https://example.com/login", "message": "Log in over there."}
ASKS = call("trigger-elicitation-request")


@pytest.fixture
def everything(shop: Project, locked: Locked) -> Project:
    """A helper that has the server, with a lock."""
    shop.write("perstack.toml", DEFINITION)
    shop.write("perstack.lock", locked(DEFINITION))
    return shop


def begin(project: Project, *turns: Turn) -> Started:
    """Begin the run `one`, in which the model says that."""
    project.write("script.toml", script_of(*turns))
    words = ("run", "helper", "Go", *scripted("script.toml"), "--json", "--job", "one")
    return project.start(*words)


def answer(project: Project, running: Started, *words: str) -> str:
    """Wait until the server asks, and answer from another process; what was asked."""
    running.until("tool_call.asked.v1")
    (shown,) = waiting(project)
    told = project.peritus("answer", "one", shown["id"], *words)
    assert told.code == 0, told.said
    return str(shown["message"])


def test_a_form_of_the_server_is_filled_in_from_another_process(everything: Project) -> None:
    running = begin(
        everything,
        turn(ASKS),
        turn(expect=("- Name: Ada Lovelace", "- Favorite Integer: 7", '"Violin"')),
    )
    running.until("tool_call.asked.v1")
    (shown,) = waiting(everything)
    page = everything.peritus("waiting", "--no-json")
    wrong = everything.peritus("answer", "one", shown["id"], '{"name": "Ada", "integer": 700}')
    filled = {"name": "Ada Lovelace", "integer": 7, "untitledMultipleSelectEnum": ["Violin"]}
    right = everything.peritus("answer", "one", shown["id"], json.dumps(filled))
    running.until("run.completed.v2")

    assert (shown["kind"], shown["tool"]) == ("ask", "trigger-elicitation-request")
    assert shown["form"]["required"] == ["name"]
    assert "name (string): Your full, legal name" in page.out
    assert f"peritus answer one {shown['id']} TEXT_OR_JSON" in page.out
    assert wrong.code == 6
    assert "the answer does not fit the form: integer" in wrong.said
    assert right.code == 0, right.said
    assert running.end() == 0
    assert f"peritus answer one {shown['id']}" in running.said
    verified(everything, "one")


def test_a_person_may_decline_and_the_server_is_told(everything: Project) -> None:
    running = begin(everything, turn(ASKS), turn(expect=("User declined", '"action": "decline"')))

    answer(everything, running, "--decline")

    running.until("run.completed.v2")
    assert running.end() == 0
    verified(everything, "one")


def test_a_link_is_opened_in_the_call_or_before_it_is_made_again(everything: Project) -> None:
    """Both ways that a server has: it asks, or it refuses the call and says what it needs first."""
    running = begin(
        everything,
        turn(call("trigger-url-elicitation", **LOGIN)),
        turn(
            call("trigger-url-elicitation", **LOGIN, errorPath=True),
            expect=("User completed the URL elicitation flow", LOGIN["url"]),
        ),
        turn(expect=("User declined to open the URL",)),
    )

    first = answer(everything, running, "--accept")
    needed = answer(everything, running, "--accept")
    then = answer(everything, running, "--decline")

    running.until("run.completed.v2")
    assert running.end() == 0
    assert (first, then) == (LOGIN["message"],) * 2
    assert "satisfy the prerequisite" in needed
    verified(everything, "one")


def test_the_runs_own_model_is_asked_where_the_definition_allows_it(
    shop: Project, locked: Locked
) -> None:
    shop.write("perstack.toml", SAMPLES)
    shop.write("perstack.lock", locked(SAMPLES))

    outcome = played(
        shop,
        turn(call("trigger-sampling-request", prompt="Name a colour", maxTokens=50)),
        turn(expect=("LLM sampling result", "It is done.", '"stopReason": "end"')),
        sampled=[turn(expect=("Name a colour",), more="usage = { input = 11, output = 7 }")],
    )

    (made,) = [
        one["event"] for one in outcome.events if one["event"]["type"] == "sampling.ended.v1"
    ]
    assert made["charged"] == 18
    facts = json.loads(shop.peritus("show", outcome.run, "--json").out)
    assert (facts["usage"]["input"], facts["usage"]["output"]) == (11, 7)


def test_a_person_at_the_terminal_sees_progress_and_is_asked(everything: Project) -> None:
    long = call("trigger-long-running-operation", duration=1, steps=3)
    script = script_of(turn(long), turn(ASKS), turn(expect=("User declined",)))
    everything.write("script.toml", script)

    with terminal(everything, "run", "helper", "Go", *scripted("script.toml")) as at:
        at.until("▸ trigger-long-running-operation")
        at.until("· [1/3]")
        at.until("· [3/3]")
        at.until("Please provide inputs for the following fields:")
        at.until("answer (/decline, /cancel, /later)>")
        at.type("/decline\r")
        at.until("completed in step 3")
        assert at.end() == 0


def test_by_default_a_server_is_not_told_that_it_could_ask_a_model(everything: Project) -> None:
    outcome = played(
        everything,
        turn(call("trigger-sampling-request", prompt="Name a colour")),
        turn(expect=("There is no tool 'trigger-sampling-request'",)),
    )

    assert [one["outcome"] for one in ended(outcome)] == ["refused"]


def test_a_lock_of_a_server_that_could_not_ask_a_model_is_not_used_when_it_may(
    everything: Project,
) -> None:
    everything.write("perstack.toml", SAMPLES)

    stopped = everything.run("hello.toml")

    assert stopped.code == 2
    assert "skill 'everything' is not as it was locked" in stopped.said
    assert "sampling is new" in stopped.said
