"""Two workers of one place live: one is stopped past its lease, and goes on (rule 6, C16)."""

import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from commands.client import CommandClient
from domain.commands import ContinueRun
from domain.content import TextPart
from domain.events import SandboxPlaced, ToolCallEnded
from peritus.feed import stored_events
from tests.e2e.processes import TOKEN, Watch, server, start_run, team, until
from tests.support.freezing import freeze, thaw

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.faults]

DEFINITION = '[experts.helper]\ndescription = "Helps."\ninstruction = "Help."\n'
SCRIPT = """\
[[reply]]
text = "Begin."
[[reply.call]]
tool = "exec"
arguments = { command = "sh", args = ["-c", "echo kept > f"] }

[[reply]]
text = "Rest."

[[reply]]
text = "Go on."
[[reply.call]]
tool = "exec"
arguments = { command = "sh", args = ["-c", "cat f; echo x >> ran"] }

[[reply]]
text = "done"
"""


@pytest.fixture
def folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="peritus-frozen-") as name:
        made = Path(name)
        made.chmod(0o711)  # commands run as another user, who has to get to the workspace
        (made / "perstack.toml").write_text(DEFINITION)
        (made / "script.toml").write_text(SCRIPT)
        yield made


async def test_a_worker_that_was_stopped_past_its_lease_does_not_run_what_another_has_run(
    folder: Path,
) -> None:
    """The call waits in the stopped one's own lane, by the number with which it held the job."""
    async with server(folder / "nats") as (nats, backbone):
        settings = {
            "PERITUS_NATS_URL": nats.url,
            "PERITUS_NATS_TOKEN": TOKEN,
            "PERITUS_GATEWAY_PORT": "0",
            "PERITUS_GATEWAY_AUTH": "none",
            "PERITUS_WORKSPACES_DIR": str(folder / "place"),
        }
        with team(folder, settings) as services:
            for name in ("loop", "gateway", "sandbox"):
                services.start(name)
            await services.ready()
            body = {"expert": "helper", "query": "Go.", "job": "frozen"}
            body |= {"provider": "scripted", "model": "script.toml"}
            ref = await start_run(services, body, "once")
            run = Watch(backbone, ref)
            await run.at_rest()
            stopped = services.living("sandbox")[0]
            services.start("sandbox")
            await services.ready()

            freeze(stopped.pid)
            more = ContinueRun(id="more", parts=(TextPart(text="go on"),))
            await CommandClient(backbone).submit(ref, more, "more")
            state = await run.at_rest()
            thaw(stopped.pid)
            await until("all work to be over", lambda: nothing_waits(nats.url))
        events = [one.event for one in await stored_events(backbone.log, [ref])]
    assert state.result == "done", state.failure_message
    assert [one.outcome for one in events if isinstance(one, ToolCallEnded)] == ["succeeded"] * 2
    placed = [one for one in events if isinstance(one, SandboxPlaced)]
    assert [one.number for one in placed] == [1, 2]
    assert (placed[0].place, placed[0].lost) == (placed[1].place, "")
    ran = folder / "place" / "default" / "frozen" / "ran"
    assert ran.read_text() == "x\n", "the worker that had been stopped ran the call again"


async def nothing_waits(url: str) -> bool:
    """Whether no queue of work holds a message, nor anybody one that is at work."""
    client: Any = Client()  # its types are not complete
    await client.connect(url, token=TOKEN)
    try:
        streams = [one for one in await client.jsm().streams_info() if "WORK" in one.config.name]
        assert streams
        return not any(one.state.messages for one in streams)
    finally:
        await client.close()
