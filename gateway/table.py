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
    jobs,
    overviews,
    people_operations,
    reads,
    retained,
    run_parts,
    writes,
)
from gateway.agui import operations as agui
from gateway.auth import operations as access
from gateway.chat import operations as chat
from gateway.deps import GatewayDeps
from gateway.operations import Operation
from gateway.streams import operations as streams
from gateway.streams.hub import Hub
from gateway.webhooks import operations as webhooks


def operations(deps: GatewayDeps, hub: Hub) -> tuple[Operation, ...]:
    """Every operation; the streams are fed by the hub."""
    table = (
        *health.operations(deps),
        *access.operations(deps),
        *experts.operations(deps),
        *reads.operations(deps),
        *checkpoints.operations(deps),
        *run_parts.operations(deps),
        *jobs.operations(deps),
        *overviews.operations(deps),
        *writes.operations(deps),
        *forks.operations(deps),
        *people_operations.operations(deps),
        *files.operations(deps),
        *blobs.operations(deps),
        *streams.operations(deps, hub),
        *agui.operations(deps, hub),
        *chat.operations(deps, hub),
        *retained.operations(deps.retaining),
        *webhooks.operations(deps),
    )
    return (*table, *documents.operations(table))


def open_paths(table: Iterable[Operation]) -> frozenset[str]:
    """The paths that need no credential, whatever the method."""
    return frozenset(one.path for one in table if one.open)
