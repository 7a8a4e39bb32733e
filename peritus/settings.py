"""What an operator can set, by variables `PERITUS_…`. Not a definition: that holds experts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.errors import Rejected

PREFIX = "PERITUS_"

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Port = Annotated[int, Field(ge=0, le=65_535)]
Count = Annotated[int, Field(ge=1, le=100_000)]


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

    durability: Literal["process", "os", "node"] = "os"
    """What a stored event survives: the end of the `process`, a crash of the `os`, of a `node`."""

    handoff: bool = True
    """Whether a process hands work to its own executors at once instead of through a queue."""

    generations_max: Count = 256
    """Generations a process makes at once, a count."""

    calls_max: Count = 64
    """Tool calls of one lane a process runs at once, a count."""

    drain_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long work in flight may take to end when a process is asked to stop, in seconds."""

    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """The least severe lines that are logged to standard error."""

    gateway_host: str = "127.0.0.1"
    """Address the gateway listens on."""

    gateway_port: Port = 8080
    """TCP port the gateway listens on; 0: a free one."""

    gateway_token: SecretStr | None = None
    """Bearer token that requests to the gateway must carry; needed beyond this machine."""


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
