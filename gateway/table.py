"""All operations of the gateway, collected. What is not here does not exist; see `operations`."""

import asyncio
from collections.abc import Iterable

from gateway import events, forks, health, people_operations, reads, writes
from gateway.auth import operations as access
from gateway.deps import GatewayDeps
from gateway.operations import Operation


def operations(deps: GatewayDeps, closing: asyncio.Event) -> tuple[Operation, ...]:
    """Every operation; once `closing` is set, streams end."""
    return (
        *health.operations(deps),
        *access.operations(deps),
        *reads.operations(deps),
        *writes.operations(deps),
        *forks.operations(deps),
        *people_operations.operations(deps),
        *events.operations(deps, closing),
    )


def open_paths(table: Iterable[Operation]) -> frozenset[str]:
    """The paths that need no credential, whatever the method."""
    return frozenset(one.path for one in table if one.open)
