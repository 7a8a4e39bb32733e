"""What may go out of a sandbox, and what an operator allows the proxy. Not how it is enforced."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from domain.addresses import NetworkText
from domain.record import Record
from domain.sandbox import GIB, MIB, SandboxSettings, SecretGrant, covers
from services.sandbox.egress.names import clean_host
from services.sandbox.egress.refusals import Refused
from services.secrets.config import SecretsConfig


def _pattern(text: str) -> str:
    """A name or `*.` and a name, as it is compared: lower case, ASCII."""
    prefix, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        return prefix + clean_host(name if name.isascii() else name.encode("idna").decode())
    except (Refused, UnicodeError) as error:
        message = f"{text!r} is not the name of a host, nor '*.' and such a name"
        raise ValueError(message) from error


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _host(text: str) -> str:
    pattern = _pattern(text)
    if pattern.startswith("*."):
        message = f"{text!r} is not the name of one host"
        raise ValueError(message)
    return pattern


HostName = Annotated[str, AfterValidator(_host)]
AddressText = Annotated[str, AfterValidator(_address)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Port = Annotated[int, Field(ge=1, le=65535)]


class EgressPolicy(Record):
    """What one sandbox may reach, and how much. Comes from a definition, within what is allowed.

    Secrets are those delivered at egress; a host that is not among the domains gets none.
    """

    domains: tuple[Pattern, ...] = ()
    secrets: tuple[SecretGrant, ...] = ()
    bytes_max: int = Field(default=GIB, ge=0)  # both ways, over the life of a sandbox
    bytes_per_s: int = Field(default=32 * MIB, ge=1)  # both ways

    @classmethod
    def of(cls, settings: SandboxSettings, domains: tuple[str, ...] = ()) -> "EgressPolicy":
        """The policy of an expert: its settings, and the domains its skill asks for.

        Raises:
            ValueError: a domain is none.
        """
        return cls(
            domains=tuple(sorted({*settings.allowed_domains, *domains})),
            secrets=tuple(grant for grant in settings.secrets if grant.deliver == "egress"),
            bytes_max=settings.egress_bytes_max,
            bytes_per_s=settings.egress_bytes_per_s,
        )

    def allows(self, host: str) -> bool:
        """Whether a cleaned name may be reached."""
        return any(covers(pattern, host) for pattern in self.domains)


class EgressSettings(Record):
    """What the operator says about all egress of a worker. No definition can change it."""

    ports: tuple[Port, ...] = (443, 80)
    allow_cidrs: tuple[NetworkText, ...] = ()
    """Addresses that may be dialled although they are not public: a private package index."""
    deny_cidrs: tuple[NetworkText, ...] = ()
    """Public addresses that may not be dialled: this machine's own, as others see it."""
    hosts: dict[HostName, AddressText] = Field(default_factory=dict[str, str])
    """Names with a fixed address, instead of what the resolver says. It is checked like others."""
    extra_ca_file: str | None = None
    """Certificates (PEM) to trust beside the system's: of a private package index."""
    secrets: SecretsConfig | None = None
    """Where values of secrets are; the proxy process looks there itself. None: there are none."""

    connections_max: int = Field(default=64, ge=1)  # at once, of one sandbox
    head_s: float = 20.0  # for a whole request head or ClientHello, and between two requests
    dial_s: float = 10.0  # to resolve a name; and again to connect, TLS included
    idle_s: float = 300.0  # without one byte in either direction
