"""Our own store: one file, encrypted by age, with several versions of each secret. Not a vault.

Who has the identity can read all of it; who has the file alone can read nothing, names neither.
"""

import fcntl
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from domain.errors import Rejected
from domain.record import Record, canonical
from domain.secrets import SECRET_NAME, SecretRef, SecretValue, unfit
from services.secrets.age import Unreadable, decrypt, encrypt
from services.secrets.files import read_private
from services.secrets.identity import need_identity, read_identity, write_private
from services.secrets.port import SecretPlace

VERSIONS_MAX = 8
"""How many versions of a secret are kept; setting one more forgets the oldest."""


class StoredValue(Record):
    """One value; `version` counts from 1 and is never used again for that name."""

    version: int
    value: str


class Contents(Record):
    """What the file holds once it is decrypted: the versions of each name, oldest first.

    A name without versions was removed; `last` remembers how far it had counted.
    """

    format: Literal[1] = 1
    secrets: dict[str, tuple[StoredValue, ...]] = Field(
        default_factory=dict[str, tuple[StoredValue, ...]]
    )
    last: dict[str, int] = Field(default_factory=dict[str, int])


class AgeStore:
    """Secrets in a file that age encrypts for one identity."""

    only_secrets = True
    asks = False

    def __init__(self, path: Path, identity: Path, versions_max: int = VERSIONS_MAX) -> None:
        """Neither file need exist: they are made when the first secret is set."""
        self._path = path
        self._versions_max = versions_max
        self._identity = identity
        self.label = str(path)

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The newest version, or the one that is asked for.

        Raises:
            Rejected: `bad_secret_file`, `bad_identity`: it is there and cannot be read.
        """
        for one in reversed(self._read().secrets.get(ref.name, ())):
            if ref.version in ("", str(one.version)):
                at = SecretRef(name=ref.name, version=str(one.version))
                return SecretValue(at, one.value, self.label)
        return None

    def places(self) -> list[SecretPlace]:
        """The names in it, with their newest version.

        Raises:
            Rejected: see `find`.
        """
        return [
            SecretPlace(name=name, source=self.label, version=str(values[-1].version))
            for name, values in sorted(self._read().secrets.items())
            if values
        ]

    def problems(self, name: str) -> list[str]:
        """Nothing: what is wrong with it makes it unusable."""
        del name
        return []

    def set(self, name: str, value: str) -> str:
        """Make a value the newest version of a name; which version that is.

        Raises:
            Rejected: `bad_secret`: the name or the value cannot be one; or see `find`.
        """
        check_secret(name, value)
        with self._changing():
            contents = self._read()
            version = contents.last.get(name, 0) + 1
            kept = (
                *contents.secrets.get(name, ()),
                StoredValue(version=version, value=value),
            )[-self._versions_max :]
            self._write(contents.secrets | {name: kept}, contents.last | {name: version})
        return str(version)

    def remove(self, name: str) -> bool:
        """Forget every version of a name; False when there was none.

        Raises:
            Rejected: see `find`.
        """
        if self.find(SecretRef(name=name)) is None:
            return False
        with self._changing():
            contents = self._read()
            kept = {known: values for known, values in contents.secrets.items() if known != name}
            self._write(kept, contents.last)
        return True

    def _read(self) -> Contents:
        data = read_private(self._path)
        if data is None:
            return Contents()
        identity = read_identity(self._identity)
        if identity is None:
            message = f"{self.label!r} needs the identity {str(self._identity)!r}, which is gone"
            raise Rejected("bad_identity", message)
        try:
            return Contents.model_validate_json(decrypt(data, identity))
        except Unreadable:
            message = f"{self.label!r} is not encrypted for {str(self._identity)!r}, or is damaged"
        except ValidationError:  # its text would show what was decrypted
            message = f"{self.label!r} holds no store of secrets this release can read"
        raise Rejected("bad_secret_file", message)

    def _write(self, values: dict[str, tuple[StoredValue, ...]], last: dict[str, int]) -> None:
        contents = Contents(secrets=dict(sorted(values.items())), last=dict(sorted(last.items())))
        key = need_identity(self._identity)
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            write_private(fresh, encrypt(canonical(contents), key))
            fresh.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            message = f"cannot write {self.label!r}: {error.strerror}"
            raise Rejected("bad_secret_file", message) from None
        finally:
            fresh.unlink(missing_ok=True)

    @contextmanager
    def _changing(self) -> Generator[None]:
        """One writer at a time, of all processes."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(
                self._path.with_name(f"{self._path.name}.lock"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                0o600,
            )
        except OSError as error:
            message = f"cannot write beside {self.label!r}: {error.strerror}"
            raise Rejected("bad_secret_file", message) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def check_secret(name: str, value: str) -> None:
    """Refuse what cannot be kept.

    Raises:
        Rejected: `bad_secret`: the name or the value cannot be one.
    """
    if SECRET_NAME.fullmatch(name) is None:
        message = f"{name!r} cannot name a secret: letters, digits and '_', and no digit first"
        raise Rejected("bad_secret", message)
    if (why := unfit(name, value)) is not None:
        raise Rejected("bad_secret", f"the value of {name} cannot be kept: {why}")
