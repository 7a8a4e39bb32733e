"""glob and grep: what they find, what they leave out, and that nothing makes them endless."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.globs import TooManyAlternatives, matcher
from services.sandbox.tools import reading, searching
from services.sandbox.trees import DEPTH_MAX
from tests.support.seats import WAIT_S, Bench, answer, bench, call_of, unheard

pytestmark = [pytest.mark.anyio]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with bench(tmp_path) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "a.py": "import os\nprint('one')\n",
        "src/b.py": "one\r\nTwo\r\nthree\r\n",
        "src/deep/c.ts": "no\none more\nno\n",
        "src/.hidden": "one\n",
        ".git/config": "one\n",
        "notes.md": "nothing\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "image").write_bytes(b"one\0two")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "alias.py").symlink_to("a.py")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.py", "a.py"),
        ("*.py", "src/deep/a.py"),
        ("src/**/*.py", "src/a.py"),
        ("src/**/*.py", "src/deep/er/a.py"),
        ("**/deep/**", "src/deep/x/y"),
        ("src/**", "src/a"),
        ("./src//a", "src/a"),
        ("*.{ts,py}", "x/a.py"),
        ("{src,lib}/*.{ts,py}", "lib/a.ts"),
        ("[ab].?", "a.x"),
        ("*", "line\nbreak"),
        ("a{b}c", "a{b}c"),
        (".*", "src/.hidden"),
    ],
)
def test_a_pattern_means_what_shells_take_it_for(pattern: str, path: str) -> None:
    assert matcher(pattern)(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("src/*.py", "src/deep/a.py"),
        ("src/*.py", "src/a.pyc"),
        ("src/**/a", "lib/a"),
        ("{src,lib}/*.{ts,py}", "bin/a.ts"),
        ("[!ab].?", "a.x"),
        ("a", "a/b"),
    ],
)
def test_a_pattern_means_nothing_else(pattern: str, path: str) -> None:
    assert not matcher(pattern)(path)


def test_no_pattern_explodes() -> None:
    assert not matcher("**/" * 300 + "x")("a/" * 1000 + "y")
    assert not matcher("*a" * 400 + "b")("a" * 255)
    with pytest.raises(TooManyAlternatives):
        matcher("{a,b}" * 20)


@pytest.mark.usefixtures("tree")
async def test_glob_lists_paths_and_does_not_follow_links(box: Bench) -> None:
    assert (await box.done("glob", pattern="*.py"))["paths"] == ["a.py", "alias.py", "src/b.py"]
    assert (await box.done("glob", pattern="*", path="src"))["paths"] == [
        ".hidden",
        "b.py",
        "deep/",
        "deep/c.ts",
    ]
    everything = (await box.done("glob", pattern="**"))["paths"]
    assert "out" in everything
    assert not any(path.startswith((".peritus", ".git/c", "out/")) for path in everything)
    assert (await box.done("glob", pattern="*", path=".git"))["paths"] == ["config"]


@pytest.mark.parametrize("path", ["..", "/etc", "out", ".peritus", "missing", "a.py", "pipe"])
@pytest.mark.usefixtures("tree")
async def test_glob_and_grep_look_nowhere_else(box: Bench, path: str) -> None:
    said = await box.failed("glob", pattern="*", path=path)
    codes = {
        "outside_workspace": {"..", "/etc", "out"},
        "state_folder": {".peritus"},
        "not_found": {"missing"},
        "not_a_directory": {"a.py", "pipe"},
    }
    assert path in codes[said["error"]]
    if path != "a.py":
        code = (await box.failed("grep", pattern="root", path=path))["error"]
        assert code == ("not_a_file" if path == "pipe" else said["error"])


async def test_a_long_list_says_that_it_is_cut(
    box: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATHS_MAX", 5)
    for number in range(6):
        (tmp_path / f"{number}").touch()
    said = await box.done("glob", pattern="*")
    assert (len(said["paths"]), said["truncated"]) == (5, True)
    assert "path" in said["why"]


async def test_names_that_are_not_text_are_shown_escaped(box: Bench, tmp_path: Path) -> None:
    descriptor = os.open(os.fsencode(tmp_path) + b"/\xff\nx", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"here\n")
    os.close(descriptor)
    assert (await box.done("glob", pattern="*"))["paths"] == ["\\xff\nx"]
    assert (await box.done("grep", pattern="here"))["output"] == "\\xff\\nx:1:here\n"


async def test_folders_without_end_are_cut(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * (DEPTH_MAX + 5))).mkdir(parents=True)
    said = await box.done("glob", pattern="**")
    assert said["truncated"] is True
    assert len(said["paths"]) == DEPTH_MAX + 1


@pytest.mark.usefixtures("tree")
async def test_grep_finds_lines_in_text_files(box: Bench) -> None:
    said = await box.done("grep", pattern=r"\bone\b")
    assert said["output"].splitlines() == [
        "a.py:2:print('one')",
        "src/.hidden:1:one",
        "src/b.py:1:one",
        "src/deep/c.ts:2:one more",
    ]
    assert (said["matches"], said["filesSearched"], said["filesSkipped"]) == (4, 5, 1)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ({"pattern": "two", "ignoreCase": True}, ["src/b.py:2:Two"]),
        ({"pattern": "two"}, []),
        ({"pattern": "('one')", "literal": True}, ["a.py:2:print('one')"]),
        ({"pattern": "o$", "glob": "*.ts"}, ["src/deep/c.ts:1:no", "src/deep/c.ts:3:no"]),
        ({"pattern": "^one", "path": "src/deep"}, ["src/deep/c.ts:2:one more"]),
        ({"pattern": "Two$", "path": "./src/b.py"}, ["src/b.py:2:Two"]),
        (
            {"pattern": "Two", "context": 1},
            ["src/b.py-1-one", "src/b.py:2:Two", "src/b.py-3-three"],
        ),
        ({"pattern": "one", "path": ".git"}, [".git/config:1:one"]),
    ],
)
@pytest.mark.usefixtures("tree")
async def test_grep_can_be_narrowed(
    box: Bench, arguments: dict[str, object], lines: list[str]
) -> None:
    assert (await box.done("grep", **arguments))["output"].splitlines() == lines


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "*", "(" * 900])
async def test_what_is_no_expression_is_said(box: Bench, pattern: str) -> None:
    said = await box.failed("grep", pattern=pattern)
    assert said["error"] == "invalid_arguments"
    assert "pattern" in said["message"]


async def test_an_expression_without_end_stops_nobody_else(
    box: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is killed, what it had found is answered, and the service answers meanwhile."""
    monkeypatch.setattr(searching, "SEARCH_S", 2)
    (tmp_path / "1").write_text("aaab\n")
    (tmp_path / "2").write_text("a" * 5000 + "\n")
    call = call_of("grep", json.dumps({"pattern": "^(a+)+b$"}))
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        searching_on = group.create_task(box.box.call(call, unheard))
        assert (await box.done("readTextFile", path="1"))["content"] == "aaab\n"
        assert not searching_on.done()
    said = answer(searching_on.result())
    assert (said["output"], said["truncated"]) == ("1:1:aaab\n", True)
    (tmp_path / "1").unlink()
    assert (await box.failed("grep", pattern="^(a+)+b$"))["error"] == "too_slow"


