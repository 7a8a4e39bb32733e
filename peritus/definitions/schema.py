"""The tables of `perstack.toml` and their keys, each table on its own. Not what they amount to."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.policy import ANY, Verdict
from domain.sandbox import Delivery
from peritus.definitions.amounts import Duration, DurationOrNone, Usd
from peritus.definitions.fields import (
    ITEMS_MAX,
    Count,
    CountOrZero,
    Cpus,
    Day,
    Description,
    Domains,
    Headers,
    Image,
    Instruction,
    Label,
    Memory,
    Name,
    Names,
    Pattern,
    ReasoningBudget,
    Seed,
    Size,
    Stop,
    Tags,
    Temperature,
    TopP,
    Version,
    Word,
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


class ModelKeys(Table):
    """How a model is to work: keys of the file, of an expert and of a fallback."""

    model: Name | None = None
    reasoning_budget: ReasoningBudget | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Count | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    max_output_tokens: Count | None = None


class FileTable(ModelKeys):
    """The top of the file. Nested tables are read one by one, so that each reports for itself."""

    max_steps: Count | None = None
    max_retries: CountOrZero | None = None
    timeout: Count | None = None  # ms per generation
    env_path: Names | None = None
    provider: Any = None  # a table, or the name of one in `providers`
    providers: dict[str, Any] = Field(default_factory=dict)
    fallbacks: Any = None
    limits: dict[str, Any] | None = None
    policy: Any = None
    prices: dict[str, Any] = Field(default_factory=dict)
    variables: dict[str, Any] = Field(default_factory=dict)
    include: Any = None  # acted on while files are read
    experts: dict[str, Any] = Field(default_factory=dict)
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


class NamedProviderTable(Table):
    """`[providers.NAME]`; NAME is the provider's own where no other is given."""

    provider_name: Name | None = None
    model: Name | None = None
    setting: dict[str, Any] | None = None


class ProviderSettingTable(Table):
    """`[provider.setting]`: every key that some provider takes.

    What becomes a part of an address must not be able to lead to another host.
    """

    base_url: Name | None = None
    headers: Headers | None = None
    organization: Word | None = None
    project: Word | None = None
    name: Name | None = None
    resource_name: Label | None = None
    api_version: Word | None = None
    use_deployment_based_urls: bool | None = None
    region: Label | None = None
    location: Label | None = None


class FallbackTable(ModelKeys):
    """A fallback that is written as a table."""

    provider: Name | None = None


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
    tokens_soft: Count | None = None
    money_max: Usd | None = Field(default=None, alias="budget")
    money_soft: Usd | None = Field(default=None, alias="budgetSoft")
    tool_calls_max: CountOrZero | None = None
    wall_ms_max: Duration | None = Field(default=None, alias="wallTime")
    fan_out_max: Count | None = None
    rate_limited_attempts_max: Count | None = None
    answer_ms_max: DurationOrNone = Field(default=None, alias="answerTime")


class PriceTable(Table):
    """`[prices."provider/model"]`, in US dollars per million tokens."""

    input: Usd
    output: Usd
    cached: Usd | None = None
    cache_write: Usd | None = None
    source: Description = ""
    as_of: Day = ""


class VariableTable(Table):
    """`[variables.NAME]`, where a variable is more than a default value."""

    default: str | None = None
    required: bool = False
    description: Description = ""


class PolicyTable(Table):
    """`[[policy]]`."""

    verdict: Verdict
    expert: Pattern = ANY
    skill: Pattern = ANY
    tool: Pattern = ANY
    arguments: dict[str, Any] = Field(default_factory=dict)
    reason: Description = ""


class ExpertPolicyTable(Table):
    """`[[experts.KEY.policy]]`: it is about that expert alone."""

    verdict: Verdict
    skill: Pattern = ANY
    tool: Pattern = ANY
    arguments: dict[str, Any] = Field(default_factory=dict)
    reason: Description = ""


class BuiltinProviderSkillTable(Table):
    """One of `providerSkills`: a skill that the provider has."""

    type: Literal["builtin"]
    skill_id: Name


class CustomProviderSkillTable(Table):
    """One of `providerSkills`: a skill that the definition brings."""

    type: Literal["custom"]
    name: Name
    definition: Instruction


class ExpertTable(ModelKeys):
    """`[experts.KEY]`."""

    version: Version = "1.0.0"
    min_runtime_version: Name | None = None
    description: Description = ""
    instruction: Instruction
    delegates: Names = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)
    default_model_tier: Tier | None = None
    provider: Name | None = None
    fallbacks: Any = None
    input: Any = None
    output: Any = None
    policy: Any = None
    provider_tools: Names = Field(default_factory=list)
    provider_skills: list[Any] = Field(default_factory=list, max_length=ITEMS_MAX)
    provider_tool_options: dict[str, Any] = Field(default_factory=dict)
    skills: dict[str, Any] | None = None
    sandbox: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None


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
