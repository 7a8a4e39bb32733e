"""Anthropic's Messages API as a server: its rules and its events. Not a model.

Sources: the type definitions of the `anthropic` SDK (`types/message_create_params.py`,
`*_param.py`, `raw_*_event.py`) with the pages they cite: platform.claude.com/docs
`api/messages`, `build-with-claude/streaming` (the order of events), `extended-thinking`,
`adaptive-thinking`, `prompt-caching` (four breakpoints), `agents-and-tools/tool-use` (results
first and at once), `api/errors` (types and the shape of errors).
"""

import itertools
import json
import re
from typing import Any

from tests.wire.http import KEY, Rejected, allow, frame, pieces
from tests.wire.script import Refusal, Reply

Json = dict[str, Any]

BLOCKS = {
    "text": ("type text cache_control citations", "text"),
    "image": ("type source cache_control", "source"),
    "document": ("type source cache_control title context citations", "source"),
    "tool_use": ("type id name input cache_control caller", "id name input"),
    "tool_result": ("type tool_use_id content is_error cache_control", "tool_use_id"),
    "thinking": ("type thinking signature", "thinking signature"),
    "redacted_thinking": ("type data", "data"),
}
ALLOWED = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
}


class AnthropicFormat:
    path = "/v1/messages"

    def __init__(self) -> None:
        self.signed: dict[str, Json] = {}  # every block given out, by signature or data
        self._numbers = itertools.count(1)

    def check(self, headers: dict[str, str], body: Json) -> None:
        # Version 2 of the SDK sends the key as a bearer token, version 1 as `x-api-key`.
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if given != KEY:
            raise Rejected("invalid x-api-key", status=401, kind="authentication_error")
        if "anthropic-version" not in headers:
            raise Rejected("anthropic-version: header is required")
        allow(
            body,
            "model max_tokens messages system tools tool_choice thinking output_config stream"
            " stop_sequences temperature top_p top_k metadata cache_control",
            "",
            "model max_tokens messages",
        )
        if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
            raise Rejected("max_tokens: Input should be greater than or equal to 1")
        _check_breakpoints(body)
        _check_thinking(body)
        _check_tools(body.get("tools", []))
        for block in body.get("system", []):
            self._check_block(block, "system.", {"text"})
        self._check_messages(_joined(body["messages"]))

    def _check_messages(self, messages: list[Json]) -> None:
        if not messages or messages[0]["role"] != "user":
            raise Rejected("messages: first message must use the user role")
        used: set[str] = set()
        for place, message in enumerate(messages):
            where = f"messages.{place}.content."
            content = message["content"]
            if not content:
                raise Rejected(f"messages.{place}: all messages must have non-empty content")
            for block in content:
                self._check_block(block, where, ALLOWED[message["role"]])
            asked = [block["id"] for block in content if block["type"] == "tool_use"]
            if len(set(asked)) != len(asked) or used & set(asked):
                raise Rejected("messages: `tool_use` ids must be unique")
            used |= set(asked)
            if message["role"] == "assistant":
                if content[-1]["type"] in ("thinking", "redacted_thinking"):
                    raise Rejected(
                        f"messages.{place}: The final block in an assistant message cannot be"
                        " `thinking`."
                    )
                _check_answers(place, asked, messages[place + 1 : place + 2])
            elif place == 0 or messages[place - 1]["role"] != "assistant":
                _check_results(place, content, [])
            else:
                before = messages[place - 1]["content"]
                _check_results(place, content, [b["id"] for b in before if b["type"] == "tool_use"])

    def _check_block(self, block: Json, where: str, allowed: set[str]) -> None:
        kind = block.get("type", "")
        if kind not in allowed:
            raise Rejected(f"{where}: Input tag {kind!r} is not one of the expected tags")
        fields, needed = BLOCKS[kind]
        allow(block, fields, f"{where}{kind}.", needed)
        match kind:
            case "text":
                _check_text(block["text"])
            case "tool_use":
                _check_use(block, where)
            case "tool_result":
                content: list[Json] = block.get("content", [])
                if not content and block.get("is_error"):
                    raise Rejected("tool_result: content cannot be empty if `is_error` is true")
                for inner in content:
                    self._check_block(inner, f"{where}tool_result.", {"text", "image", "document"})
            case "thinking" | "redacted_thinking":
                self._check_signed(block)
            case _:
                pass

    def _check_signed(self, block: Json) -> None:
        proof = block.get("signature") or block.get("data") or ""
        given = self.signed.get(proof)
        if given is None:
            raise Rejected("messages: Invalid `signature` in `thinking` block")
        if given != block:
            raise Rejected(
                "messages: `thinking` or `redacted_thinking` blocks cannot be modified."
                " These blocks must remain as they were in the original response."
            )

    def frames(self, answer: Reply, body: Json) -> list[bytes]:
        usage = {
            "input_tokens": 100,
            "cache_read_input_tokens": answer.cached,
            "cache_creation_input_tokens": answer.written,
            "output_tokens": 1,
        }
        start: Json = {
            "id": f"msg_{next(self._numbers)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage if answer.usage else None,
        }
        events: list[Json] = [
            {"type": "message_start", "message": start},
            {"type": "ping"},
        ]
        for index, (block, deltas) in enumerate(self._blocks(answer)):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.extend(
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            )
            events.append({"type": "content_block_stop", "index": index})
        stop = answer.stop or ("tool_use" if answer.calls else "end_turn")
        details = {"type": "refusal", "category": None, "explanation": answer.refusal or None}
        events.append(
            {
                "type": "message_delta",
                "delta": {
                    "stop_reason": stop,
                    "stop_sequence": None,
                    "stop_details": details if stop == "refusal" else None,
                },
                "usage": {"output_tokens": 42, "output_tokens_details": {"thinking_tokens": 7}},
            }
        )
        events.append({"type": "message_stop"})
        frames = [frame(event, event["type"]) for event in events]
        if answer.error_at is not None:
            body = self.error(Refusal(200, answer.error, "Overloaded"))
            frames[answer.error_at] = frame(body, "error")
        return frames

    def _blocks(self, answer: Reply) -> list[tuple[Json, list[Json]]]:
        blocks: list[tuple[Json, list[Json]]] = []
        if answer.thinking:
            signature = f"sig+{next(self._numbers)}/=="
            self.signed[signature] = {
                "type": "thinking",
                "thinking": answer.thinking,
                "signature": signature,
            }
            deltas = [
                {"type": "thinking_delta", "thinking": piece} for piece in pieces(answer.thinking)
            ]
            deltas.append({"type": "signature_delta", "signature": signature})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
        if answer.redacted:
            hidden: Json = {"type": "redacted_thinking", "data": answer.redacted}
            self.signed[answer.redacted] = hidden
            blocks.append((hidden, []))
        if answer.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(answer.text)]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in answer.calls:
            given = call.id if call.id is not None else f"toolu_{next(self._numbers)}"
            block: Json = {"type": "tool_use", "id": given, "name": call.tool, "input": {}}
            texts = ["", *pieces(call.arguments if call.arguments != "{}" else "")]
            deltas = [{"type": "input_json_delta", "partial_json": text} for text in texts]
            blocks.append((block, deltas))
        return blocks

    def error(self, refusal: Refusal) -> Json:
        error = {"type": refusal.type, "message": refusal.message}
        return {"type": "error", "error": error, "request_id": "req_wire"}


