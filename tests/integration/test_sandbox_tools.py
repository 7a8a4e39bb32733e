"""The base skill's tool box: what a model sends, and what it gets to read."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.tools.reading import ENTRIES_MAX, READ_BYTES_MAX
from tests.support.seats import WAIT_S, Bench, answer, bench, call_of, unheard

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with bench(tmp_path) as opened:
        yield opened


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_a_file_is_written_read_and_edited(box: Bench, tmp_path: Path) -> None:
    assert await box.done("writeTextFile", path="d/a.txt", text="one\ntwö\n") == {
        "path": "d/a.txt",
        "bytes": 9,
        "created": True,
    }
    assert await box.done("readTextFile", path="d/a.txt") == {
        "path": "d/a.txt",
        "content": "one\ntwö\n",
        "from": 0,
        "to": 2,
        "totalLines": 2,
    }
    assert await box.done("editTextFile", path="d/a.txt", oldText="twö", newText="$& \\1") == {
        "path": "d/a.txt",
        "bytes": 10,
        "line": 1,
    }
    assert (tmp_path / "d/a.txt").read_bytes() == b"one\n$& \\1\n"


@pytest.mark.parametrize(
    ("bounds", "content"),
    [
        ({}, "a\nb\r\nc"),
        ({"from": 1}, "b\r\nc"),
        ({"to": 1}, "a\n"),
        ({"from": 1, "to": 2}, "b\r\n"),
        ({"from": 1, "to": 1}, ""),
        ({"from": 9}, ""),
        ({"from": 2, "to": 99}, "c"),
    ],
)
async def test_lines_count_from_zero_and_stop_before_the_end(
    box: Bench, tmp_path: Path, bounds: dict[str, int], content: str
) -> None:
    (tmp_path / "a").write_bytes(b"a\nb\r\nc")
    read = await box.done("readTextFile", path="a", **bounds)
    assert (read["content"], read["totalLines"]) == (content, 3)


async def test_an_empty_file_has_no_lines(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    read = await box.done("readTextFile", path="empty")
    assert (read["content"], read["to"], read["totalLines"]) == ("", 0, 0)


async def test_more_than_one_answer_holds_is_refused_but_can_be_read_in_parts(
    box: Bench, tmp_path: Path
) -> None:
    lines = READ_BYTES_MAX // 8
    (tmp_path / "long").write_text("0123456789\n" * lines)
    said = await box.failed("readTextFile", path="long")
    assert (said["error"], said["totalLines"]) == ("too_large", lines)
    assert (await box.done("readTextFile", path="long", **{"from": 3, "to": 5}))["to"] == 5


async def test_what_is_not_text_is_not_read_or_edited(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\x89PNG\xff")
    assert (await box.failed("readTextFile", path="image"))["error"] == "not_text"
    edit = await box.failed("editTextFile", path="image", oldText="PNG", newText="x")
    assert edit["error"] == "not_text"


async def test_an_edit_needs_exactly_one_match(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same\nsame\n")
    none = await box.failed("editTextFile", path="a", oldText="other", newText="x")
    many = await box.failed("editTextFile", path="a", oldText="same", newText="x")
    assert (none["error"], none["count"]) == ("no_match", 0)
    assert (many["error"], many["count"]) == ("not_unique", 2)
    assert (tmp_path / "a").read_text() == "same\nsame\n"


async def test_an_edit_keeps_the_line_endings_of_the_file(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "dos").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    await box.done("editTextFile", path="dos", oldText="one\ntwo", newText="1\n2\n2b")
    assert (tmp_path / "dos").read_bytes() == b"1\r\n2\r\n2b\r\nthree\r\n"
    (tmp_path / "mixed").write_bytes(b"one\r\ntwo\nthree")
    await box.done("editTextFile", path="mixed", oldText="two\nthree", newText="2\n3")
    assert (tmp_path / "mixed").read_bytes() == b"one\r\n2\n3"


async def test_edits_of_one_file_at_the_same_time_all_happen(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(" ".join(f"word{number}." for number in range(20)))
    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(
                box.done("editTextFile", path="a", oldText=f"word{number}.", newText=f"{number}")
            )
    assert (tmp_path / "a").read_text() == " ".join(str(number) for number in range(20))


async def test_a_listing_describes_its_entries(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("123")
    (tmp_path / "link").symlink_to("/etc/passwd")
    listing = await box.done("listDirectory")
    assert (listing["path"], listing["total"]) == (".", 2)
    assert [(item["name"], item["type"]) for item in listing["items"]] == [
        ("file", "file"),
        ("link", "symlink"),
    ]
    assert listing["items"][0]["size"] == 3
    assert listing["items"][0]["modified"].endswith("+00:00")


async def test_a_long_listing_says_that_it_is_cut(box: Bench, tmp_path: Path) -> None:
    for number in range(ENTRIES_MAX + 1):
        (tmp_path / str(number)).touch()
    listing = await box.done("listDirectory", path="/workspace")
    assert (len(listing["items"]), listing["total"]) == (ENTRIES_MAX, ENTRIES_MAX + 1)
    assert listing["truncated"] is True


@pytest.mark.parametrize(
    ("tool", "arguments", "hint"),
    [
        ("readTextFile", '{"path": "a", "form": 1}', "did you mean 'from'"),
        ("readTextFile", '{"path": 5}', "'path'"),
        ("readTextFile", '{"path": "a", "from": 3, "to": 1}', "before"),
        ("writeTextFile", '{"path": "a"}', "'text' is missing"),
        ("editTextFile", '{"path": "a", "old_text": "x", "newText": "y"}', "'oldText'"),
        ("exec", '{"command": "ls", "arguments": []}', "it takes command, args"),
        ("exec", '{"command": "ls", "shell": "ls"}', "either command or shell"),
        ("exec", '{"shell": "ls", "args": ["-l"]}', "put them into shell"),
        ("startProcess", "{}", "either command or shell"),
        ("editTextFile", '{"path": "a", "oldText": "x"}', "both oldText and newText"),
        ("editTextFile", '{"path": "a", "edits": []}', "'edits'"),
        (
            "editTextFile",
            '{"path": "a", "oldText": "x", "edits": [{"oldText": "x", "newText": "y"}]}',
            "edits",
        ),
        ("editTextFile", '{"path": "a", "edits": [{"oldText": "x"}]}', "'edits.0.newText'"),
        ("exec", '{"command": "ls"', "JSON"),
        ("exec", '["ls"]', "JSON object"),
        ("exec", "", "either command or shell"),
        ("exec", '{"command": "ls", "args": ["a\\u0000b"]}', "NUL"),
        ("exec", '{"command": "ls", "env": {"A=B": "c"}}', "A=B"),
        ("exec", '{"command": "-c"}', "option"),
    ],
)
async def test_wrong_arguments_are_named(
    box: Bench, tmp_path: Path, tool: str, arguments: str, hint: str
) -> None:
    (tmp_path / "a").write_text("x")
    result = await box.run(call_of(tool, arguments))
    said = answer(result)
    assert result.is_error
    assert said["error"] == "invalid_arguments"
    assert hint in said["message"]


@pytest.mark.parametrize("tool", ["todo", "attemptCompletion", "rm", ""])
async def test_a_tool_of_another_lane_is_unknown_here(box: Bench, tool: str) -> None:
    assert (await box.failed(tool))["error"] == "unknown_tool"


@pytest.mark.parametrize("command", ["ls -la", "cat a | wc", "echo $HOME", "a>b", "sleep 1&"])
async def test_shell_syntax_without_a_shell_is_explained(box: Bench, command: str) -> None:
    said = await box.failed("exec", command=command)
    assert said["error"] == "shell_syntax"
    assert f"shell={json.dumps(command)}" in said["message"]


@pytest.mark.parametrize(
    "arguments",
    [{"args": ["x"] * 4001}, {"args": ["x" * 131072]}, {"env": {f"V{n}": "" for n in range(1001)}}],
    ids=["many", "long", "variables"],
)
async def test_too_many_or_too_long_arguments_are_refused(
    box: Bench, arguments: dict[str, Any]
) -> None:
    assert (await box.failed("exec", command="true", **arguments))["error"] == "too_large"


async def test_as_many_arguments_as_are_allowed_arrive(box: Bench) -> None:
    env = {f"V{number}": "v" for number in range(1000)}
    args = ["-c", 'echo $# "$V999" ${#3}', *["x"] * 3000, "y" * 131071]
    ran = await box.done("exec", command="bash", args=args, env=env)
    assert ran["output"] == "3000 v 1\n"


async def test_a_program_with_a_blank_in_its_name_can_be_run(box: Bench, tmp_path: Path) -> None:
    script = tmp_path / "my tool"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    assert (await box.done("exec", command="./my tool", args=[]))["output"] == "ran\n"


async def test_exec_answers_standard_output_then_standard_error(box: Bench) -> None:
    script = ["-c", "echo err >&2; echo out"]
    both = await box.done("exec", command="sh", args=script)
    assert (both["exitCode"], both["output"]) == (0, "out\nerr\n")
    assert both["durationMs"] >= 0
    assert (await box.done("exec", command="sh", args=script, stderr=False))["output"] == "out\n"
    assert (await box.done("exec", command="sh", args=script, stdout=False))["output"] == "err\n"


async def test_a_command_that_fails_is_an_error_with_its_output(box: Bench) -> None:
    result = await box.run(call_of("exec", '{"command": "sh", "args": ["-c", "echo why; exit 3"]}'))
    assert result.is_error
    assert {**answer(result), "durationMs": 0} == {
        "exitCode": 3,
        "output": "why\n",
        "durationMs": 0,
    }


async def test_exec_runs_in_the_folder_that_is_named(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for cwd in ("sub", "/workspace/sub", "./sub/"):
        assert (await box.done("exec", command="pwd", cwd=cwd))["output"] == "/workspace/sub\n"
    assert (await box.failed("exec", command="pwd", cwd="/etc"))["error"] == "outside_workspace"
    assert (await box.failed("exec", command="pwd", cwd="none"))["error"] == "not_found"


async def test_protected_variables_are_left_out_and_named(box: Bench) -> None:
    env = {"GOOD": "1", "LD_PRELOAD": "/workspace/x.so", "path": "/workspace", "HOME": "/"}
    ran = await box.done("exec", command="env", env=env)
    assert ran["ignoredEnv"] == ["HOME", "LD_PRELOAD", "path"]
    assert "GOOD=1\n" in ran["output"]
    assert "LD_PRELOAD" not in ran["output"]


@pytest.mark.parametrize(("asked_ms", "allowed_ms"), [(200, 30_000), (None, 200), (30_000, 200)])
async def test_the_shorter_of_two_timeouts_holds(
    box: Bench, asked_ms: int | None, allowed_ms: int
) -> None:
    arguments = json.dumps({"command": "sleep", "args": ["1000"], "timeout": asked_ms})
    result = await box.run(call_of("exec", arguments, timeout_ms=allowed_ms))
    assert result.is_error
    assert answer(result)["timedOut"] is True


async def test_long_output_keeps_both_ends_and_comes_whole_beside(box: Bench) -> None:
    script = "seq 100000; echo finally >&2"
    result = await box.run(call_of("exec", json.dumps({"command": "sh", "args": ["-c", script]})))
    said = answer(result)
    assert said["truncated"] is True
    assert said["output"].startswith("1\n2\n")
    assert said["output"].endswith("100000\nfinally\n")
    assert len(said["output"]) < INLINE_BYTES_MAX + 100
    assert result.full_output is not None
    assert len(result.full_output) == said["outputBytes"]
    assert not result.is_error


async def test_output_that_is_not_text_is_readable_nevertheless(box: Bench) -> None:
    ran = await box.done("exec", command="printf", args=["\\377ok\\033[0m\\000"])
    assert ran["output"] == "\ufffdok\x1b[0m\x00"


async def test_what_is_heard_live_is_whole_characters(box: Bench, tmp_path: Path) -> None:
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)
        (tmp_path / "go").touch()

    script = r"printf 'a\303'; until [ -e go ]; do sleep 0.01; done; printf '\244'"
    call = call_of("exec", json.dumps({"command": "sh", "args": ["-c", script]}))
    async with asyncio.timeout(WAIT_S):
        await box.box.call(call, hear)
    assert heard == ["a", "ä"]


async def test_a_cancelled_file_tool_is_over_when_it_says_so(box: Bench, tmp_path: Path) -> None:
    arguments = json.dumps({"path": "a", "text": "x" * 1_000_000})
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        task = group.create_task(box.box.call(call_of("writeTextFile", arguments), unheard))
        await asyncio.to_thread(int)
        task.cancel()
        await asyncio.wait([task])
        found = names_in(tmp_path)
        await asyncio.to_thread(int)
        assert names_in(tmp_path) == found
    assert found in ([".peritus"], [".peritus", "a"], [])
