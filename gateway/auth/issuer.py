"""Tokens (JWT) of one OpenID Connect issuer: whose keys are fetched, and who a token stands for.

Only signatures with a key pair count, and the key says with which algorithm: `none` and those with
a shared secret are never tried. Not a login: people get their tokens elsewhere.
"""

import asyncio
import logging
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httpx2
import jwt
import orjson

from domain.errors import Unavailable
from domain.events import Principal
from gateway.callers import ROLES, Caller, Role

logger = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
ALGORITHMS: Mapping[tuple[str, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""What signs, by type and curve of its key."""

RSA_BITS_MIN = 2_048
LEEWAY_S = 60.0
"""How far two clocks may be apart, in seconds."""

FETCH_S = 5.0
FETCH_BYTES_MAX = 256 * 1024
KEYS_MAX = 64
KEYS_AGE_S = 600.0
"""How long fetched keys count without another look, in seconds."""

KEYS_KEPT_S = 3_600.0
"""How long they count while the issuer cannot be reached, in seconds."""

RETRY_S = 10.0
"""How often at most the issuer is asked, in seconds: whoever invents key ids asks no more often."""

TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
SUBJECT_CHARS_MAX = 200
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """Whose tokens count, and where they say what. A claim may be a path, as `realm.roles`."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    role_claim: str = "role"


class Vouched(NamedTuple):
    """Who a token stands for, and until when, leeway included."""

    caller: Caller
    expires_at_ms: int


class Issuer:
    """Checks tokens; fetches keys when it has to."""

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        now_ms: Callable[[], int],
        now_s: Callable[[], float],
        http: Callable[[], httpx2.AsyncClient] | None = None,
    ) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._now_s = now_s
        self._http = http or _client
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_s: float | None = None
        self._tried_s: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def check(self, text: str) -> Vouched | None:
        """Who the token stands for if it is good now; else None, for whatever reason.

        Raises:
            Unavailable: the keys of the issuer cannot be had.
        """
        try:
            head = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, ValueError):
            return None
        kid = head.get("kid")
        if head.get("alg") not in ALGORITHMS.values() or not isinstance(kid, str) or "crit" in head:
            return None
        key = await self._key(kid)
        if key is None:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={  # times are judged by the clock that was given
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError):
            return None
        return self._vouched(claims) if self._is_now(claims) else None

    def _is_now(self, claims: Mapping[str, Any]) -> bool:
        now_s = self._now_ms() / 1_000
        if now_s >= _number(claims["exp"], -math.inf) + LEEWAY_S:
            return False
        begins = [claims[name] for name in ("nbf", "iat") if name in claims]
        return all(now_s >= _number(one, math.inf) - LEEWAY_S for one in begins)

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched | None:
        tenant = _claim(claims, self._settings.tenant_claim)
        role = _highest(_claim(claims, self._settings.role_claim))
        subject = claims["sub"]
        if role is None or not isinstance(tenant, str) or TENANT.fullmatch(tenant) is None:
            return None
        if not (isinstance(subject, str) and 0 < len(subject) <= SUBJECT_CHARS_MAX):
            return None
        principal = Principal(name=f"user:{subject}", via="http")
        ends_ms = int((_number(claims["exp"], 0) + LEEWAY_S) * 1_000)
        return Vouched(Caller(tenant, principal, role), ends_ms)

    async def _key(self, kid: str) -> jwt.PyJWK | None:
        if kid not in self._keys or self._is_older(KEYS_AGE_S):
            async with self._one_at_a_time:
                if kid not in self._keys or self._is_older(KEYS_AGE_S):
                    await self._look()
        if self._is_older(KEYS_KEPT_S):
            msg = "the keys of the issuer of tokens cannot be had"
            raise Unavailable(msg)
        return self._keys.get(kid)

    async def _look(self) -> None:
        now_s = self._now_s()
        if self._tried_s is not None and now_s - self._tried_s < RETRY_S:
            return
        self._tried_s = now_s
        try:
            self._keys = await self._fetch()
        except Unavailable as away:
            logger.warning("%s", away)
        else:
            self._read_s = now_s

    def _is_older(self, age_s: float) -> bool:
        return self._read_s is None or self._now_s() - self._read_s >= age_s

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        """The keys of the issuer, as it says now.

        Raises:
            Unavailable: it cannot be reached, or says something else.
        """
        base = self._settings.issuer
        async with _asking(base), self._http() as http:
            told = await _json(http, base.rstrip("/") + DISCOVERY)
            if told.get("issuer") != base:
                msg = f"{base} says that its name is another one"
                raise Unavailable(msg)
            place = told.get("jwks_uri")
            if not isinstance(place, str) or not fit(place):
                msg = f"{base} names no place of its keys that can be trusted"
                raise Unavailable(msg)
            listed = (await _json(http, place)).get("keys")
        keys = cast("Sequence[Any]", listed) if isinstance(listed, list) else ()
        found = [key for one in keys[:KEYS_MAX] if (key := _read(one)) is not None]
        return {str(key.key_id): key for key in found}


def fit(url: str) -> bool:
    """Whether what is said there can be trusted: HTTPS, or this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    )


def _client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=FETCH_S, follow_redirects=False, trust_env=False)


@asynccontextmanager
async def _asking(issuer: str) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(2 * FETCH_S):
            yield
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
        msg = f"{issuer} cannot be asked for its keys: {type(error).__name__}"
        raise Unavailable(msg) from error


async def _json(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    data = bytearray()
    async with http.stream("GET", url, headers={"Accept": "application/json"}) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            data += part
            if len(data) > FETCH_BYTES_MAX:
                msg = "too large"
                raise ValueError(msg)
    found: Any = orjson.loads(bytes(data))
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _read(told: Any) -> jwt.PyJWK | None:  # noqa: ANN401 - whatever the issuer says
    """A key that signs in a way we know; None for all others."""
    if not isinstance(told, dict):
        return None
    given = cast("dict[str, Any]", told)
    kind = given.get("kty")
    name = ALGORITHMS.get((str(kind), None if kind == "RSA" else given.get("crv")))
    if name is None or given.get("use", "sig") != "sig" or given.get("alg", name) != name:
        return None
    if not isinstance(given.get("kid"), str):
        return None
    try:
        key = jwt.PyJWK.from_dict(given, algorithm=name)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return key if name != "RS256" or key.key.key_size >= RSA_BITS_MIN else None


def _claim(claims: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """A claim by its name, or else by a path into objects."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = cast("Mapping[str, Any]", found).get(part)
    return found


def _highest(told: Any) -> Role | None:  # noqa: ANN401 - any JSON
    """The highest role that is told, alone or in a list among others that mean nothing to us."""
    said = cast("Sequence[Any]", told) if isinstance(told, list) else (told,)
    return next((role for role in reversed(ROLES) if role in said), None)


def _number(value: object, instead: float) -> float:
    """A time as a token says it, in seconds; what is none is worse than any."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return instead
    return float(value)
