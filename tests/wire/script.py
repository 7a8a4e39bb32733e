"""What a wire server is told to answer, in no provider's words. Not what it received."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Call:
    """A tool call; `arguments` is the text the model writes, valid or not."""

    tool: str
    arguments: str = "{}"
    id: str | None = None  # None: the server makes one; "" is sent as it is


@dataclass(frozen=True)
class ProviderCall:
    """A call of a tool that runs at the provider, and what it found."""

    tool: Literal["search", "fetch", "code", "files", "image"]
    asked: str = "what"
    found: str = "this"


@dataclass(frozen=True)
class Reply:
    """A reply and what goes wrong while it is sent."""

    text: str = ""
    thinking: str = ""
    redacted: str = ""  # thinking that may not be read
    provider: tuple[ProviderCall, ...] = ()  # after the thinking, before the text
    cited: bool = False  # the text cites what the provider's tools found
    phase: str = ""  # of the text, where a provider has such a thing
    calls: tuple[Call, ...] = ()
    stop: str = ""  # "", "max_tokens", "refusal"
    paused: bool = False  # before the last of the provider's tools has found anything
    refusal: str = ""
    usage: bool = True
    cached: int = 0
    written: int = 0
    cut_after: int | None = None  # frames sent before the connection is cut
    stall_after: int | None = None  # frames sent before nothing more comes
    break_at: int | None = None  # the frame whose JSON is broken
    error_at: int | None = None  # the frame sent as an error event
    error: str = "overloaded_error"
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Refusal:
    """An answer that is an error."""

    status: int
    type: str = "api_error"
    message: str = "as the test wants it"
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


Answer = Reply | Refusal
