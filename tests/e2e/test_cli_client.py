"""`peritus.client` and a client of OpenAI on what `peritus serve` serves, with the key it made."""

import asyncio
from pathlib import Path

import openai
import pytest

from peritus.client import AsyncClient, Client, Delta, End, Heard, SoFar
from tests.e2e.cli_project import Project
from tests.e2e.processes import TOKEN, server, team

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.slow]

BOUND_S = 60.0
DEFINITION = """\
[experts.helper]
instruction = "Help."
provider = "scripted"
model = "helper.toml"
[experts.helper.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
"""
SAID = "All of it is done, and it was a lot of work."


async def test_clients_find_the_key_and_hear_a_run_as_it_is_made(project: Project) -> None:
    (project.folder / "perstack.toml").write_text(DEFINITION)
    (project.folder / "helper.toml").write_text(f'[[reply]]\ntext = "{SAID}"\ndelay_ms = 200\n')
    state = project.folder / ".peritus"
    async with asyncio.timeout(BOUND_S), server(project.folder / "nats") as (nats, _):
        settings = {"PERITUS_NATS_URL": nats.url, "PERITUS_NATS_TOKEN": TOKEN}
        with team(project.folder, {**settings, "PERITUS_GATEWAY_PORT": "0"}) as services:
            services.start("gateway", "loop", "projections")
            await services.ready()
            url = services.urls[0]
            async with AsyncClient(url, state_dir=state) as peritus:
                started = await peritus.start("helper", "Go")
                frames = [frame async for frame in peritus.stream(started, live=True)]
                result = await peritus.result(started)
            blocking = await asyncio.to_thread(shown, url, state, started.run)
            async with openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key=(state / "gateway.key").read_text().strip()
            ) as other:
                stream = await other.chat.completions.create(
                    model="helper", messages=[{"role": "user", "content": "Go"}], stream=True
                )
                texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    live = ""
    for frame in frames:
        if isinstance(frame, SoFar):
            live = frame.text
        elif isinstance(frame, Delta) and frame.offset <= len(live):
            live = live[: frame.offset] + frame.text
    assert SAID.startswith(live)
    assert [type(frames[-1]), result.text, blocking] == [End, SAID, SAID]
    heard = [frame.event.type for frame in frames if isinstance(frame, Heard)]
    assert (heard[0], heard[-1]) == ("run.started.v2", "run.completed.v2")
    assert "".join(texts) == SAID


def shown(url: str, state: Path, run: str) -> str:
    """What the blocking form knows of a run."""
    with Client(url, state_dir=state) as peritus:
        return peritus.result(run).text
