"""The pinned context is pure, sorted and stable: the same expert, the same bytes (C20)."""

import asyncio
import re
from typing import get_args

import pytest

from domain.base_tools import BASE_TOOLS
from domain.content import TextPart
from domain.context import build_context
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
from domain.limits import ModelChoice
from domain.mcp import Catalogue
from domain.prompt import RENDERER, ModelContext, ModelRequest
from domain.record import canonical, digest_of
from domain.sandbox import SandboxSettings
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from domain.toolset import MERGE, unsupported_reason
from services.loop.models.port import Delta
from services.loop.models.scripted import ScriptedModel

MODEL = ModelChoice(provider="anthropic", model="some-model")


def expert(
    key: str = "writer",
    *,
    skills: dict[str, Skill] | None = None,
    delegates: tuple[str, ...] = (),
    description: str = "",
) -> Expert:
    return Expert(
        key=key,
        description=description,
        instruction="Write what is asked.",
        delegates=delegates,
        skills={BASE_SKILL: BaseSkill()} if skills is None else skills,
        model=MODEL,
    )


def definition(*experts: Expert) -> Definition:
    return Definition(experts={one.key: one for one in experts})


def local(name: str, safety: Safety = Safety.UNSAFE) -> LocalTool:
    spec = ToolSpec(name=name, description=f"Does {name}.", parameters={"type": "object"})
    return LocalTool(spec=spec, safety=safety)


def block(context: ModelContext, name: str) -> str:
    return next(one.text for one in context.system if one.name == name)


USUAL = set(BASE_TOOLS) - {MERGE}
"""The tools of an expert whose delegates share its workspace."""


def test_only_whoever_has_delegates_that_work_apart_can_merge() -> None:
    apart = expert("apart").model_copy(update={"sandbox": SandboxSettings(workspace="isolated")})
    _, entries = build_context(definition(expert(delegates=("apart",)), apart), "writer")
    assert MERGE in {entry.name for entry in entries}
    _, entries = build_context(definition(expert(delegates=("apart",)), apart), "apart")
    assert MERGE not in {entry.name for entry in entries}


def refusal(the_definition: Definition, key: str = "writer") -> Rejected:
    with pytest.raises(Rejected) as caught:
        build_context(the_definition, key)
    return caught.value


def test_context_has_rules_then_expert_then_instruction() -> None:
    context, _ = build_context(definition(expert()), "writer")
    assert [one.name for one in context.system] == ["rules", "expert", "instruction"]
    assert block(context, "expert") == "writer"
    assert block(context, "instruction") == "Write what is asked."
    assert context.renderer == RENDERER
    assert context.model == MODEL


async def nothing(_: Delta) -> None:
    return None


def test_script_finds_the_replies_of_its_expert_in_the_context() -> None:
    context, _ = build_context(definition(expert(), expert("@writer/checker")), "@writer/checker")
    request = ModelRequest(context=context, messages=(), digest="d", blobs={})
    model = ScriptedModel(["default"], experts={"@writer/checker": ["checked"]})
    reply = asyncio.run(model.generate(request, nothing))
    assert reply.parts == (TextPart(text="checked"),)


def test_tools_and_entries_are_sorted_by_name_and_match() -> None:
    the_definition = definition(expert(delegates=("zed", "alpha")), expert("zed"), expert("alpha"))
    context, entries = build_context(the_definition, "writer")
    names = [tool.name for tool in context.tools]
    assert names == sorted({*USUAL, "alpha", "zed"})
    assert [entry.name for entry in entries] == names


def test_same_definition_gives_the_same_bytes_whatever_the_order_of_its_mappings() -> None:
    skills: dict[str, Skill] = {
        BASE_SKILL: BaseSkill(rule="Be quick."),
        "shop": LocalSkill(tools=("buy", "ask"), rule="Buy little."),
    }
    turned = dict(reversed(skills.items()))
    tools = {name: local(name) for name in ("ask", "buy")}
    one = definition(expert(skills=skills, delegates=("b", "c")), expert("b"), expert("c"))
    two = definition(expert("c"), expert("b"), expert(skills=turned, delegates=("c", "b")))
    first = build_context(one, "writer", extra_tools=tools)
    second = build_context(two, "writer", extra_tools=dict(reversed(tools.items())))
    assert digest_of(canonical(first[0])) == digest_of(canonical(second[0]))
    assert first[1] == second[1]


def test_prompt_holds_no_clock_and_no_id() -> None:
    context, _ = build_context(definition(expert(delegates=("b",)), expert("b")), "writer")
    text = "\n".join(one.text for one in context.system)
    assert re.search(r"\d{4}|\d\d:\d\d|[0-9a-f]{16}", text) is None


def test_coordinator_and_delegate_are_told_different_things() -> None:
    the_definition = definition(expert(), expert("@writer/checker"))
    coordinator = block(build_context(the_definition, "writer")[0], "rules")
    delegate = block(build_context(the_definition, "@writer/checker")[0], "rules")
    assert "You coordinate this job" in coordinator
    assert "You were given this task by another expert" in delegate


def test_plain_expert_of_a_child_run_is_told_that_it_is_a_delegate() -> None:
    the_definition = definition(expert())
    child = block(build_context(the_definition, "writer", child=True)[0], "rules")
    assert "You were given this task by another expert" in child


def test_rules_speak_of_delegates_only_to_experts_that_have_some() -> None:
    the_definition = definition(expert(delegates=("b",)), expert("b"))
    assert "You have delegates" in block(build_context(the_definition, "writer")[0], "rules")
    assert "You have delegates" not in block(build_context(the_definition, "b")[0], "rules")


