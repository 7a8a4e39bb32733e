"""Secrets in the environment, in `.env` files and in folders of files. Not encrypted ones."""

import io
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from domain.errors import Rejected
from domain.secrets import SECRET_BYTES_MAX, SECRET_NAME, SecretRef, SecretValue
from services.secrets.files import exposure, read_private, text_of
from services.secrets.port import SecretPlace


class Environment:
    """Variables of this process. Which of them are secrets nobody can tell, so none is listed."""

    only_secrets = False
    asks = False
    label = "the environment"

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: those of this process, by default."""
        self._variables = os.environ if variables is None else variables

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value of a variable; one that is empty is not set."""
        value = "" if ref.version else self._variables.get(ref.name, "")
        return SecretValue(SecretRef(name=ref.name), value, self.label) if value else None

    def places(self) -> list[SecretPlace]:
        """Nothing."""
        return []

    def problems(self, name: str) -> list[str]:
        """Nothing."""
        del name
        return []


class EnvFile:
    """One `.env` file. Nothing of it gets into the environment, so no child process inherits it."""

    only_secrets = False
    asks = False

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self._path = path
        self.label = str(path)

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value of a name in it; one that is empty is not set.

        Raises:
            Rejected: `bad_env_file`: it is there and cannot be read.
        """
        value = None if ref.version else self._values().get(ref.name)
        return SecretValue(SecretRef(name=ref.name), value, self.label) if value else None

    def places(self) -> list[SecretPlace]:
        """The names that are set in it.

        Raises:
            Rejected: `bad_env_file`: it is there and cannot be read.
        """
        names = sorted(name for name, value in self._values().items() if value)
        return [SecretPlace(name=name, source=self.label) for name in names]

    def problems(self, name: str) -> list[str]:
        """Who else can read it."""
        del name
        return [found] if (found := exposure(self._path)) else []

    def _values(self) -> dict[str, str | None]:
        data = read_private(self._path, code="bad_env_file")
        if data is None:
            return {}
        from dotenv import dotenv_values  # noqa: PLC0415 - not every process needs a key

        text = text_of(self._path, data, code="bad_env_file")
        return dotenv_values(stream=io.StringIO(text))


class SecretFolder:
    """A file for each secret, named like it: as Docker, Kubernetes and systemd hand them over."""

    only_secrets = True
    asks = False

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder
        self.label = str(folder)

    def find(self, ref: SecretRef) -> SecretValue | None:
        """What a file says, without the newline at its end.

        Raises:
            Rejected: `bad_secret_file`: it is there and cannot be read, or anybody may write to it.
        """
        if ref.version or SECRET_NAME.fullmatch(ref.name) is None:
            return None
        path = self._folder / ref.name
        data = read_private(path, bytes_max=SECRET_BYTES_MAX)
        if data is None:
            return None
        if path.stat().st_mode & stat.S_IWOTH:
            message = f"everybody can write {str(path)!r}, so it may be anybody's: chmod o-w"
            raise Rejected("bad_secret_file", message)
        value = text_of(path, data).removesuffix("\n").removesuffix("\r")
        return SecretValue(SecretRef(name=ref.name), value, str(path)) if value else None

    def places(self) -> list[SecretPlace]:
        """The files that have the name of a secret."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if path.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            message = f"cannot read {self.label!r}: {error.strerror}"
            raise Rejected("bad_secret_file", message) from None
        return [
            SecretPlace(name=name, source=str(self._folder / name))
            for name in names
            if SECRET_NAME.fullmatch(name)
        ]

    def problems(self, name: str) -> list[str]:
        """Who else can read the file."""
        return [found] if (found := exposure(self._folder / name)) else []


def folders(configured: Sequence[Path], variables: Mapping[str, str] | None = None) -> list[Path]:
    """Those that are configured, and the one systemd made for this service."""
    own = (os.environ if variables is None else variables).get("CREDENTIALS_DIRECTORY", "")
    return [*configured, *([Path(own)] if own else [])]
