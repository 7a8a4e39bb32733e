"""The tables of `perstack.toml` and their keys, each table on its own. Not what they amount to."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.sandbox import Delivery
from peritus.definitions.fields import (
    Count,
    CountOrZero,
    Cpus,
    Description,
    Domains,
    Endpoint,
    Image,
    Instruction,
    JsonSchema,
    Memory,
    Name,
    Names,
    ReasoningBudget,
    Rule,
    Size,
    Tags,
    Variables,
    Version,
)
from peritus.definitions.providers import Tier


class NotActedOn(NamedTuple):
    """Marks a key that is accepted and does nothing; `instead` says what happens."""

    instead: str


class Table(BaseModel):
    """One TOML table: camelCase keys, no conversions, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True, validate_by_name=False
    )


class FileTable(Table):
    """The top of the file. Nested tables are read one by one, so that each reports for itself."""

    model: Name | None = None
    reasoning_budget: ReasoningBudget | None = None
    max_steps: Count | None = None
    max_retries: CountOrZero | None = None
    timeout: Count | None = None  # ms per generation
    env_path: Names | None = None
    provider: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None
    experts: dict[str, Any] = Field(default_factory=dict)
    temperature: Annotated[Any, NotActedOn("models run with their provider's own temperature")] = (
        None
    )
    runtime: Annotated[Any, NotActedOn("every expert runs in the runtime that reads this file")] = (
        None
    )
    perstack_api_base_url: Annotated[
        Any, NotActedOn("there is no registry: every expert has to be in this file")
    ] = None
    perstack_base_skill_command: Annotated[
        Any, NotActedOn("the base skill is built in, and no command is started for it")
    ] = None


class ProviderTable(Table):
    """`[provider]`."""

    provider_name: Name
    setting: dict[str, Any] | None = None
    env_path: Annotated[
        Any,
        NotActedOn("it belongs to the top of the file, before the first [table]"),
    ] = None  # TOML gives a top-level key written after `[provider]` to the table


class ProviderSettingTable(Table):
    """`[provider.setting]`: every key that some provider takes."""

    base_url: Name | None = None
    headers: Annotated[Any, NotActedOn("no extra headers are sent")] = None
    organization: Annotated[
        Any, NotActedOn("requests go to the default organization of the key")
    ] = None
    project: Annotated[Any, NotActedOn("requests go to the default project of the key")] = None
    name: Annotated[Any, NotActedOn("the provider keeps its own name")] = None


class LimitsTable(Table):
    """`[limits]`: the fields of `domain.limits.Limits`."""

    steps_max: Count | None = None
    generation_attempts_max: Count | None = None
    call_attempts_max: Count | None = None
    conflicts_max: Count | None = None
    calls_per_step_max: Count | None = None
    depth_max: CountOrZero | None = None
    generation_timeout_ms: Count | None = None
    call_timeout_ms: Count | None = None
    cancel_grace_ms: CountOrZero | None = None
    retry_base_ms: CountOrZero | None = None
    retry_max_ms: CountOrZero | None = None
    tokens_max: Count | None = None


class ExpertTable(Table):
    """`[experts.KEY]`."""

    version: Version = "1.0.0"
    description: Description = ""
    instruction: Instruction
    delegates: Names = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)
    default_model_tier: Tier | None = None
    provider: Name | None = None
    model: Name | None = None
    reasoning_budget: ReasoningBudget | None = None
    skills: dict[str, Any] | None = None
    sandbox: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None
    min_runtime_version: Annotated[
        Any, NotActedOn("versions of that runtime mean nothing here, and none is compared")
    ] = None
    provider_tools: Annotated[
        Any, NotActedOn("tools that a provider runs itself are not offered to the model")
    ] = None
    provider_skills: Annotated[
        Any, NotActedOn("skills that a provider runs itself are not offered to the model")
    ] = None
    provider_tool_options: Annotated[
        Any,
        NotActedOn("tools that a provider runs itself are not offered to the model"),
    ] = None


class SandboxTable(Table):
    """`[experts.KEY.sandbox]`; a limit left out is the operator's."""

    memory: Memory | None = None
    cpus: Cpus | None = None
    processes: Count | None = None
    open_files: Count | None = None
    file_size: Size | None = None
    tmp_size: Size | None = None
    workspace_size: Size | None = None
    workspace_files: Count | None = None
    image: Image | None = None
    read_only: bool = False
    workspace: Literal["shared", "isolated"] = "shared"
    allowed_domains: Domains = Field(default_factory=list)
    egress_bytes: Size | None = None
    egress_rate: Size | None = None  # bytes per second


class SecretTable(Table):
    """`[experts.KEY.secrets.NAME]`: the safest delivery unless the file says otherwise."""

    deliver: Delivery = "egress"
    hosts: Domains = Field(default_factory=list)


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


AnySkillTable = (
    BaseSkillTable | McpStdioSkillTable | McpSseSkillTable | InteractiveSkillTable | LocalSkillTable
)
