"""What a file tool works at: a workspace, and who has seen and changed what in it. Not a tool."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.redaction import Redactor
from services.sandbox.disk import stamp_of, stat_or_none
from services.sandbox.failures import Code, ToolError
from services.sandbox.seen import Seen, Stamp
from services.sandbox.workspace import Guard, Looked, Workspace


@dataclass(frozen=True, slots=True)
class Desk:
    """The workspace as one call of a run uses it."""

    workspace: Workspace
    seen: Seen
    run: str
    redactor: Callable[[], Redactor] = Redactor
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the call is cancelled: work on a whole folder then ends where it is."""

    def look(self, path: str, bytes_max: int | None = None) -> Looked:
        """Read a file, and remember that this run has seen it as it is.

        Raises:
            ToolError: as `Workspace.look`.
        """
        args = () if bytes_max is None else (bytes_max,)
        looked = self.workspace.look(path, *args)
        self.seen.look(self.run, looked.place, looked.stamp)
        return looked

    def guard(self, path: str, *, whole: bool = False) -> Guard:
        """Stops a change of what another run changed, and this one has not seen since.

        `whole` is for what may be a folder: then all that is in it counts.
        """

        def check(place: str, stamp: Stamp | None) -> None:
            if stamp is None:
                return
            if self.seen.conflict(self.run, place, stamp) is not None:
                raise conflict(path)
            for below in self.seen.changed_below(place) if whole else ():
                self._check_below(below)

        return check

    def _check_below(self, place: str) -> None:
        try:
            with self.workspace.named(place) as (folder, name, found_at):
                found = stat_or_none(folder, name)
        except (OSError, ToolError):  # not there as it was: nothing to undo
            return
        if found is not None and self.seen.conflict(self.run, found_at, stamp_of(found)):
            raise conflict(place)


def conflict(path: str) -> ToolError:
    """The failure for a change that would undo another run's unseen."""
    message = (
        f"another expert changed {path!r} since you last read it; read it again, then make your "
        "change to what it is now"
    )
    return ToolError(Code.CONFLICT, message)
