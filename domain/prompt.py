"""A request to a model as a pure function of the log (rule 13). Not a provider's spelling of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.content import BlobRef, Message, Text
from domain.limits import ModelChoice
from domain.provider_tools import ProviderSkill, ProviderTool
from domain.record import Record, digest_of
from domain.tools import ToolSpec

RENDERER = "peritus-1"
"""The version of all that turns a log into a request; a run keeps the one it started with."""

EMPTY_CONVERSATION = digest_of(b"")


class SystemBlock(Record):
    """One system text; `name` says what it is for."""

    name: str
    text: str


class ModelContext(Record):
    """What stays the same over all generations of a run: stored as one blob, pinned by digest."""

    renderer: str
    model: ModelChoice
    system: tuple[SystemBlock, ...]
    tools: tuple[ToolSpec, ...]  # sorted by name
    provider_tools: tuple[ProviderTool, ...] = ()
    provider_skills: tuple[ProviderSkill, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a provider is asked. `blobs` holds the content of every blob the messages name."""

    context: ModelContext
    messages: Sequence[Message]
    digest: str
    blobs: Mapping[str, bytes]

    def text(self, text: Text) -> str:
        """The full text, whether it is inline or by digest."""
        if isinstance(text, BlobRef):
            return self.blobs[text.digest].decode("utf-8", errors="replace")
        return text


def request_digest(context_digest: str, conversation: str) -> str:
    """The identity of a request: its pinned context and the conversation so far.

    A rolling digest, so that the thousandth step costs what the tenth does (C1).
    """
    return digest_of(f"{context_digest}\x00{conversation}".encode())
