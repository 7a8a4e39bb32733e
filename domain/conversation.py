"""How events become messages (the renderer). Not the provider's spelling, and no I/O: a pure fold."""

from collections.abc import Iterable

from domain.content import Message, ResultPart, TextPart, UserMessage, UserPart
from domain.events import ToolCallEnded
from domain.prompt import request_digest
from domain.record import canonical, digest_of
from domain.state import Call, Conversation, Link, RunState

INTERRUPTED = "This call was interrupted before its result was recorded."


def say(conversation: Conversation, message: Message) -> Conversation:
    """The conversation with one more message."""
    data = canonical(message)
    return Conversation(
        last=Link(conversation.last, message),
        digest=digest_of(conversation.digest.encode() + data),
        size=conversation.size + len(data),
        whole=conversation.whole,
    )


def result_part(call: Call) -> ResultPart:
    """The answer to a call as the model reads it; an open call gets a synthetic one (C4)."""
    ended: ToolCallEnded | None = call.ended
    if ended is None:
        return ResultPart(
            provider_id=call.provider_id,
            tool=call.tool,
            content=(TextPart(text=INTERRUPTED),),
            is_error=True,
        )
    return ResultPart(
        provider_id=call.provider_id,
        tool=call.tool,
        content=ended.content,
        is_error=ended.is_error,
    )


def pending_message(state: RunState) -> UserMessage | None:
    """What the model is told next: results in call order, then inputs; None when there is nothing."""
    parts: list[UserPart] = [result_part(call) for call in state.calls.values()]
    parts.extend(state.inputs)
    return UserMessage(parts=tuple(parts)) if parts else None


def next_conversation(state: RunState) -> Conversation:
    """The conversation as the next request carries it."""
    message = pending_message(state)
    return state.conversation if message is None else say(state.conversation, message)


def next_request(state: RunState) -> str:
    """The digest of the next request: what `generation.requested` records."""
    return request_digest(state.context, next_conversation(state).digest)


def this_request(state: RunState) -> str:
    """The digest of the request of the open generation, rendered anew: what replay compares."""
    return request_digest(state.context, state.conversation.digest)


def blobs_of(messages: Iterable[Message]) -> frozenset[str]:
    """The digests of all content that messages name and do not carry."""
    return frozenset(_walk_messages(messages))


def _walk_messages(messages: Iterable[Message]) -> Iterable[str]:
    for message in messages:
        for part in message.parts:
            inner = part.content if isinstance(part, ResultPart) else (part,)
            for item in inner:
                for name in ("text", "blob", "block", "arguments"):
                    value = getattr(item, name, None)
                    if value is not None and not isinstance(value, str):
                        yield value.digest
