"""How events become messages (the renderer): a pure fold. Not the provider's spelling."""

from collections.abc import Iterator

from domain.content import (
    BlobRef,
    CallPart,
    FilePart,
    Message,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserMessage,
    UserPart,
)
from domain.ids import call_id
from domain.prompt import request_digest
from domain.record import canonical, digest_of
from domain.state import Call, Conversation, RunState

INTERRUPTED = "This call was interrupted before its result was recorded."


def say(conversation: Conversation, message: Message) -> Conversation:
    """The conversation with one more message."""
    data = canonical(message)
    return Conversation(
        messages=conversation.messages.followed_by(message),
        digest=digest_of(conversation.digest.encode() + data),
        size=conversation.size + len(data) + sum(map(_weight, _blobs_of(message))),
        blobs=conversation.blobs.union(blob.digest for blob in _blobs_of(message)),
        whole=conversation.whole,
    )


def result_part(part: CallPart, call: Call | None) -> ResultPart:
    """The answer to a call as the model reads it; an open call gets a synthetic one (C4)."""
    ended = call.ended if call else None
    if ended is None:
        return ResultPart(
            provider_id=part.provider_id,
            tool=part.tool,
            content=(TextPart(text=INTERRUPTED),),
            is_error=True,
        )
    return ResultPart(
        provider_id=part.provider_id,
        tool=part.tool,
        content=ended.content,
        is_error=ended.is_error,
    )


def _asked(state: RunState) -> list[CallPart]:
    """The calls of the reply that came last, if nothing was said since."""
    messages = state.conversation.messages
    last = messages[-1].parts if messages else ()
    return [part for part in last if isinstance(part, CallPart)]


def pending_message(state: RunState) -> UserMessage | None:
    """What the model is told next: results in call order, then inputs; None for nothing."""
    parts: list[UserPart] = [
        result_part(part, state.calls.get(call_id(state.step, index)))
        for index, part in enumerate(_asked(state))
    ]
    parts.extend(state.inputs)
    return UserMessage(parts=tuple(parts)) if parts else None


def next_conversation(state: RunState) -> Conversation:
    """The conversation as the next request carries it."""
    message = pending_message(state)
    return state.conversation if message is None else say(state.conversation, message)


def this_request(state: RunState) -> str:
    """The digest of the request of the open generation, rendered anew: what replay compares."""
    return request_digest(state.context, state.conversation.digest)


def _blobs_of(message: Message) -> Iterator[BlobRef]:
    """All content that a message names and does not carry."""
    for part in message.parts:
        for item in part.content if isinstance(part, ResultPart) else (part,):
            match item:
                case TextPart(text=BlobRef() as blob):
                    yield blob
                case FilePart(blob=blob):
                    yield blob
                case ThinkingPart(block=BlobRef() as blob):
                    yield blob
                case CallPart(arguments=BlobRef() as blob):
                    yield blob
                case _:
                    continue


IMAGE_BYTES = 10_000
"""What a picture weighs in a request, in bytes of prompt: 5,000 tokens, above what any provider
takes for one (they scale it down first)."""

PAGES_BYTES_MIN = 20_000


def _weight(blob: BlobRef) -> int:
    """How many bytes of prompt content by digest stands for, at most (C12)."""
    if blob.media_type.startswith("image/"):
        return IMAGE_BYTES
    if blob.media_type.startswith("text/"):
        return blob.size
    return max(PAGES_BYTES_MIN, blob.size)
