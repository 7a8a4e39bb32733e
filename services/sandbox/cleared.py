"""Workspaces that were cleared away, noted by job, so that a run that goes on gets its files back.

Not the clearing, which is an operator's, and not the bringing back. A note is there before the
files are gone for good, and stays until the model was told that they are back.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from domain.content import BlobRef
from domain.ids import RunRef
from domain.record import Record, canonical
from services.sandbox.syncing import Sync, sync_all

FOLDER = "cleared"


class Cleared(Record):
    """What is known of a workspace that was cleared away."""

    format: Literal[1] = 1
    path: str
    manifest: BlobRef | None = None  # of its newest snapshot
    step: int = 0  # whose files those are
    run: str = ""
    missing: int = 0  # how much of it no snapshot has
    back: bool = False

    def news(self, run: str) -> str:
        """What the model is to know of it."""
        first = "The workspace had been cleared away since this run was last at work"
        if self.manifest is None:
            return f"{first}, and there was no snapshot of its files: it is empty now."
        whose = "" if self.run == run else f" of run {self.run}"
        lacks = f" {self.missing} entries are in no snapshot and are gone." if self.missing else ""
        return (
            f"{first}. Its files are again as they were after step {self.step}{whose}; what was "
            f"changed later, if anything, is gone.{lacks} Look at them before you go on."
        )


class Notes:
    """The notes of one place."""

    def __init__(self, state: Path, sync: Sync = sync_all) -> None:
        self._state = state
        self._sync = sync

    def find(self, ref: RunRef, path: Path) -> Cleared | None:
        """What is noted of the workspace of a run's job, if it is that folder.

        Raises:
            OSError: it cannot be read, or is no such note.
        """
        try:
            found = Cleared.model_validate_json(self._file(ref).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            message = f"the note {str(self._file(ref))!r} cannot be read: {error}"
            raise OSError(message) from error
        return found if found.path == str(path) else None

    def write(self, ref: RunRef, cleared: Cleared) -> None:
        """Note it; durable when this returns.

        Raises:
            OSError: it is not noted.
        """
        write_durably(self._file(ref), canonical(cleared), self._sync)

    def forget(self, ref: RunRef) -> None:
        """Nothing is owed any more."""
        self._file(ref).unlink(missing_ok=True)

    def _file(self, ref: RunRef) -> Path:
        return self._state / FOLDER / ref.tenant / f"{ref.job}.json"


def write_durably(file: Path, content: bytes, sync: Sync) -> None:
    """Write a small file whole, with the folders above it.

    Raises:
        OSError: it may not be there after a power cut.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_bytes(content)
    fresh.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(folder)
    finally:
        os.close(folder)
