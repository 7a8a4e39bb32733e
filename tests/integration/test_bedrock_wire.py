"""What only Bedrock has: signatures, identities and binary events. The rest is tried with all."""

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.loop.models.port import FailureKind
from tests.integration.providers_wire import AWS_KEYS, ON_BEDROCK, WAYS, asking
from tests.integration.wire_conversations import failure, generate
from tests.wire import bedrock
from tests.wire.script import Refusal, Reply

pytestmark = pytest.mark.anyio

WAY = next(way for way in WAYS if way.provider == "amazon-bedrock")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without an identity at AWS; returns the file that its identity would be in."""
    for name in (*AWS_KEYS, "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    shared = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return shared


@pytest.fixture
def somebody(nowhere: Path) -> None:
    """A machine that has an identity at AWS."""
    nowhere.write_text(
        f"[default]\naws_access_key_id = {bedrock.ACCESS_KEY}\n"
        f"aws_secret_access_key = {bedrock.SECRET_KEY}\naws_session_token = {bedrock.SESSION}\n"
    )


async def test_body_holds_the_version_and_neither_model_nor_stream() -> None:
    async with asking(WAY) as (registry, wire):
        wire.will(Reply(text="hi"))
        await generate(registry, WAY.request(wire.url))
    body = wire.received[0].body
    assert body["anthropic_version"] == "2026-10-21"
    assert not {"model", "stream"} & body.keys()
    assert wire.received[0].path.count(ON_BEDROCK) == 1


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
async def test_request_signed_with_something_else_is_an_auth_failure(name: str) -> None:
    async with asking(WAY, {**AWS_KEYS, name: "something else"}) as (registry, wire):
        failed = await failure(registry, WAY.request(wire.url))
    assert (failed.kind, failed.status) == ("auth", 403)


async def test_bearer_token_needs_no_signature() -> None:
    keys = {"AWS_BEARER_TOKEN_BEDROCK": bedrock.BEARER}
    async with asking(WAY, keys) as (registry, wire):
        wire.will(Reply(text="hi"))
        await generate(registry, WAY.request(wire.url))
    assert wire.received[0].headers["authorization"] == f"Bearer {bedrock.BEARER}"


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({}, "AWS_BEARER_TOKEN_BEDROCK"),
        ({"AWS_ACCESS_KEY_ID": bedrock.ACCESS_KEY}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": bedrock.SECRET_KEY}, "AWS_ACCESS_KEY_ID"),
    ],
)
@pytest.mark.usefixtures("nowhere")
async def test_missing_keys_are_named(keys: Mapping[str, str], missing: str) -> None:
    async with asking(WAY, keys) as (registry, wire):
        failed = await failure(registry, WAY.request(wire.url))
    assert (failed.kind, failed.retryable) == ("missing_key", False)
    assert missing in failed.message
    assert wire.received == []


@pytest.mark.usefixtures("somebody")
async def test_without_keys_the_identity_of_the_machine_signs() -> None:
    async with asking(WAY, {}) as (registry, wire):
        wire.will(Reply(text="hi"))
        reply, _ = await generate(registry, WAY.request(wire.url))
    assert reply.stop_reason == "end"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("throttlingException", "rate_limited"),
        ("serviceUnavailableException", "overloaded"),
        ("internalServerException", "server"),
        ("modelStreamErrorException", "server"),
        ("modelTimeoutException", "timeout"),
        ("validationException", "rejected"),
    ],
)
async def test_exception_in_the_stream_is_classified(error: str, kind: FailureKind) -> None:
    async with asking(WAY) as (registry, wire):
        wire.will(Reply(text="broken in the middle", error_at=4, error=error))
        failed = await failure(registry, WAY.request(wire.url))
    assert failed.kind == kind
    assert failed.usage is not None  # the first event told the input
    assert "Overloaded" in failed.message


async def test_model_that_broke_is_asked_again() -> None:
    async with asking(WAY) as (registry, wire):
        wire.will(Refusal(424, message="the model broke"))
        failed = await failure(registry, WAY.request(wire.url))
    assert (failed.kind, failed.retryable) == ("server", True)


@pytest.mark.usefixtures("nowhere")
async def test_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with asking(WAY, {}) as (registry, wire):
        failed = await failure(registry, WAY.request(wire.url))
    assert failed.kind == "missing_key"
    assert "nobody" in failed.message


async def test_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    async with asking(WAY) as (registry, wire):
        failed = await failure(registry, WAY.request(wire.url))
    assert (failed.kind, failed.retryable) == ("missing_package", False)
    assert "pip install 'peritus[bedrock]'" in failed.message
    assert wire.received == []
