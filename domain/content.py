"""What people, models and tools say: texts, files, parts of messages. Not a provider's spelling."""

from typing import Annotated, Literal

from pydantic import Discriminator

from domain.record import Clean, Record


class BlobRef(Record):
    """Content kept outside the log, by its digest (SHA-256, lower-case hex); `size` in bytes."""

    digest: str
    size: int
    media_type: str = "text/plain"


Text = Clean | BlobRef
"""A text: inline, or by digest when the log would grow too large with it."""


class TextPart(Record):
    """Something readable."""

    kind: Literal["text"] = "text"
    text: Text


class FilePart(Record):
    """An image or a document, always by digest."""

    kind: Literal["file"] = "file"
    blob: BlobRef
    name: Clean = ""


class ThinkingPart(Record):
    """A provider's own block, kept byte-exact and sent back unedited or not at all (C19).

    Thoughts, and what only the provider can read again: calls of its own tools and what they found,
    texts with citations, signatures, the id of a container. `block` is the JSON text of the block;
    `provider` says who made it: the wire format (`anthropic`, `openai-responses`, `openai-chat`),
    the provider and its model. Nobody else ever gets to see it.
    """

    kind: Literal["thinking"] = "thinking"
    provider: str
    block: Text


class CallPart(Record):
    """A tool call as the model asked for it: `arguments` is the JSON text, valid or not."""

    kind: Literal["call"] = "call"
    provider_id: Clean
    tool: Clean
    arguments: Text


class ResultPart(Record):
    """The answer to a tool call, as the model is to read it."""

    kind: Literal["result"] = "result"
    provider_id: str
    tool: str
    content: tuple["ContentPart", ...]
    is_error: bool = False


ContentPart = Annotated[TextPart | FilePart, Discriminator("kind")]
"""What a person or a tool can hand over."""

AssistantPart = Annotated[TextPart | ThinkingPart | CallPart, Discriminator("kind")]
"""What a model can reply, in the order it replied."""

UserPart = Annotated[TextPart | FilePart | ResultPart, Discriminator("kind")]
"""What a model can be told."""

ResultPart.model_rebuild()


class UserMessage(Record):
    """Told to the model: tool results first, in call order, then what people say."""

    role: Literal["user"] = "user"
    parts: tuple[UserPart, ...]


class AssistantMessage(Record):
    """Said by the model."""

    role: Literal["assistant"] = "assistant"
    parts: tuple[AssistantPart, ...]


Message = Annotated[UserMessage | AssistantMessage, Discriminator("role")]


def text_of(parts: tuple[ContentPart, ...] | tuple[AssistantPart, ...]) -> str:
    """The inline text of some parts, joined; parts by digest are named, not read."""
    return "".join(
        part.text if isinstance(part.text, str) else f"[{part.text.size} bytes: {part.text.digest}]"
        for part in parts
        if isinstance(part, TextPart)
    )
