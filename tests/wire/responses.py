"""OpenAI's Responses API as a server: its rules and its events. Not a model.

Sources: the type definitions of the `openai` SDK (`types/responses/response_create_params.py`,
`response_input_param.py`, `response_*_event.py`, `response_reasoning_item_param.py`) with the pages
they cite: developers.openai.com/api/docs `guides/streaming-responses`, `guides/function-calling`,
`guides/reasoning` (encrypted reasoning, and what has to follow it), `guides/latest-model`
(reasoning models take neither `temperature` nor `top_p`), `guides/error-codes`.
"""

import itertools
import re
from typing import Any

from tests.wire.http import KEY, Plain, Rejected, frame, pieces
from tests.wire.responses_tools import (
    INCLUDES,
    check_fields,
    check_server_tool,
    item_of,
)
from tests.wire.responses_tools import (
    ITEMS as SERVER_ITEMS,
)
from tests.wire.responses_tools import (
    TOOLS as SERVER_TOOLS,
)
from tests.wire.script import Refusal, Reply

Json = dict[str, Any]

TOP = (
    "model input instructions tools tool_choice max_output_tokens store stream include reasoning"
    " prompt_cache_key parallel_tool_calls temperature top_p text truncation metadata"
)
ITEMS = {
    "message": "type role content phase id status",
    "function_call": "type call_id name arguments",
    "function_call_output": "type call_id output",
    "reasoning": "type id summary encrypted_content content status",
}
CONTENT = {
    "output_text": "type text annotations logprobs",
    "refusal": "type refusal",
    "input_text": "type text",
    "input_image": "type image_url detail file_id",
    "input_file": "type filename file_data file_id",
}
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh", "max"}


