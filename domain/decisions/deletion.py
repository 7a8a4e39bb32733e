"""Delete a job: the last thing that is ever decided about it. Not what is removed then."""

from domain import commands as c
from domain import events as e
from domain.draft import Draft
from domain.errors import Rejected
from domain.state import RunState


def delete_run(draft: Draft, command: c.DeleteRun) -> None:
    """Leave the tombstone at the root of a job, once; a run at work is never deleted."""
    state = draft.state
    ref = state.ref
    if state.status == "deleted" and not command.again:
        return
    if ref.run != ref.job:
        raise Rejected("not_a_job", f"run {ref.run!r} is part of job {ref.job!r}; delete the job")
    if (state.status == "running" and not command.half) or state.version != command.version:
        raise Rejected("not_at_rest", f"job {ref.job!r} went on; cancel it first, or wait")
    draft.emit(
        e.RunDeleted(
            command=command.id, runs=command.runs, envelopes=command.envelopes, by=command.by
        )
    )


def must_be_there(state: RunState) -> None:
    """Nothing can be asked of a job that was deleted, not even to begin again.

    Raises:
        Rejected: `gone`.
    """
    if state.status == "deleted":
        raise gone(state.ref.job)


def gone(job: str) -> Rejected:
    """What is said of a job that was deleted."""
    return Rejected("gone", f"job {job!r} was deleted")
