"""What recorders read from the environment, as the library has it. Not Peritus's own settings.

A variable may have the application's name in front, as `ORDERS_JETSTREAM_URL` for `Orders`: so says
the library.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeVar

from eventsourcing.persistence import InfrastructureFactoryError
from eventsourcing.utils import Environment
from pydantic import Field, SecretStr, ValidationError

from domain.record import Record
from eventlog.jetstream.connection import REQUEST_TIMEOUT_S
from eventlog.jetstream.durability import Durability

S = TypeVar("S", bound=Record)

STORE = "JETSTREAM_"
RUNS = "PERITUS_"
URL = r"^(nats|tls|ws|wss)://\S+$"

Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[float, Field(gt=0, le=300)]
CONNECT_S = 10.0


class StoreSettings(Record):
    """Where a recorder keeps events, by variables `JETSTREAM_...`."""

    url: Annotated[str, Field(pattern=URL)]
    """Address of the server, or of several of one cluster with commas between."""

    token: SecretStr | None = None

    prefix: Token = "eventsourcing"
    """First part of every stream and subject."""

    replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Servers that hold each stream of a cluster, a count; durability `node` wants 3."""

    durability: Durability = "os"
    """What an event survives; checked against the server as for Peritus itself."""

    timeout_s: Seconds = REQUEST_TIMEOUT_S
    """How long an answer is waited for, in seconds."""

    connect_s: Seconds = CONNECT_S
    """How long the first connection may take, in seconds."""

    @classmethod
    def of(cls, env: Environment) -> Self:
        """The settings of an environment.

        Raises:
            InfrastructureFactoryError: a variable is missing or wrong.
        """
        return read_settings(
            cls, env, {name: f"{STORE}{name.upper()}" for name in cls.model_fields}
        )


class RunSettings(Record):
    """Where runs are, by the variables that Peritus itself has: `PERITUS_NATS_URL` and so on."""

    nats_url: Annotated[str, Field(pattern=URL)] | None = None
    """Unset: the embedded server of `state_dir`, which is started if nobody uses it."""

    nats_token: SecretStr | None = None
    prefix: Token = "peritus"

    tenant: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{1,64}|\*)$")] = "default"
    """Whose runs; `*`: everybody's."""

    state_dir: Path = Path(".peritus")
    durability: Durability = "os"

    @classmethod
    def of(cls, env: Environment) -> Self:
        """The settings of an environment.

        Raises:
            InfrastructureFactoryError: a variable is wrong.
        """
        names = {field: f"{RUNS}{field.upper()}" for field in cls.model_fields}
        return read_settings(cls, env, names)


def read_settings(kind: type[S], env: Environment, names: Mapping[str, str]) -> S:
    """Settings by the variables they are read from; what is not set has its default.

    Raises:
        InfrastructureFactoryError: a variable is missing or wrong.
    """
    found = {field: env.get(name) for field, name in names.items()}
    try:
        return kind.model_validate({field: text for field, text in found.items() if text})
    except ValidationError as error:
        wrong = [
            f"{names[str(one['loc'][0])]}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        ]
        msg = f"set these variables for {env.name!r}: {'; '.join(wrong)}"
        raise InfrastructureFactoryError(msg) from None
