"""What is left of a job that was deleted: its tombstone. Not how the rest is removed."""

from typing import Literal

from domain.events.common import NOBODY, Principal
from domain.record import Record


class RunDeleted(Record):
    """The job of this root run was deleted: nothing of it goes on, and no run is added to it.

    The one event of its envelope, which goes on from the version and the hash before it. All that
    the job had stored before is removed then, so a run whose first envelope is this one is whole:
    `runs` and `envelopes` count what was there.
    """

    type: Literal["run.deleted.v1"] = "run.deleted.v1"
    command: str
    runs: int
    envelopes: int
    by: Principal = NOBODY
