"""Ids, settings, keys, projects, doors and interrupts: the parts the command is made of."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from domain.errors import Conflict, IntegrityViolated, NoSuchRun, Rejected, Unavailable
from domain.ids import TOKEN, RunRef
from eventlog.memory import MemoryServer
from peritus.cli.errors import cause_of, report
from peritus.cli.exits import Exit, epilog, exit_of
from peritus.cli.interrupts import interrupts
from peritus.door import Door
from peritus.ids import id_at, new_id
from peritus.keys import Keys
from peritus.project import Workspaces, find_project
from peritus.serve import check_services
from peritus.settings import Settings, load_settings

REF = RunRef("t", "job", "run")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nothing of Peritus is set."""
    for name in tuple(os.environ):
        if name.startswith("PERITUS_"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_ids_sort_by_the_time_they_were_made_at_and_fit_into_a_subject() -> None:
    assert id_at(1, 2**80 - 1) < id_at(2, 0) < id_at(2**40, 0)
    assert len({new_id() for _ in range(1_000)}) == 1_000
    assert TOKEN.match(new_id())
    assert len(new_id()) == 26


def test_every_wrong_setting_is_named_by_its_variable(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("PERITUS_DURABILITY", "forever")
    bare.setenv("PERITUS_GATEWAY_PORT", "99999")
    bare.setenv("PERITUS_NATS_URL", "localhost")

    with pytest.raises(Rejected) as caught:
        load_settings()

    lines = caught.value.message.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "PERITUS_NATS_URL",
        "PERITUS_DURABILITY",
        "PERITUS_GATEWAY_PORT",
    ]


def test_a_wrong_token_is_not_repeated_in_the_message(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("PERITUS_NATS_URL", "user:secret@host")

    with pytest.raises(Rejected) as caught:
        load_settings()

    assert "secret" not in caught.value.message


def test_what_is_given_goes_above_the_environment(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("PERITUS_TENANT", "a")
    bare.setenv("PERITUS_PREFIX", "")

    assert load_settings().tenant == "a"
    assert load_settings(tenant="b").tenant == "b"
    assert load_settings().prefix == "peritus"


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_key_comes_from_the_environment_before_any_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ONE=file\nTWO='from a' # comment\n")
    (tmp_path / "b").write_text("TWO=from b\nexport THREE=three\nFOUR=\n")
    keys = Keys([tmp_path / "a", tmp_path / "b", tmp_path / "none"], {"ONE": "set"})

    assert [keys(name) for name in ("ONE", "TWO", "THREE", "FOUR", "FIVE")] == [
        "set",
        "from a",
        "three",
        None,
        None,
    ]
    assert "THREE" not in os.environ


def test_a_file_of_keys_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"\xff\xfe=1")

    with pytest.raises(Rejected, match="keys"):
        Keys([tmp_path / "keys"], {})("ONE")


def test_the_state_lies_beside_the_nearest_definition(tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text("")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)

    project = find_project(deep, Settings())

    assert project.state == tmp_path / ".peritus"
    assert project.workspace == tmp_path / "workspace"
    assert find_project(deep, Settings(state_dir=deep)).state == deep


def test_the_workspace_of_a_job_is_the_same_in_every_process(tmp_path: Path) -> None:
    wanted = tmp_path / "work"
    Workspaces(tmp_path / "s", tmp_path / "all").assign(REF, wanted)
    other = Workspaces(tmp_path / "s", tmp_path / "all")

    assert other.of(REF) == wanted
    assert other.of(RunRef("t", "another", "run")) == tmp_path / "all" / "t" / "another"
    with pytest.raises(Rejected, match="keeps its workspace"):
        other.assign(REF, tmp_path / "elsewhere")


@pytest.mark.parametrize("inside", [".", "s", "link"])
def test_a_workspace_never_holds_the_state(tmp_path: Path, inside: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    workspaces = Workspaces(tmp_path / "s", tmp_path / "all")

    with pytest.raises(Rejected, match="must not reach"):
        workspaces.assign(REF, tmp_path / inside)


def test_every_error_has_its_exit_code() -> None:
    assert exit_of(NoSuchRun("x")) is Exit.USAGE
    assert exit_of(Rejected("run_exists", "no")) is Exit.REJECTED
    assert exit_of(Unavailable("away")) is Exit.UNAVAILABLE
    assert exit_of(IntegrityViolated("damaged")) is Exit.WRONG
    assert exit_of(Conflict("again")) is Exit.UNAVAILABLE
    assert all(f"{code.value}: " in epilog() for code in Exit)


def test_a_group_of_errors_is_about_the_one_raised_on_purpose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = BaseExceptionGroup("g", [KeyError("k"), ExceptionGroup("h", [Unavailable("away")])])

    assert isinstance(cause_of(group), Unavailable)
    assert report(group, debug=False) is Exit.UNAVAILABLE
    assert capsys.readouterr().err == "peritus: away\n"


def test_an_internal_error_hints_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyError("k"), debug=False) is Exit.WRONG
    assert "--debug" in capsys.readouterr().err


def test_a_gateway_for_other_machines_asks_for_a_credential() -> None:
    bare = Settings(gateway_host="0.0.0.0", gateway_auth="none")
    with pytest.raises(Rejected, match="PERITUS_GATEWAY_AUTH"):
        check_services((), bare)
    assert check_services(("loop",), bare) == {"loop"}
    assert check_services(("gateway",), Settings(gateway_host="0.0.0.0")) == {"gateway"}


@pytest.mark.anyio
async def test_the_first_interrupt_asks_and_the_second_leaves() -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    with interrupts(lambda: heard.put_nowait("first"), lambda: heard.put_nowait("second")):
        async with asyncio.timeout(5):
            os.kill(os.getpid(), signal.SIGINT)
            assert await heard.get() == "first"
            os.kill(os.getpid(), signal.SIGINT)
            assert await heard.get() == "second"
            os.kill(os.getpid(), signal.SIGTERM)
            assert await heard.get() == "second"
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(signal.SIGINT)
    loop.remove_signal_handler(signal.SIGTERM)


@pytest.mark.anyio
async def test_a_closed_door_lets_no_work_in_and_keeps_it_in_the_queue() -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    door = Door()
    behind = door.of(backbone)
    await backbone.work.put("tool", REF, b"one")
    async with asyncio.timeout(5):
        async with behind.work.consume("tool", in_flight_max=1) as found:
            first = await anext(found)
            await first.ack()
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(_next_of(found))
                await asyncio.sleep(0)
                door.close()
        assert waiting.result() is None
        assert await door.idle(1)
        await backbone.work.put("tool", REF, b"two")
        async with backbone.work.consume("tool", in_flight_max=1) as found:
            assert (await anext(found)).data == b"two"


async def _next_of(found: object) -> object:
    return await anext(found, None)  # type: ignore[call-overload]


@pytest.mark.anyio
async def test_a_worker_that_looks_after_some_runs_does_not_see_the_others() -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    other = RunRef("t", "other", "run")
    behind = Door().of(backbone, only=lambda ref: ref.job == REF.job)
    await behind.open_runs.add(REF)
    await behind.open_runs.add(other)

    assert await behind.open_runs.list() == [REF]
    await behind.open_runs.remove(REF)
    assert await backbone.open_runs.list() == [other]
