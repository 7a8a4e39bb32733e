"""The resolved set of experts a job runs with, pinned by digest. Not the TOML file it came from."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field

from domain.errors import Rejected
from domain.limits import Limits, ModelChoice
from domain.mcp import OAuth, ServerUse
from domain.policy import PolicyRule
from domain.provider_tools import ProviderSkill, ProviderTool
from domain.record import Record, canonical, digest_of
from domain.sandbox import SandboxSettings, SecretGrant

BASE_SKILL = "@perstack/base"
"""The skill name under which definitions ask for the base tools."""


class BaseSkill(Record):
    """The built-in files, exec, todo and completion tools."""

    kind: Literal["base"] = "base"
    rule: str = ""
    pick: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    required_env: tuple[str, ...] = ()


class McpStdioSkill(ServerUse):
    """An MCP server started as a process in the sandbox."""

    kind: Literal["mcp_stdio"] = "mcp_stdio"
    command: str
    args: tuple[str, ...] = ()
    required_env: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict[str, str])
    """Further variables, none of them a secret; sorted by name."""


class McpHttpSkill(ServerUse):
    """An MCP server reached by HTTP.

    In the values of `headers`, `${NAME}` stands for the secret of that name.
    """

    kind: Literal["mcp_http"] = "mcp_http"
    endpoint: str
    transport: Literal["streamable_http", "sse"] = "streamable_http"
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    oauth: OAuth | None = None


class InteractiveTool(Record):
    """A question to a person: its JSON schema is the shape of the tool's input."""

    description: str = ""
    parameters: dict[str, Any]


class InteractiveSkill(Record):
    """Tools that people answer."""

    kind: Literal["interactive"] = "interactive"
    description: str = ""
    rule: str = ""
    tools: dict[str, InteractiveTool]


class LocalSkill(Record):
    """Tools that the embedding program registered with the tool service by name."""

    kind: Literal["local"] = "local"
    rule: str = ""
    tools: tuple[str, ...]


class TopologySkill(Record):
    """Tools with which an expert changes its own team while it works."""

    kind: Literal["topology"] = "topology"
    rule: str = ""
    pick: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()


Skill = Annotated[
    BaseSkill | McpStdioSkill | McpHttpSkill | InteractiveSkill | LocalSkill | TopologySkill,
    Discriminator("kind"),
]


class Expert(Record):
    """One micro-agent's definition, resolved: nothing in it depends on a file or environment."""

    key: str
    version: str = "1.0.0"
    description: str = ""
    instruction: str
    delegates: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skills: dict[str, Skill]
    model: ModelChoice
    sandbox: SandboxSettings = SandboxSettings()
    fallbacks: tuple[ModelChoice, ...] = ()
    """Models to go on with, in this order, when one does not answer any more."""
    provider_tools: tuple[ProviderTool, ...] = ()
    provider_skills: tuple[ProviderSkill, ...] = ()
    input_schema: dict[str, Any] | None = None
    """The JSON schema of its task, an object; None: a text."""
    output_schema: dict[str, Any] | None = None
    """The JSON schema of its result, which is then data; None: a text."""
    policy: tuple[PolicyRule, ...] = ()
    """Rules about its calls, beside those of the definition."""
    origin: Literal["", "config"] = ""
    """`config`: a model wrote it into a file of the workspace, while the job ran."""


class Definition(Record):
    """Every expert a job can reach, sorted by key, and the limits it starts with."""

    format: Literal[1] = 1
    experts: dict[str, Expert]
    limits: Limits = Limits()
    policy: tuple[PolicyRule, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict[str, str])
    """What was put into the instructions, by name: they hold the values already."""

    def expert(self, key: str) -> Expert:
        """The expert of that key.

        Raises:
            Rejected: there is none; the message lists those there are.
        """
        found = self.experts.get(key)
        if found is None:
            known = ", ".join(sorted(self.experts)) or "none"
            raise Rejected("unknown_expert", f"no expert {key!r} is defined; there are: {known}")
        return found

    def to_bytes(self) -> bytes:
        """The canonical bytes that are stored as a blob."""
        return canonical(self)

    def digest(self) -> str:
        """The content address a run pins."""
        return digest_of(self.to_bytes())


def delegate_tool_name(expert: str) -> str:
    """The tool name of a delegate: the last path segment of its key, without version or tag."""
    return expert.rsplit("/", 1)[-1].split("@", 1)[0] or expert


def sandbox_of(expert: Expert) -> SandboxSettings:
    """The sandbox of an expert, with what its base skill asks for.

    The skill's domains are allowed too, and the variables it requires are secrets by that name,
    put into the environment unless the expert says another way.
    """
    base = expert.skills.get(BASE_SKILL)
    if not isinstance(base, BaseSkill):
        return expert.sandbox
    own = expert.sandbox
    granted = {grant.name for grant in own.secrets}
    domains = (domain.lower() for domain in (*own.allowed_domains, *base.allowed_domains))
    required = (name for name in dict.fromkeys(base.required_env) if name not in granted)
    return own.model_copy(
        update={
            "allowed_domains": tuple(dict.fromkeys(domains)),
            "secrets": (*own.secrets, *(SecretGrant(name=name) for name in required)),
        }
    )