def test_rules_do_not_mention_tools_that_were_omitted() -> None:
    skill = BaseSkill(omit=("attemptCompletion", "todo"))
    context, entries = build_context(definition(expert(skills={BASE_SKILL: skill})), "writer")
    rules = block(context, "rules")
    assert "attemptCompletion" not in rules
    assert "todo" not in rules
    assert "attemptCompletion" not in {entry.name for entry in entries}


def test_pick_leaves_only_what_it_names() -> None:
    skill = BaseSkill(pick=("exec", "think", "readTextFile"), omit=("exec",))
    _, entries = build_context(definition(expert(skills={BASE_SKILL: skill})), "writer")
    assert [entry.name for entry in entries] == ["readTextFile"]


def test_skill_rules_are_one_block_sorted_by_skill_and_absent_without_rules() -> None:
    skills: dict[str, Skill] = {
        "z": LocalSkill(tools=(), rule="Last."),
        "b": LocalSkill(tools=()),
        BASE_SKILL: BaseSkill(rule="First."),
    }
    context, _ = build_context(definition(expert(skills=skills)), "writer")
    assert block(context, "skill-rules") == (
        f"Rules for {BASE_SKILL}:\nFirst.\n\nRules for z:\nLast."
    )
    assert context.system[-1].name == "skill-rules"


def test_delegate_is_a_tool_that_takes_one_query() -> None:
    the_definition = definition(
        expert(delegates=("@writer/checker",)),
        expert("@writer/checker", description="Checks facts."),
    )
    context, entries = build_context(the_definition, "writer")
    spec = next(tool for tool in context.tools if tool.name == "checker")
    entry = next(one for one in entries if one.name == "checker")
    assert spec.description == "Checks facts."
    assert spec.parameters["required"] == ["query"]
    assert spec.parameters["properties"]["query"]["type"] == "string"
    assert (entry.lane, entry.safety) == (Lane.DELEGATE, Safety.UNSAFE)
    assert entry.expert == "@writer/checker"


def test_local_tools_keep_the_safety_they_were_registered_with() -> None:
    the_definition = definition(expert(skills={"shop": LocalSkill(tools=("price",))}))
    tools = {"price": local("price", Safety.READ_ONLY), "buy": local("buy")}
    context, entries = build_context(the_definition, "writer", extra_tools=tools)
    assert [tool.name for tool in context.tools] == ["price"]
    assert [(one.skill, one.lane, one.safety) for one in entries] == [
        ("shop", Lane.TOOL, Safety.READ_ONLY)
    ]


def test_local_tool_nobody_registered_is_refused_by_name() -> None:
    error = refusal(definition(expert(skills={"shop": LocalSkill(tools=("price",))})))
    assert error.code == "unknown_local_tool"
    assert "'price'" in error.message
    assert "'shop'" in error.message


UNKNOWN: list[Skill] = [
    McpStdioSkill(command="npx"),
    McpHttpSkill(endpoint="https://example.com/mcp"),
]

PEOPLE = InteractiveSkill(tools={"ask": InteractiveTool(parameters={"type": "object"})})


@pytest.mark.parametrize("skill", UNKNOWN, ids=lambda skill: skill.kind)
def test_server_that_nobody_has_asked_for_its_tools_is_refused_by_name(skill: Skill) -> None:
    error = refusal(definition(expert(skills={"outside": skill})))
    assert error.code == "skill_not_resolved"
    assert "'writer'" in error.message
    assert "nobody has asked the MCP server of skill 'outside'" in error.message
    known = skill.model_copy(update={"catalogue": Catalogue()})
    _, entries = build_context(definition(expert(skills={"outside": known})), "writer")
    assert entries == ()


def test_every_kind_of_skill_has_a_say_on_support() -> None:
    kinds = set(get_args(get_args(Skill)[0]))
    supported = {BaseSkill, LocalSkill, InteractiveSkill, TopologySkill}
    assert kinds == {*supported, *(type(skill) for skill in UNKNOWN)}
    for skill in (BaseSkill(), LocalSkill(tools=("x",)), PEOPLE, TopologySkill()):
        assert unsupported_reason("any", skill) is None
    for server in UNKNOWN:
        assert unsupported_reason("any", server) is not None
        known = server.model_copy(update={"catalogue": Catalogue()})
        assert unsupported_reason("any", known) is None


def test_delegates_get_no_interactive_tools_and_start_without_them() -> None:
    skills: dict[str, Skill] = {BASE_SKILL: BaseSkill(), "people": PEOPLE}
    the_definition = definition(expert("@writer/checker", skills=skills))
    _, entries = build_context(the_definition, "@writer/checker")
    assert {entry.name for entry in entries} == USUAL


def test_delegate_named_as_a_base_tool_is_refused() -> None:
    error = refusal(definition(expert(delegates=("exec",)), expert("exec")))
    assert error.code == "tool_name_taken"
    assert "delegate 'exec'" in error.message
    assert f"skill '{BASE_SKILL}'" in error.message


def test_delegates_with_the_same_last_name_are_refused() -> None:
    the_definition = definition(
        expert(delegates=("@a/same", "@b/same")), expert("@a/same"), expert("@b/same")
    )
    assert refusal(the_definition).code == "tool_name_taken"


def test_tool_name_no_provider_takes_is_refused() -> None:
    error = refusal(definition(expert(delegates=("fact.checker",)), expert("fact.checker")))
    assert error.code == "bad_tool_name"


def test_unknown_expert_and_unknown_delegate_are_refused() -> None:
    assert refusal(definition(expert()), "nobody").code == "unknown_expert"
    assert refusal(definition(expert(delegates=("nobody",)))).code == "unknown_expert"
