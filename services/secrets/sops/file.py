"""One sops file as a place of secrets: fills the port `SecretProvider`. Not the format of sops.

A secret is a value at the top level that sops has encrypted. What it left in the clear is none, and
what lies deeper has no name of its own. Nothing of a file is used before all of it is proven.
"""

import stat
from pathlib import Path
from typing import NamedTuple

from domain.errors import Rejected
from domain.secrets import SECRET_NAME, SecretRef, SecretValue
from services.secrets.age import Unreadable, decrypt
from services.secrets.files import read_private, text_of
from services.secrets.port import SecretPlace
from services.secrets.sops.forms import read_tree
from services.secrets.sops.identities import Identities
from services.secrets.sops.metadata import Metadata, metadata_of
from services.secrets.sops.opening import Opened, open_all
from services.secrets.sops.tree import Leaf, Node, Refused

SOPS_BYTES_MAX = 1024 * 1024
QUOTES = ('"', "'")


class _Read(NamedTuple):
    """What a file came to, and the bytes it had then: the same bytes are not decrypted again."""

    data: bytes
    found: dict[str, Opened | Node]


class SopsFile:
    """A file that sops encrypted for age, as JSON, YAML or dotenv."""

    only_secrets = True
    asks = False

    def __init__(self, path: Path, identities: Identities) -> None:
        """The file must exist when something is asked for: somebody has named it."""
        self._path = path
        self._identities = identities
        self._last: _Read | None = None
        self.label = str(path)

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value of a name at the top level; one that is empty is not set.

        Raises:
            Rejected: `bad_secret_file`, `bad_identity`: it cannot be read, was changed, or has a
                table of that name.
            Unavailable: a parser is not installed.
        """
        if ref.version:
            return None
        found = self._read().get(ref.name)
        if isinstance(found, Opened):
            value = self._value(found)
            return SecretValue(SecretRef(name=ref.name), value, self.label) if value else None
        if found is None or isinstance(found, Leaf):
            return None
        message = (
            f"{ref.name!r} in {self.label!r} is a table or a list; a secret is one value at the "
            "top level"
        )
        raise Rejected("bad_secret_file", message)

    def places(self) -> list[SecretPlace]:
        """The names that have an encrypted value.

        Raises:
            Rejected: see `find`.
            Unavailable: see `find`.
        """
        return [
            SecretPlace(name=name, source=self.label)
            for name, found in sorted(self._read().items())
            if isinstance(found, Opened) and SECRET_NAME.fullmatch(name) and self._value(found)
        ]

    def problems(self, name: str) -> list[str]:
        """Nothing: who reads the file reads no value, and what is wrong makes it unusable."""
        del name
        return []

    def _read(self) -> dict[str, Opened | Node]:
        data = read_private(self._path, bytes_max=SOPS_BYTES_MAX)
        if data is None:
            message = f"there is no file {self.label!r}, which PERITUS_SECRETS_SOPS names"
            raise Rejected("bad_secret_file", message)
        if self._path.stat().st_mode & stat.S_IWOTH:
            message = f"everybody can write {self.label!r}, so it may be anybody's: chmod o-w"
            raise Rejected("bad_secret_file", message)
        last = self._last
        if last is None or last.data != data:
            last = self._last = _Read(data, self._opened(data))
        return last.found

    def _opened(self, data: bytes) -> dict[str, Opened | Node]:
        try:
            tree = read_tree(self._path, text_of(self._path, data))
            metadata = metadata_of(tree)
            return open_all(tree, metadata, self._key(metadata))
        except Refused as refused:
            message = f"{self.label!r} is not used: {refused}"
            raise Rejected("bad_secret_file", message) from None

    def _key(self, metadata: Metadata) -> bytes:
        for identity in self._identities.each():
            for sealed in metadata.sealed:
                try:
                    return decrypt(sealed.key.encode(), identity)
                except Unreadable:
                    continue
        troubles = "".join(f"; {trouble}" for trouble in self._identities.troubles)
        message = (
            f"{self.label!r} is encrypted for {', '.join(one.recipient for one in metadata.sealed)}"
            f", and no identity opens it (looked in {self._identities.looked_in}){troubles}"
        )
        raise Rejected("bad_identity", message)

    def _value(self, found: Opened) -> str:
        """A value as it is meant: sops keeps the quotes that a dotenv file has around it."""
        try:
            text = found.text
        except Refused as refused:
            message = f"{self.label!r} is not used: {refused}"
            raise Rejected("bad_secret_file", message) from None
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES
        return text[1:-1] if quoted and self._path.suffix == ".env" else text
