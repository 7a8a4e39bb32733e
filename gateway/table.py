"""All operations of the gateway, collected. What is not here does not exist; see `operations`."""

from collections.abc import Iterable

from gateway import (
    blobs,
    checkpoints,
    documents,
    experts,
    files,
    forks,
    health,
    people_operations,
    reads,
    writes,
)
from gateway.auth import operations as access
from gateway.deps import GatewayDeps
from gateway.operations import Operation
from gateway.streams import operations as streams
from gateway.streams.hub import Hub


def operations(deps: GatewayDeps, hub: Hub) -> tuple[Operation, ...]:
    """Every operation; the streams are fed by the hub."""
    table = (
        *health.operations(deps),
        *access.operations(deps),
        *experts.operations(deps),
        *reads.operations(deps),
        *checkpoints.operations(deps),
        *writes.operations(deps),
        *forks.operations(deps),
        *people_operations.operations(deps),
        *files.operations(deps),
        *blobs.operations(deps),
        *streams.operations(deps, hub),
    )
    return (*table, *documents.operations(table))


def open_paths(table: Iterable[Operation]) -> frozenset[str]:
    """The paths that need no credential, whatever the method."""
    return frozenset(one.path for one in table if one.open)
