"""Which addresses are this machine's own. Not whether one may be dialled."""

import ipaddress
import socket

from domain.addresses import Address


def is_own(address: Address) -> bool:
    """Whether it is an address of this machine: then it would send from there. Sends nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # there is no way to it: dialling it will say so
