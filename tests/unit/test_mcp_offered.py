"""What of a server's offer becomes a tool, and how a change of it is noticed."""

from typing import Any

from mcp_types import (
    Prompt,
    PromptArgument,
    ResourceTemplate,
    Tool,
    ToolAnnotations,
    ToolExecution,
)

from domain.mcp import RemoteTool
from services.tool.mcp.bounds import Bounds
from services.tool.mcp.discover import drift
from services.tool.mcp.offers import (
    Offer,
    of_prompt,
    of_resources,
    of_tool,
    only_as_task,
    sifted,
)

BOUNDS = Bounds()
OBJECT: dict[str, Any] = {"type": "object"}


def remote(name: str = "a", **more: Any) -> RemoteTool:
    return RemoteTool(name=name, input_schema=more.pop("input_schema", OBJECT), **more)


def offer(*tools: RemoteTool) -> Offer:
    made = Offer()
    made.tools["tools"], made.left_out["tools"] = sifted(tools, BOUNDS)
    return made


def test_hints_of_a_tool_are_kept() -> None:
    hints = ToolAnnotations(read_only_hint=True, idempotent_hint=True)
    tool = of_tool(Tool(name="a", title="A", input_schema=OBJECT, annotations=hints))
    assert (tool.description, tool.read_only, tool.idempotent) == ("A", True, True)


def test_a_tool_that_takes_no_plain_call_is_known() -> None:
    def tool(execution: ToolExecution | None) -> Tool:
        return Tool(name="a", input_schema=OBJECT, execution=execution)

    assert only_as_task(tool(ToolExecution(task_support="required")))
    assert not only_as_task(tool(ToolExecution(task_support="optional")))
    assert not only_as_task(tool(None))


def test_a_prompt_takes_its_arguments_as_texts() -> None:
    arguments = [PromptArgument(name="b"), PromptArgument(name="a", required=True)]
    tool = of_prompt(Prompt(name="p", description="Does.", arguments=arguments))
    assert tool.remote == "prompt:p"
    assert tool.input_schema["required"] == ["a"]
    assert list(tool.input_schema["properties"]) == ["b", "a"]


def test_templates_are_told_in_order_and_within_bounds() -> None:
    many = [
        ResourceTemplate(
            name=str(number), uri_template=f"a://{number:02}/{{x}}", description="z" * 999
        )
        for number in range(40)
    ]
    _, read = of_resources(reversed(many))
    assert read.description.index("a://00") < read.description.index("a://29")
    assert "a://30" not in read.description
    assert "(and 10 more)" in read.description
    assert len(read.description) < 31 * 310


def test_an_offer_is_sorted_whatever_order_it_comes_in() -> None:
    tools = (remote("b"), remote("a"), remote("a", kind="prompt"))
    assert sifted(tools, BOUNDS) == sifted(tools[::-1], BOUNDS)
    assert [tool.remote for tool in sifted(tools, BOUNDS)[0]] == ["prompt:a", "tool:a", "tool:b"]


def test_what_cannot_be_a_tool_is_left_out_with_a_reason() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}}
    found, left_out = sifted(
        (
            remote("text", input_schema={"type": "string"}),
            remote("none", input_schema={}),
            remote("large", description="x" * 100_000),
            remote("deep", input_schema=deep),
            remote("twice"),
            remote("twice", description="the other"),
            remote(" "),
            remote("n" * 300),
            remote("good"),
        ),
        BOUNDS,
    )
    assert [tool.name for tool in found] == ["good"]
    assert (
        left_out["tool:text"] == left_out["tool:none"] == "its input schema is not one of an object"
    )
    assert "more than 65536 bytes" in left_out["tool:large"]
    assert "32 levels" in left_out["tool:deep"]
    assert "more than one of that name" in left_out["tool:twice"]
    assert len(left_out) == 7


def test_no_more_tools_are_taken_than_may_be() -> None:
    found, left_out = sifted((remote(f"t{number:03}") for number in range(300)), BOUNDS)
    assert (len(found), len(left_out)) == (256, 44)


def test_a_tool_as_it_was_approved_has_not_changed() -> None:
    pinned = remote(input_schema={"type": "object", "properties": {"a": {}, "b": {}}})
    same = remote(input_schema={"properties": {"b": {}, "a": {}}, "type": "object"})
    assert drift(pinned, offer(same)) is None


def test_a_change_names_what_changed_and_nothing_of_what_it_is_now() -> None:
    now = remote(description="evil", read_only=True)
    assert drift(remote(), offer(now)) == "the server changed: its description and its read only"


def test_a_tool_that_is_gone_is_named_with_those_there_are() -> None:
    gone = drift(remote("x"), offer(remote("a"), remote("b")))
    assert gone == "the server does not offer it any more; it offers: a, b"
    assert (
        drift(remote("x"), offer()) == "the server does not offer it any more; it offers: nothing"
    )


def test_a_tool_that_cannot_be_used_any_more_says_why() -> None:
    now = remote(input_schema={"type": "array"})
    assert drift(remote(), offer(now)) == (
        "it cannot be used any more: its input schema is not one of an object"
    )
