"""Webhooks as answers. Not the hooks."""

from gateway.models.common import Answer


class Webhook(Answer):
    """A webhook, without its secret."""

    id: str
    url: str
    types: list[str]
    """Which events it is told of: types, or what they begin with; none are all."""
    created_at_ms: int
    created_by: str
    position: str
    """The cursor of the next event it is told of, if that is one it wants."""
    failures: int
    """How often the delivery it is at has failed."""
    problem: str | None = None
    """What went wrong the last time."""
    disabled: str | None = None
    """Why it is told nothing any more."""


class CreatedWebhook(Webhook):
    """A new webhook with its secret, which is shown this once."""

    secret: str


class Webhooks(Answer):
    """The webhooks of the caller's tenant."""

    webhooks: list[Webhook]
