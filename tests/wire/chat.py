"""Chat Completions as a server: its rules and its chunks. Not a model.

Sources: the type definitions of the `openai` SDK (`types/chat/completion_create_params.py`,
`chat_completion_*_param.py`, `chat_completion_chunk.py`) with the pages they cite, and for models
named `deepseek-…` api-docs.deepseek.com `guides/thinking_mode` (thinking goes back with calls).
Stricter than OpenAI in one thing, as small servers are: arguments have to be a JSON object. For
Gemini: ai.google.dev `gemini-api/docs/openai` and `thought-signatures` (the first call of a reply
has the signature it came with, or the text that stands for calls of other models).
"""

import itertools
import json
import re
from typing import Any

from tests.wire.http import KEY, Plain, Rejected, frame, pieces
from tests.wire.responses import openai_error
from tests.wire.script import Refusal, Reply

Json = dict[str, Any]

TOP = (
    "model messages tools tool_choice max_tokens max_completion_tokens stream stream_options"
    " reasoning_effort temperature top_p stop n seed user parallel_tool_calls"
)
SKIP = "skip_thought_signature_validator"
MESSAGES = {
    "system": "role content name",
    "user": "role content name",
    "assistant": "role content name tool_calls refusal reasoning_content",
    "tool": "role content tool_call_id",
}


class ChatFormat(Plain):
    path = "/chat/completions"

    def __init__(
        self, *, thinking_field: str = "reasoning_content", also: str = "", unknown: str = ""
    ) -> None:
        """`also` and `unknown` are fields that this server knows beyond OpenAI's, and does not."""
        self.signed: set[str] = set()  # every signature given out
        self._fields = {*TOP.split(), *also.split()} - {*unknown.split()}
        self._thinking_field = thinking_field
        self._numbers = itertools.count(1)

    def authorize(self, headers: dict[str, str]) -> None:
        if headers.get("authorization") != f"Bearer {KEY}":
            raise Rejected("Incorrect API key provided.", status=401)

    def check(self, headers: dict[str, str], body: Json) -> None:
        self.authorize(headers)
        for name in body:
            if name not in self._fields:
                raise Rejected(f"Unrecognized request argument supplied: {name}")
        if not body.get("messages"):
            raise Rejected("Missing required parameter: 'messages'.")
        if body["model"].startswith("gpt-5"):
            for name in ("max_tokens", "temperature", "top_p"):
                if name in body:
                    message = f"Unsupported parameter: '{name}' is not supported with this model."
                    raise Rejected(message)
        if len(body.get("stop", [])) > 4:
            raise Rejected("Invalid 'stop': array too long.")
        for place, tool in enumerate(body.get("tools", [])):
            _check_tool(tool, place)
        _check_messages(body)
        for place, message in enumerate(body["messages"]):
            self._check_signatures(message.get("tool_calls", []), place, body["model"])

    def _check_signatures(self, calls: list[Json], place: int, model: str) -> None:
        checked = re.search(r"gemini-[3-9]", model)
        for index, call in enumerate(calls):
            extra: Json | None = call.get("extra_content")
            if extra is not None and "gemini" not in model:
                raise Rejected(f"messages[{place}].tool_calls: Extra inputs are not permitted")
            google: Json = (extra or {}).get("google", {})
            signature: str | None = google.get("thought_signature")
            if signature is None and index == 0 and checked:
                raise Rejected(
                    "Function call is missing a thought_signature in functionCall parts."
                )
            if signature not in (None, SKIP, *self.signed):
                raise Rejected("Corrupted thought signature.")

    def frames(self, answer: Reply, body: Json) -> list[bytes]:
        given = f"chatcmpl-{next(self._numbers)}"

        def chunk(delta: Json, finish: str | None = None) -> Json:
            return {
                "id": given,
                "object": "chat.completion.chunk",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                "usage": None,
            }

        chunks = [chunk({"role": "assistant", "content": ""})]
        chunks += [chunk({self._thinking_field: piece}) for piece in pieces(answer.thinking)]
        chunks += [chunk({"content": piece}) for piece in pieces(answer.text)]
        chunks += [chunk({"refusal": piece}) for piece in pieces(answer.refusal)]
        for index, call in enumerate(answer.calls):
            name = call.id if call.id is not None else f"call_{index}"
            head: Json = {
                "index": index,
                "id": name,
                "type": "function",
                "function": {"name": call.tool, "arguments": ""},
            }
            if index == 0 and "gemini" in body["model"]:
                signature = f"sig+{next(self._numbers)}/=="
                self.signed.add(signature)
                head["extra_content"] = {"google": {"thought_signature": signature}}
            chunks.append(chunk({"tool_calls": [head]}))
            chunks += [
                chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
                for piece in pieces(call.arguments)
            ]
        stop = {"max_tokens": "length", "refusal": "stop"}.get(answer.stop, answer.stop)
        chunks.append(chunk({}, stop or ("tool_calls" if answer.calls else "stop")))
        if answer.usage and body.get("stream_options", {}).get("include_usage"):
            chunks.append({**chunk({}), "choices": [], "usage": _usage(answer)})
        frames = [*map(frame, chunks), frame("[DONE]")]
        if answer.error_at is not None:
            error = self.error(Refusal(200, answer.error, "The server had an error"))
            frames[answer.error_at] = frame(error)
        return frames

    def error(self, refusal: Refusal) -> Json:
        return openai_error(refusal)


