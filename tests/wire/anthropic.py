"""Anthropic's Messages API as a server: its rules and its events. Not a model.

Sources: the type definitions of the `anthropic` SDK (`types/message_create_params.py`,
`*_param.py`, `raw_*_event.py`) with the pages they cite: platform.claude.com/docs
`api/messages`, `api/versioning` (2026-10-21 takes no sampling parameters),
`build-with-claude/streaming` (the order of events), `extended-thinking`, `adaptive-thinking`,
`preserved-thinking`, `prompt-caching` (four breakpoints), `agents-and-tools/tool-use` (results
first and at once; pauses), `api/errors` (types and the shape of errors).
"""

import itertools
import json
import re
from typing import Any

from tests.wire.anthropic_tools import (
    check_container,
    check_pairs,
    check_tools,
    citation,
    result_block,
    use_block,
)
from tests.wire.http import KEY, Plain, Rejected, allow, frame, pieces
from tests.wire.script import Refusal, Reply

Json = dict[str, Any]

VERSIONS = {"2026-10-21": "", "2023-06-01": " temperature top_p top_k"}
TOP = (
    "model max_tokens messages system tools tool_choice thinking output_config stream"
    " stop_sequences metadata cache_control container service_tier"
)
RESULT = ("type content tool_use_id cache_control caller", "content tool_use_id")
BLOCKS = {
    "text": ("type text cache_control citations", "text"),
    "image": ("type source cache_control", "source"),
    "document": ("type source cache_control title context citations", "source"),
    "tool_use": ("type id name input cache_control caller", "id name input"),
    "tool_result": ("type tool_use_id content is_error cache_control", "tool_use_id"),
    "thinking": ("type thinking signature", "thinking signature"),
    "redacted_thinking": ("type data", "data"),
    "server_tool_use": ("type id name input cache_control caller", "id name input"),
    "web_search_tool_result": RESULT,
    "web_fetch_tool_result": RESULT,
    "code_execution_tool_result": RESULT,
    "bash_code_execution_tool_result": RESULT,
    "text_editor_code_execution_tool_result": RESULT,
    "container_upload": ("type file_id cache_control", "file_id"),
}
SERVERS = {kind for kind in BLOCKS if kind.endswith("_tool_result")} | {"server_tool_use"}
ALLOWED = {
    "user": {"text", "image", "document", "tool_result", "container_upload"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking", *SERVERS},
}
THINKING = ("thinking", "redacted_thinking")


class AnthropicFormat(Plain):
    path = "/v1/messages"

    def __init__(self) -> None:
        self.signed: dict[str, Json] = {}  # every block given out, by signature or data
        self.given: dict[str, Json] = {}  # every block of a server's tool, by kind and id
        self.cited: dict[str, Json] = {}  # every text with citations, by the first one's index
        self.containers: set[str] = set()
        self._paused: list[Json] = []  # what was said before the last pause
        self._waiting: Json | None = None  # the result that comes first after it
        self._numbers = itertools.count(1)

    def authorize(self, headers: dict[str, str]) -> None:
        # Version 2 of the SDK sends the key as a bearer token, version 1 as `x-api-key`.
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if given != KEY:
            raise Rejected("invalid x-api-key", status=401, kind="authentication_error")

    def version(self, headers: dict[str, str], body: Json) -> str:
        del body
        if "anthropic-version" not in headers:
            raise Rejected("anthropic-version: header is required")
        return headers["anthropic-version"]

    def check(self, headers: dict[str, str], body: Json) -> None:
        self.authorize(headers)
        version = self.version(headers, body)
        if version not in VERSIONS:
            raise Rejected(f"anthropic-version: {version} is not a valid version")
        allow(body, TOP + VERSIONS[version], "", "model max_tokens messages")
        if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
            raise Rejected("max_tokens: Input should be greater than or equal to 1")
        for place, stop in enumerate(body.get("stop_sequences", [])):
            if not stop.strip():
                raise Rejected(f"stop_sequences.{place}: must contain non-whitespace")
        _check_breakpoints(body)
        _check_thinking(body)
        check_tools(body.get("tools", []))
        check_container(body, self.containers)
        for block in body.get("system", []):
            self._check_block(block, "system.", {"text"})
        messages = _joined(body["messages"])
        self._check_messages(messages)
        _check_turn(messages, body)

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
                _check_answers(place, asked, messages[place + 1 : place + 2])
                self._check_assistant(place, content, last=place == len(messages) - 1)
            elif place == 0 or messages[place - 1]["role"] != "assistant":
                _check_results(place, content, [])
            else:
                before = messages[place - 1]["content"]
                _check_results(place, content, [b["id"] for b in before if b["type"] == "tool_use"])

    def _check_assistant(self, place: int, content: list[Json], *, last: bool) -> None:
        if content[-1]["type"] in THINKING:
            raise Rejected(
                f"messages.{place}: The final block in an assistant message cannot be `thinking`."
            )
        check_pairs(place, content, last=last)
        if last and content != self._paused:
            raise Rejected(
                "This model does not support assistant message prefill. The conversation must end"
                " with a user message."
            )

    def _check_block(self, block: Json, where: str, allowed: set[str]) -> None:
        kind = block.get("type", "")
        if kind not in allowed:
            raise Rejected(f"{where}: Input tag {kind!r} is not one of the expected tags")
        fields, needed = BLOCKS[kind]
        allow(block, fields, f"{where}{kind}.", needed)
        match kind:
            case "text":
                _check_text(block["text"])
                if block.get("citations"):
                    self._check_cited(block, where, allowed)
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
            case _ if kind in SERVERS:
                self._check_given(block, where)
            case _:
                pass

    def _check_cited(self, block: Json, where: str, allowed: set[str]) -> None:
        if "thinking" not in allowed:
            raise Rejected(f"{where}text.citations: not permitted in a user message")
        known = self.cited.get(block["citations"][0].get("encrypted_index", ""))
        if known != block:
            raise Rejected(f"{where}text.citations: Invalid `encrypted_index` in citation")

    def _check_given(self, block: Json, where: str) -> None:
        key = block.get("id") or f"{block['type']} {block['tool_use_id']}"
        if self.given.get(key) != block:
            raise Rejected(f"{where}{block['type']}: Invalid `encrypted_content` or block")

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
        return [frame(event, event["type"]) for event in self.events(answer, body)]

    def events(self, answer: Reply, body: Json) -> list[Json]:
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
            "container": self._container(answer, body),
            "usage": usage if answer.usage else None,
        }
        events: list[Json] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        blocks = self._blocks(answer)
        for index, (block, deltas, _) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.extend(
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            )
            events.append({"type": "content_block_stop", "index": index})
        said = [whole for _, _, whole in blocks]
        self._paused = [*_continued(body), *said] if answer.paused else []
        usual = "pause_turn" if answer.paused else "tool_use" if answer.calls else "end_turn"
        stop = answer.stop or usual
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
        if answer.error_at is not None:
            events[answer.error_at] = self.error(Refusal(200, answer.error, "Overloaded"))
        return events

    def _container(self, answer: Reply, body: Json) -> Json | None:
        if not any(call.tool == "code" for call in answer.provider):
            return None
        given = body.get("container", {}).get("id") or f"container_{next(self._numbers)}"
        self.containers.add(given)
        return {"id": given, "expires_at": "2026-12-01T00:00:00Z", "skills": None}

    def _blocks(self, answer: Reply) -> list[tuple[Json, list[Json], Json]]:
        """Each block: as it begins, its deltas, and as it is in the end."""
        blocks: list[tuple[Json, list[Json], Json]] = []
        if self._waiting is not None:
            blocks.append((self._waiting, [], self._waiting))
            self._waiting = None
        if answer.thinking:
            blocks.append(self._thinking(answer.thinking))
        if answer.redacted:
            hidden: Json = {"type": "redacted_thinking", "data": answer.redacted}
            self.signed[answer.redacted] = hidden
            blocks.append((hidden, [], hidden))
        blocks.extend(self._served(answer))
        if answer.text:
            blocks.append(self._text(answer))
        for call in answer.calls:
            given = call.id if call.id is not None else f"toolu_{next(self._numbers)}"
            block: Json = {"type": "tool_use", "id": given, "name": call.tool, "input": {}}
            texts = ["", *pieces(call.arguments if call.arguments != "{}" else "")]
            deltas = [{"type": "input_json_delta", "partial_json": text} for text in texts]
            blocks.append((block, deltas, block))
        return blocks

    def _thinking(self, thought: str) -> tuple[Json, list[Json], Json]:
        signature = f"sig+{next(self._numbers)}/=="
        whole = {"type": "thinking", "thinking": thought, "signature": signature}
        self.signed[signature] = whole
        deltas: list[Json] = [
            {"type": "thinking_delta", "thinking": piece} for piece in pieces(thought)
        ]
        deltas.append({"type": "signature_delta", "signature": signature})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas, whole

    def _served(self, answer: Reply) -> list[tuple[Json, list[Json], Json]]:
        blocks: list[tuple[Json, list[Json], Json]] = []
        for place, call in enumerate(answer.provider):
            given = f"srvtoolu_{next(self._numbers)}"
            use, result = use_block(call, given), result_block(call, given)
            self.given[given] = use
            self.given[f"{result['type']} {given}"] = result
            deltas: list[Json] = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in pieces(json.dumps(use["input"]))
            ]
            blocks.append(({**use, "input": {}}, deltas, use))
            if answer.paused and place == len(answer.provider) - 1:
                self._waiting = result
            else:
                blocks.append((result, [], result))
        return blocks

    def _text(self, answer: Reply) -> tuple[Json, list[Json], Json]:
        whole: Json = {"type": "text", "text": answer.text}
        deltas: list[Json] = [
            {"type": "text_delta", "text": piece} for piece in pieces(answer.text)
        ]
        if answer.cited:
            index = f"idx+{next(self._numbers)}/=="
            whole["citations"] = [citation("a quote", index), citation("another", f"{index}2")]
            self.cited[index] = whole
            for one in whole["citations"]:
                deltas.insert(1, {"type": "citations_delta", "citation": one})
            deltas[1], deltas[2] = deltas[2], deltas[1]
        return {"type": "text", "text": ""}, deltas, whole

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


def _continued(body: Json) -> list[Json]:
    """What of the reply was said before the request."""
    last = _joined(body["messages"])[-1]
    return last["content"] if last["role"] == "assistant" else []


def _check_turn(messages: list[Json], body: Json) -> None:
    """With a budget for thinking, the turn that goes on begins with thinking."""
    if body.get("thinking", {}).get("type") != "enabled":
        return
    turn: list[tuple[int, Json]] = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            turn.append((place, message["content"][0]))
        elif not any(block["type"] == "tool_result" for block in message["content"]):
            turn = []
    if turn and turn[0][1]["type"] not in THINKING:
        place, first = turn[0]
        raise Rejected(
            f"messages.{place}.content.0.type: Expected `thinking` or `redacted_thinking`, but"
            f" found `{first['type']}`. When `thinking` is enabled, a final `assistant` message"
            " must start with a thinking block."
        )


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
