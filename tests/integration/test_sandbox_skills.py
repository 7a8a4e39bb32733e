"""Servers of skills in the sandbox service: where they run, what they get, who may call them."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from domain.definition import Definition, McpStdioSkill
from domain.errors import Unavailable
from domain.ids import RunRef
from domain.sandbox import MIB, SandboxLimits, SandboxSettings, SecretGrant
from domain.tools import Safety
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.policy import OperatorPolicy
from tests.integration.egress_world import Host
from tests.support.line_host import Desk, LineHost, line_skill, skilled, text_of
from tests.support.service import JOB, Place, Yard, place_fixture, plays, until

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

place = place_fixture


def yard_of(definition: Definition, host: LineHost | None = None) -> Yard:
    """Workers whose sandbox service has a skill host."""
    return Yard(definition, plays(boss=["done"]), host=host or LineHost())


@asynccontextmanager
async def desk(yard: Yard, place: Place) -> AsyncGenerator[Desk]:
    async with yard.sandboxed("e1", place) as lane:
        yield Desk(yard, lane)


async def test_a_server_works_in_the_workspace_and_serves_call_after_call(place: Place) -> None:
    host = LineHost()
    yard = yard_of(skilled(line=line_skill()), host)
    async with desk(yard, place) as at:
        assert await at.says("os.getcwd()") == "/workspace"
        pid = await at.says("os.getpid()")
        await at.says("pathlib.Path('made').write_text('by the server')")
        assert (place.workspace() / "made").read_text() == "by the server"
        (place.workspace() / "given").write_text("by us")
        assert await at.says("pathlib.Path('given').read_text()") == "by us"
        assert await at.says("os.getpid()") == pid, "it is the same server"
    (site,) = host.sites
    assert (site.tenant, site.folder) == ("acme", "/workspace")
    made = (place.workspace() / "made").stat()
    assert made.st_uid == place.workspace().stat().st_uid
    assert os.geteuid() != 0 or made.st_uid != 0, "root ran a server as root"


async def test_a_server_gets_what_it_requires_and_nothing_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C15: not the environment of the host, and not the secrets of its expert."""
    monkeypatch.setenv("OF_THE_HOST", "hunter2")
    settings = SandboxSettings(secrets=(SecretGrant(name="OF_THE_EXPERT"),))
    yard = yard_of(
        skilled(settings, line=line_skill(required_env=("TOKEN",), env={"MODE": "fast"}))
    )
    yard.secrets = {"TOKEN": "t0ken-of-the-skill", "OF_THE_EXPERT": "another-secret"}
    async with desk(yard, place) as at:
        assert await at.says("os.environ['TOKEN'] == 't0ken-of-' + 'the-skill'") is True
        assert await at.says("os.environ['MODE']") == "fast"
        names = await at.says("sorted(os.environ)")
    assert set(names) - {"PWD", "SHLVL", "_", "LC_CTYPE"} == {
        *("HOME", "LANG", "MODE", "PATH", "TERM", "TOKEN")
    }


@pytest.mark.parametrize(
    ("skill", "operator", "says"),
    [
        (
            line_skill(required_env=("OPENAI_API_KEY",)),
            OperatorPolicy(never=("OPENAI_API_KEY",)),
            "never enter a sandbox",
        ),
        (line_skill(required_env=("PERITUS_NATS_TOKEN",)), OperatorPolicy(), "never enter"),
        (line_skill(required_env=("A",)), OperatorPolicy(deliveries=("file",)), "SECRET_DELIVERY"),
        (line_skill(required_env=("UNKNOWN",)), OperatorPolicy(), "'UNKNOWN' is not set"),
        (
            line_skill(allowed_domains=("a.test", "b.test")),
            OperatorPolicy(egress=("a.test",)),
            "may not reach b.test",
        ),
        (line_skill(allowed_domains=("not a host",)), OperatorPolicy(), "a host that is none"),
    ],
)
async def test_a_skill_that_asks_for_what_is_not_allowed_is_told_so(
    place: Place, skill: McpStdioSkill, operator: OperatorPolicy, says: str
) -> None:
    yard = yard_of(skilled(line=skill))
    yard.operator = operator
    async with desk(yard, place) as at:
        with pytest.raises(Unavailable, match=says):
            await at.call("1")


