"""Secrets in the keyring of the operating system, through the library `keyring`. Not our store."""

import importlib
from typing import Protocol, cast

from domain.errors import Unavailable
from domain.secrets import SecretRef, SecretValue
from services.secrets.port import SecretPlace
from services.secrets.store import check_secret

SERVICE = "peritus"
"""The service under which secrets are kept; the user name is the name of the secret."""


class Backend(Protocol):
    """What the library's backends offer."""

    def get_password(self, service: str, username: str) -> str | None:
        """The password, or None."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        ...

    def delete_password(self, service: str, username: str) -> None:
        """Forget it."""
        ...


class Keyring:
    """The keyring of whoever runs this process. It has no versions, and cannot be listed."""

    only_secrets = False
    asks = True
    label = "the keyring"

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The password of that name.

        Raises:
            Unavailable: there is no keyring here, or it is locked.
        """
        if ref.version:
            return None
        backend = _backend()
        from keyring.errors import KeyringError  # noqa: PLC0415 - optional, and there now

        try:
            value = backend.get_password(SERVICE, ref.name)
        except KeyringError as error:
            raise _unavailable(error) from None
        return SecretValue(SecretRef(name=ref.name), value, self.label) if value else None

    def places(self) -> list[SecretPlace]:
        """Nothing: a keyring tells only what one asks for by name."""
        return []

    def problems(self, name: str) -> list[str]:
        """Nothing."""
        del name
        return []

    def set(self, name: str, value: str) -> str:
        """Keep a value instead of the one before.

        Raises:
            Rejected: `bad_secret`: the name or the value cannot be one.
            Unavailable: there is no keyring here, or it is locked.
        """
        check_secret(name, value)
        backend = _backend()
        from keyring.errors import KeyringError  # noqa: PLC0415 - optional, and there now

        try:
            backend.set_password(SERVICE, name, value)
        except KeyringError as error:
            raise _unavailable(error) from None
        return ""

    def remove(self, name: str) -> bool:
        """Forget a name; False when it was not there.

        Raises:
            Unavailable: there is no keyring here, or it is locked.
        """
        backend = _backend()
        from keyring.errors import KeyringError, PasswordDeleteError  # noqa: PLC0415

        try:
            backend.delete_password(SERVICE, name)
        except PasswordDeleteError:
            return False
        except KeyringError as error:
            raise _unavailable(error) from None
        return True


def _backend() -> Backend:
    try:  # by name: it is optional, and slow to import
        keyring = importlib.import_module("keyring")
        none = importlib.import_module("keyring.backends.fail").Keyring
        null = importlib.import_module("keyring.backends.null").Keyring
    except ImportError:
        message = "the keyring needs the Python package `keyring`, which is not installed"
        raise Unavailable(message) from None
    backend: object = keyring.get_keyring()
    if isinstance(backend, (none, null)):
        message = (
            "there is no keyring on this machine that the package `keyring` knows; "
            "without a desktop, use the encrypted store: `peritus secrets set` without --keyring"
        )
        raise Unavailable(message)
    return cast("Backend", backend)


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"the keyring cannot be used: {type(error).__name__}")
