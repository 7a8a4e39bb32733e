"""What differs between a lock and what servers offer now is told, each difference on its own."""

from collections.abc import Mapping
from typing import Any

import pytest

from domain.definition import Definition, Expert, McpStdioSkill
from domain.limits import ModelChoice
from domain.mcp import Catalogue, RemoteTool
from peritus.definitions.lock import Lock, LockedSkill, settings_digest, settings_of
from peritus.lock_check import differences

SKILL = McpStdioSkill(command="npx", args=("finder",))
SEARCH = RemoteTool(
    name="search",
    description="Finds.",
    input_schema={"type": "object", "properties": {"a": {}, "b": {}}},
)
FOUND = Catalogue(server="finder", version="1", protocol="2025", tools=(SEARCH,), package="1.0.0")


def definition(skills: Mapping[str, McpStdioSkill]) -> Definition:
    model = ModelChoice(provider="anthropic", model="m")
    expert = Expert(key="a", instruction="Work.", skills=dict(skills), model=model)
    return Definition(experts={"a": expert})


def locked(catalogue: Catalogue = FOUND, skill: McpStdioSkill = SKILL) -> Lock:
    return Lock(
        experts={"a": {"find": LockedSkill(settings_of(skill), catalogue, settings_digest(skill))}}
    )


def told(lock: Lock, now: Catalogue = FOUND, skill: McpStdioSkill = SKILL) -> list[str]:
    return list(differences(lock, definition({"find": skill}), {("a", "find"): now}))


def with_tool(**changed: Any) -> Catalogue:
    return FOUND.model_copy(update={"tools": (SEARCH.model_copy(update=changed),)})


def test_the_same_has_no_differences() -> None:
    assert told(locked()) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"description": "Sends."}, "another description"),
        ({"input_schema": {"type": "object"}}, "another input schema"),
        ({"output_schema": {"type": "object"}}, "another output schema"),
        ({"read_only": True}, "another word on reading only"),
        ({"idempotent": True}, "another word on doing it twice"),
        (
            {"description": "Sends.", "read_only": True},
            "another description, word on reading only",
        ),
        (
            {"input_schema": {"properties": {"b": {}, "a": {}}, "type": "object"}},
            "another order in its schema",
        ),
    ],
)
def test_each_change_of_a_tool_is_named(changed: dict[str, Any], says: str) -> None:
    assert told(locked(), with_tool(**changed)) == [f"a, find: tool 'search' has {says}"]


def test_tools_that_came_and_went_are_named_by_what_they_are() -> None:
    tools = (
        RemoteTool(kind="prompt", name="ask", input_schema={}),
        RemoteTool(kind="resource", name="read", input_schema={}),
        RemoteTool(kind="resources", name="list", input_schema={}),
        RemoteTool(name="fetch", input_schema={}),
    )
    assert told(locked(), FOUND.model_copy(update={"tools": tools})) == [
        "a, find: prompt 'ask' is new",
        "a, find: reading resources is new",
        "a, find: the way to its resources is new",
        "a, find: tool 'fetch' is new",
        "a, find: tool 'search' is gone",
    ]


def test_another_server_or_package_is_told() -> None:
    now = Catalogue(server="f", version="2", protocol="2026", tools=(SEARCH,), package="2.0.0")
    assert told(locked(), now) == [
        "a, find: the server's name was 'finder' and is 'f'",
        "a, find: the server's version was '1' and is '2'",
        "a, find: the version of the protocol was '2025' and is '2026'",
        "a, find: the version of its package was '1.0.0' and is '2.0.0'",
    ]


def test_skills_that_are_new_gone_or_changed_are_told() -> None:
    lock = locked()
    other = {("a", "other"): FOUND}
    assert list(differences(lock, definition({"other": SKILL}), other)) == [
        "a, find: the skill is gone",
        "a, other: the skill is new",
    ]
    changed = SKILL.model_copy(update={"command": "uvx", "required_env": ("KEY",)})
    assert told(lock, skill=changed) == [
        "a, find: command was 'npx' and is 'uvx'",
        "a, find: requiredEnv was [] and is ['KEY']",
    ]


def test_a_lock_of_the_seed_differs_by_what_it_lacks_and_by_what_it_says() -> None:
    base = LockedSkill({}, Catalogue(tools=(SEARCH.model_copy(update={"name": "exec"}),)))
    turned: dict[str, Any] = {"type": "object", "properties": {"b": {}, "a": {}}}
    tool = SEARCH.model_copy(update={"input_schema": turned})
    seed = Lock(
        experts={"a": {"@perstack/base": base, "find": LockedSkill({}, Catalogue(tools=(tool,)))}}
    )
    prompt = RemoteTool(kind="prompt", name="ask", input_schema={})
    now = FOUND.model_copy(update={"tools": (prompt, SEARCH)})
    lacks = "a, find: the lock is one of the seed, which says less than runs are pinned to"
    assert told(seed, now) == [lacks]
    assert told(seed, with_tool(description="Sends.", read_only=True)) == [
        lacks,
        "a, find: tool 'search' has another description",
    ]
