"""The port every model provider fills. Not a retry policy: the run retries."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from domain.content import AssistantPart
from domain.limits import Usage
from domain.prompt import ModelRequest

StopReason = Literal["end", "tool_calls", "max_tokens", "refusal"]
"""Why a reply ended: done, asks for tools, cut at the output limit, or refused by the provider."""


@dataclass(frozen=True, slots=True)
class RateSign:
    """What is left of one of a provider's limits. `reset_ms`: from the answer until it is full."""

    remaining: int
    limit: int | None = None
    reset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RateSigns:
    """What a provider says of its rate limits beside an answer; None: not a word about that one."""

    requests: RateSign | None = None
    tokens: RateSign | None = None  # both directions together
    input_tokens: RateSign | None = None
    output_tokens: RateSign | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One whole reply, in the order it was given. `usage` None: the provider did not say (C12)."""

    parts: tuple[AssistantPart, ...]
    stop_reason: StopReason
    usage: Usage | None
    response_id: str = ""
    model: str = ""  # the model that answered, as the provider names it
    limits: RateSigns | None = None  # None: the provider says nothing of its limits


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply in the making: `offset` counts characters of that kind and part."""

    kind: Literal["text", "thinking", "arguments"]
    part: int  # index of the content block in the reply
    offset: int
    text: str
    tool: str = ""  # for `arguments`: the tool being called


FailureKind = Literal[
    "rate_limited",  # 429
    "held_back",  # by our own limits, before any call
    "overloaded",  # 529, 503
    "server",  # other 5xx
    "network",  # connection lost, stream cut before its end
    "timeout",
    "malformed",  # the reply breaks the wire format
    "empty",  # neither text nor calls
    "rejected",  # 400, 413, 422: the same bytes never help (C19)
    "auth",  # 401, 403
    "not_found",  # 404: no such model
    "missing_key",
    "missing_package",  # the provider's part of an SDK is not installed
    "unsupported_parameter",  # found before any call: the provider has no such thing
    "exhausted",  # a script has no more replies
]

RETRYABLE: frozenset[FailureKind] = frozenset(
    {
        "rate_limited",
        "held_back",
        "overloaded",
        "server",
        "network",
        "timeout",
        "malformed",
        "empty",
    }
)


@dataclass(eq=False)
class ModelFailure(Exception):
    """A generation that ended without a reply. `usage` is what is known to be spent."""

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after_ms: int | None = None
    usage: Usage | None = field(default=None)
    limits: RateSigns | None = None

    @property
    def retryable(self) -> bool:
        """Whether another attempt may help."""
        return self.kind in RETRYABLE


class Model(Protocol):
    """A provider. One instance serves many runs at once; `aclose` frees its connections."""

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Make one reply: one request to the provider, and no retries inside.

        A provider that pauses a reply in the middle is asked on; that is still the same reply.

        `on_delta` gets text, thinking and argument pieces in order while they come.

        Raises:
            ModelFailure: there is no reply; says why, and whether to try again.
        """
        ...

    async def aclose(self) -> None:
        """Free what the provider holds; may be called twice."""
        ...
