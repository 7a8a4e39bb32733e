"""What an operator says about packages of registries. No definition can change it."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from domain.addresses import NetworkText
from domain.record import Record
from services.sandbox.egress.policy import EgressPolicy, EgressSettings, HostName
from services.sandbox.packages.request import Kind


def _registry(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        message = f"{text!r} is no address of a registry; write https://host/path"
        raise ValueError(message)
    return text


Registry = Annotated[str, AfterValidator(_registry)]


class PackageSettings(Record):
    """Where packages come from, and what may be reached to fetch them."""

    fetch: bool = True
    """Whether anything is fetched; what is there is used in any case."""
    npm_registry: Registry = "https://registry.npmjs.org/"
    npm_hosts: tuple[HostName, ...] = ()
    """Hosts beside the registry's that its packages come from."""
    pypi_index: Registry = "https://pypi.org/simple/"
    pypi_hosts: tuple[HostName, ...] = ("files.pythonhosted.org",)
    build: bool = False
    """Whether Python packages without a wheel are built, which runs what they say."""
    allow_cidrs: tuple[NetworkText, ...] = ()
    """Addresses that may be dialled for this although they are not public."""
    ca_file: str | None = None
    """Certificates (PEM) to trust for this beside the system's; None: those of all egress."""
    timeout_s: float = Field(default=300.0, gt=0)

    def registry(self, kind: Kind) -> str:
        """Where packages of a kind are looked up."""
        return self.npm_registry if kind == "npm" else self.pypi_index

    def reach(self, kind: Kind) -> EgressPolicy:
        """What the fetching of a kind may reach."""
        own = urlsplit(self.registry(kind)).hostname or ""
        further = self.npm_hosts if kind == "npm" else self.pypi_hosts
        return EgressPolicy(domains=tuple(sorted({own, *further})))

    def egress(self, egress: EgressSettings) -> EgressSettings:
        """How it is reached: as all else, and what is said here."""
        ports = {urlsplit(url).port for url in (self.npm_registry, self.pypi_index)}
        return egress.model_copy(
            update={
                "ports": (*egress.ports, *(port for port in sorted(filter(None, ports)))),
                "allow_cidrs": (*egress.allow_cidrs, *self.allow_cidrs),
                "extra_ca_file": self.ca_file or egress.extra_ca_file,
                "secrets": None,
            }
        )
