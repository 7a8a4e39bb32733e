"""The tables of skills and their keys, each table on its own. Not what they amount to."""

from typing import Annotated, Any, Literal

from pydantic import Field

from peritus.definitions.fields import (
    ITEMS_MAX,
    Count,
    Description,
    Domains,
    Endpoint,
    Headers,
    JsonSchema,
    Name,
    Names,
    Rule,
    Variables,
)
from peritus.definitions.schema import NotActedOn, Table

_LAZY = NotActedOn("a server is started when one of its tools is first called")


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


class McpTable(Table):
    """What skills of MCP servers have in common, whatever carries the protocol."""

    description: Description = ""
    rule: Rule = ""
    pick: Names = Field(default_factory=list)
    omit: Names = Field(default_factory=list)
    allowed_domains: Domains = Field(default_factory=list)
    lazy_init: Annotated[Any, _LAZY] = None
    timeout: Count | None = None  # ms of each call
    shared: bool = False
    sampling: Literal["deny", "allow"] = "deny"
    tools: Any = None  # read one by one


class McpStdioSkillTable(McpTable):
    """A skill of type `mcpStdioSkill`."""

    type: Literal["mcpStdioSkill"]
    command: Name
    package_name: Name | None = None
    args: list[str] = Field(default_factory=list)
    required_env: Variables = Field(default_factory=list)
    env: Annotated[dict[str, str], Field(max_length=ITEMS_MAX)] = Field(default_factory=dict)


class McpHttpSkillTable(McpTable):
    """A skill of type `mcpHttpSkill`, or `mcpSseSkill` for servers of the older transport."""

    type: Literal["mcpHttpSkill", "mcpSseSkill"]
    endpoint: Endpoint
    headers: Headers = Field(default_factory=dict)
    oauth: Any = None


class OAuthTable(Table):
    """`skills.NAME.oauth`: how a token is got."""

    grant: Literal["client_credentials", "authorization_code"]
    client_id: Name | None = None
    client_secret: Name | None = None  # the name of a secret
    issuer: Endpoint | None = None
    scopes: Names = Field(default_factory=list)


class McpToolTable(Table):
    """`skills.NAME.tools.TOOL` of an MCP skill: what holds, whatever its server says of it."""

    timeout: Count | None = None  # ms of each call
    read_only: bool | None = None
    idempotent: bool | None = None


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
