"""The reference server of MCP, as npm has it, in runs of the real command: what it answers."""

import json
from dataclasses import replace

import pytest

from tests.e2e.cli_project import Project
from tests.e2e.conftest import Locked
from tests.e2e.mcp_project import (
    EVERYTHING_SKILL,
    HELPER,
    call,
    ended,
    played,
    servers,
    text_of,
    turn,
)

pytestmark = [pytest.mark.broker, pytest.mark.sandbox, pytest.mark.registries]

DEFINITION = HELPER + EVERYTHING_SKILL
IMAGE = "[file image-1.png image/png]"
DOCUMENT = "demo://resource/static/document/features.md"

SAFE = {"PATH", "HOME", "LANG", "TERM", "PWD"}
"""The variables that every server has; the last is set by what starts it."""

SECRETS = {
    "ANTHROPIC_API_KEY": "sk-ant-not-for-servers",
    "UNRELATED_TOKEN": "unrelated-not-for-servers",
    "WANTED_TOKEN": "wanted-by-the-server",
}


@pytest.fixture
def everything(shop: Project, locked: Locked) -> Project:
    """A helper that has the server, with a lock."""
    shop.write("perstack.toml", DEFINITION)
    shop.write("perstack.lock", locked(DEFINITION))
    return shop


def test_its_tools_answer_with_texts_data_images_and_resources(everything: Project) -> None:
    outcome = played(
        everything,
        turn(
            call("echo", message="hello from afar"),
            call("get-sum", a=2, b=40),
            call("get-structured-content", location="Chicago"),
            call("get-tiny-image"),
        ),
        turn(
            call("get-annotated-message", messageType="error", includeImage=True),
            call("get-resource-links", count=3),
            call("get-resource-reference", resourceType="Text", resourceId=2),
            expect=(
                "Echo: hello from afar",
                "The sum of 2 and 40 is 42.",
                "Light rain / drizzle",
                "Here's the image you requested:",
                IMAGE,
            ),
        ),
        turn(
            call("get-sum", a="two"),
            expect=(
                "Error: Operation failed",
                IMAGE,
                "[resource demo://resource/dynamic/text/2, text/plain: Resource 2",
                "Resource 2: This is a plaintext resource",
            ),
        ),
        turn(expect=("expected number, received string",)),
    )

    calls = ended(outcome)
    assert [one["outcome"] for one in calls] == ["succeeded"] * 7 + ["failed"]
    assert json.loads(text_of(calls[2])) == {
        "temperature": 36,
        "conditions": "Light rain / drizzle",
        "humidity": 82,
    }
    (picture,) = [part for part in calls[3]["content"] if part["kind"] == "file"]
    assert picture["blob"]["media_type"] == "image/png"
    assert servers() == []


def test_its_resources_and_prompts_are_tools(everything: Project) -> None:
    played(
        everything,
        turn(
            call("listResources"),
            call("readResource", uri=DOCUMENT),
            call("readResource", uri="demo://resource/dynamic/text/7"),
            call("readResource", uri="demo://resource/dynamic/blob/7"),
            call("readResource", uri="demo://resource/none"),
        ),
        turn(
            call("prompt_simple-prompt"),
            call("prompt_args-prompt", city="Graz", state="Styria"),
            call("prompt_completable-prompt", department="Sales", name="Eve"),
            call("prompt_resource-prompt", resourceType="Text", resourceId="3"),
            call("prompt_args-prompt", state="Styria"),
            expect=(
                f"{DOCUMENT} features.md text/markdown",
                "# Everything Server - Features",
                "Resource 7: This is a plaintext resource",
                "bytes are kept as the full output of call 'c1-3'",
                "Resource demo://resource/none not found",
            ),
        ),
        turn(
            expect=(
                "This is a simple prompt without arguments.",
                "What's weather in Graz, Styria?",
                "Please promote Eve to the head of the Sales team.",
                "Resource 3: This is a plaintext resource",
                "Invalid arguments for prompt args-prompt",
            )
        ),
    )


def test_what_it_makes_for_a_session_is_there_in_the_calls_after(everything: Project) -> None:
    """One connection serves all calls of a run; the server reaches no host that is not allowed."""
    link = "demo://resource/session/hello.gz"
    outcome = played(
        everything,
        turn(
            call("gzip-file-as-resource", name="hello.gz", data="data:text/plain,hello"),
            call("toggle-subscriber-updates"),
        ),
        turn(
            call("readResource", uri=link),
            call("gzip-file-as-resource", name="far.gz", data="https://example.com/"),
            call("toggle-subscriber-updates"),
            expect=(link, "Started simulated resource updated notifications"),
        ),
        turn(expect=("bytes are kept as the full output", "fetch failed", "Stopped simulated")),
    )

    read = ended(outcome)[2]
    assert read["full_output"]["size"] == 25


def test_it_is_told_of_the_workspace_alone_as_its_root(everything: Project) -> None:
    played(
        everything,
        turn(call("get-roots-list")),
        turn(expect=("Current MCP Roots (1 total)", "URI: file:///workspace\n")),
    )


def test_it_sees_a_safe_list_of_variables_and_those_it_requires(
    shop: Project, locked: Locked
) -> None:
    locked(DEFINITION)  # its package is fetched by that, if it is not there
    definition = f'{DEFINITION}requiredEnv = ["WANTED_TOKEN"]\n'
    shop.write("perstack.toml", definition)
    knows = replace(shop, settings={**shop.settings, **SECRETS})

    outcome = played(
        knows, turn(call("get-env")), turn(expect=('"WANTED_TOKEN": "[secret:WANTED_TOKEN]"',))
    )

    (seen,) = ended(outcome)
    assert json.loads(text_of(seen)).keys() == SAFE | {"WANTED_TOKEN"}
    for value in SECRETS.values():
        assert value not in outcome.out + outcome.said


def test_a_tool_that_runs_only_as_a_task_is_not_offered(everything: Project) -> None:
    shown = everything.peritus("tools", "helper", "--json")

    names = {one["name"] for one in json.loads(shown.out)}
    assert "get-sum" in names
    assert "simulate-research-query" not in names
