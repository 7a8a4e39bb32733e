"""Tokens this process was given by others: an encrypted file of their own. Not the secrets.

A definition names secrets, and may carry them into a sandbox; what is in here it cannot name.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from domain.errors import Unavailable
from domain.record import digest_of
from domain.secrets import SecretRef
from services.secrets.redactions import Redactions
from services.secrets.store import AgeStore

NAME_CHARS = 40
TURN_S = 60.0
"""How long another process may take to get a token anew."""

POLL_S = 0.05


class TokenStore:
    """What was given to a tenant, by owner: texts that only the user's identity opens."""

    def __init__(self, path: Path, identity: Path, redactions: Redactions) -> None:
        """Neither file need exist. `redactions` learns what the caller says is secret."""
        self._path = path
        self._store = AgeStore(path, identity, versions_max=1)
        self._redactions = redactions

    @property
    def label(self) -> str:
        """Where the tokens are, for people."""
        return self._store.label

    def hide(self, values: Mapping[str, str]) -> None:
        """Let these values out of this process no more."""
        self._redactions.add_all(values.items())

    async def load(self, tenant: str, owner: str) -> str | None:
        """What was kept, None when there is nothing.

        Raises:
            Rejected: it is there and cannot be read.
        """
        ref = SecretRef(name=_name(tenant, owner))
        found = await asyncio.to_thread(self._store.find, ref)
        return None if found is None else found.reveal()

    async def save(self, tenant: str, owner: str, text: str) -> None:
        """Keep a text instead of the one before.

        Raises:
            Rejected: it cannot be kept.
        """
        await asyncio.to_thread(self._store.set, _name(tenant, owner), text)

    async def forget(self, tenant: str, owner: str) -> bool:
        """Forget what was kept; False when there was nothing.

        Raises:
            Rejected: the file is there and cannot be read.
        """
        return await asyncio.to_thread(self._store.remove, _name(tenant, owner))

    @asynccontextmanager
    async def turn(self, tenant: str, owner: str) -> AsyncGenerator[None]:
        """One at a time of all processes: a token that gets another one is good for one use.

        Raises:
            Unavailable: another process takes too long.
        """
        path = self._path.with_name(f"{self._path.name}.{_name(tenant, owner)}.lock")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _locked(lock)
            yield
        finally:
            os.close(lock)


async def _locked(lock: int) -> None:
    try:
        async with asyncio.timeout(TURN_S):
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(POLL_S)
                else:
                    return
    except TimeoutError:
        message = "another process has been getting this token for too long"
        raise Unavailable(message) from None


def _name(tenant: str, owner: str) -> str:
    digest = digest_of(f"{tenant}\x00{owner}".encode())
    return f"TOKEN_{digest[:NAME_CHARS]}"