async def test_a_server_reaches_the_hosts_of_its_skill_alone_and_that_is_counted(
    place: Place,
) -> None:
    """C16: neither those of its expert, nor the expert's commands those of the skill."""
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yard = yard_of(
            skilled(
                SandboxSettings(allowed_domains=("expert.test",)),
                line=line_skill(allowed_domains=("Skill.test",)),
                none=line_skill(),
            )
        )
        names: dict[str, str] = {"expert.test": "127.0.0.1", "skill.test": "127.0.0.1"}
        yard.egress = EgressSettings(ports=(port,), allow_cidrs=("127.0.0.0/8",), hosts=names)
        async with desk(yard, place) as at:
            reached = await at.call(fetch(f"skill.test:{port}"))
            refused = await at.call(fetch(f"expert.test:{port}"))
            nothing = await at.call(fetch(f"skill.test:{port}"), skill="none")
    assert text_of(reached) == "200"
    assert "403" in text_of(refused)
    assert "Error" in text_of(nothing)
    (row,) = reached.egress
    assert (row.host, row.port, row.verdict, row.connections) == ("skill.test", port, "allowed", 1)
    assert [(one.host, one.verdict) for one in refused.egress] == [("expert.test", "denied")]
    assert nothing.egress == ()


def fetch(where: str) -> str:
    return f"urllib.request.urlopen('http://{where}', timeout=20).status"


async def test_a_secret_that_the_expert_has_put_in_at_egress_is_a_stand_in_for_the_server(
    place: Place,
) -> None:
    """C15: then the server never has the value."""
    grant = SecretGrant(name="TOKEN", deliver="egress", hosts=("skill.test",))
    settings = SandboxSettings(secrets=(grant,))
    with_hosts = line_skill(required_env=("TOKEN",), allowed_domains=("skill.test",))
    without = line_skill(required_env=("TOKEN",))
    yard = yard_of(skilled(settings, line=with_hosts, none=without))
    yard.egress = EgressSettings()
    async with desk(yard, place) as at:
        with pytest.raises(Unavailable, match="no place for secrets is configured"):
            await at.call("1")
        with pytest.raises(Unavailable, match="reaches no host"):
            await at.call("1", skill="none")


async def test_a_server_of_an_expert_that_may_only_read_changes_nothing(place: Place) -> None:
    yard = yard_of(skilled(SandboxSettings(read_only=True), line=line_skill()))
    async with desk(yard, place) as at:
        said = await at.says("pathlib.Path('made').write_text('x')")
    assert "Read-only file system" in said
    assert not (place.workspace() / "made").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"skill": "other"}, "has no skill 'other'"),
        ({"skill": "@perstack/base"}, "that is a process"),
        ({"remote": "tool:gone"}, "not known to offer 'tool:gone'"),
        ({"remote": "prompt:run"}, "not known to offer"),
        ({"skill": "unknown"}, "not known to offer"),
    ],
)
async def test_a_tool_that_is_not_there_is_a_failure_the_model_reads(
    place: Place, more: dict[str, Any], says: str
) -> None:
    host = LineHost()
    yard = yard_of(skilled(line=line_skill(), unknown=line_skill(catalogue=None)), host)
    async with desk(yard, place) as at:
        result = await at.call("1", **more)
    assert result.is_error
    assert says in text_of(result)
    assert host.sites == []


async def test_a_worker_without_a_host_says_that_it_speaks_no_mcp(place: Place) -> None:
    yard = Yard(skilled(line=line_skill()), plays(boss=["done"]))
    async with desk(yard, place) as at:
        result = await at.call("1")
    assert result.is_error
    assert "speaks no MCP" in text_of(result)


async def test_a_program_that_is_missing_is_seen_by_whoever_speaks_with_it(place: Place) -> None:
    yard = yard_of(skilled(line=line_skill(command="nothing-of-that-name", args=())))
    async with desk(yard, place) as at:
        result = await at.call("1")
    assert (result.is_error, text_of(result)) == (True, "the server ended: 127")


