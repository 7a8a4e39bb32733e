"""Limits of a run and what it has used: each with a name, a default and a unit. Not prices."""

from typing import Literal

from pydantic import Field

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
    tokens_soft: int | None = None  # a person is asked before more than this is used
    money_max: int | None = None  # micro-USD, over the run and its children; None is no limit
    money_soft: int | None = None  # micro-USD; a person is asked before more than this is spent
    tool_calls_max: int | None = None  # executed calls, over the run and its children
    wall_ms_max: int | None = None  # from the start, or the last continue; only if somebody sets it
    fan_out_max: int = 16  # children of one run that are at work at once; more wait
    rate_limited_attempts_max: int = 100  # of one generation, beside `generation_attempts_max`
    answer_ms_max: int | None = 604_800_000  # how long a question or an approval waits: a week


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


class Price(Record):
    """What a model costs, in micro-USD per million tokens: 3 USD per million is 3,000,000."""

    input: int
    output: int
    cached: int | None = None  # None: as `input`
    cache_written: int | None = None  # None: as `input`
    source: str = ""  # where the figures come from
    as_of: str = ""  # the day they were read there, as YYYY-MM-DD

    def of(self, usage: Usage) -> int:
        """What a usage costs, in micro-USD, rounded up."""
        fresh = max(0, usage.input - usage.cached - usage.cache_written)
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_written is None else self.cache_written
        total = (
            fresh * self.input
            + usage.cached * cached
            + usage.cache_written * written
            + usage.output * self.output
        )
        return -(-total // 1_000_000)

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """What so many tokens cost at most, in micro-USD: every one at its dearest rate."""
        dearest = max(self.input, self.cached or 0, self.cache_written or 0)
        return -(-(input_tokens * dearest + output_tokens * self.output) // 1_000_000)


class Sampling(Record):
    """How a model chooses its words; None and empty: as the provider does by itself."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class ModelChoice(Record):
    """The resolved model and its parameters: pinned before first use."""

    provider: str
    model: str
    reasoning: Reasoning = "low"
    output_tokens_max: int = 16_384
    base_url: str | None = None
    sampling: Sampling = Sampling()
    settings: dict[str, str] = Field(default_factory=dict[str, str])
    """Of the provider, by the definition's names: `region`, `project`."""
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    """Further HTTP headers, sorted by name."""
    price: Price | None = None  # None: nobody knows; a money budget then refuses the model
