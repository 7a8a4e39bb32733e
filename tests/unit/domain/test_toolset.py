"""What experts have of MCP servers: which tools, under which names, where they run, how safely."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.base_tools import BASE_TOOLS
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    McpHttpSkill,
    McpStdioSkill,
    Skill,
)
from domain.limits import ModelChoice
from domain.mcp import Catalogue, RemoteTool, ToolOverride, safety_of
from domain.tools import Lane, Safety, ToolEntry
from domain.toolset import READ_RESULT, Tool, tools_of

MODEL = ModelChoice(provider="anthropic", model="m")


def remote(name: str, **keys: Any) -> RemoteTool:
    return RemoteTool(name=name, input_schema={"type": "object"}, **keys)


def process(*tools: RemoteTool, **keys: Any) -> McpStdioSkill:
    return McpStdioSkill(command="npx", args=("p",), catalogue=Catalogue(tools=tools), **keys)


def http(*tools: RemoteTool, **keys: Any) -> McpHttpSkill:
    return McpHttpSkill(endpoint="https://a.b/", catalogue=Catalogue(tools=tools), **keys)


def tools(skills: Mapping[str, Skill], delegates: tuple[str, ...] = ()) -> dict[str, Tool]:
    """The tools of an expert with these skills and no others, by name."""
    experts = {
        key: Expert(key=key, instruction="x", skills={}, model=MODEL, delegates=())
        for key in delegates
    }
    own = Expert(key="a", instruction="x", skills=dict(skills), model=MODEL, delegates=delegates)
    found = tools_of(Definition(experts={"a": own, **experts}), own, skills, {})
    assert [tool.spec.name for tool in found] == sorted(tool.spec.name for tool in found)
    assert all(tool.spec.name == tool.entry.name for tool in found)
    return {tool.spec.name: tool for tool in found}


def entries(**skills: Skill) -> dict[str, ToolEntry]:
    return {name: tool.entry for name, tool in tools(skills).items() if tool.entry.remote}


def test_a_tool_of_a_process_runs_where_the_workspace_is_and_one_over_http_does_not() -> None:
    found = entries(files=process(remote("list")), web=http(remote("search")))
    assert (found["list"].lane, found["list"].skill) == (Lane.SANDBOX, "files")
    assert (found["search"].lane, found["search"].skill) == (Lane.MCP, "web")
    assert found["search"].remote == "tool:search"


def test_a_model_reads_what_the_server_says_of_a_tool() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    tool = RemoteTool(name="search", description="Finds things.", input_schema=schema)
    found = tools({"web": http(tool, remote("quiet"))})
    assert found["search"].spec.description == "Finds things."
    assert found["search"].spec.parameters == schema
    assert found["quiet"].spec.description == "A tool of the skill web."


def test_tools_of_two_servers_with_one_name_are_told_apart() -> None:
    found = entries(one=process(remote("search")), two=http(remote("search"), remote("fetch")))
    assert {name: entry.skill for name, entry in found.items()} == {
        "fetch": "two",
        "one__search": "one",
        "two__search": "two",
    }
    assert {entry.remote for entry in found.values()} == {"tool:search", "tool:fetch"}


def test_base_tools_delegates_and_questions_keep_their_names() -> None:
    ask = InteractiveSkill(tools={"ask": InteractiveTool(parameters={"type": "object"})})
    server = process(remote("exec"), remote("helper"), remote("ask"), remote("free"))
    found = tools({BASE_SKILL: BaseSkill(), "people": ask, "s": server}, ("helper",))
    assert found["exec"].entry.skill == BASE_SKILL
    assert found["helper"].entry.lane is Lane.DELEGATE
    assert found["ask"].entry.lane is Lane.PERSON
    assert [name for name, tool in found.items() if tool.entry.skill == "s"] == [
        "free",
        "s__ask",
        "s__exec",
        "s__helper",
    ]


def test_names_that_no_provider_takes_are_spelled_another_way_and_lead_to_the_tool() -> None:
    (entry,) = entries(web=http(remote("web.search/v2"))).values()
    assert entry.name.startswith("web__web_search_v2_")
    assert entry.remote == "tool:web.search/v2"


def test_prompts_and_resources_are_tools_that_only_read() -> None:
    found = entries(
        s=process(
            RemoteTool(kind="prompt", name="ask", input_schema={}),
            RemoteTool(kind="resources", name="", input_schema={}),
            RemoteTool(kind="resource", name="", input_schema={}),
        )
    )
    assert sorted(found) == ["listResources", "prompt_ask", "readResource"]
    assert {entry.safety for entry in found.values()} == {Safety.READ_ONLY}


def test_pick_and_omit_go_by_the_names_that_servers_have_and_omit_counts_first() -> None:
    offered = (remote("search"), remote("web.fetch"), remote("delete"))
    picked = process(*offered, pick=("search", "web.fetch"), omit=("search",))
    assert [entry.remote for entry in entries(s=picked).values()] == ["tool:web.fetch"]
    left = process(*offered, omit=("delete",))
    assert {entry.remote for entry in entries(s=left).values()} == {
        "tool:search",
        "tool:web.fetch",
    }


def test_what_is_left_out_takes_no_name_from_others() -> None:
    found = entries(one=process(remote("search"), omit=("search",)), two=http(remote("search")))
    assert sorted(found) == ["search"]


@pytest.mark.parametrize(
    ("said", "override", "safety"),
    [
        ({}, {}, Safety.UNSAFE),
        ({"read_only": True}, {}, Safety.READ_ONLY),
        ({"idempotent": True}, {}, Safety.IDEMPOTENT),
        ({"read_only": True, "idempotent": True}, {}, Safety.READ_ONLY),
        ({"read_only": True}, {"read_only": False}, Safety.UNSAFE),
        ({"read_only": True, "idempotent": True}, {"read_only": False}, Safety.IDEMPOTENT),
        ({"idempotent": True}, {"idempotent": False}, Safety.UNSAFE),
        ({}, {"read_only": True}, Safety.READ_ONLY),
        ({}, {"idempotent": True}, Safety.IDEMPOTENT),
    ],
)
def test_the_definition_has_the_last_word_on_how_safe_a_tool_is(
    said: dict[str, bool], override: dict[str, bool], safety: Safety
) -> None:
    assert safety_of(remote("t", **said), ToolOverride(**override)) is safety
    found = entries(s=process(remote("t", **said), overrides={"t": ToolOverride(**override)}))
    assert found["t"].safety is safety


def test_a_tool_has_its_own_time_else_that_of_its_skill_else_that_of_the_run() -> None:
    slow = {"slow": ToolOverride(timeout_ms=9), "other": ToolOverride(read_only=True)}
    offered = (remote("slow"), remote("other"))
    found = entries(s=process(*offered, timeout_ms=5, overrides=slow))
    assert {name: entry.timeout_ms for name, entry in found.items()} == {"slow": 9, "other": 5}
    assert entries(s=process(*offered))["slow"].timeout_ms is None


def test_who_has_remote_tools_can_read_what_was_too_long_of_a_result() -> None:
    assert READ_RESULT in tools({"s": http(remote("search"))})
    assert READ_RESULT not in tools({})
    base = BaseSkill(pick=("exec",))
    assert READ_RESULT in tools({BASE_SKILL: base, "s": http(remote("search"))})


NAMES = st.sampled_from(["search", "fetch", "exec", "a.b", "a b", "x" * 70, "todo", "ü"])
OFFERS = st.dictionaries(
    st.sampled_from(["web", "files", "a.b", "z" * 70]), st.lists(NAMES, unique=True, max_size=5)
)


@given(OFFERS, st.randoms(use_true_random=False))
def test_tools_and_their_names_do_not_depend_on_the_order_of_skills_or_offers(
    offers: dict[str, list[str]], random: Any
) -> None:
    def made(offers: dict[str, list[str]]) -> dict[str, Tool]:
        servers = {name: process(*map(remote, found)) for name, found in offers.items()}
        return tools({BASE_SKILL: BaseSkill(), **servers})

    turned = list(offers.items())
    random.shuffle(turned)
    mixed = {name: random.sample(found, len(found)) for name, found in turned}
    found = made(offers)
    assert made(mixed) == found
    assert list(made(mixed)) == list(found)
    own = [tool.entry for tool in found.values() if tool.entry.remote]
    assert {(entry.skill, entry.remote) for entry in own} == {
        (skill, f"tool:{name}") for skill, names in offers.items() for name in names
    }
    assert all(found[name].entry.skill == BASE_SKILL for name in BASE_TOOLS if name in found)
