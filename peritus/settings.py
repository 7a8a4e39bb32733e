"""What an operator can set, by variables `PERITUS_…`. Not a definition: that holds experts."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.errors import Rejected
from domain.rate import Quota
from domain.sandbox import GIB, MIB
from services.loop.models.providers import PROVIDERS
from services.loop.models.script import nearest
from services.loop.models.scripted import PROVIDER as SCRIPTED

PREFIX = "PERITUS_"

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Port = Annotated[int, Field(ge=0, le=65_535)]
Count = Annotated[int, Field(ge=1, le=100_000)]


def _words(value: object) -> object:
    """`a, b` as a list; anything else is left to be judged."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _table(value: object) -> object:
    """JSON as what it says; anything else is left to be judged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        msg = f'this is not JSON ({error}); write it as {{"anthropic": {{"concurrency": 8}}}}'
        raise ValueError(msg) from None


def _known_providers(quotas: dict[str, Quota]) -> dict[str, Quota]:
    known = [*PROVIDERS, SCRIPTED]
    for name in quotas:
        provider, slash, model = name.partition("/")
        if provider not in known:
            msg = f"no provider {provider!r}{nearest(provider, known)}"
            raise ValueError(msg)
        if slash and not model:
            msg = f"{name!r} names no model; write `provider` or `provider/model`"
            raise ValueError(msg)
    return quotas


QuotaTable = Annotated[
    dict[str, Quota], NoDecode, BeforeValidator(_table), AfterValidator(_known_providers)
]

Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    for one in given:
        if ORIGIN.fullmatch(one) is None:
            msg = f"{one!r} is no origin; write it as https://app.example.com, without a path or *"
            raise ValueError(msg)
    return given


ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")
"""An origin as browsers write it: lower case, no path, and no port that is the usual one."""

Origins = Annotated[Words, AfterValidator(_origins)]


class Settings(BaseSettings):
    """One process's settings. Flags of the command line go above the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    nats_url: str | None = Field(default=None, pattern=r"^(nats|tls|ws|wss)://\S+$")
    """Address of a NATS server to use, as `nats://host:port`; unset: one is embedded."""

    nats_token: SecretStr | None = None
    """Token for that server."""

    prefix: Token = "peritus"
    """First token of every subject: deployments that share a server differ in it."""

    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Servers that hold each stream of a cluster, a count; durability `node` wants 3."""

    tenant: Token = "default"
    """Whose runs these are: one token of every subject."""

    state_dir: Path | None = None
    """Folder of the embedded server and its store; unset: `.peritus` beside the definition file."""

    workspaces_dir: Path | None = None
    """Folder of the workspaces of jobs that were started without one of their own."""

    views_path: Path | None = None
    """SQLite file of the views; unset: `views.sqlite` in the state folder."""

    views_url: SecretStr | None = None
    """Where views are kept instead: `postgresql://user:password@host/db`, or `sqlite:///path`."""

    durability: Literal["process", "os", "node"] = "os"
    """What a stored event survives: the end of the `process`, a crash of the `os`, of a `node`."""

    handoff: bool = True
    """Whether a process hands work to its own executors at once instead of through a queue."""

    generations_max: Count = 256
    """Generations a process makes at once, a count."""

    provider_limits: QuotaTable = Field(default_factory=dict[str, Quota])
    """What all workers together may ask, as JSON by provider or `provider/model`."""

    policy_file: Path | None = None
    """TOML file with `[[policy]]` rules about the calls of every run: which are asked or denied."""

    calls_max: Count = 64
    """Tool calls of one lane a process runs at once, a count."""

    sandbox: Literal["auto", "docker", "bubblewrap", "landlock"] = "auto"
    """What commands run in; `auto`: Docker if it passes its self-test, else bubblewrap."""

    sandbox_image: str | None = None
    """Image of Docker sandboxes, as `name@sha256:digest`; unset: Docker is not used."""

    sandbox_images: Words = ()
    """Further images that definitions may ask for, with commas between them."""

    sandbox_pull: Literal["never", "missing", "always"] = "never"
    """When Docker may fetch an image."""

    sandbox_runtime: str | None = None
    """Runtime of Docker sandboxes, such as `runsc`; unset: the engine's own."""

    sandbox_memory_bytes: Annotated[int, Field(ge=16 * MIB)] = 2 * GIB
    """The most memory of one sandbox, in bytes."""

    sandbox_cpus: Annotated[float, Field(gt=0, le=1024)] = 2.0
    """The most processor time of one sandbox, in processors."""

    sandbox_processes: Annotated[int, Field(ge=8, le=1_000_000)] = 512
    """The most processes of one sandbox at once, a count."""

    sandbox_idle_s: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """How long a sandbox is kept warm without a call, in seconds."""

    sandbox_warm: Annotated[int, Field(ge=0, le=64)] = 0
    """Sandboxes that a worker makes ahead of need, a count."""

    workspace_bytes: Annotated[int, Field(ge=MIB)] = 4 * GIB
    """How large a workspace may grow, in bytes."""

    workspace_files: Annotated[int, Field(ge=10)] = 500_000
    """How many files a workspace may hold, a count."""

    snapshots: bool = True
    """Whether workspaces are stored at every step that may have changed them."""

    egress_domains: Words | None = None
    """The only hosts that definitions may open, with commas; `*.name` is all below it, `*` any."""

    egress_allow_cidrs: Words = ()
    """Private networks that sandboxes may reach, with commas: that of a package index, say."""

    egress_ca_file: Path | None = None
    """Certificates (PEM) to trust beside the system's when the proxy speaks to a host."""

    mcp_allow_cidrs: Words = ()
    """Private networks in which MCP servers may be reached by HTTP, with commas."""

    mcp_deny_cidrs: Words = ()
    """Public networks in which they may not."""

    mcp_domains: Words | None = None
    """The only hosts of MCP servers that definitions may name, with commas; `*.name` too."""

    mcp_proxy: str | None = None
    """The HTTP proxy to reach MCP servers by; that of the environment is not used."""

    packages_fetch: bool = True
    """Whether packages of `npx` and `uvx` are fetched; those that are there are always used."""

    packages_build: bool = False
    """Whether Python packages without a wheel are built, which runs what they say."""

    npm_registry: str = "https://registry.npmjs.org/"
    """Where packages of `npx` are looked up."""

    npm_hosts: Words = ()
    """Hosts that such packages come from, beside the registry's, with commas."""

    pypi_index: str = "https://pypi.org/simple/"
    """Where packages of `uvx` are looked up."""

    pypi_hosts: Words = ("files.pythonhosted.org",)
    """Hosts that such packages come from, beside the index's, with commas."""

    packages_allow_cidrs: Words = ()
    """Private networks that packages may be fetched from, with commas."""

    packages_dir: Path | None = None
    """Folder of fetched packages, which every user may pass; unset: beside the workspaces."""

    packages_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """How long fetching a package with all it needs may take, in seconds."""

    packages_ca_file: Path | None = None
    """Certificates (PEM) to trust when packages are fetched; unset: those of `egress_ca_file`."""

    secret_delivery: Words = ("egress", "file", "env")
    """How tools may be given secrets, with commas; `egress` alone keeps values out of sandboxes."""

    secrets_dir: Path = Path("/run/secrets")
    """Folder with a file for each secret, as containers are handed them."""

    secrets_store: Path | None = None
    """Encrypted file of `peritus secrets`; unset: `secrets.age` in the state folder."""

    secrets_identity: Path | None = None
    """Key file of that store; unset: the user's own, outside the project."""

    secrets_sops: Words = ()
    """Files that sops encrypted for age, with commas: `.json`, `.yaml` or `.env`."""

    secrets_keyring: bool = False
    """Whether secrets are looked for in the desktop's keyring too."""

    prices_file: Path | None = None
    """TOML file of `[prices."provider/model"]` tables that go above what definitions say."""

    include_dirs: Words = ()
    """Folders from which definitions may include files beside their own, with commas."""

    retention_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """How long a job is kept after it came to rest, in days; unset: until somebody deletes it."""

    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long work in flight may take to end when a process is asked to stop, in seconds."""

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """The least severe lines that are logged to standard error."""

    webhook_allow_cidrs: Words = ()
    """Private networks that webhooks may be sent to, with commas, also without TLS."""

    gateway_host: str = "127.0.0.1"
    """Address the gateway listens on."""

    gateway_port: Port = 8080
    """TCP port the gateway listens on; 0: a free one."""

    gateway_mcp: bool = False
    """Whether the gateway is an MCP server too, under `/mcp`."""

    gateway_auth: Literal["key", "none"] = "key"
    """Whether the gateway asks for a credential; `none` is for this machine alone."""

    gateway_token: SecretStr | None = None
    """Bearer token of an administrator; unset: one is made, `gateway.key` in the state folder."""

    gateway_jwt_issuer: str | None = None
    """OpenID Connect issuer whose tokens (JWT) the gateway takes, as `https://…`."""

    gateway_jwt_audience: str | None = None
    """What such a token must be meant for; needed with an issuer."""

    gateway_jwt_tenant_claim: str = "tenant"
    """Claim that names the tenant; it may be a path, as `peritus.tenant`."""

    gateway_jwt_role_claim: str = "role"
    """Claim that names the role, alone or in a list: viewer, operator or admin."""

    gateway_cors_origins: Origins = ()
    """Origins whose pages may ask the gateway, with commas, as `https://app.example.com`."""

    gateway_rate: Annotated[int, Field(ge=0, le=1_000_000)] = 6_000
    """Requests a minute that one caller may make at one gateway; 0: any number."""


def load_settings(**above: object) -> Settings:
    """The settings of this process: what is given, then the environment, then defaults.

    Raises:
        Rejected: `bad_setting`, naming every variable that is wrong.
    """
    given = {name: value for name, value in above.items() if value is not None}
    try:
        return Settings.model_validate(given) if given else Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise Rejected("bad_setting", "\n".join(lines)) from None


M = TypeVar("M", bound=BaseModel)


def checked(kind: type[M], values: Mapping[str, object], names: str) -> M:
    """What a part of the process makes of some settings; `names` begins their variables' names.

    Raises:
        Rejected: `bad_setting`: one of them is wrong.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{names}{str(one['loc'][0]).upper()}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise Rejected("bad_setting", "\n".join(lines)) from None