def _usage(answer: Reply) -> Json:
    return {
        "prompt_tokens": 100,
        "completion_tokens": 42,
        "total_tokens": 142,
        "prompt_tokens_details": {"cached_tokens": answer.cached},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }


def _check_messages(body: Json) -> None:
    open_calls: list[str] = []
    for place, message in enumerate(body["messages"]):
        role = message.get("role")
        if role not in MESSAGES:
            raise Rejected(f"Invalid value: '{role}'.")
        for name in message:
            if name not in MESSAGES[role].split():
                raise Rejected(f"messages[{place}].{name}: Extra inputs are not permitted")
        if role == "tool":
            _check_result(message, open_calls, place)
            continue
        _check_answered(open_calls)
        if role == "assistant":
            open_calls = _check_calls(message, place, body["model"])
        elif not message.get("content"):
            raise Rejected(f"Invalid value for 'content': messages[{place}].content is empty.")
    _check_answered(open_calls)


def _check_tool(tool: Json, place: int) -> None:
    function = tool.get("function", {})
    if tool.get("type") != "function" or not re.fullmatch(
        r"[a-zA-Z0-9_-]{1,64}", function.get("name", "")
    ):
        raise Rejected(f"Invalid 'tools[{place}].function.name': string does not match pattern.")
    if function.get("parameters", {}).get("type") != "object":
        raise Rejected(f"Invalid schema for function '{function['name']}'.")


def _check_calls(message: Json, place: int, model: str) -> list[str]:
    calls = message.get("tool_calls", [])
    if not message.get("content") and not calls:
        raise Rejected(
            f"Invalid value for 'content': messages[{place}] has neither text nor calls."
        )
    for call in calls:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Rejected(f"messages[{place}]: invalid tool call arguments", status=500)
    if model.startswith("deepseek-") and calls and "reasoning_content" not in message:
        raise Rejected(
            "The `reasoning_content` in the thinking mode must be passed back to the API."
        )
    names = [call["id"] for call in calls]
    if len(set(names)) != len(names) or "" in names:
        raise Rejected(f"messages[{place}].tool_calls: ids have to be unique")
    return names


def _check_result(message: Json, open_calls: list[str], place: int) -> None:
    if message.get("tool_call_id") not in open_calls:
        raise Rejected(
            f"Invalid parameter: messages[{place}] with role 'tool' must be a response to a"
            " preceeding message with 'tool_calls'."
        )
    if not isinstance(message.get("content"), str):
        raise Rejected(f"messages[{place}].content: Input should be a valid string")
    open_calls.remove(message["tool_call_id"])


def _check_answered(open_calls: list[str]) -> None:
    if open_calls:
        raise Rejected(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to"
            " each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(open_calls)
        )