async def test_a_search_that_is_cancelled_is_gone(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a" * 5000 + "\n")
    before = children()
    call = call_of("grep", json.dumps({"pattern": "^(a+)+b$"}))
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        task = group.create_task(box.box.call(call, unheard))
        while children() == before:
            await asyncio.to_thread(int)
        task.cancel()
        await asyncio.wait([task])
    assert children() == before


def children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        found.update((task / "children").read_text().split())
    return found


async def test_an_expression_that_takes_all_memory_ends_only_the_search(
    box: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SEARCH_S", 2)
    (tmp_path / "a").write_text("x" * 100_000 + "\n")
    said = await box.failed("grep", pattern="(?:(?:x?){500}){500}y")
    assert said["error"] in {"too_slow", "invalid_arguments"}
    assert (await box.done("grep", pattern="^x"))["matches"] == 1


async def test_many_matches_come_whole_beside(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "many").write_text("match\n" * 4000)
    said = await box.done("grep", pattern="match")
    assert (said["matches"], said["truncated"]) == (4000, True)
    assert len(said["output"]) <= INLINE_BYTES_MAX
    assert said["output"].endswith(":match\n")
    assert "'c1-0'" in said["more"]
    rest = await box.done("readResult", call="c1-0", **{"from": 3999})
    assert rest["content"] == "many:4000:match\n"


async def test_a_long_line_is_shown_where_it_matches(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "min.js").write_text("x" * 50_000 + "needle" + "y" * 40_000)
    output = (await box.done("grep", pattern="needle"))["output"]
    assert "needle" in output
    assert len(output) < 600


@pytest.mark.parametrize("text", ["one\n" * 1_000_000, "\u00e9" * 7_000_000, "\n" * 1_000_000])
async def test_a_large_file_is_searched(box: Bench, tmp_path: Path, text: str) -> None:
    (tmp_path / "large").write_text(text)
    said = await box.done("grep", pattern="^nothing")
    assert (said["matches"], said["filesSearched"]) == (0, 1)
