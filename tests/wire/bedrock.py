"""Claude on Amazon Bedrock as a server: addresses, signatures and binary events. Not a model.

Sources: `lib/bedrock/_client.py` and `_stream_decoder.py` of the `anthropic` SDK (the address and
what of the body moves there), docs.aws.amazon.com `IAM/latest/UserGuide/reference_sigv-create-signed-request`
(Signature Version 4), `transcribe/latest/dg/streaming-setting-up` (the event stream encoding) and
`bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream` (events and exceptions).
"""  # noqa: E501 - an address

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
from typing import Any
from urllib.parse import quote, unquote

from tests.wire.anthropic import AnthropicFormat
from tests.wire.http import Received, Rejected
from tests.wire.script import Refusal, Reply

Json = dict[str, Any]

ACCESS_KEY = "AKIAWIRETESTKEY"
SECRET_KEY = "wire/secret+key"
SESSION = "wire-session-token"
BEARER = "wire-bearer-token"
REGION = "eu-central-1"

PATH = re.compile(r"/model/([^/]+)/invoke-with-response-stream")


class BedrockFormat(AnthropicFormat):
    content_type = "application/vnd.amazon.eventstream"
    path = "/model/anthropic.claude/invoke-with-response-stream"

    def __init__(self, *, access_key: str = ACCESS_KEY, session: str | None = None) -> None:
        super().__init__()
        self._access_key = access_key
        self._session = session

    def opened(self, received: Received) -> Json:
        found = PATH.fullmatch(received.path)
        if found is None:
            raise Rejected("UnknownOperationException", status=404)
        self._verify(received)
        body = received.body
        for name in ("model", "stream"):
            if name in body:
                raise Rejected(f"{name}: extraneous key [{name}] is not permitted")
        return {**body, "model": unquote(found[1]), "stream": True}

    def authorize(self, headers: dict[str, str]) -> None:
        """The signature has been checked."""

    def version(self, headers: dict[str, str], body: Json) -> str:
        if "anthropic-version" in headers:
            raise Rejected("anthropic-version: belongs into the body")
        version = body.pop("anthropic_version", None)
        if version is None:
            raise Rejected("anthropic_version: required key [anthropic_version] not found")
        return str(version)

    def frames(self, answer: Reply, body: Json) -> list[bytes]:
        frames = [
            message({":message-type": "event", ":event-type": "chunk"}, _chunk(event))
            for event in self.events(answer, body)
        ]
        if answer.error_at is not None:
            headers = {":message-type": "exception", ":exception-type": answer.error}
            frames[answer.error_at] = message(headers, {"message": "Overloaded"})
        return frames

    def error(self, refusal: Refusal) -> Json:
        return {"message": refusal.message}

    def _verify(self, received: Received) -> None:
        """Signature Version 4, or the bearer token."""
        authorization = received.headers.get("authorization", "")
        if authorization == f"Bearer {BEARER}":
            return
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/bedrock/aws4_request,"
            r" ?SignedHeaders=([\w;-]+), ?Signature=([0-9a-f]{64})",
            authorization,
        )
        if found is None:
            raise Rejected("Missing Authentication Token", status=403)
        key, day, region, names, signature = found.groups()
        signed = names.split(";")
        if not {"host", "x-amz-date"} <= set(signed):
            raise Rejected("'Host' and 'X-Amz-Date' must be signed", status=403)
        if self._session is not None and (
            received.headers.get("x-amz-security-token") != self._session
            or "x-amz-security-token" not in signed
        ):
            raise Rejected("The security token included in the request is invalid.", status=403)
        expected = _signature(received, day, region, signed)
        if key != self._access_key or region != REGION or signature != expected:
            raise Rejected(
                "The request signature we calculated does not match the signature you provided.",
                status=403,
            )


def _signature(received: Received, day: str, region: str, signed: list[str]) -> str:
    canonical = "\n".join(
        [
            "POST",
            quote(received.path, safe="/-_.~"),
            received.query,
            *(f"{name}:{' '.join(received.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(received.raw).hexdigest(),
        ]
    )
    scope = f"{day}/{region}/bedrock/aws4_request"
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            received.headers["x-amz-date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, region, "bedrock", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _chunk(event: Json) -> Json:
    data = base64.b64encode(json.dumps(event).encode()).decode()
    return {"bytes": data, "p": "abcdef"}  # `p` is padding against guesses at the length


def message(headers: dict[str, str], payload: Json) -> bytes:
    """One message of an event stream: a prelude with its checksum, headers, payload, checksum."""
    encoded = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in {**headers, ":content-type": "application/json"}.items()
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(encoded) + len(data), len(encoded))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + encoded + data
    return whole + struct.pack(">I", binascii.crc32(whole))
