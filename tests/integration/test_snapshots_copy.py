"""Exact copies of folders, and bringing them back together."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import IntegrityViolated
from domain.sandbox import SandboxLimits
from services.sandbox.snapshots.apply import Steps, apply
from services.sandbox.snapshots.contents import FolderContents
from services.sandbox.snapshots.copying import Copied, NotEmpty, clone, import_folder
from services.sandbox.snapshots.merge import Policy, apply_merge, plan_merge
from services.sandbox.snapshots.scan import live_tree
from services.sandbox.snapshots.tree import PACK_BYTES_MAX, Entry, Problem, Tree
from services.sandbox.workspace import Workspace
from tests.support.trees import File, Folder, Holds, Link, picture, plant

pytestmark = pytest.mark.anyio

WHAT: Holds = {
    b"run.sh": File(b"#!/bin/sh\n", 0o755),
    b"empty": Folder({}, 0o700),
    b"deep": Folder({b"\xff": Folder({b"f": File(os.urandom(PACK_BYTES_MAX + 3), 0o600)})}),
    b"away": Link(b"/etc/passwd"),
    b"read-only": Folder({b"f": File(b"x", 0o400)}, 0o555),
}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Workspace, Workspace]]:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Workspace(tmp_path / "one") as one, Workspace(tmp_path / "two") as two:
        yield one, two


def tree_of(workspace: Workspace) -> Tree:
    found = live_tree(workspace.fileno())
    assert not isinstance(found, Problem)
    return found


def test_a_copy_is_exact(pair: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    one, two = pair
    plant(tmp_path / "one", WHAT)
    os.mkfifo(tmp_path / "one/pipe")
    done = clone(one.fileno(), two.fileno())
    assert done == Copied(files=3, bytes=PACK_BYTES_MAX + 14, skipped=1)
    expected = picture(tmp_path / "one")
    del expected[b"pipe"]
    assert picture(tmp_path / "two") == expected


def test_a_copy_shares_nothing(pair: tuple[Workspace, Workspace], tmp_path: Path) -> None:
    one, two = pair
    (tmp_path / "one/tool").write_bytes(b"1")
    (tmp_path / "one/tool").chmod(0o4755)
    os.link(tmp_path / "one/tool", tmp_path / "one/twin")
    clone(one.fileno(), two.fileno())
    (tmp_path / "two/tool").write_bytes(b"2")
    assert (tmp_path / "one/tool").read_bytes() == (tmp_path / "two/twin").read_bytes() == b"1"
    assert (tmp_path / "two/tool").stat().st_mode & 0o7000 == 0


def test_a_persons_folder_is_imported_without_any_state_folder(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    plant(theirs.parent, {b"theirs": Folder({b".peritus": Folder({b"x": File(b"")})})})
    (theirs / "f").write_bytes(b"1")
    source = os.open(theirs, os.O_PATH)
    try:
        assert import_folder(source, pair[0].fileno()) == Copied(1, 1, 0)
    finally:
        os.close(source)
    assert list((tmp_path / "one/.peritus").iterdir()) == []


def test_a_copy_goes_into_an_empty_folder_only(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    (tmp_path / "two/f").write_bytes(b"x")
    with pytest.raises(NotEmpty):
        clone(pair[0].fileno(), pair[1].fileno())


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (SandboxLimits(workspace_files=2), "too_many_files"),
        (SandboxLimits(workspace_bytes=1000), "too_many_bytes"),
        (SandboxLimits(file_bytes=1000), "file_too_large"),
    ],
)
def test_a_copy_has_limits(
    pair: tuple[Workspace, Workspace], tmp_path: Path, limits: SandboxLimits, code: str
) -> None:
    plant(tmp_path / "one", WHAT)
    found = clone(pair[0].fileno(), pair[1].fileno(), limits)
    assert isinstance(found, Problem)
    assert found.code == code


async def merged(
    pair: tuple[Workspace, Workspace], base: Tree, policy: Policy = "fail"
) -> list[bytes]:
    ours, theirs = pair
    plan = plan_merge(base, tree_of(theirs), tree_of(ours), policy)
    await apply_merge(plan, FolderContents(theirs.fileno()), ours.fileno())
    return [conflict.path for conflict in plan.conflicts]


async def test_a_delegates_work_comes_back(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    plant(one, WHAT)
    clone(pair[0].fileno(), pair[1].fileno())
    base = tree_of(pair[0])
    large = os.urandom(3 * PACK_BYTES_MAX)
    (two / "read-only").chmod(0o755)
    (two / "read-only/f").unlink()
    (two / "read-only/g").write_bytes(b"new")
    (two / "read-only").chmod(0o555)
    (two / "run.sh").write_bytes(large)
    (two / "run.sh").chmod(0o700)
    (two / "empty").rmdir()
    (two / "empty").symlink_to("run.sh")
    (two / "away").unlink()
    (one / "mine").write_bytes(b"mine")
    assert await merged(pair, base) == []
    expected = picture(two) | {b"mine": picture(one)[b"mine"]}
    assert picture(one) == expected
    assert await merged(pair, base) == []
    assert picture(one) == expected


async def test_a_conflict_is_left_alone_unless_somebody_wins(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    plant(one, {b"f": File(b"0"), b"g": File(b"0")})
    clone(pair[0].fileno(), pair[1].fileno())
    base = tree_of(pair[0])
    for name in ("f", "g"):
        (two / name).write_bytes(b"theirs")
    (one / "f").write_bytes(b"ours")
    assert await merged(pair, base) == [b"f"]
    assert ((one / "f").read_bytes(), (one / "g").read_bytes()) == (b"ours", b"0")
    assert await merged(pair, base, "ours") == [b"f"]
    assert ((one / "f").read_bytes(), (one / "g").read_bytes()) == (b"ours", b"theirs")
    assert await merged(pair, base, "theirs") == [b"f"]
    assert (one / "f").read_bytes() == b"theirs"
    assert await merged(pair, base, "theirs") == []


async def test_content_that_changed_since_is_not_taken_for_what_was_planned(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    (tmp_path / "two/f").write_bytes(b"1")
    plan = plan_merge({}, tree_of(pair[1]), {})
    (tmp_path / "two/f").write_bytes(b"2")
    with pytest.raises(IntegrityViolated):
        await apply_merge(plan, FolderContents(pair[1].fileno()), pair[0].fileno())
    assert picture(tmp_path / "one") == {}


async def test_steps_never_go_through_a_link(
    pair: tuple[Workspace, Workspace], tmp_path: Path
) -> None:
    """C10: whoever swaps a folder for a link meanwhile gains nothing outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"x")
    (tmp_path / "one/d").symlink_to(outside)
    (tmp_path / "two/d").mkdir()
    (tmp_path / "two/d/victim").write_bytes(b"y")
    victim = tree_of(pair[1])[b"d/victim"]
    for steps in (
        Steps(make=[victim]),
        Steps(remove=[victim]),
        Steps(clear=[b"d/victim"]),
        Steps(make=[Entry(b"d/new", "folder", 0o755)]),
        Steps(make=[Entry(b"d/new", "link", target=b"x")]),
    ):
        with pytest.raises(NotADirectoryError):
            await apply(steps, FolderContents(pair[1].fileno()), pair[0].fileno(), whole=False)
    taken = Steps(make=[Entry(b"v", "file", 0o644, 1, victim.digest)])
    (tmp_path / "two/v").symlink_to(outside / "victim")
    with pytest.raises(IntegrityViolated):
        await apply(taken, FolderContents(pair[1].fileno()), pair[0].fileno(), whole=False)
    assert picture(outside) == {b"victim": ("file", 0o644, b"x")}
