"""Encryption by age, through the library `pyrage`, on plain texts and bytes. No files."""

import importlib
from types import ModuleType
from typing import NamedTuple


class Unreadable(Exception):
    """Some bytes are not encrypted for that identity, or are damaged; or it is no identity."""


class AgeKey(NamedTuple):
    """An identity, which decrypts, and the recipient that belongs to it, which encrypts."""

    identity: str
    recipient: str

    def __repr__(self) -> str:
        return f"AgeKey({self.recipient})"


def new_key() -> AgeKey:
    """A key pair that nobody else has."""
    made = _pyrage().x25519.Identity.generate()
    return AgeKey(str(made), str(made.to_public()))


def key_of(identity: str) -> AgeKey:
    """The key pair of an identity.

    Raises:
        Unreadable: it is none.
    """
    pyrage = _pyrage()
    try:
        found = pyrage.x25519.Identity.from_str(identity)
    except pyrage.IdentityError:
        raise Unreadable from None
    return AgeKey(str(found), str(found.to_public()))


def encrypt(data: bytes, key: AgeKey) -> bytes:
    """Some bytes for the holder of a key."""
    pyrage = _pyrage()
    found: bytes = pyrage.encrypt(data, [pyrage.x25519.Recipient.from_str(key.recipient)])
    return found


def decrypt(data: bytes, key: AgeKey) -> bytes:
    """What was encrypted for the holder of a key.

    Raises:
        Unreadable: it was not, or is damaged.
    """
    pyrage = _pyrage()
    try:
        found: bytes = pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(key.identity)])
    except pyrage.DecryptError:
        raise Unreadable from None
    return found


def _pyrage() -> ModuleType:
    # By name: it is imported where it is needed, and has no types to check.
    return importlib.import_module("pyrage")
