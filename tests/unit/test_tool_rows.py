"""What is shown of an expert's tools: where each leads, and what rules may say of it."""

import json
from typing import Any

import pytest

from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    McpHttpSkill,
    McpStdioSkill,
    Skill,
    TopologySkill,
)
from domain.errors import Rejected
from domain.ids import RunRef
from domain.limits import ModelChoice
from domain.mcp import Catalogue, RemoteTool
from domain.policy import PolicyRule
from domain.record import canonical
from peritus.cli.tools import lines_of
from peritus.cli.tools_call import typed
from peritus.cli.tools_screen import WithOutput
from peritus.feed import Heard
from peritus.tool_rows import ToolRow, tool_rows, unknown_servers
from services.worker.live import LiveToolOutput

MODEL = ModelChoice(provider="anthropic", model="m")
SEARCH = RemoteTool(name="search", description="Finds.\nA lot.", input_schema={"type": "object"})
CATALOGUE = Catalogue(tools=(SEARCH, RemoteTool(kind="prompt", name="a.b", input_schema={})))


def rows(
    *rules: PolicyRule,
    operator: tuple[PolicyRule, ...] = (),
    own: tuple[PolicyRule, ...] = (),
    skills: dict[str, Skill] | None = None,
) -> dict[str, ToolRow]:
    helper = Expert(key="helper", instruction="x", skills={}, model=MODEL)
    expert = Expert(
        key="a",
        instruction="x",
        skills={BASE_SKILL: BaseSkill()} if skills is None else skills,
        delegates=("helper",),
        model=MODEL,
        policy=own,
    )
    definition = Definition(experts={"a": expert, "helper": helper}, policy=rules)
    return {row.name: row for row in tool_rows(definition, "a", operator)}


def test_every_tool_says_where_it_leads() -> None:
    ask = InteractiveSkill(tools={"ask": InteractiveTool(parameters={"type": "object"})})
    found = rows(
        skills={
            BASE_SKILL: BaseSkill(),
            "people": ask,
            "shop": LocalSkill(tools=("price",)),
            "team": TopologySkill(pick=("addSkill",)),
            "files": McpStdioSkill(command="x", args=("y",), catalogue=CATALOGUE),
            "web": McpHttpSkill(endpoint="https://a.b/", catalogue=CATALOGUE),
        }
    )
    assert {
        name: found[name].where for name in ("exec", "todo", "ask", "price", "addSkill", "helper")
    } == {
        "exec": "sandbox",
        "todo": "loop",
        "ask": "person",
        "price": "program",
        "addSkill": "loop",
        "helper": "delegate",
    }
    assert found["files__search"].where == "sandbox"
    assert found["web__search"].where == "tool service"
    assert found["web__search"].of_server == "search"
    assert found["helper"].expert == "helper"
    prompt = next(row for name, row in found.items() if name.startswith("web__prompt_a_b_"))
    assert (prompt.of_server, prompt.safety) == ("prompt a.b", "read_only")


def test_an_expert_whose_servers_are_not_known_is_refused_and_they_are_named() -> None:
    skills: dict[str, Skill] = {"web": McpHttpSkill(endpoint="https://a.b/")}
    with pytest.raises(Rejected, match="nobody has asked the MCP server of skill 'web'"):
        rows(skills=skills)
    expert = Expert(key="a", instruction="x", skills=skills, model=MODEL)
    assert list(unknown_servers(expert)) == ["web"]


DENY = PolicyRule(verdict="deny", tool="exec")
ASK = PolicyRule(verdict="ask", tool="exec")
ALLOW = PolicyRule(verdict="allow", tool="exec")


def by(verdict: Any) -> PolicyRule:
    return PolicyRule(verdict=verdict, tool="exec", arguments={"command": "git*"})


