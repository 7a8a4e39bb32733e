"""API keys: made, kept as a salted hash, checked, taken back. Not what a role may do.

The secret of a key is 256 random bits, so no list of likely ones can be tried against a stolen
hash, and one round of SHA-256 is as hard to turn round as many; a slow hash would only be a way to
keep the gateway busy. The salt keeps equal secrets apart, were there any.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable

from pydantic import Field, ValidationError

from domain.errors import Conflict, Rejected
from domain.events import Principal
from domain.record import Record
from eventlog.newest import Entry, Registry
from gateway.callers import Caller, Role

logger = logging.getLogger(__name__)

KIND = "key"
MARK = "pk"
SECRET_BYTES = 32
SALT_BYTES = 16
ID_BYTES = 8
KEY = re.compile(rf"{MARK}_([0-9a-f]{{{2 * ID_BYTES}}})_([A-Za-z0-9_-]{{43}})")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

KEYS_AGE_S = 3.0
"""How long a key that was read counts without another look, in seconds: so long a key that was
taken back may still be good at other gateways."""

KEYS_CACHED_MAX = 10_000
KEYS_MAX = 1_000
"""Keys of one tenant, a count."""


class ApiKey(Record):
    """An API key as it is kept: whose it is, what it may, and a hash of its secret."""

    id: str
    tenant: str
    name: str
    role: Role
    experts: tuple[str, ...] | None = None
    """Whom it may start; None: any."""
    created_at_ms: int
    created_by: str
    expires_at_ms: int | None = None
    salt: str = Field(repr=False)
    digest: str = Field(repr=False)

    @property
    def caller(self) -> Caller:
        """Who comes with it."""
        experts = None if self.experts is None else frozenset(self.experts)
        principal = Principal(name=f"key:{self.name}", via="http")
        return Caller(self.tenant, principal, self.role, experts)


class KeyRing:
    """The keys of a deployment, as one process knows them."""

    def __init__(
        self, registry: Registry, *, now_ms: Callable[[], int], now_s: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._now_ms = now_ms
        self._now_s = now_s
        self._read: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()
        self._looking: dict[str, asyncio.Lock] = {}

    async def create(
        self,
        tenant: str,
        name: str,
        role: Role,
        *,
        by: str,
        experts: tuple[str, ...] | None = None,
        expires_at_ms: int | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key, and its text, which is nowhere kept.

        Raises:
            Rejected: the name is not fit or is taken, or it would have expired already.
            Unavailable: it may be stored; nobody has its text.
        """
        if NAME.fullmatch(name) is None:
            msg = "a key's name has 1 to 64 letters, digits and _ . @ -, a letter or digit first"
            raise Rejected("bad_key_name", msg)
        if expires_at_ms is not None and expires_at_ms <= self._now_ms():
            raise Rejected("bad_expiry", "a key has to expire in the future")
        there = await self.list(tenant)
        if any(key.name == name for key in there):
            msg = f"there is a key {name!r} already: revoke it first, or take another name"
            raise Rejected("key_exists", msg)
        if len(there) >= KEYS_MAX:
            raise Rejected("too_many_keys", f"a tenant has at most {KEYS_MAX} keys: revoke some")
        secret, salt = secrets.token_urlsafe(SECRET_BYTES), secrets.token_hex(SALT_BYTES)
        key = ApiKey(
            id=secrets.token_hex(ID_BYTES),
            tenant=tenant,
            name=name,
            role=role,
            experts=experts,
            created_at_ms=self._now_ms(),
            created_by=by,
            expires_at_ms=expires_at_ms,
            salt=salt,
            digest=_digest(salt, secret),
        )
        data = key.model_dump_json().encode()
        try:
            await self._registry.put(KIND, tenant, key.id, data, expected=0)
        except Conflict:
            raise Rejected("key_exists", "that id is taken; try again") from None
        logger.info("key %s of tenant %s was made by %s", key.id, tenant, by)
        return key, f"{MARK}_{key.id}_{secret}"

    async def list(self, tenant: str) -> list[ApiKey]:
        """The keys of a tenant, oldest first.

        Raises:
            Unavailable: the registry is away.
        """
        found = [_key_of(entry) for entry in await self._registry.list(KIND, tenant)]
        return sorted((key for key in found if key), key=lambda key: (key.created_at_ms, key.id))

    async def revoke(self, tenant: str, which: str) -> ApiKey | None:
        """Take a key back, by its id or its name; None: this tenant has none of that name.

        Raises:
            Rejected: several keys have that name.
            Unavailable: it may be good yet.
        """
        there = await self.list(tenant)
        found = [key for key in there if key.id == which]
        found = found or [key for key in there if key.name == which]
        if len(found) > 1:
            raise Rejected("ambiguous_key", f"several keys are called {which!r}: give the id")
        for key in found:
            await self._registry.remove(KIND, tenant, key.id)
            self._read.pop(key.id, None)
            logger.info("key %s of tenant %s was taken back", key.id, tenant)
            return key
        return None

    async def check(self, text: str, *, seen_only: bool = False) -> ApiKey | None:
        """The key of that text if it is good now; else None, for whatever reason.

        With `seen_only` nobody is asked about a key that was not good here before.

        Raises:
            Unavailable: the registry is away.
        """
        parts = KEY.fullmatch(text)
        if parts is None:
            return None
        key_id, secret = parts.groups()
        if seen_only and key_id not in self._read:
            return None
        key = await self.find(key_id)
        salt, digest = (key.salt, key.digest) if key else ("", "")
        same = hmac.compare_digest(_digest(salt, secret).encode(), digest.encode())
        return key if same else None

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of that id if it has not expired and was not taken back.

        Raises:
            Unavailable: the registry is away.
        """
        key = self._remembered(key_id)
        if key is None:
            try:
                async with self._looking.setdefault(key_id, asyncio.Lock()):
                    key = self._remembered(key_id) or await self._look(key_id)
            finally:
                self._looking.pop(key_id, None)
        return key if key is not None and self.is_current(key) else None

    def is_current(self, key: ApiKey) -> bool:
        """Whether it has not expired."""
        return key.expires_at_ms is None or key.expires_at_ms > self._now_ms()

    def _remembered(self, key_id: str) -> ApiKey | None:
        read_s, key = self._read.get(key_id, (0.0, None))
        return key if self._now_s() - read_s < KEYS_AGE_S else None

    async def _look(self, key_id: str) -> ApiKey | None:
        """What the registry says of it. One that is not there is not remembered: it may come."""
        asked_s = self._now_s()
        entry = await self._registry.get(KIND, "*", key_id)
        key = None if entry is None else _key_of(entry)
        self._read.pop(key_id, None)
        if key is not None:
            self._read[key_id] = (asked_s, key)
            while len(self._read) > KEYS_CACHED_MAX:
                self._read.popitem(last=False)
        return key


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}:{secret}".encode()).hexdigest()


def _key_of(entry: Entry) -> ApiKey | None:
    """The key of an entry; None when it is none of its place, or of another release."""
    try:
        key = ApiKey.model_validate_json(entry.data)
    except ValidationError:
        return None
    return key if (key.tenant, key.id) == (entry.tenant, entry.name) else None
