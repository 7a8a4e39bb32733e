"""Tokens of an OpenID Connect issuer: which are good, whose keys count, how often it is asked."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from domain.errors import Unavailable
from gateway.auth.issuer import KEYS_AGE_S, KEYS_KEPT_S, LEEWAY_S, RETRY_S, Issuer
from tests.support.credentials import Authority, Clock, authority, issuer_of, public

pytestmark = pytest.mark.anyio


@pytest.fixture
async def made() -> AsyncGenerator[Authority]:
    async with authority(Clock()) as there:
        there.new_key("k1")
        yield there


async def who(issuer: Issuer, token: str) -> tuple[str, str, str] | None:
    vouched = await issuer.check(token)
    if vouched is None:
        return None
    caller = vouched.caller
    return caller.tenant, caller.principal.name, caller.role


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_says_who_comes_and_until_when(made: Authority, algorithm: str) -> None:
    made.new_key("k2", algorithm)
    vouched = await issuer_of(made).check(made.token("k2"))
    assert vouched is not None
    assert vouched.caller.tenant == "acme"
    assert vouched.caller.principal.name == "user:alice"
    assert vouched.caller.role == "operator"
    assert vouched.expires_at_ms == made.clock.ms() + 600_000 + LEEWAY_S * 1_000


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "somebody else"},
        {"aud": None},
        {"aud": []},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 201},
        {"exp": None},
        {"exp": 0},
        {"exp": "1900000600"},
        {"exp": True},
        {"nbf": 1_900_000_000 + 61},
        {"iat": 1_900_000_000 + 61},
        {"nbf": "soon"},
        {"tenant": None},
        {"tenant": "a.b"},
        {"tenant": "*"},
        {"tenant": ["acme"]},
        {"tenant": "x" * 65},
        {"role": None},
        {"role": "root"},
        {"role": ["root"]},
        {"role": {"admin": True}},
    ],
    ids=str,
)
async def test_a_token_with_one_wrong_claim_is_worth_nothing(
    made: Authority, changes: dict[str, Any]
) -> None:
    issuer = issuer_of(made)
    assert await who(issuer, made.token("k1", **changes)) is None
    assert await who(issuer, made.token("k1")) is not None


async def test_clocks_may_be_a_little_apart(made: Authority) -> None:
    issuer, now_s = issuer_of(made), int(made.clock.seconds)
    early = made.token("k1", nbf=now_s + int(LEEWAY_S), iat=now_s + int(LEEWAY_S))
    assert await who(issuer, early) is not None
    ends = made.token("k1", exp=now_s + 10)
    made.clock.pass_by(10 + LEEWAY_S - 1)
    assert await who(issuer, ends) is not None
    made.clock.pass_by(1)
    assert await who(issuer, ends) is None


async def test_a_token_may_be_meant_for_several(made: Authority) -> None:
    assert await who(issuer_of(made), made.token("k1", aud=["other", "peritus"])) is not None


async def test_claims_may_have_other_names_and_be_deep_inside(made: Authority) -> None:
    tenant = "https://peritus.example/tenant"
    issuer = issuer_of(made, tenant_claim=tenant, role_claim="realm.roles")
    roles = ["offline_access", "viewer", "admin"]
    claims: dict[str, Any] = {tenant: "umbrella", "realm": {"roles": roles}, "role": "viewer"}
    assert await who(issuer, made.token("k1", **claims)) == ("umbrella", "user:alice", "admin")
    claims["realm"] = ["admin"]
    assert await who(issuer, made.token("k1", **claims)) is None


def parts_of(token: str) -> tuple[dict[str, Any], str, str]:
    head, body, signature = token.split(".")
    return json.loads(base64.urlsafe_b64decode(head + "==")), body, signature


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


async def test_only_signatures_with_a_key_pair_of_the_issuer_count(made: Authority) -> None:
    issuer = issuer_of(made)
    made.new_key("rsa", "RS256")
    good = made.token("rsa")
    head, body, signature = parts_of(good)
    pem = (
        made.keys["rsa"][1]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    def with_head(**changes: Any) -> str:
        told = {name: value for name, value in (head | changes).items() if value is not None}
        return f"{encoded(json.dumps(told).encode())}.{body}"

    shared = with_head(alg="HS256")
    mac = encoded(hmac.digest(pem, shared.encode(), hashlib.sha256))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    wrong = [
        with_head(alg="none") + ".",
        with_head(alg="None") + ".",
        with_head(alg="none") + f".{signature}",
        f"{shared}.{mac}",  # signed with the public key as if it were a shared secret
        with_head(alg="RS512") + f".{signature}",
        with_head(alg="ES256") + f".{signature}",
        with_head(alg=None) + f".{signature}",
        with_head(kid=None) + f".{signature}",
        with_head(kid="k1") + f".{signature}",
        with_head(kid=["rsa"]) + f".{signature}",
        with_head(crit=["b64"], b64=False) + f".{signature}",
        jwt.encode(made.claims(), other, algorithm="RS256", headers={"kid": "rsa"}),
        jwt.encode(made.claims(), made.keys["rsa"][1], algorithm="RS512", headers={"kid": "rsa"}),
        good[:-4],
        f"{good}.x",
        f"{good[: good.rindex('.')]}.",
        "..",
        "a.b.c",
        f"{encoded(b'[]')}.{body}.{signature}",
    ]
    assert await who(issuer, good) is not None
    found = [await who(issuer, one) for one in wrong]
    assert found == [None] * len(wrong)


async def test_keys_that_do_not_sign_as_they_should_are_not_taken(made: Authority) -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    good = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made.more_keys = [
        {"kty": "oct", "kid": "shared", "k": encoded(b"x" * 32), "alg": "HS256"},
        public("small", "RS256", small),
        public("encrypts", "RS256", good) | {"use": "enc"},
        public("pss", "RS256", good) | {"alg": "PS256"},
        public("nameless", "RS256", good) | {"kid": 7},
        {"kty": "EC", "crv": "P-521", "kid": "curve", "x": "AA", "y": "AA"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        "nonsense",
        None,
    ]
    issuer = issuer_of(made)
    secret = jwt.encode(made.claims(), b"x" * 32, algorithm="HS256", headers={"kid": "shared"})
    tokens = [
        jwt.encode(made.claims(), good, algorithm="RS256", headers={"kid": kid})
        for kid in ("encrypts", "pss", "nameless", "curve", "broken")
    ]
    assert [await who(issuer, one) for one in (secret, *tokens)] == [None] * 6
    assert await who(issuer, made.token("k1")) is not None


async def test_keys_are_fetched_once_and_again_after_a_while(made: Authority) -> None:
    issuer, token = issuer_of(made), made.token("k1", exp=int(made.clock.seconds) + 86_400)
    for _ in range(3):
        assert await who(issuer, token) is not None
    assert made.asked == ["discovery", "keys"]
    made.clock.pass_by(KEYS_AGE_S)
    del made.keys["k1"]
    assert await who(issuer, token) is None
    assert made.asked == ["discovery", "keys"] * 2


async def test_a_new_key_is_looked_for_but_invented_ones_ask_no_more_often(made: Authority) -> None:
    issuer = issuer_of(made)
    assert await who(issuer, made.token("k1")) is not None
    made.new_key("k2")
    later = made.token("k2")
    assert await who(issuer, later) is None  # it was asked a moment ago
    made.clock.pass_by(RETRY_S)
    assert await who(issuer, later) is not None
    assert len(made.asked) == 4
    made.clock.pass_by(RETRY_S)
    for number in range(20):
        assert await who(issuer, made.token("k1", head={"kid": f"invented{number}"})) is None
    assert len(made.asked) == 6


async def test_many_who_come_at_once_ask_once(made: Authority) -> None:
    issuer, token = issuer_of(made), made.token("k1")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(who(issuer, token)) for _ in range(20)]
    assert all(one.result() is not None for one in asked)
    assert made.asked == ["discovery", "keys"]


async def test_while_the_issuer_is_away_its_keys_count_for_a_while(made: Authority) -> None:
    issuer, token = issuer_of(made), made.token("k1", exp=int(made.clock.seconds) + 86_400)
    made.down = True
    with pytest.raises(Unavailable):
        await issuer.check(token)
    made.down = False
    made.clock.pass_by(RETRY_S)
    assert await who(issuer, token) is not None
    made.down = True
    made.clock.pass_by(KEYS_KEPT_S - 1)
    assert await who(issuer, token) is not None
    made.clock.pass_by(1)
    with pytest.raises(Unavailable):
        await issuer.check(token)


@pytest.mark.parametrize(
    "says",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://evil.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://"},
    ],
    ids=str,
)
async def test_an_issuer_that_speaks_of_another_is_not_believed(
    made: Authority, says: dict[str, Any]
) -> None:
    made.says = says
    with pytest.raises(Unavailable):
        await issuer_of(made).check(made.token("k1"))
    assert made.asked == ["discovery"]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b"x" * 1_000_000])
async def test_nonsense_of_an_issuer_is_no_key(made: Authority, body: bytes) -> None:
    made.body = body
    with pytest.raises(Unavailable):
        await issuer_of(made).check(made.token("k1"))