async def test_equal_experts_share_a_server_and_others_do_not(place: Place) -> None:
    """What a server may do is part of where it is: an expert never uses a wider one."""
    base = skilled(line=line_skill())
    boss = base.experts["boss"]
    reader = boss.model_copy(update={"key": "reader", "sandbox": SandboxSettings(read_only=True)})
    same = boss.model_copy(update={"key": "same"})
    definition = base.model_copy(update={"experts": {"boss": boss, "reader": reader, "same": same}})
    host = LineHost()
    yard = yard_of(definition, host)
    child = JOB._replace(run="child")
    async with desk(yard, place) as at:
        await at.says("1")
        await at.says("1", expert="same", ref=child, parent=JOB.run)
        assert len(host.sites) == 1
        said = await at.says(
            "pathlib.Path('made').write_text('x')", expert="reader", ref=child, parent=JOB.run
        )
        assert "Read-only" in said
    assert len({site.key for site in host.sites}) == 2


async def test_a_delegate_that_works_apart_has_a_server_in_its_copy(place: Place) -> None:
    base = skilled(line=line_skill())
    boss = base.experts["boss"]
    settings = SandboxSettings(workspace="isolated")
    apart = boss.model_copy(update={"key": "apart", "sandbox": settings})
    yard = yard_of(base.model_copy(update={"experts": {"apart": apart, "boss": boss}}))
    child = JOB._replace(run="child")
    async with desk(yard, place) as at:
        await at.says("pathlib.Path('made').write_text('by the boss')")
        written = "pathlib.Path('made').read_text(), pathlib.Path('made').write_text('apart')"
        said = await at.says(written, expert="apart", ref=child, parent=JOB.run)
        assert said[0] == "by the boss"
        assert await at.says("pathlib.Path('made').read_text()") == "by the boss"


async def test_a_shared_server_sees_no_workspace_and_serves_all_jobs_of_a_tenant(
    place: Place,
) -> None:
    host = LineHost()
    yard = yard_of(skilled(SandboxSettings(read_only=True), line=line_skill(shared=True)), host)
    async with desk(yard, place) as at:
        assert await at.says("os.listdir('.')") == [".peritus"]
        pid = await at.says("pathlib.Path('kept').write_text('x') and os.getpid()")
        other = RunRef(JOB.tenant, "job2", "job2")
        assert await at.says("os.getpid()", ref=other) == pid
        stranger = RunRef("stranger", "job1", "job1")
        assert await at.says("os.listdir('.')", ref=stranger) == [".peritus"]
        assert [site.folder for site in host.sites] == [None, None]
        assert not place.workspace().exists()
        scratch = place.state.with_name(".scratch")
        assert len(list((scratch / "e1").iterdir())) == 2
    assert not (scratch / "e1").exists(), "its folder is gone with the worker"


async def test_a_server_that_fills_the_workspace_has_its_call_ended(place: Place) -> None:
    settings = SandboxSettings(limits=SandboxLimits(workspace_bytes=8 * MIB))
    yard = yard_of(skilled(settings, line=line_skill()))
    flood = "subprocess.run(['sh', '-c', 'head -c 64000000 /dev/zero >big; sleep 1000'])"
    async with desk(yard, place) as at:
        result = await at.call(flood)
        assert result.is_error
        assert json.loads(text_of(result))["error"] == "no_space"
        again = await at.call("1")
        assert json.loads(text_of(again))["error"] == "no_space", "it writes no more"
        assert await at.says("2", safety=Safety.READ_ONLY, remote="tool:look") == 2


async def test_a_call_that_only_looks_waits_for_nobody(place: Place) -> None:
    """Neither for the gate of the room nor for a snapshot that is due."""
    yard = yard_of(skilled(line=line_skill()))
    async with desk(yard, place) as at:
        service = await at.lane.service()
        await at.says("1")

        async def waits() -> bool:
            return service.due.waiting > 0

        with service.due.begun(JOB, 7):
            assert await at.says("2", safety=Safety.READ_ONLY, remote="tool:look") == 2
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(at.says("3"))
                await until("the call to wait for the snapshot", waits)
                assert not writing.done()
                service.due.captured(JOB, 7)
                assert await writing == 3
