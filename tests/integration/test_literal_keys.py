"""A key in a definition file reaches the provider, and nothing that is kept (C15)."""

import asyncio
from pathlib import Path

import pytest

from eventlog.embedded import join_state_folder
from peritus.api import Peritus
from services.secrets.config import SecretsConfig
from tests.support.canary import Canary
from tests.wire.chat import ChatFormat
from tests.wire.http import KEY, WireServer, serving
from tests.wire.script import Reply

TOKEN = "t0ken-that-only-a-file-has"

DEFINITION = """\
[provider]
providerName = "openai-chat"
[provider.setting]
baseUrl = "{url}/v1"
headers = {{ Authorization = "Bearer {key}", "X-Proxy-Token" = "{token}" }}

[experts.hello]
model = "m"
instruction = "Greet."
"""


@pytest.mark.anyio
@pytest.mark.broker
async def test_keys_in_a_file_are_sent_and_no_event_or_blob_holds_them(tmp_path: Path) -> None:
    canary = Canary({"AUTH": KEY, "PROXY": TOKEN}, SecretsConfig(), {}, frozenset())
    async with asyncio.timeout(60), serving(ChatFormat()) as wire:
        text = DEFINITION.format(url=wire.url, key=KEY, token=TOKEN)
        (tmp_path / "perstack.toml").write_text(text)
        wire.will(Reply(text=f"My token is {TOKEN}, my key is {KEY}."))
        async with Peritus.embedded(tmp_path) as peritus:
            run = await peritus.start("hello", f"Say {TOKEN}.")
            result = await run.result()
            state = tmp_path / ".peritus"
            async with join_state_folder(state, "process") as endpoint:
                shown = await canary.shown_in_streams(endpoint.url, endpoint.token, "peritus")
        _was_sent(wire)
    assert result.status == "completed"
    assert "[secret:OPENAI_CHAT_HEADER_X_PROXY_TOKEN]" in result.text
    assert "[secret:OPENAI_CHAT_HEADER_AUTHORIZATION]" in result.text
    assert shown == []
    assert canary.shown_below(tmp_path / ".peritus") == []


def _was_sent(wire: WireServer) -> None:
    (received,) = wire.received
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["x-proxy-token"] == TOKEN
