"""Who calls: the tenant, the name and the role that a credential stands for. Not how it is checked.

The gate puts the caller into the scope of a request; nothing else says whose data is meant (C18).
"""

from dataclasses import dataclass
from typing import Literal, cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from domain.events import Principal

Role = Literal["viewer", "operator", "admin"]

ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
"""Each may do what those before it may: look; start, answer and stop; keys, hooks and deletion."""

CALLER = "peritus.caller"
"""Where the scope of a request has its caller."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose credential was good. `experts`: whom he may start; None: any."""

    tenant: str
    principal: Principal
    role: Role = "admin"
    experts: frozenset[str] | None = None

    def may(self, role: Role) -> bool:
        """Whether the caller has this role, or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


def put_caller(scope: Scope, caller: Caller) -> None:
    """Say who makes a request; the gate alone does."""
    scope[CALLER] = caller


def caller_of(connection: HTTPConnection) -> Caller | None:
    """Who makes a request; None where nobody was asked."""
    return cast("Caller | None", connection.scope.get(CALLER))
