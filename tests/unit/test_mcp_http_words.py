"""What people and models read of an MCP server's refusals, and what they do not."""

import json

import httpx2
import pytest
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError, OAuthTokenError

from services.tool.mcp.http_failures import (
    EXCERPT_CHARS_MAX,
    error_answer,
    excerpt,
    refusal,
    request_id,
    rpc_error_code,
)
from services.tool.mcp.oauth_failures import LoginFailed, LoginNeeded, said_of

URL = "https://example.com/mcp"


def answer(
    status: int, body: bytes = b"", kind: str = "text/plain", after: str = ""
) -> httpx2.Response:
    headers = {"content-type": kind, "retry-after": after}
    return httpx2.Response(status, content=body, headers=headers)


def asked(body: object, method: str = "POST") -> httpx2.Request:
    return httpx2.Request(method, URL, content=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "ran"),
    [(401, False), (403, False), (429, False), (503, False), (502, None), (504, None)],
)
def test_a_refusal_says_whether_the_call_ran(status: int, ran: bool | None) -> None:  # noqa: FBT001
    text = refusal(answer(status), hint="do this")
    assert ("did not run" in text) is (ran is False)
    assert ("is not known" in text) is (ran is None)


def test_a_401_says_what_to_do() -> None:
    assert "peritus tools login" in refusal(answer(401), hint="`peritus tools login a b`")


@pytest.mark.parametrize(
    ("after", "words"),
    [("30", "after 30 s"), ("", "try again later"), ("Wed, 21 Oct 2026", "try again later")],
)
def test_only_a_number_of_seconds_is_passed_on(after: str, words: str) -> None:
    text = refusal(answer(429, after=after), hint="")
    assert words in text
    assert "Oct" not in text


def test_what_a_server_says_is_on_one_line_and_short() -> None:
    text = excerpt(answer(500, b"a\n  b\r\n" + b"c" * 1_000))
    assert text.startswith("a b ccc")
    assert len(text) == EXCERPT_CHARS_MAX + 1
    assert excerpt(answer(500, b"<html>", "text/html")) == ""
    assert excerpt(answer(500, b"\xff\xfe")) != ""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"jsonrpc": "2.0", "id": 7, "method": "tools/call"}, 7),
        ({"jsonrpc": "2.0", "id": "a", "method": "tools/call"}, "a"),
        ({"jsonrpc": "2.0", "method": "notifications/cancelled"}, None),
        ({"jsonrpc": "2.0", "id": 7, "result": {}}, None),
        ([], None),
        ("text", None),
    ],
)
def test_only_requests_have_an_id(body: object, found: str | int | None) -> None:
    assert request_id(asked(body)) == found
    assert request_id(asked(body, "GET")) is None


def test_an_answer_of_ours_is_an_error_of_the_protocol() -> None:
    request = asked({"jsonrpc": "2.0", "id": 7, "method": "tools/call"})
    made = error_answer(request, -32603, "no", status=503)
    assert made.status_code == 503
    assert made.json() == {"jsonrpc": "2.0", "id": 7, "error": {"code": -32603, "message": "no"}}
    assert rpc_error_code(made) == -32603


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"jsonrpc": "2.0", "error": {"code": 1}}', "text/plain"),
        (b'{"error": {"code": 1}}', "application/json"),
        (b'{"jsonrpc": "2.0", "error": 1}', "application/json"),
        (b'{"jsonrpc": "2.0", "error": {"code": "1"}}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"", "application/json"),
    ],
)
def test_what_is_no_error_of_the_protocol_has_no_code(body: bytes, kind: str) -> None:
    assert rpc_error_code(answer(500, body, kind)) is None


def test_of_a_refused_token_only_the_code_is_told() -> None:
    said = 'Token exchange failed (400): {"error":"invalid_grant","secret":"s3cret"}'
    assert said_of(OAuthTokenError(said)) == (
        "the authorisation server gave no token (400, invalid_grant)."
    )
    assert "s3cret" not in said_of(OAuthTokenError("Invalid token response: input s3cret"))
    assert "s3cret" not in said_of(OAuthRegistrationError("Registration failed: s3cret"))


@pytest.mark.parametrize("kind", [LoginNeeded, LoginFailed])
def test_what_we_say_of_a_login_ourselves_is_told_as_it_is(kind: type[OAuthFlowError]) -> None:
    assert said_of(kind("do this")) == "do this."


def test_another_failure_is_told() -> None:
    assert "issuer mismatch" in said_of(OAuthFlowError("issuer mismatch"))
