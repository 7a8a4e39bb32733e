"""The tables of skills and their keys, each table on its own. Not what they amount to."""

from typing import Annotated, Any, Literal

from pydantic import Field

from peritus.definitions.fields import (
    Description,
    Domains,
    Endpoint,
    JsonSchema,
    Name,
    Names,
    Rule,
    Variables,
)
from peritus.definitions.schema import NotActedOn, Table

_LAZY = NotActedOn("when a server is started is the tool service's own affair")


class BaseSkillTable(Table):
    """`skills."@perstack/base"`: the type may be left out, and no command is needed."""

    type: Literal["mcpStdioSkill"] = "mcpStdioSkill"
    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)
    command: Name | None = None
    package_name: Name | None = None
    args: list[str] | None = None
    required_env: Variables = Field(default_factory=list)
    allowed_domains: Domains = Field(default_factory=list)
    lazy_init: bool | None = None  # the base skill has nothing to start


class SkillManagerTable(Table):
    """`skills."@perstack/skill-manager"`: as the seed starts it, or as what it is here."""

    type: Literal["mcpStdioSkill", "topologySkill"] = "topologySkill"
    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)
    command: Name | None = None
    package_name: Name | None = None
    args: list[str] | None = None
    required_env: Variables = Field(default_factory=list)
    allowed_domains: Domains = Field(default_factory=list)
    lazy_init: bool | None = None  # there is nothing to start


class TopologySkillTable(Table):
    """A skill of type `topologySkill` under any other name."""

    type: Literal["topologySkill"]
    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)


class McpStdioSkillTable(Table):
    """A skill of type `mcpStdioSkill`."""

    type: Literal["mcpStdioSkill"]
    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)
    command: Name
    package_name: Name | None = None
    args: list[str] = Field(default_factory=list)
    required_env: Variables = Field(default_factory=list)
    allowed_domains: Domains = Field(default_factory=list)
    lazy_init: Annotated[Any, _LAZY] = None


class McpSseSkillTable(Table):
    """A skill of type `mcpSseSkill`."""

    type: Literal["mcpSseSkill"]
    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)
    endpoint: Endpoint
    allowed_domains: Domains = Field(default_factory=list)
    lazy_init: Annotated[Any, _LAZY] = None


class InteractiveSkillTable(Table):
    """A skill of type `interactiveSkill`."""

    type: Literal["interactiveSkill"]
    description: Description = ""
    rule: Rule = ""
    tools: dict[str, Any]


class InteractiveToolTable(Table):
    """`skills.NAME.tools.TOOL` of an interactive skill."""

    description: Description = ""
    input_json_schema: JsonSchema


class LocalSkillTable(Table):
    """A skill of type `localSkill`: tools that the embedding program registers by name."""

    type: Literal["localSkill"]
    description: Description = ""
    rule: Rule = ""
    tools: Annotated[Names, Field(min_length=1)]
