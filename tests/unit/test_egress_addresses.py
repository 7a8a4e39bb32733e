"""Which addresses a name may lead to (C16): public ones, and no way around that."""

import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress

import pytest

from domain.addresses import Guard, is_public, networks
from services.network.own import is_own

SIOCGIFADDR = 0x8915

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_is_not_public_is_not_dialled(text: str) -> None:
    assert not Guard(is_own).admits(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "151.101.0.223", "2606:4700::1111", "2a04:4e42::223"])
def test_what_is_public_is(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert Guard(is_own).admits(ipaddress.ip_address(text))


def test_an_operator_allows_what_is_private() -> None:
    guard = Guard(is_own, networks(("10.1.0.0/16", "127.0.0.0/8", "fc00::/7")))
    for text in ("10.1.2.3", "127.0.0.1", "fc00::1"):
        assert guard.admits(ipaddress.ip_address(text))
    for text in ("10.2.0.1", "::ffff:10.1.2.3", "::1"):
        assert not guard.admits(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "::"],
)
def test_nobody_allows_metadata(text: str) -> None:
    guard = Guard(is_own, networks(("0.0.0.0/0", "::/0")))
    assert not guard.admits(ipaddress.ip_address(text))


def test_an_operator_denies_what_is_public() -> None:
    guard = Guard(is_own, networks(("8.0.0.0/8",)), networks(("8.8.8.8/32",)))
    assert not guard.admits(ipaddress.ip_address("8.8.8.8"))
    assert guard.admits(ipaddress.ip_address("8.8.4.4"))


def test_an_address_of_this_machine_is_its_own() -> None:
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("8.8.8.8"))
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            asked = struct.pack("256s", name.encode())
            found = fcntl.ioctl(probe, SIOCGIFADDR, asked)[20:24]
            assert is_own(ipaddress.ip_address(found))
