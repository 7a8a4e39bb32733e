"""The identities of age that may open a sops file, in the order they are tried. Not the file.

They are where sops itself looks (`SOPS_AGE_KEY`, `SOPS_AGE_KEY_FILE`, its file of keys in the
user's configuration), and then our own. One that is not needed is not read.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from domain.errors import Rejected
from services.secrets.age import AgeKey
from services.secrets.identity import identities_in, read_identities

KEY_VARIABLE = "SOPS_AGE_KEY"
FILE_VARIABLE = "SOPS_AGE_KEY_FILE"
OWN_FILE = Path("sops", "age", "keys.txt")
"""Of sops, below the folder of the user's configuration."""


def default_key_file() -> Path:
    """Where sops has the keys of this user."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / OWN_FILE


class Identities:
    """The places of identities; `troubles` says why one that is there could not be used."""

    def __init__(
        self, key_file: Path | None, own: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        """`key_file`: what SOPS_AGE_KEY_FILE names; `variables`: those of this process."""
        self._variables = os.environ if variables is None else variables
        files = (*((key_file,) if key_file is not None else ()), default_key_file(), own)
        self._files = tuple(dict.fromkeys(files))
        self._asked_for = key_file
        self.troubles: list[str] = []

    def each(self) -> Iterator[AgeKey]:
        """One after the other."""
        self.troubles = []
        if text := self._variables.get(KEY_VARIABLE, ""):
            found = identities_in(text)
            if not found:
                self.troubles.append(f"{KEY_VARIABLE} holds no age identity")
            yield from found
        for file in self._files:
            try:
                read = read_identities(file)
            except Rejected as error:
                self.troubles.append(str(error))
            else:
                if read is None and file == self._asked_for:
                    self.troubles.append(f"there is no file {str(file)!r} ({FILE_VARIABLE})")
                yield from read or ()

    @property
    def looked_in(self) -> str:
        """The places in order, for people."""
        return ", ".join((KEY_VARIABLE, *(str(file) for file in self._files)))
