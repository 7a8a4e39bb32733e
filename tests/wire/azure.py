"""Azure OpenAI as a server: both forms of its addresses, and its key. Not a model.

Sources: `lib/azure.py` of the `openai` SDK, and learn.microsoft.com/azure/ai-services/openai
`reference` (deployments in the address) and `api-version-lifecycle` (the v1 API).
"""

import re
from typing import Any
from urllib.parse import unquote

from tests.wire.chat import ChatFormat
from tests.wire.http import Received, Rejected
from tests.wire.responses import ResponsesFormat

Json = dict[str, Any]

KEY = "azure-wire-key"
DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/chat/completions")


def _authorize(headers: dict[str, str]) -> None:
    if headers.get("api-key") != KEY or "authorization" in headers:
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        raise Rejected(message, status=401)


class AzureResponses(ResponsesFormat):
    def __init__(self, *, version: str) -> None:
        super().__init__()
        self._version = version

    def opened(self, received: Received) -> Json:
        if received.path != "/openai/v1/responses":
            raise Rejected("Resource not found", status=404)
        if received.query != f"api-version={self._version}":
            raise Rejected("API version not supported")
        return received.body

    def authorize(self, headers: dict[str, str]) -> None:
        _authorize(headers)


class AzureDeployment(ChatFormat):
    def __init__(self, *, version: str) -> None:
        super().__init__()
        self._version = version

    def opened(self, received: Received) -> Json:
        found = DEPLOYMENT.fullmatch(received.path)
        if found is None:
            raise Rejected("Resource not found", status=404)
        if received.query != f"api-version={self._version}":
            raise Rejected("API version not supported", status=404)
        return {**received.body, "model": unquote(found[1])}

    def authorize(self, headers: dict[str, str]) -> None:
        _authorize(headers)