def _joined(messages: list[Json]) -> list[Json]:
    """Consecutive turns of one role are one turn."""
    joined: list[Json] = []
    for place, message in enumerate(messages):
        allow(message, "role content", f"messages.{place}.", "role content")
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1]["content"] = joined[-1]["content"] + blocks
        else:
            joined.append({"role": message["role"], "content": blocks})
    return joined


def _check_text(text: str) -> None:
    if not text:
        raise Rejected("messages: text content blocks must be non-empty")
    if not text.strip():
        raise Rejected("messages: text content blocks must contain non-whitespace text")


def _check_use(block: Json, where: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
        raise Rejected(f"{where}tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(block["input"], dict):
        raise Rejected(f"{where}tool_use.input: Input should be a valid dictionary")


def _check_answers(place: int, asked: list[str], after: list[Json]) -> None:
    answers: list[Json] = after[0]["content"][: len(asked)] if after else []
    answered = {block.get("tool_use_id") for block in answers}
    missing = [call for call in asked if call not in answered]
    if missing:
        raise Rejected(
            f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately"
            f" after: {', '.join(missing)}. Each `tool_use` block must have a corresponding"
            " `tool_result` block in the next message."
        )


def _check_results(place: int, content: list[Json], asked: list[str]) -> None:
    for block in content:
        if block["type"] == "tool_result" and block["tool_use_id"] not in asked:
            raise Rejected(
                f"messages.{place}: unexpected `tool_use_id` found in `tool_result` blocks:"
                f" {block['tool_use_id']}"
            )


def _check_breakpoints(body: Json) -> None:
    found = json.dumps(body).count('"cache_control"')
    if found > 4:
        raise Rejected(f"A maximum of 4 blocks with cache_control may be provided. Found {found}.")


def _check_thinking(body: Json) -> None:
    thinking = body.get("thinking", {"type": "disabled"})
    newer = any(mark in body["model"] for mark in ("-4-6", "-4-7", "-4-8", "-5", "-preview"))
    older = "haiku-4-5" in body["model"] or "-4-5" in body["model"]
    match thinking["type"]:
        case "enabled":
            allow(thinking, "type budget_tokens display", "thinking.", "budget_tokens")
            if newer and not older:
                raise Rejected('"thinking.type.enabled" is not supported for this model.')
            if thinking["budget_tokens"] < 1024:
                raise Rejected(
                    "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
                )
            if thinking["budget_tokens"] >= body["max_tokens"]:
                raise Rejected("`max_tokens` must be greater than `thinking.budget_tokens`.")
        case "adaptive":
            allow(thinking, "type display", "thinking.")
            if older:
                raise Rejected("adaptive thinking is not supported on this model")
        case _:
            allow(thinking, "type", "thinking.")
    allow(body.get("output_config", {}), "effort format", "output_config.")


def _check_tools(tools: list[Json]) -> None:
    names = [tool.get("name") for tool in tools]
    if len(set(names)) != len(names):
        raise Rejected("tools: Tool names must be unique.")
    for place, tool in enumerate(tools):
        where = f"tools.{place}.custom."
        allow(
            tool,
            "name description input_schema cache_control type strict",
            where,
            "name input_schema",
        )
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            raise Rejected(f"{where}name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if tool["input_schema"].get("type") != "object":
            raise Rejected(f"{where}input_schema.type: Field required")
