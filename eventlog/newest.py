"""The ports to values of which only the newest counts, changed by compare and set. Not the log."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from domain.rate import Scope


class Noted(NamedTuple):
    """What is noted of one scope. Revisions grow, as one client sees them; 0 is none."""

    scope: Scope
    revision: int
    data: bytes


LIFE = 1 << 48
"""Revisions of one connection are below the next multiple of this: a server that begins again also
counts again, so what was read before must never be taken for what is there now."""


class Limits(Protocol):
    """LIMITS: what workers share of the limits of providers. In memory: may be lost as a whole."""

    async def note(self, scope: Scope, data: bytes, *, expected: int) -> int:
        """Note something instead of the note of the expected revision; its own revision.

        Raises:
            Conflict: the last note is another one, or that was read before a reconnect.
            Unavailable: it may be noted, or be noted yet.
        """
        ...

    async def last(self, scope: Scope) -> Noted | None:
        """What is noted of a scope, as the leader has it.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def all(self) -> dict[Scope, Noted]:
        """What is noted of every scope, as the leader has it.

        Raises:
            Unavailable: the store is away.
        """
        ...

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Noted | None]]:
        """The newest note of each scope that changes from now on; None: some may be missed.

        None comes first, after a reconnect and whenever else notes may have been lost, but not
        every loss shows: look at `all` once in a while.

        Raises (at the start):
            Unavailable: there is no connection.
        """
        ...


class Entry(NamedTuple):
    """A value of the registry. Revisions grow, over all names and over restarts; 0 is none."""

    kind: str
    tenant: str
    name: str
    revision: int
    data: bytes


class Registry(Protocol):
    """REGISTRY: what administrators decide beside runs, as one value a name. No history, no news.

    Kind, tenant and name are subject tokens. Nobody is told of a change: who holds on to what he
    read must look again after a few seconds, and what was taken back counts within that time.
    """

    async def put(self, kind: str, tenant: str, name: str, data: bytes, *, expected: int) -> int:
        """Store a value instead of that of the expected revision (0: there is none); its own.

        Raises:
            Conflict: the value there is another one, or there is none.
            Rejected: kind, tenant or name cannot be one.
            TooLarge: it is above the payload limit.
            Unavailable: it may be stored, or be stored yet.
        """
        ...

    async def get(self, kind: str, tenant: str, name: str) -> Entry | None:
        """The value of a name, as the leader has it; None when there is none.

        With `*` as the tenant it is whoever's: for names that no two tenants share.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: the store is away.
        """
        ...

    async def list(self, kind: str, tenant: str = "*") -> list[Entry]:
        """All of a kind and a tenant (`*`: of all), as the leader has them; by revision.

        Raises:
            Rejected: kind or tenant cannot be one.
            Unavailable: the store is away.
        """
        ...

    async def remove(self, kind: str, tenant: str, name: str) -> None:
        """No value has that name any more; it may never have had one.

        Raises:
            Rejected: kind, tenant or name cannot be one.
            Unavailable: it may still be there.
        """
        ...
