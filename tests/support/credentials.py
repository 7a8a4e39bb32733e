"""Credentials of every kind, a clock to let them expire by, and an issuer on loopback. No tests."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eventlog.port import Backbone
from gateway.auth.issuer import Issuer, IssuerSettings
from gateway.auth.keys import KeyRing
from gateway.auth.means import Auth
from gateway.auth.rates import Rates
from gateway.auth.sessions import Sessions
from gateway.server import serve

AUDIENCE = "peritus"
BOUND_S = 15.0


@dataclass
class Clock:
    """Both clocks of a process, moved by hand."""

    seconds: float = 1_900_000_000.0

    def s(self) -> float:
        return self.seconds

    def ms(self) -> int:
        return int(self.seconds * 1_000)

    def pass_by(self, seconds: float) -> None:
        self.seconds += seconds


def auth_of(
    backbone: Backbone,
    clock: Clock,
    *,
    issuer: Issuer | None = None,
    rate: int | None = None,
    origins: tuple[str, ...] = (),
) -> Auth:
    return Auth(
        keys=KeyRing(backbone.registry, now_ms=clock.ms, now_s=clock.s),
        sessions=Sessions(backbone.registry, now_ms=clock.ms, now_s=clock.s),
        issuer=issuer,
        rates=None if rate is None else Rates(rate, clock.s),
        origins=frozenset(origins),
    )


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass
class Authority:
    """An issuer of tokens. What it says of itself can be changed while it runs."""

    clock: Clock
    issuer: str = ""
    keys: dict[str, tuple[str, PrivateKey]] = field(
        default_factory=dict[str, tuple[str, PrivateKey]]
    )
    says: dict[str, Any] = field(default_factory=dict[str, Any])
    """What its discovery document says instead."""
    more_keys: list[Any] = field(default_factory=list[Any])
    asked: list[str] = field(default_factory=list[str])
    down: bool = False
    body: bytes | None = None
    """What it answers to everything."""

    def new_key(self, kid: str, algorithm: str = "EdDSA") -> PrivateKey:
        key = MAKERS[algorithm]()
        self.keys[kid] = (algorithm, key)
        return key

    def token(self, kid: str, *, head: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token that is good unless changes make it worse; one that is None is left out."""
        algorithm, key = self.keys[kid]
        return jwt.encode(
            self.claims(**changes), key, algorithm=algorithm, headers={"kid": kid, **(head or {})}
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        now_s = int(self.clock.seconds)
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "alice",
            "iat": now_s,
            "exp": now_s + 600,
            "tenant": "acme",
            "role": "operator",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def app(self) -> Starlette:
        async def discovery(_: Request) -> Response:
            self.asked.append("discovery")
            known = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
            return self._answer(known | self.says)

        async def keys(_: Request) -> Response:
            self.asked.append("keys")
            return self._answer(
                {
                    "keys": [
                        *(public(kid, *made) for kid, made in self.keys.items()),
                        *self.more_keys,
                    ]
                }
            )

        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", discovery),
                Route("/keys", keys),
            ]
        )

    def _answer(self, value: object) -> Response:
        if self.down:
            return Response(status_code=500)
        return JSONResponse(value) if self.body is None else Response(self.body)


def public(kid: str, algorithm: str, key: PrivateKey) -> dict[str, Any]:
    """The public part of a key, as an issuer lists it."""
    maker = jwt.get_algorithm_by_name(algorithm)
    told = cast("Any", maker).to_jwk(key.public_key(), as_dict=True)
    return {**told, "kid": kid, "use": "sig", "alg": algorithm}


@asynccontextmanager
async def authority(clock: Clock) -> AsyncGenerator[Authority]:
    """An issuer that is there while the context is open."""
    made = Authority(clock)
    app = made.app()
    app.state.closing, app.state.guarded = asyncio.Event(), True
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(app, port=0, ready=url.set_result))
        try:
            async with asyncio.timeout(BOUND_S):
                made.issuer = await url
            yield made
        finally:
            serving.cancel()


def issuer_of(made: Authority, **changes: Any) -> Issuer:
    settings = IssuerSettings(made.issuer, AUDIENCE, **changes)
    return Issuer(
        settings,
        now_ms=made.clock.ms,
        now_s=made.clock.s,
        http=lambda: httpx2.AsyncClient(trust_env=False, timeout=BOUND_S),
    )
