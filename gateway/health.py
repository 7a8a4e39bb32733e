"""Whether the gateway works, and who asks. Not whether workers do: runs show that."""

from typing import Any

from gateway.deps import GatewayDeps
from gateway.models.rest import Health, Me
from gateway.operations import Asked, Operation
from gateway.shapes import told

TAG = "about"


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Health, and the caller."""
    about = About(deps)
    return (
        Operation(
            "GET",
            "/v1/healthz",
            "get_health",
            "viewer",
            "Whether the gateway works: the log's bounds, and how far the views are",
            about.health,
            Health,
            tag=TAG,
            open=True,
        ),
        Operation("GET", "/v1/me", "get_me", "viewer", "Who the caller is", about.me, Me, tag=TAG),
    )


class About:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    async def health(self, asked: Asked[Any, Any]) -> Health:
        """`GET /v1/healthz`.

        Raises:
            Unavailable: the log or the views cannot be read.
        """
        del asked
        log = self._deps.backbone.log
        position = await self._deps.reader.position()
        first_seq, last_seq = await log.bounds()
        return Health(
            status="ok",
            incarnation=log.incarnation,
            first_seq=first_seq,
            last_seq=last_seq,
            position=told(position),
        )

    async def me(self, asked: Asked[Any, Any]) -> Me:
        """`GET /v1/me`."""
        caller = asked.caller
        return Me(
            tenant=caller.tenant,
            name=caller.principal.name,
            via=caller.principal.via,
            role=caller.role,
            experts=None if caller.experts is None else sorted(caller.experts),
        )
