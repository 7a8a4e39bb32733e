"""Webhooks, asked over HTTP. Not the telling: `sender` does that."""

from typing import Any

from pydantic import Field

from eventlog.port import Cursor
from gateway.bodies import Body
from gateway.deps import GatewayDeps
from gateway.models.webhooks import CreatedWebhook, Webhook, Webhooks
from gateway.operations import Asked, Operation
from gateway.problems import Problem
from gateway.webhooks.hooks import TYPES_MAX, URL_CHARS_MAX, Hooks, Kept, begun

TAG = "webhooks"
TYPE_CHARS_MAX = 100


class WebhookBody(Body):
    """Have a program told of the tenant's events."""

    url: str = Field(min_length=1, max_length=URL_CHARS_MAX)
    types: list[str] = Field(default_factory=list[str], max_length=TYPES_MAX)
    """Types of events, with or without version, or what they begin with, up to a dot; none: all."""


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Those of webhooks."""
    hooks = WebhookRoutes(deps)
    return (
        Operation(
            "GET",
            "/v1/webhooks",
            "list_webhooks",
            "admin",
            "The webhooks of the caller's tenant, and how far each is",
            hooks.list,
            Webhooks,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "POST",
            "/v1/webhooks",
            "create_webhook",
            "admin",
            "Have events sent to an address; the secret is in the answer, and shown this once",
            hooks.create,
            CreatedWebhook,
            status=201,
            body=WebhookBody,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "DELETE",
            "/v1/webhooks/{webhook}",
            "remove_webhook",
            "admin",
            "Send nothing more to it, within seconds",
            hooks.remove,
            Webhook,
            problems=(404, 409),
            tag=TAG,
        ),
    )


class WebhookRoutes:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    def _hooks(self) -> Hooks:
        hooks = self._deps.hooks
        if hooks is None:
            raise Problem(409, "no_webhooks", "This gateway has no webhooks.")
        return hooks

    async def list(self, asked: Asked[Any, Any]) -> Webhooks:
        """`GET /v1/webhooks`.

        Raises:
            Problem: this gateway has none.
            Unavailable: the registry is away.
        """
        return Webhooks(webhooks=[shown(one) for one in await self._hooks().list(asked.tenant)])

    async def create(self, asked: Asked[Any, WebhookBody]) -> CreatedWebhook:
        """`POST /v1/webhooks`.

        Raises:
            Problem: this gateway has none.
            Rejected: the address or a type is none, or there are too many.
            Unavailable: the registry is away.
        """
        by, body = asked.caller.principal.name, asked.body
        hook = await self._hooks().create(asked.tenant, body.url, tuple(body.types), by)
        return CreatedWebhook(**shown(begun(hook)).model_dump(), secret=hook.secret)

    async def remove(self, asked: Asked[Any, Any]) -> Webhook:
        """`DELETE /v1/webhooks/{webhook}`.

        Raises:
            Problem: there is none.
            Unavailable: the registry is away.
        """
        name = asked.part("webhook")
        kept = await self._hooks().remove(asked.tenant, name)
        if kept is None:
            raise Problem(404, "no_such_webhook", "There is no such webhook.")
        return shown(kept)


def shown(kept: Kept) -> Webhook:
    """A hook as it is answered."""
    hook, place = kept.hook, kept.place
    return Webhook(
        id=hook.id,
        url=hook.url,
        types=list(hook.types),
        created_at_ms=hook.created_at_ms,
        created_by=hook.created_by,
        position=str(Cursor(place.incarnation, place.seq, place.event)),
        failures=place.failures,
        problem=place.problem or None,
        disabled=place.disabled or None,
    )
