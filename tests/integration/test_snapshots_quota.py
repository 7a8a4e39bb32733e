"""Counting what a workspace holds, and saying when it is too much."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.sandbox import SandboxLimits
from services.sandbox.quota import WALK_AGE_MAX_S, QuotaWatch, usage_of
from services.sandbox.snapshots.scan import live_tree
from services.sandbox.snapshots.tree import Problem
from services.sandbox.workspace import Workspace

KB = 1024
LIMITS = SandboxLimits(workspace_bytes=64 * KB, workspace_files=10)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "w").mkdir()
    with Workspace(tmp_path / "w") as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path, workspace: Workspace) -> Path:
    assert workspace.fileno() >= 0
    return tmp_path / "w"


class Watch:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_files_folders_and_links_count_and_the_state_folder_does_not(
    workspace: Workspace, root: Path
) -> None:
    (root / ".peritus/big").write_bytes(b"x" * 100 * KB)
    (root / "d").mkdir()
    (root / "d/f").write_bytes(b"x" * 5000)
    (root / "l").symlink_to("d")
    used = usage_of(workspace.fileno(), LIMITS)
    assert used.files == 3
    assert 5000 <= used.bytes <= 16 * KB
    assert used.over == ""


def test_too_many_bytes_or_files_are_over(workspace: Workspace, root: Path) -> None:
    (root / "f").write_bytes(b"x" * 65 * KB)
    assert "bytes" in usage_of(workspace.fileno(), LIMITS).over
    (root / "f").unlink()
    for number in range(11):
        (root / f"f{number}").write_bytes(b"")
    used = usage_of(workspace.fileno(), LIMITS)
    assert "more than 10 files" in used.over
    assert used.files == 11  # it stops there


def test_what_a_snapshot_would_restore_counts_not_what_the_disk_shares(
    workspace: Workspace, root: Path
) -> None:
    """Within the quota a workspace can always be captured: holes and second names count in full."""
    with (root / "holes").open("wb") as sparse:
        sparse.truncate(40 * KB)
    assert usage_of(workspace.fileno(), LIMITS).over == ""
    assert not isinstance(live_tree(workspace.fileno(), LIMITS), Problem)
    os.link(root / "holes", root / "again")
    assert usage_of(workspace.fileno(), LIMITS).over != ""
    assert isinstance(live_tree(workspace.fileno(), LIMITS), Problem)


def test_folders_without_end_are_over(workspace: Workspace, root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(250):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    assert "deeper" in usage_of(workspace.fileno(), SandboxLimits()).over


def test_a_check_walks_again_when_it_may_be_over_or_is_old(
    workspace: Workspace, root: Path
) -> None:
    clock = Watch()
    limits = SandboxLimits(workspace_bytes=2**60, workspace_files=2**40)
    watch = QuotaWatch(workspace.fileno(), limits, monotonic=clock)
    assert watch.check().files == 0
    (root / "f").write_bytes(b"x")
    assert watch.check().files == 0  # as of the last walk: one file cannot be too much
    assert watch.check(full=True).files == 1
    (root / "g").write_bytes(b"x")
    clock.now_s = WALK_AGE_MAX_S + 1
    assert watch.check().files == 2


def test_what_is_over_is_seen_at_once_and_until_it_is_mended(
    workspace: Workspace, root: Path
) -> None:
    megabyte = 1024 * KB
    watch = QuotaWatch(
        workspace.fileno(), SandboxLimits(workspace_bytes=8 * megabyte), monotonic=Watch()
    )
    assert watch.check().over == ""
    with (root / "f").open("wb") as file:
        file.write(b"x" * 9 * megabyte)
        file.flush()
        os.fsync(file.fileno())
        assert watch.check().over != ""
    (root / "f").unlink()
    assert watch.check().over == ""
