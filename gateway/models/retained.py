"""What deleting a job came to. Not the deleting."""

from gateway.models.common import Answer


class DeletedJob(Answer):
    """A job that is gone."""

    job: str
    runs: int
    envelopes: int
    deleted_at_ms: int
    kept_by: list[str]
    """Living forks that need its history, which is removed when they are gone, too."""
