"""What a model's provider runs or loads by itself: its tools and skills. Not how it is asked."""

from typing import Any, Literal

from pydantic import Field

from domain.record import Record


class ProviderTool(Record):
    """A tool that the model's provider runs by itself, as the definition names it: `webSearch`."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict[str, Any])  # as in `providerToolOptions`


class ProviderSkill(Record):
    """A skill that the provider loads: one of its own by id, or a custom one by definition."""

    kind: Literal["builtin", "custom"]
    name: str  # the provider's id, or the custom skill's name
    definition: str = ""