@pytest.mark.parametrize(
    ("rules", "operator", "own", "says"),
    [
        ((), (), (), "allow"),
        ((ASK,), (), (), "ask"),
        ((ALLOW, DENY), (), (), "allow"),
        ((ASK,), (DENY,), (ALLOW,), "deny"),
        ((ALLOW,), (), (ASK,), "ask"),
        ((by("deny"),), (), (), "allow, or deny by arguments"),
        ((by("allow"), ASK), (), (), "ask, or allow by arguments"),
        ((by("allow"), by("ask"), DENY), (), (), "deny, or allow or ask by arguments"),
        ((by("allow"), ASK), (ASK,), (), "ask"),
        ((by("deny"),), (), (ASK,), "ask, or deny by arguments"),
        ((ALLOW, by("deny")), (), (), "allow"),
        ((PolicyRule(verdict="deny", expert="helper"),), (), (), "allow"),
        ((PolicyRule(verdict="deny", skill="@perstack/*"),), (), (), "deny"),
    ],
)
def test_what_rules_say_before_anybody_knows_the_arguments(
    rules: tuple[PolicyRule, ...],
    operator: tuple[PolicyRule, ...],
    own: tuple[PolicyRule, ...],
    says: str,
) -> None:
    assert str(rows(*rules, operator=operator, own=own)["exec"].ruling) == says


def test_rows_are_facts_for_programs_and_lines_for_people() -> None:
    web = McpHttpSkill(endpoint="https://a.b/", catalogue=CATALOGUE, timeout_ms=7)
    row = rows(skills={"web": web})["search"]
    assert row.facts() == {
        "name": "search",
        "skill": "web",
        "server_name": None,
        "where": "tool service",
        "expert": None,
        "safety": "unsafe",
        "policy": "allow",
        "policy_by_arguments": [],
        "timeout_ms": 7,
        "description": "Finds.\nA lot.",
        "schema": {"type": "object"},
    }
    assert list(lines_of([row])) == [
        "search  web  tool service  unsafe  allow",
        "    Finds. A lot.",
    ]
    assert list(lines_of([row], schema=True))[1:4] == ["    Finds.", "    A lot.", "    {"]
    assert list(lines_of([])) == []


class Plain:
    """A screen that says what it is asked to show."""

    live = True

    def heard(self, heard: Heard) -> str:
        return f"{heard.event.type}\n"

    def piece(self, ref: RunRef, data: bytes) -> str:
        del ref, data
        return "a piece\n"

    def recall(self, heard: Heard) -> None:
        del heard

    def note(self, text: str) -> str:
        return text

    def result(self, text: str) -> str:
        return f"{text}\n"


def test_what_a_tool_prints_is_shown_while_it_works_and_other_lines_begin_after_it() -> None:
    screen, ref = WithOutput(Plain()), RunRef("t", "j", "r")

    def output(text: str) -> bytes:
        return canonical(LiveToolOutput(call="c", offset=0, text=text))

    assert screen.piece(ref, output("one\x1b[31m\ntw")) == "one[31m\ntw"
    assert screen.piece(ref, output("o")) == "o"
    assert screen.result("done") == "\ndone\n"
    assert screen.piece(ref, b"{}") == "a piece\n"
    assert screen.piece(ref, output("three\n")) == "three\n"
    assert screen.note("said") == "said"
    assert screen.piece(ref, output("")) == ""


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        ({"type": "string"}, "17", "17"),
        ({"type": "integer"}, "17", 17),
        ({"type": "array"}, '["a"]', ["a"]),
        ({"type": "integer"}, "many", "many"),
        ({}, "true", True),
        (None, "plain text", "plain text"),
        (True, "null", None),
    ],
)
def test_arguments_of_a_command_line_are_texts_or_json_as_the_tool_wants(
    wanted: Any, text: str, value: Any
) -> None:
    schema = {"type": "object", "properties": {} if wanted is None else {"x": wanted}}
    assert json.dumps(typed(schema, {"x": text})) == json.dumps({"x": value})
