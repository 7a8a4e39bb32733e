"""Questions to the views, always within one tenant. Not a writer, and never asked by decisions.

Here is what a question is; asking takes a `Reader`, which is imported by those who ask.
"""

from dataclasses import dataclass

from eventlog.port import Cursor
from projections.rows import RunRow

HELD = {"waiting": "waiting", "paused": "paused_at_ms"}
"""What is no status of a run by itself: the column that says it."""

LIMIT_DEFAULT = 50
LIMIT_MAX = 500


@dataclass(frozen=True, slots=True)
class Filters:
    """Which runs are meant; None is any.

    Beside the statuses there are, `waiting` means running and waiting for a person, and `paused`
    running and paused.
    """

    status: str | None = None
    expert: str | None = None
    job: str | None = None
    source_job: str | None = None  # forks of runs of that job


@dataclass(frozen=True, slots=True)
class Page:
    """Some runs, newest first. `before` asks for the next page; None: there is none."""

    runs: tuple[RunRow, ...] = ()
    before: int | None = None
    position: Cursor | None = None
