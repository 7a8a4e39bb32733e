"""Models that need no provider: a script's replies, or a function's. Not a simulation of a model.

Which reply of a script is due is a pure function of the request: the number of assistant messages
in it. So a step that is asked again after a crash or in another process gets the same reply.
The one thing kept in memory is how often a reply with `fail` has failed, per request digest: a
restarted process fails `times` attempts again, which bounded attempts have to allow for.
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from domain.content import (
    AssistantMessage,
    AssistantPart,
    CallPart,
    ContentPart,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
)
from domain.prompt import ModelRequest
from domain.record import canonical
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.script import Script, ScriptReply
from services.loop.models.thought import thought_of

PROVIDER = "scripted"
EXPERT_BLOCK = "expert"
"""The system block whose first line is the expert's key, when a script has replies for experts."""

PIECES_MAX = 20
SHOWN_CHARS_MAX = 2_000

Replies = Sequence[ScriptReply | ModelReply | ModelFailure | str]
OnDelta = Callable[[Delta], Awaitable[None]]


class ScriptedModel:
    """Plays replies in order. A `str` is a text reply; a `ModelFailure` fails every attempt."""

    def __init__(
        self,
        replies: Replies = (),
        *,
        experts: Mapping[str, Replies] | None = None,
        name: str = "inline",
    ) -> None:
        self._replies = replies
        self._experts = dict(experts or {})
        self._name = name
        self._failed: Counter[str] = Counter()

    @classmethod
    def of(cls, script: Script, *, name: str = "inline") -> "ScriptedModel":
        """The model that plays a parsed script."""
        experts = {key: replies.reply for key, replies in script.experts.items()}
        return cls(script.reply, experts=experts, name=name)

    async def generate(self, request: ModelRequest, on_delta: OnDelta) -> ModelReply:
        """Play the reply that is due.

        Raises:
            ModelFailure: `exhausted`, `rejected` when `expect` is not met, or as `fail` says.
        """
        replies = self._replies_for(request)
        index = sum(isinstance(message, AssistantMessage) for message in request.messages)
        if index >= len(replies):
            message = (
                f"the script {self._name!r} has {len(replies)} replies; reply {index + 1} is due"
            )
            raise ModelFailure(kind="exhausted", message=message)
        due = replies[index]
        if isinstance(due, ModelFailure):
            raise replace(due)
        if isinstance(due, str):
            due = ScriptReply(text=due)
        if isinstance(due, ScriptReply):
            due = self._fitting(due, index, request)
            self._fail(due, request)
            reply, delay_ms = _reply(due, index, request), due.delay_ms
        else:
            reply, delay_ms = due, 0
        await _stream(reply.parts, on_delta, delay_ms)
        return reply

    async def aclose(self) -> None:
        """Nothing is held."""

    def _replies_for(self, request: ModelRequest) -> Replies:
        for block in request.context.system:
            if block.name == EXPERT_BLOCK:
                key = block.text.partition("\n")[0].strip()
                return self._experts.get(key, self._replies)
        return self._replies

    def _fitting(self, due: ScriptReply, index: int, request: ModelRequest) -> ScriptReply:
        """The reply, or the first of those in its place, that expects what the model is told."""
        told = last_told(request)
        for reply in (due, *due.otherwise):
            if all(text in told for text in reply.expected):
                return reply
        expected = " or ".join(
            " and ".join(repr(text) for text in reply.expected) for reply in (due, *due.otherwise)
        )
        message = (
            f"reply {index + 1} of the script {self._name!r} expects {expected} "
            f"in the last user message, which says: {told[:SHOWN_CHARS_MAX]!r}"
        )
        raise ModelFailure(kind="rejected", message=message)

    def _fail(self, due: ScriptReply, request: ModelRequest) -> None:
        fail = due.fail
        if fail is not None and self._failed[request.digest] < fail.times:
            self._failed[request.digest] += 1
            raise ModelFailure(fail.kind, fail.message, fail.status, fail.retry_after_ms)


class FunctionModel:
    """A model that is a function from a request to a reply, sync or async."""

    def __init__(
        self, function: Callable[[ModelRequest], ModelReply | Awaitable[ModelReply]]
    ) -> None:
        self._function = function

    async def generate(self, request: ModelRequest, on_delta: OnDelta) -> ModelReply:
        """Call the function and stream what it returned, each part in one piece.

        Raises:
            ModelFailure: when the function raises it.
        """
        outcome = self._function(request)
        reply = await outcome if inspect.isawaitable(outcome) else outcome
        await _stream(reply.parts, on_delta, 0)
        return reply

    async def aclose(self) -> None:
        """Nothing is held."""


def last_told(request: ModelRequest) -> str:
    """The last user message as plain text: results, texts and the names of files, a line each."""
    for message in reversed(request.messages):
        if isinstance(message, UserMessage):
            lines: list[str] = []
            for part in message.parts:
                content = part.content if isinstance(part, ResultPart) else (part,)
                lines.extend(_readable(item, request) for item in content)
            return "\n".join(lines)
    return ""


def _readable(part: ContentPart, request: ModelRequest) -> str:
    if isinstance(part, TextPart):
        return request.text(part.text)
    return f"[file {part.name or part.blob.digest} {part.blob.media_type}]"


def _reply(due: ScriptReply, index: int, request: ModelRequest) -> ModelReply:
    parts: list[AssistantPart] = []
    if due.thinking:
        block = canonical({"type": "thinking", "thinking": due.thinking}).decode()
        parts.append(ThinkingPart(provider=PROVIDER, block=block))
    if due.text:
        parts.append(TextPart(text=due.text))
    parts.extend(
        CallPart(provider_id=f"call_{index}_{place}", tool=call.tool, arguments=call.json_text)
        for place, call in enumerate(due.call)
    )
    if not parts:
        message = f"reply {index + 1} of the script says nothing after its failures"
        raise ModelFailure(kind="empty", message=message)
    return ModelReply(
        parts=tuple(parts),
        stop_reason=due.stop or ("tool_calls" if due.call else "end"),
        usage=due.usage,
        response_id=f"scripted_{index}",
        model=request.context.model.model,
    )


async def _stream(parts: Sequence[AssistantPart], on_delta: OnDelta, delay_ms: int) -> None:
    count_max = PIECES_MAX if delay_ms else 1
    pieces = [
        piece for index, part in enumerate(parts) for piece in _pieces(part, index, count_max)
    ]
    for piece in pieces:
        if delay_ms:
            await asyncio.sleep(delay_ms / 1_000 / len(pieces))
        await on_delta(piece)


def _pieces(part: AssistantPart, index: int, count_max: int) -> list[Delta]:
    """The part as at most `count_max` deltas; content kept by digest has nothing to stream."""
    kind: Literal["text", "thinking", "arguments"]
    tool = ""
    match part:
        case TextPart(text=str(text)):
            kind = "text"
        case CallPart(tool=tool, arguments=str(text)):
            kind = "arguments"
        case ThinkingPart(block=str(block)):
            kind, text = "thinking", thought_of(block)
        case _:
            return []
    size = max(-(-len(text) // count_max), 1)
    return [
        Delta(kind, index, offset, text[offset : offset + size], tool)
        for offset in range(0, len(text), size)
    ]
