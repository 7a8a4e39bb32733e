"""What only Vertex has: tokens of default credentials. The rest is tried with all providers."""

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.providers_wire import WAYS, Way, asking
from tests.integration.wire_conversations import failure, generate
from tests.wire import google
from tests.wire.http import Plain, Received, Rejected, WireServer, serving
from tests.wire.script import Refusal, Reply

pytestmark = pytest.mark.anyio

on_both_ways = pytest.mark.parametrize(
    "way", [way for way in WAYS if way.provider == "google-vertex"], ids=str
)


class Tokens(Plain):
    """Where a service account gets its tokens (RFC 7523)."""

    path = "/token"

    def opened(self, received: Received) -> dict[str, Any]:
        return {name: values[0] for name, values in parse_qs(received.raw.decode()).items()}

    def check(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
        del headers
        if body.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            raise Rejected("unsupported grant", kind="unsupported_grant_type")
        if str(body.get("assertion")).count(".") != 2:
            raise Rejected("no JWT", kind="invalid_grant")

    def frames(self, answer: Any, body: dict[str, Any]) -> list[bytes]:
        del answer, body
        return []

    def error(self, refusal: Refusal) -> dict[str, Any]:
        if refusal.status == 200:
            return {"access_token": refusal.message, "expires_in": 3600, "token_type": "Bearer"}
        return {"error": refusal.type, "error_description": refusal.message}


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without default credentials; returns a folder of its own."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


@asynccontextmanager
async def service_account(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[WireServer]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    async with serving(Tokens()) as tokens:
        account = {
            "type": "service_account",
            "project_id": google.PROJECT,
            "private_key_id": "k1",
            "private_key": pem.decode(),
            "client_email": "wire@example.com",
            "token_uri": f"{tokens.url}/token",
        }
        file = folder / "account.json"
        file.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield tokens


@on_both_ways
async def test_default_credentials_give_a_token_that_is_used_until_it_ends(
    way: Way, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        service_account(nowhere, monkeypatch) as tokens,
        asking(way, {}) as (registry, wire),
    ):
        tokens.will(Refusal(200, message=google.TOKEN))
        wire.will(Reply(text="one"), Reply(text="two"))
        await generate(registry, way.request(wire.url))
        await generate(registry, way.request(wire.url))
    assert len(tokens.received) == 1
    assert len(wire.received) == 2


@on_both_ways
async def test_credentials_that_google_refuses_are_an_auth_failure(
    way: Way, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        service_account(nowhere, monkeypatch) as tokens,
        asking(way, {}) as (registry, wire),
    ):
        tokens.will(Refusal(400, "invalid_grant", "the account is gone"))
        failed = await failure(registry, way.request(wire.url))
    assert (failed.kind, failed.retryable) == ("auth", False)
    assert "the account is gone" in failed.message
    assert wire.received == []


@on_both_ways
@pytest.mark.usefixtures("nowhere")
async def test_missing_credentials_say_what_to_do(way: Way) -> None:
    async with asking(way, {}) as (registry, wire):
        failed = await failure(registry, way.request(wire.url))
    assert failed.kind == "missing_key"
    assert "GOOGLE_VERTEX_ACCESS_TOKEN" in failed.message
    assert "gcloud auth application-default login" in failed.message
    assert wire.received == []


@on_both_ways
@pytest.mark.usefixtures("nowhere")
async def test_package_that_is_not_installed_is_named(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    async with asking(way, {}) as (registry, wire):
        failed = await failure(registry, way.request(wire.url))
    assert failed.kind == "missing_package"
    assert "pip install 'peritus[vertex]'" in failed.message
    assert wire.received == []


@on_both_ways
async def test_token_that_is_given_needs_no_package(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    async with asking(way) as (registry, wire):
        wire.will(Reply(text="hi"))
        reply, _ = await generate(registry, way.request(wire.url))
    assert reply.stop_reason == "end"
