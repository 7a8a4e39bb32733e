"""A machine is lost for good: another one brings the job's files back, over real processes."""

import json
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from domain.content import TextPart
from domain.events import InputReceived, SandboxPlaced, ToolCallEnded
from peritus.feed import stored_events
from tests.e2e.processes import TOKEN, Watch, server, start_run, team, until

pytestmark = [pytest.mark.anyio, pytest.mark.broker, pytest.mark.sandbox, pytest.mark.faults]

DEFINITION = '[experts.helper]\ndescription = "Helps."\ninstruction = "Help."\n'
JOB = "moved"
CALLS = (
    "echo kept > f; mkdir -p d/empty; ln -s f l; chmod 640 f",
    "echo lost > g; touch begun; sleep 60",
    "ls -I begun -I g; cat f; stat -c %a f; readlink l; ls -d d/empty",
)


@pytest.fixture
def folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="peritus-places-") as name:
        made = Path(name)
        made.chmod(0o711)  # commands run as another user, who has to get to the workspace
        (made / "perstack.toml").write_text(DEFINITION)
        replies = [
            f'[[reply]]\ntext = "Go."\n[[reply.call]]\ntool = "exec"\n'
            f'arguments = {{ command = "sh", args = ["-c", {json.dumps(call)}] }}\n'
            for call in CALLS
        ]
        (made / "script.toml").write_text("".join([*replies, '[[reply]]\ntext = "done"\n']))
        yield made


async def test_another_machine_takes_a_job_over_with_its_files_and_the_model_is_told(
    folder: Path,
) -> None:
    async with server(folder / "nats") as (nats, backbone):
        shared = {
            "PERITUS_NATS_URL": nats.url,
            "PERITUS_NATS_TOKEN": TOKEN,
            "PERITUS_GATEWAY_PORT": "0",
            "PERITUS_GATEWAY_AUTH": "none",
        }
        here = {**shared, "PERITUS_WORKSPACES_DIR": str(folder / "a")}
        there = {**shared, "PERITUS_WORKSPACES_DIR": str(folder / "b")}
        with team(folder, here) as first, team(folder, there) as second:
            for name in ("loop", "gateway", "sandbox"):
                first.start(name)
            await first.ready()
            body = {"expert": "helper", "query": "Go.", "job": JOB}
            body |= {"provider": "scripted", "model": "script.toml"}
            ref = await start_run(first, body, "once")
            run = Watch(backbone, ref)

            async def begun() -> bool:
                stored = (await run.state()).snapshot is not None
                return stored and (folder / "a" / "default" / JOB / "begun").exists()

            await until("the second command", begun)
            first.living("sandbox")[0].kill()
            shutil.rmtree(folder / "a")
            second.start("sandbox")
            await second.ready()
            state = await run.at_rest()
        events = [one.event for one in await stored_events(backbone.log, [ref])]
    assert state.status == "completed", state.failure_message
    ended = {one.call: one for one in events if isinstance(one, ToolCallEnded)}
    assert [ended[f"c{step}-0"].outcome for step in (1, 2, 3)] == [
        "succeeded",
        "outcome_unknown",
        "succeeded",
    ]
    (part,) = ended["c3-0"].content
    assert isinstance(part, TextPart)
    assert isinstance(part.text, str)
    assert json.loads(part.text)["output"] == "d\nf\nl\nkept\n640\nf\nd/empty\n"
    placed = [one for one in events if isinstance(one, SandboxPlaced)]
    assert [one.number for one in placed] == [1, 2]
    assert placed[0].place != placed[1].place
    notes = [one for one in events if isinstance(one, InputReceived)]
    assert "again as they were after step 1" in str(notes[-1].parts)
