"""Named secrets from the environment and `.env` files, read when one is asked for. Not a vault."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from domain.errors import Rejected


class Keys:
    """Looks names up: the environment first, then the files in order; the first value counts.

    As dotenv does it, a file never overrides what is set already. Nothing is put into the
    environment, so no child process inherits a key it was not given.
    """

    def __init__(self, files: Sequence[Path], environment: Mapping[str, str] | None = None) -> None:
        """`files` need not exist; they are read once, at the first name that is not set."""
        self._files = tuple(files)
        self._environment = os.environ if environment is None else environment
        self._read: dict[str, str] | None = None

    def __call__(self, name: str) -> str | None:
        """The value of that name; None when it is not set, or set to nothing.

        Raises:
            Rejected: `bad_env_file` when a file is there and cannot be read.
        """
        return self._environment.get(name) or self._from_files().get(name) or None

    def _from_files(self) -> dict[str, str]:
        if self._read is None:
            found: dict[str, str] = {}
            for file in self._files:
                found = {**_values(file), **found}
            self._read = found
        return self._read


def _values(file: Path) -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415 - not every process needs a key

    if not file.exists():
        return {}
    try:
        values = dotenv_values(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise Rejected("bad_env_file", f"cannot read {str(file)!r}: {reason}") from None
    return {name: value for name, value in values.items() if value is not None}
