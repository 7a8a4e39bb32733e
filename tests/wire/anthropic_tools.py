"""Tools, skills and containers of Anthropic's API as a server has them. Not a tool that runs.

Sources: `types/tool_union_param.py`, `types/container_params.py`, `types/skill_params.py` and the
`*_tool_result_block.py` of the `anthropic` SDK, with the pages they cite: platform.claude.com/docs
`agents-and-tools/tool-use/web-search-tool`, `web-fetch-tool`, `code-execution-tool`, and
`build-with-claude/skills-guide`.
"""

import re
from collections.abc import Mapping
from typing import Any

from tests.wire.http import Rejected, allow
from tests.wire.script import ProviderCall

Json = dict[str, Any]

COMMON = "type name cache_control allowed_callers defer_loading strict"
SEARCHES = f"{COMMON} max_uses allowed_domains blocked_domains"
SERVER_TOOLS: Mapping[str, tuple[str, str]] = {
    "web_search_20250305": ("web_search", f"{SEARCHES} user_location"),
    "web_fetch_20250910": (
        "web_fetch",
        f"{SEARCHES} citations max_content_tokens url_sources",
    ),
    "code_execution_20250825": ("code_execution", COMMON),
}
RESULT_OF: Mapping[str, str] = {
    "web_search": "web_search_tool_result",
    "web_fetch": "web_fetch_tool_result",
    "code_execution": "code_execution_tool_result",
    "bash_code_execution": "bash_code_execution_tool_result",
    "text_editor_code_execution": "text_editor_code_execution_tool_result",
}
NAMES: Mapping[str, str] = {
    "search": "web_search",
    "fetch": "web_fetch",
    "code": "bash_code_execution",
}
SKILLS = {"pdf", "docx", "pptx", "xlsx"}


def check_tools(tools: list[Json]) -> None:
    names = [tool.get("name") for tool in tools]
    if len(set(names)) != len(names):
        raise Rejected("tools: Tool names must be unique.")
    for place, tool in enumerate(tools):
        if tool.get("type", "custom") == "custom":
            _check_custom(tool, f"tools.{place}.custom.")
        elif tool["type"] in SERVER_TOOLS:
            _check_server(tool, f"tools.{place}.{tool['type']}.")
        else:
            raise Rejected(f"tools.{place}: Input tag {tool['type']!r} is not one of the tags")


def _check_custom(tool: Json, where: str) -> None:
    fields = "name description input_schema cache_control type strict"
    allow(tool, fields, where, "name input_schema")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
        raise Rejected(f"{where}name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool["input_schema"].get("type") != "object":
        raise Rejected(f"{where}input_schema.type: Field required")


def _check_server(tool: Json, where: str) -> None:
    name, fields = SERVER_TOOLS[tool["type"]]
    allow(tool, fields, where, "name")
    if tool["name"] != name:
        raise Rejected(f"{where}name: Input should be '{name}'")
    if "allowed_domains" in tool and "blocked_domains" in tool:
        raise Rejected(f"{where}: only one of allowed_domains and blocked_domains can be used")
    if not isinstance(tool.get("max_uses", 1), int) or tool.get("max_uses", 1) < 1:
        raise Rejected(f"{where}max_uses: Input should be greater than 0")


def check_container(body: Json, known: set[str]) -> None:
    container = body.get("container")
    if container is None:
        return
    allow(container, "id skills", "container.")
    if container.get("id") is not None and container["id"] not in known:
        raise Rejected(f"container: {container['id']} was not found or has expired")
    skills = container.get("skills", [])
    if len(skills) > 8:
        raise Rejected("container.skills: List should have at most 8 items")
    for place, skill in enumerate(skills):
        where = f"container.skills.{place}."
        allow(skill, "skill_id type version", where, "skill_id type")
        if skill["type"] == "anthropic" and skill["skill_id"] not in SKILLS:
            raise Rejected(f"{where}skill_id: there is no skill {skill['skill_id']}", status=404)
        if skill["type"] == "custom" and not skill["skill_id"].startswith("skill_"):
            raise Rejected(f"{where}skill_id: there is no skill {skill['skill_id']}", status=404)
    running = any(tool.get("name") == "code_execution" for tool in body.get("tools", []))
    if skills and not running:
        raise Rejected("container.skills: skills need the code_execution tool")


def check_pairs(place: int, content: list[Json], *, last: bool) -> None:
    """Each call of a server's tool is followed by its result, unless the turn goes on."""
    open_calls: dict[str, str] = {}
    for block in content:
        if block["type"] == "server_tool_use":
            open_calls[block["id"]] = block["name"]
        elif block["type"].endswith("_tool_result"):
            name = open_calls.pop(block["tool_use_id"], "")
            if RESULT_OF.get(name) != block["type"]:
                raise Rejected(
                    f"messages.{place}: unexpected `tool_use_id` found in `{block['type']}` blocks:"
                    f" {block['tool_use_id']}. Each `{block['type']}` block must have a"
                    " corresponding `server_tool_use` block before it."
                )
    if open_calls and not last:
        given, name = next(iter(open_calls.items()))
        raise Rejected(
            f"messages.{place}: `{name}` tool use with id `{given}` was found without a"
            f" corresponding `{RESULT_OF[name]}` block"
        )


def result_block(call: ProviderCall, given: str) -> Json:
    """What a tool found, as a block."""
    name = NAMES[call.tool]
    match name:
        case "web_search":
            content: Any = [
                {
                    "type": "web_search_result",
                    "url": "https://example.com/a",
                    "title": call.found,
                    "encrypted_content": f"enc+{given}/==",
                    "page_age": None,
                }
            ]
        case "web_fetch":
            source = {"type": "text", "media_type": "text/plain", "data": call.found}
            content = {
                "type": "web_fetch_result",
                "url": "https://example.com/a",
                "retrieved_at": "2026-11-01T00:00:00Z",
                "content": {"type": "document", "source": source, "title": None},
            }
        case _:
            content = {
                "type": "bash_code_execution_result",
                "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}],
                "stdout": call.found,
                "stderr": "",
                "return_code": 0,
            }
    return {"type": RESULT_OF[name], "tool_use_id": given, "content": content}


def use_block(call: ProviderCall, given: str) -> Json:
    key = {"search": "query", "fetch": "url"}.get(call.tool, "command")
    return {
        "type": "server_tool_use",
        "id": given,
        "name": NAMES[call.tool],
        "input": {key: call.asked},
    }


def citation(cited: str, index: str) -> Json:
    return {
        "type": "web_search_result_location",
        "cited_text": cited,
        "encrypted_index": index,
        "title": "A page",
        "url": "https://example.com/a",
    }
