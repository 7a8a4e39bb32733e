"""Sessions of browsers: a signed cookie that stands for a credential. Nothing of them is kept.

A session is as good as what it was made from: a key that was taken back ends it. What signs them is
one random value of the deployment in the registry; once that is removed, all are over.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Literal

from pydantic import ValidationError

from domain.errors import Conflict, Unavailable
from domain.record import Record
from eventlog.newest import Registry
from gateway.callers import Role

COOKIE = "peritus_session"
KIND = "session"
TENANT, NAME = "deployment", "signing"
SIGNING_BYTES = 32
SIGNING_AGE_S = 3.0
"""How long the signing value counts without another look, in seconds."""

SESSION_MS = 12 * 3_600_000
"""How long a session lasts at most, in milliseconds."""

COOKIE_BYTES_MAX = 4_096
Origin = Literal["key", "token", "issuer"]


class Session(Record):
    """What a cookie says. `of` names the key, or is a mark of the token, it was made from."""

    made_from: Origin
    of: str
    tenant: str
    name: str
    role: Role
    experts: tuple[str, ...] | None = None
    expires_at_ms: int


class Sessions:
    """Makes and reads cookies."""

    def __init__(
        self, registry: Registry, *, now_ms: Callable[[], int], now_s: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._now_ms = now_ms
        self._now_s = now_s
        self._signing: tuple[float, bytes | None] | None = None
        self._one_at_a_time = asyncio.Lock()

    def ends_ms(self, at_most_ms: int | None) -> int:
        """When a session that begins now ends."""
        ends = self._now_ms() + SESSION_MS
        return ends if at_most_ms is None else min(ends, at_most_ms)

    def is_past(self, at_ms: int) -> bool:
        """Whether that time has come."""
        return at_ms <= self._now_ms()

    def seconds_left(self, session: Session) -> int:
        """How long it lasts yet."""
        return max(0, (session.expires_at_ms - self._now_ms()) // 1_000)

    async def seal(self, session: Session) -> str:
        """The value of its cookie.

        Raises:
            Unavailable: the registry is away.
        """
        signing = await self._value() or await self._make()
        body = _encoded(session.model_dump_json(exclude_defaults=True).encode())
        return f"{body}.{_encoded(_signed(signing, body))}"

    async def open(self, value: str) -> Session | None:
        """The session of a cookie; None when it is none of ours, or over.

        Raises:
            Unavailable: the registry is away.
        """
        body, dot, signature = value.partition(".")
        if not dot or len(value) > COOKIE_BYTES_MAX or not value.isascii():
            return None
        signing = await self._value()
        if signing is None:
            return None
        expected = _encoded(_signed(signing, body))
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return None
        try:
            session = Session.model_validate_json(_decoded(body))
        except (ValidationError, ValueError):
            return None
        return None if self.is_past(session.expires_at_ms) else session

    async def end_all(self) -> None:
        """End every session there is, of all tenants: within seconds at other gateways.

        Raises:
            Unavailable: they may go on.
        """
        await self._registry.remove(KIND, TENANT, NAME)
        self._signing = None

    async def mark(self, token: str) -> str:
        """What tells whether a token is still the one a session was made from; not the token.

        Raises:
            Unavailable: the registry is away.
        """
        signing = await self._value() or await self._make()
        return _encoded(_signed(signing, f"token:{token}"))

    async def _value(self) -> bytes | None:
        async with self._one_at_a_time:
            if self._signing is not None and self._now_s() - self._signing[0] < SIGNING_AGE_S:
                return self._signing[1]
            asked_s = self._now_s()
            entry = await self._registry.get(KIND, TENANT, NAME)
            found = None if entry is None else entry.data
            self._signing = (asked_s, found)  # also that there is none: bad cookies ask no more
            return found

    async def _make(self) -> bytes:
        """Another gateway may make one at the same time: there is only one."""
        try:
            value = secrets.token_bytes(SIGNING_BYTES)
            await self._registry.put(KIND, TENANT, NAME, value, expected=0)
        except Conflict:
            pass
        self._signing = None
        made = await self._value()
        if made is None:
            msg = "the signing value of sessions was taken back while it was made"
            raise Unavailable(msg)
        return made


def _signed(signing: bytes, text: str) -> bytes:
    return hmac.digest(signing, text.encode(), hashlib.sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
