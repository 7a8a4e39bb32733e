"""Keys and sessions as they are answered. Times are ms UTC."""

from typing import Literal

from gateway.models.common import Answer

Role = Literal["viewer", "operator", "admin"]


class Key(Answer):
    """An API key: all but its text, which is nowhere kept."""

    id: str
    name: str
    tenant: str
    role: Role
    experts: list[str] | None = None
    """Whom it may start; None: any."""
    created_at_ms: int
    created_by: str
    expires_at_ms: int | None = None
    expired: bool


class Keys(Answer):
    """The keys of a tenant, oldest first."""

    keys: list[Key]


class CreatedKey(Key):
    """A new key. `key` is its text: it is told this once."""

    key: str


class Session(Answer):
    """A session began; its cookie is in the head of the answer."""

    tenant: str
    name: str
    role: Role
    expires_in_s: int
