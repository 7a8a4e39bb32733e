"""What a client of chat completions sends, as far as it is used. Not what becomes of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.problems import Problem

NAME_CHARS_MAX = 200

WITHOUT_EFFECT = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Parameters of models that clients send by habit: the expert's definition says these."""

PLAIN: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "auto", "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""Parameters that would change what is answered, with the values that change nothing."""


class ChatPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    text: str = ""
    image_url: dict[str, Any] = Field(default_factory=dict[str, Any])


class ChatMessage(BaseModel):
    """A message of the conversation."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[ChatPart] | None = None

    @property
    def text(self) -> str:
        """What it says; its files are told elsewhere."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n\n".join(part.text for part in self.content if part.type == "text")

    @property
    def parts(self) -> list[ChatPart]:
        """Its parts, if it has any."""
        return self.content if isinstance(self.content, list) else []


class StreamOptions(BaseModel):
    """How a stream is told."""

    model_config = ConfigDict(extra="allow", frozen=True)

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A chat completion that is asked for; `model` names an expert."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None

    def check(self) -> None:
        """Refuse what would not be done.

        Raises:
            Problem: something is asked for that experts do not do, or that nobody knows.
        """
        for name, value in (self.model_extra or {}).items():
            if name in WITHOUT_EFFECT:
                continue
            if name not in PLAIN:
                raise Problem(400, "unknown_parameter", "there is no such parameter", param=name)
            if value not in PLAIN[name]:
                detail = f"{name}: experts do not do this; what they do, their definition says"
                raise Problem(400, "unsupported_parameter", detail, param=name)
