"""Limits of a run and what it has used: each with a name, a default and a unit. Not prices."""

from typing import Literal

from domain.record import Record

Reasoning = Literal["none", "minimal", "low", "medium", "high"] | int
"""How much a model may think: a named level, or tokens."""


class Limits(Record):
    """What a run may use; pinned at its start, carved out of the parent's remainder for a child."""

    steps_max: int = 100
    generation_attempts_max: int = 6  # one call and five retries
    call_attempts_max: int = 5
    conflicts_max: int = 50
    calls_per_step_max: int = 64
    depth_max: int = 8
    generation_timeout_ms: int = 300_000
    call_timeout_ms: int = 600_000
    cancel_grace_ms: int = 1_000
    retry_base_ms: int = 1_000
    retry_max_ms: int = 60_000
    tokens_max: int | None = None  # over the run and its children; None is no limit


class Usage(Record):
    """Tokens of one or more generations. `input` counts cached and cache-written tokens too."""

    input: int = 0
    output: int = 0
    reasoning: int = 0  # part of `output`
    cached: int = 0  # part of `input`, read from the provider's cache
    cache_written: int = 0  # part of `input`, written to the provider's cache

    def plus(self, other: "Usage") -> "Usage":
        """The sum of two usages."""
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            reasoning=self.reasoning + other.reasoning,
            cached=self.cached + other.cached,
            cache_written=self.cache_written + other.cache_written,
        )

    @property
    def tokens(self) -> int:
        """What counts against a token budget."""
        return self.input + self.output


class ModelChoice(Record):
    """The resolved model and its parameters: pinned before first use."""

    provider: str
    model: str
    reasoning: Reasoning = "low"
    output_tokens_max: int = 16_384
    base_url: str | None = None
