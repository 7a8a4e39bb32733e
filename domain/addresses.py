"""Which addresses may be dialled: public ones, and what an operator allows. Not names; pure."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local, and nearly everybody's metadata service
        "100.100.100.200/32",  # Alibaba's
        "168.63.129.16/32",  # Azure's
        "192.0.0.192/32",  # Oracle's
        "fd00:ec2::/32",  # Amazon's
        "fe80::/10",
        "0.0.0.0/8",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "ff00::/8",
        "::/128",
    )
)
"""What nobody can allow: it would hand out the machine's own identity, or is no host."""

PUBLIC_V6 = ipaddress.ip_network("2000::/3")
WRAPPED = tuple(ipaddress.ip_network(text) for text in ("2001::/32", "2002::/16"))
"""IPv6 addresses that hold an IPv4 address (Teredo, 6to4); others lie outside PUBLIC_V6."""


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


NetworkText = Annotated[str, AfterValidator(_network)]
"""A network as a setting spells it: `10.1.0.0/16`, or one address."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks as settings spell them."""
    return tuple(ipaddress.ip_network(text) for text in texts)


@dataclass(frozen=True, slots=True)
class Guard:
    """Says which addresses may be dialled. `is_own`: whether one is of this machine."""

    is_own: Callable[[Address], bool]
    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def admits(self, address: Address) -> bool:
        """Whether it may be dialled."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            return False
        if _within(address, NEVER) or _within(address, self.denied):
            return False
        if self.is_exception(address):
            return True
        return is_public(address) and not self.is_own(address)

    def is_exception(self, address: Address) -> bool:
        """Whether an operator allowed it by name: a network of theirs."""
        return _within(address, self.allowed)


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, and no other address in disguise."""
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in PUBLIC_V6 or _within(address, WRAPPED)
    ):
        return False
    return address.is_global and not address.is_reserved and not address.is_multicast


def _within(address: Address, among: Sequence[Network]) -> bool:
    return any(address in network for network in among)
