"""Tools that run at OpenAI as a server has them: bodies and items. Not a tool that runs.

Sources: `types/responses/tool_param.py`, `web_search_tool_param.py`, `file_search_tool_param.py`,
`response_*_tool_call_param.py` and `response_includable.py` of the `openai` SDK.
"""

from collections.abc import Mapping
from typing import Any

from tests.wire.http import Rejected
from tests.wire.script import ProviderCall

Json = dict[str, Any]

TOOLS: Mapping[str, tuple[str, str]] = {
    "web_search": ("type filters search_context_size user_location external_web_access", ""),
    "web_search_preview": ("type search_context_size user_location search_content_types", ""),
    "file_search": (
        "type vector_store_ids max_num_results filters ranking_options",
        "vector_store_ids",
    ),
    "code_interpreter": ("type container allowed_callers", "container"),
    "image_generation": (
        "type action background input_fidelity model moderation output_format quality size",
        "",
    ),
}
ITEMS: Mapping[str, tuple[str, str]] = {
    "web_search_call": ("type id status action", "id status action"),
    "file_search_call": ("type id status queries results", "id status queries"),
    "code_interpreter_call": (
        "type id status code container_id outputs",
        "id status code container_id outputs",
    ),
    "image_generation_call": (
        "type id status result action background output_format quality size",
        "id status result",
    ),
}
INCLUDES = {
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "file_search_call.results",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
}


def check_fields(value: Json, fields: tuple[str, str], where: str) -> None:
    known, needed = fields
    for name in value:
        if name not in known.split():
            raise Rejected(f"Unknown parameter: '{where}{name}'.")
    for name in needed.split():
        if name not in value:
            raise Rejected(f"Missing required parameter: '{where}{name}'.")


def check_server_tool(tool: Json, place: int) -> None:
    where = f"tools[{place}]."
    if tool.get("type") not in TOOLS:
        raise Rejected(f"Invalid value: '{tool.get('type')}'.")
    check_fields(tool, TOOLS[tool["type"]], where)
    if "filters" in tool and tool["type"] == "web_search":
        check_fields(tool["filters"], ("allowed_domains", ""), f"{where}filters.")
    if isinstance(tool.get("container"), dict):
        fields = ("type file_ids memory_limit network_policy", "type")
        check_fields(tool["container"], fields, f"{where}container.")
    if not 1 <= tool.get("max_num_results", 1) <= 50:
        raise Rejected(f"Invalid '{where}max_num_results': integer above maximum value.")


def item_of(call: ProviderCall, given: int, include: list[str]) -> Json:
    """The item of a call that is done."""
    match call.tool:
        case "search" | "fetch":
            action = {"type": "search", "query": call.asked, "queries": [call.asked]}
            return {
                "id": f"ws_{given}",
                "type": "web_search_call",
                "status": "completed",
                "action": action,
            }
        case "files":
            results = [{"file_id": "file_1", "filename": "a.txt", "score": 0.5, "text": call.found}]
            asked = "file_search_call.results" in include
            return {
                "id": f"fs_{given}",
                "type": "file_search_call",
                "status": "completed",
                "queries": [call.asked],
                "results": results if asked else None,
            }
        case "code":
            asked = "code_interpreter_call.outputs" in include
            return {
                "id": f"ci_{given}",
                "type": "code_interpreter_call",
                "status": "completed",
                "code": call.asked,
                "container_id": "cntr_1",
                "outputs": [{"type": "logs", "logs": call.found}] if asked else None,
            }
        case "image":
            return {
                "id": f"ig_{given}",
                "type": "image_generation_call",
                "status": "completed",
                "result": call.found,
                "output_format": "png",
            }