class ResponsesFormat(Plain):
    path = "/responses"

    def __init__(self) -> None:
        self.reasoning: dict[str, Json] = {}  # every reasoning item given out
        self.given: dict[str, Json] = {}  # every other item given out
        self.followed: dict[str, str] = {}  # an item by id: the reasoning before it, by id
        self._numbers = itertools.count(1)

    def authorize(self, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {KEY}":
            raise Rejected("Incorrect API key provided.", status=401)

    def check(self, headers: dict[str, str], body: Json) -> None:
        self.authorize(headers)
        _known(body, TOP, "")
        if "model" not in body:
            raise Rejected("Missing required parameter: 'model'.")
        if body.get("max_output_tokens", 16) < 16:
            raise Rejected("Invalid 'max_output_tokens': integer below minimum value.")
        _check_reasoning(body)
        _check_sampling(body)
        for name in body.get("include", []):
            if name not in INCLUDES:
                raise Rejected(f"Invalid value: '{name}'.")
        for place, tool in enumerate(body.get("tools", [])):
            _check_tool(tool, place)
        self._check_input(body["input"])

    def _check_input(self, items: list[Json]) -> None:
        calls: list[str] = []
        outputs: set[str] = set()
        thought: set[str] = set()
        for place, item in enumerate(items):
            kind = item.get("type", "message")
            if kind in SERVER_ITEMS:
                check_fields(item, SERVER_ITEMS[kind], f"input[{place}].")
                self._check_served(item, thought)
                continue
            if kind not in ITEMS:
                raise Rejected(f"Invalid value: '{kind}'.")
            _known(item, ITEMS[kind], f"input[{place}].")
            match kind:
                case "message":
                    _check_content(item["content"], place)
                    if "id" in item:
                        self._check_served(item, thought)
                case "function_call":
                    _check_call(item, calls, place)
                    calls.append(item["call_id"])
                case "function_call_output":
                    _check_output(item, calls, place)
                    outputs.add(item["call_id"])
                case _:
                    self._check_given(item, items[place + 1 : place + 2])
                    thought.add(item["id"])
        unanswered = [call for call in calls if call not in outputs]
        if unanswered:
            raise Rejected(f"No tool output found for function call {unanswered[0]}.")

    def _check_served(self, item: Json, thought: set[str]) -> None:
        """An item that has an id is the one that was given out, and comes with its reasoning."""
        if self.given.get(item["id"]) != item:
            raise Rejected(f"Item with id '{item['id']}' not found.", status=404)
        needed = self.followed.get(item["id"])
        if needed is not None and needed not in thought:
            raise Rejected(
                f"Item '{item['id']}' of type '{item['type']}' was provided without its required"
                f" 'reasoning' item: '{needed}'."
            )

    def _check_given(self, item: Json, after: list[Json]) -> None:
        if not item.get("encrypted_content"):
            raise Rejected(
                f"Item with id '{item['id']}' not found. Items are not persisted when `store` is"
                " set to false.",
                status=404,
            )
        if self.reasoning.get(item["id"]) != item:
            raise Rejected("The encrypted content could not be verified.")
        kind = after[0].get("type", "message") if after else ""
        if kind not in ("function_call", "message", "reasoning", *SERVER_ITEMS) or (
            kind == "message" and after[0]["role"] != "assistant"
        ):
            raise Rejected(
                f"Item '{item['id']}' of type 'reasoning' was provided without its required"
                " following item."
            )

    def frames(self, answer: Reply, body: Json) -> list[bytes]:
        given = f"resp_{next(self._numbers)}"
        events: list[Json] = [
            {"type": "response.created", "response": _response(given, body, "in_progress")},
            {"type": "response.in_progress", "response": _response(given, body, "in_progress")},
        ]
        output: list[Json] = []
        for added, between, done in self._items(answer, body):
            place = {"output_index": len(output), "item_id": done["id"]}
            opened = {"type": "response.output_item.added", **place, "item": added}
            events.append(opened)
            events.extend({**place, **event} for event in between)
            events.append({"type": "response.output_item.done", **place, "item": done})
            output.append(done)
        status, reason = {
            "": ("completed", None),
            "max_tokens": ("incomplete", "max_output_tokens"),
            "refusal": ("completed", None),
            "content_filter": ("incomplete", "content_filter"),
            "failed": ("failed", None),
        }[answer.stop]
        last = _response(given, body, status)
        last["output"] = output
        last["incomplete_details"] = {"reason": reason} if reason else None
        last["usage"] = _usage(answer) if answer.usage else None
        events.append({"type": f"response.{status}", "response": last})
        frames = [
            frame({**event, "sequence_number": number}, event["type"])
            for number, event in enumerate(events)
        ]
        if answer.error_at is not None:
            frames[answer.error_at] = self._error_frame(answer, given, body)
        return frames

    def _error_frame(self, answer: Reply, given: str, body: Json) -> bytes:
        """An error in the stream: as an `error` event, or as a response that failed."""
        error = {"code": answer.error, "message": "The server had an error", "param": None}
        if answer.stop != "failed":
            return frame({"type": "error", "sequence_number": 1, **error}, "error")
        failed = _response(given, body, "failed")
        failed["error"] = error
        return frame(
            {"type": "response.failed", "sequence_number": 1, "response": failed}, "response.failed"
        )

    def _items(self, answer: Reply, body: Json) -> list[tuple[Json, list[Json], Json]]:
        include: list[str] = body.get("include", [])
        encrypted = "reasoning.encrypted_content" in include
        items: list[tuple[Json, list[Json], Json]] = []
        if answer.thinking:
            given = f"rs_{next(self._numbers)}"
            added: Json = {"id": given, "type": "reasoning", "summary": []}
            texts = answer.thinking.split("\n\n")
            done: Json = {
                **added,
                "summary": [{"type": "summary_text", "text": text} for text in texts],
            }
            if encrypted:
                done["encrypted_content"] = f"gAAAA+{given}/=="
                self.reasoning[given] = done
            kind = "response.reasoning_summary_text.delta"
            between: list[Json] = [
                {"type": kind, "summary_index": place, "delta": piece}
                for place, text in enumerate(texts)
                for piece in pieces(text)
            ]
            items.append((added, between, done))
        for served in answer.provider:
            done = item_of(served, next(self._numbers), include)
            items.append(({**done, "status": "in_progress"}, [], done))
        if answer.text or answer.refusal:
            items.append(self._message(answer))
        self._remember([done for _, _, done in items])
        for call in answer.calls:
            given = f"fc_{next(self._numbers)}"
            done = {
                "id": given,
                "type": "function_call",
                "call_id": call.id if call.id is not None else f"call_{next(self._numbers)}",
                "name": call.tool,
                "arguments": call.arguments,
                "status": "incomplete" if answer.stop == "max_tokens" else "completed",
            }
            kind = "response.function_call_arguments.delta"
            between = [{"type": kind, "delta": piece} for piece in pieces(call.arguments)]
            items.append(({**done, "arguments": "", "status": "in_progress"}, between, done))
        return items

    def _remember(self, items: list[Json]) -> None:
        reasoning = ""
        for item in items:
            if item["type"] == "reasoning":
                reasoning = item["id"]
                continue
            self.given[item["id"]] = item
            if reasoning:
                self.followed[item["id"]] = reasoning

    def _message(self, answer: Reply) -> tuple[Json, list[Json], Json]:
        refused = bool(answer.refusal)
        text = answer.refusal or answer.text
        kind = "response.refusal.delta" if refused else "response.output_text.delta"
        content: Json = {"type": "refusal", "refusal": text} if refused else _output_text(text)
        if answer.cited:
            content["annotations"] = [
                {
                    "type": "url_citation",
                    "start_index": 0,
                    "end_index": 3,
                    "title": "A page",
                    "url": "https://example.com/a",
                }
            ]
        item: Json = {
            "id": f"msg_{next(self._numbers)}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }
        if answer.phase:
            item["phase"] = answer.phase
        between: list[Json] = [
            {"type": kind, "content_index": 0, "delta": piece, "logprobs": []}
            for piece in pieces(text)
        ]
        return {**item, "content": [], "status": "in_progress"}, between, item

    def error(self, refusal: Refusal) -> Json:
        return openai_error(refusal)


def openai_error(refusal: Refusal) -> Json:
    return {
        "error": {
            "message": refusal.message,
            "type": refusal.type,
            "param": None,
            "code": refusal.code,
        }
    }


def _output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _response(given: str, body: Json, status: str) -> Json:
    return {
        "id": given,
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": f"{body['model']}-dated",
        "output": [],
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }


def _usage(answer: Reply) -> Json:
    return {
        "input_tokens": 100,
        "input_tokens_details": {
            "cached_tokens": answer.cached,
            "cache_write_tokens": answer.written,
        },
        "output_tokens": 42,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 142,
    }


def _known(value: Json, fields: str, where: str) -> None:
    for name in value:
        if name not in fields.split():
            raise Rejected(f"Unknown parameter: '{where}{name}'.")


def _check_reasoning(body: Json) -> None:
    reasoning = body.get("reasoning")
    if reasoning is None:
        return
    if body["model"].startswith("gpt-4"):
        raise Rejected(
            "Unsupported parameter: 'reasoning.effort' is not supported with this model."
        )
    if reasoning.get("effort") not in EFFORTS:
        raise Rejected(f"Invalid value: '{reasoning.get('effort')}'.")


def _check_sampling(body: Json) -> None:
    thinks = re.match(r"gpt-[5-9]|o\d", body["model"]) and "-chat" not in body["model"]
    for name in ("temperature", "top_p"):
        if name in body and thinks:
            raise Rejected(f"Unsupported parameter: '{name}' is not supported with this model.")


def _check_tool(tool: Json, place: int) -> None:
    if tool.get("type") in SERVER_TOOLS:
        check_server_tool(tool, place)
        return
    if tool.get("type") != "function":
        raise Rejected(f"Invalid value: '{tool.get('type')}'.")
    _known(tool, "type name description parameters strict", f"tools[{place}].")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.get("name", "")):
        raise Rejected(f"Invalid 'tools[{place}].name': string does not match pattern.")
    if tool["parameters"].get("type") != "object":
        raise Rejected(f"Invalid schema for function '{tool['name']}'.")


def _check_call(item: Json, calls: list[str], place: int) -> None:
    if not 1 <= len(item["call_id"]) <= 64:
        raise Rejected(f"Invalid 'input[{place}].call_id': string too long.")
    if item["call_id"] in calls:
        raise Rejected(f"Duplicate call_id {item['call_id']}.")
    if not isinstance(item["arguments"], str):
        raise Rejected(f"Invalid type for 'input[{place}].arguments'.")


def _check_output(item: Json, calls: list[str], place: int) -> None:
    call = item["call_id"]
    if call not in calls:
        raise Rejected(f"No tool call found for function call output with call_id {call}.")
    _check_content(item["output"], place)


def _check_content(content: Any, place: int) -> None:
    if isinstance(content, str):
        return
    for inner in content:
        if inner.get("type") not in CONTENT:
            raise Rejected(f"Invalid value: '{inner.get('type')}'.")
        _known(inner, CONTENT[inner["type"]], f"input[{place}].content.")
