"""Which jobs are being brought here from elsewhere, and which were. Not how they are brought.

While a job comes, its runs look as if they were at work, and nothing of them may be done.
"""

from typing import Literal

from pydantic import ValidationError

from domain.record import Record
from eventlog.newest import Registry

IMPORT, IMPORTED = "import", "imported"
"""The kinds of the registry's entries: of jobs that come, and of those that are here."""


class Brought(Record):
    """What the registry keeps of an import; `digest` names the file."""

    type: Literal["import.v1"] = "import.v1"
    digest: str
    at_ms: int


async def coming(registry: Registry) -> set[tuple[str, str]]:
    """Tenant and name of every job that is not all here yet.

    Raises:
        Unavailable: the store is away.
    """
    return {(entry.tenant, entry.name) for entry in await registry.list(IMPORT)}


def read_brought(data: bytes) -> Brought | None:
    """An entry of the registry; None for one that another release wrote otherwise."""
    try:
        return Brought.model_validate_json(data)
    except ValidationError:
        return None
