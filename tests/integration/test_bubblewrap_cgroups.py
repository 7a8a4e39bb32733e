"""Where control groups are found, what is written to them, and for whom. Not what limits do."""

import os
from pathlib import Path

import pytest

from domain.sandbox import MIB, SandboxLimits
from services.sandbox.bubblewrap.users import user_for
from services.sandbox.cgroups import Cgroups, forget
from services.sandbox.failures import SandboxUnavailable

V1 = "30 20 0:20 / {root}/{name} rw - cgroup cgroup rw,{name}"
V2 = "31 20 0:21 / {root}/unified rw - cgroup2 cgroup2 rw"


def machine(folder: Path, mounts: list[str], own: list[str]) -> Path:
    """A /proc/self that says so."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (proc / "cgroup").write_text("".join(f"{line}\n" for line in own))
    return proc


def test_a_machine_without_control_groups_has_none(tmp_path: Path) -> None:
    assert Cgroups.find(machine(tmp_path, [], ["0::/"])) is None


def test_groups_are_made_below_our_own(tmp_path: Path) -> None:
    for name in ("memory", "pids", "freezer"):
        (tmp_path / name / "ours").mkdir(parents=True)
    mounts = [V1.format(root=tmp_path, name=name) for name in ("memory", "pids", "freezer")]
    own = ["4:memory:/ours", "3:pids:/ours", "2:freezer:/not/visible/here"]
    found = Cgroups.find(machine(tmp_path, mounts, own))
    assert found == Cgroups(
        limiting={"memory": tmp_path / "memory/ours", "pids": tmp_path / "pids/ours"},
        core=None,
        freezer=tmp_path / "freezer",
    )


@pytest.mark.parametrize("above", [False, True])
def test_version_2_limits_where_controllers_are_delegated(tmp_path: Path, *, above: bool) -> None:
    """Controllers that cannot be handed on in our own group, which has us, are in the one above."""
    ours = tmp_path / "unified/service/main"
    ours.mkdir(parents=True)
    for folder in (ours, ours.parent):
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (folder / "cgroup.subtree_control").write_text("\n")
    if above:
        (ours / "cgroup.subtree_control").unlink()
        (ours / "cgroup.subtree_control").mkdir()  # cannot be written
    found = Cgroups.find(machine(tmp_path, [V2.format(root=tmp_path)], ["0::/service/main"]))
    delegated = ours.parent if above else ours
    assert found == Cgroups(dict.fromkeys(("memory", "pids", "cpu"), delegated), delegated, None)
    assert (delegated / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_version_2_without_controllers_still_kills_and_freezes(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text("\n")
    found = Cgroups.find(machine(tmp_path, [V2.format(root=tmp_path)], ["0::/"]))
    assert found == Cgroups({}, tmp_path / "unified", None)


def test_names_of_places_and_epochs_may_be_anything(tmp_path: Path) -> None:
    groups = Cgroups({}, tmp_path, None)
    group = groups.make("../../up", "a/b c", 1, SandboxLimits())
    assert [folder.is_relative_to(tmp_path / "peritus") for folder in group.folders] == [True]
    assert list(groups.epochs("../../up")) == ["a/b c"]
    assert group.discard()
    forget(list(groups.of_epoch("../../up", "a/b c")))
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_another_has_made_is_left_alone(tmp_path: Path) -> None:
    first = Cgroups({}, tmp_path, None).make("place", "epoch", 1, SandboxLimits())
    other = Cgroups({}, tmp_path, None).make("place", "epoch", 1, SandboxLimits())

    assert not set(first.folders) & set(other.folders)
    assert other.discard()
    assert all(folder.is_dir() for folder in first.folders)


def test_a_folder_that_takes_no_group_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "peritus").write_text("")

    with pytest.raises(SandboxUnavailable, match="no control group can be made"):
        Cgroups({}, tmp_path, None).make("place", "epoch", 1, SandboxLimits())


@pytest.mark.sandbox
def test_the_limits_of_a_sandbox_are_those_of_its_group() -> None:
    groups = Cgroups.find()
    if groups is None or "memory" not in groups.limiting:
        pytest.skip("no control groups can be made here")
    limits = SandboxLimits(memory_bytes=64 * MIB, cpus=0.5, processes=10)
    group = groups.make("test", f"of-{os.getpid()}", 1, limits)
    try:
        said = {
            file.name: file.read_text().strip()
            for folder in group.folders
            for file in folder.iterdir()
            if file.name in {"memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max"}
        }
        assert said in (
            {"memory.limit_in_bytes": str(64 * MIB), "cpu.cfs_quota_us": "50000"},
            {"memory.max": str(64 * MIB), "cpu.max": "50000 100000"},
        )
    finally:
        assert group.discard()
        forget(list(groups.of_epoch("test", f"of-{os.getpid()}")))


def test_a_workspace_always_has_the_same_user_and_another_has_another() -> None:
    users = range(200_000, 265_536)
    assert user_for("acme.job1", users) == user_for("acme.job1", users)
    assert len({user_for(f"acme.job{number}", users) for number in range(100)}) > 95
    assert all(user_for(f"job{number}", users) in users for number in range(100))
