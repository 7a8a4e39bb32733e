"""Vertex as a server: Claude's address, Gemini's address, and a place for tokens. Not a model.

Sources: `lib/vertex/_client.py` of the `anthropic` SDK, cloud.google.com/vertex-ai `generative-ai/
docs/multimodal/call-gemini-using-openai-library`, and RFC 7523 (the grant of a service account).
"""

import re
from typing import Any
from urllib.parse import unquote

from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import Received, Rejected
from tests.wire.script import Refusal

Json = dict[str, Any]

TOKEN = "ya29.wire-token"
PROJECT = "wire-project"
LOCATION = "europe-west1"

CLAUDE = re.compile(
    rf"/v1/projects/{PROJECT}/locations/{LOCATION}/publishers/anthropic/models/"
    r"([^/:]+):streamRawPredict"
)
GEMINI = f"/v1/projects/{PROJECT}/locations/{LOCATION}/endpoints/openapi/chat/completions"


def _authorize(headers: dict[str, str]) -> None:
    if headers.get("authorization") != f"Bearer {TOKEN}":
        message = "Request had invalid authentication credentials."
        raise Rejected(message, status=401, kind="UNAUTHENTICATED")


class ClaudeOnVertex(AnthropicFormat):
    def opened(self, received: Received) -> Json:
        found = CLAUDE.fullmatch(received.path)
        if found is None:
            raise Rejected("not found", status=404, kind="NOT_FOUND")
        body = received.body
        if "model" in body:
            raise Rejected("model: Extra inputs are not permitted")
        return {**body, "model": unquote(found[1])}

    def authorize(self, headers: dict[str, str]) -> None:
        _authorize(headers)

    def version(self, headers: dict[str, str], body: Json) -> str:
        if "anthropic-version" in headers:
            raise Rejected("anthropic-version: belongs into the body")
        version = body.pop("anthropic_version", None)
        if version is None:
            raise Rejected("anthropic_version: Field required")
        return str(version)


class GeminiOnVertex(ChatFormat):
    path = GEMINI

    def opened(self, received: Received) -> Json:
        if received.path != self.path:
            raise Rejected("not found", status=404, kind="NOT_FOUND")
        return received.body

    def authorize(self, headers: dict[str, str]) -> None:
        _authorize(headers)

    def check(self, headers: dict[str, str], body: Json) -> None:
        if not body["model"].startswith("google/"):
            raise Rejected("Malformed publisher model.", kind="INVALID_ARGUMENT")
        super().check(headers, body)

    def error(self, refusal: Refusal) -> Any:
        error = {"code": refusal.status, "message": refusal.message, "status": refusal.type}
        return [{"error": error}]
