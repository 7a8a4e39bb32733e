"""A workspace is captured, published and restored, and is the same. In memory BLOBS."""

import asyncio
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import IntegrityViolated, Unavailable
from domain.sandbox import SandboxLimits
from eventlog.port import BLOB_FRESH_S
from services.sandbox.snapshots.local import Captured, Look
from services.sandbox.snapshots.scan import CTIME_WINDOW_NS, MAPPED_WINDOW_NS
from services.sandbox.snapshots.store import SnapshotLost, SnapshotStore
from services.sandbox.snapshots.tree import PACK_BYTES_MAX, Problem, SnapshotRef
from tests.support.snapshots import LATER_NS, Desk, snapshot
from tests.support.trees import File, Folder, Holds, Link, blobs_of, memory_server, picture, plant

pytestmark = pytest.mark.anyio


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, memory_server())
    yield made
    for workspace in made.open:
        workspace.close()


NAMES = st.one_of(
    st.sampled_from([b"a", b"a.b", b"a b", b"\n", b"-", b"\xff\xfe", "ü".encode(), b"~"]),
    st.binary(min_size=1, max_size=12),
).filter(lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."})
CONTENTS = st.one_of(st.binary(max_size=60), st.sampled_from([b"", b"same"]))
FILES = st.builds(File, CONTENTS, st.integers(0, 0o777).map(lambda mode: mode | 0o400))
LINKS = st.builds(Link, st.one_of(NAMES, st.sampled_from([b"/etc/passwd", b"../..", b"a/b/c"])))
FOLDERS = st.recursive(
    st.builds(Folder, st.dictionaries(NAMES, FILES | LINKS, max_size=4)),
    lambda inner: st.builds(
        Folder,
        st.dictionaries(NAMES, FILES | LINKS | inner, max_size=4),
        st.integers(0, 0o777).map(lambda mode: mode | 0o500),
    ),
    max_leaves=8,
)


@given(FOLDERS, FOLDERS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_there_is_comes_back_exactly_into_whatever_is_there(
    tmp_path_factory: pytest.TempPathFactory, first: Folder, other: Folder
) -> None:
    tmp_path = tmp_path_factory.mktemp("tree")
    desk = Desk(tmp_path, memory_server())
    source, empty, full = (desk.workspace(name) for name in ("source", "empty", "full"))
    plant(tmp_path / "source", first.holds)
    plant(tmp_path / "full", other.holds)

    async def main() -> None:
        ref = await snapshot(desk.store(), source)
        elsewhere = desk.store("another")
        await elsewhere.restore("acme", "job", ref.root, empty)
        await elsewhere.restore("acme", "full", ref.root, full)
        again = await elsewhere.restore("acme", "full", ref.root, full)
        assert (again.files, again.removed) == (0, 0)
        captured = await elsewhere.capture("acme", "full", full)
        assert isinstance(captured, Captured)
        assert (await elsewhere.publish(captured)).tree == ref.tree

    try:
        asyncio.run(main())
        assert picture(tmp_path / "empty") == picture(tmp_path / "source")
        assert picture(tmp_path / "full") == picture(tmp_path / "source")
    finally:
        for workspace in desk.open:
            workspace.close()


async def test_only_what_changed_is_uploaded(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b"f%d" % n: File(os.urandom(2000)) for n in range(500)})
    first = await snapshot(store, workspace)
    assert first.new_bytes > first.bytes == 1_000_000
    same = await snapshot(store, workspace)
    assert (same.root, same.tree) == (first.root, first.tree)
    assert same.new_bytes == same.size  # the root is put again, which stores nothing
    (desk.folder / "w/f77").write_bytes(b"new")
    second = await snapshot(store, workspace)
    assert second.tree != first.tree
    assert second.new_bytes < 150_000


async def test_incremental_equals_full(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    root = desk.folder / "w"
    plant(root, {b"d%d" % n: Folder({b"x": File(b"%d" % n)}) for n in range(100)})
    await snapshot(store, workspace)
    (root / "d7/x").write_bytes(b"changed")
    (root / "d8/x").unlink()
    (root / "d9/x").rename(root / "d9/y")
    (root / "d10/x").chmod(0o600)
    (root / "new").symlink_to("d1")
    incremental = await snapshot(store, workspace)
    full = await snapshot(desk.store("fresh"), workspace)
    assert incremental.tree == full.tree
    assert (incremental.files, incremental.bytes) == (full.files, full.bytes)


async def test_equal_workspaces_have_equal_roots(desk: Desk) -> None:
    what: Holds = {b"a": File(b"1"), b"b": Folder({b"\xff": Link(b"x")}), b"c": File(b"1", 0o755)}
    refs: list[SnapshotRef] = []
    for name in ("one", "two"):
        workspace = desk.workspace(name)
        plant(desk.folder / name, what)
        refs.append(await snapshot(desk.store(f"store-{name}"), workspace))
    assert refs[0] == refs[1]


async def test_a_change_that_keeps_size_and_mtime_is_caught(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    file = desk.folder / "w/f"
    file.write_bytes(b"old")
    first = await snapshot(store, workspace)
    before = file.stat()
    with file.open("r+b") as same:
        same.write(b"new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    assert (await snapshot(store, workspace)).tree != first.tree


@pytest.mark.parametrize(("after_ns", "trusted"), [(CTIME_WINDOW_NS, False), (LATER_NS, True)])
async def test_what_changed_right_before_a_capture_is_read_again(
    desk: Desk, after_ns: int, *, trusted: bool
) -> None:
    """ctime is coarse: a change in the same tick would show nowhere."""
    workspace = desk.workspace("w")
    (desk.folder / "w/f").write_bytes(b"x")
    now_ns = (desk.folder / "w/f").stat().st_ctime_ns + after_ns
    store = SnapshotStore(desk.folder / "store", blobs_of(desk.server), now_ns=lambda: now_ns)
    captured = await store.capture("acme", "job", workspace)
    assert isinstance(captured, Captured)
    assert (captured.scan.known[b"f"].stamp is not None) is trusted


async def test_a_mapped_file_is_not_trusted_while_processes_run(desk: Desk) -> None:
    """Writes through a shared mapping change no ctime until the pages are written back."""
    desk.now_ns = MAPPED_WINDOW_NS // 2
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"x")
    quiet = await store.capture("acme", "job", workspace, Look(running=False))
    busy = await store.capture("acme", "other", workspace, Look(running=True))
    assert isinstance(quiet, Captured)
    assert isinstance(busy, Captured)
    assert quiet.scan.known[b"f"].stamp is not None
    assert busy.scan.known[b"f"].stamp is None


async def test_a_write_through_a_mapping_is_caught_while_processes_run(desk: Desk) -> None:
    desk.now_ns = MAPPED_WINDOW_NS // 2
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"0" * 4096)
    with (
        (desk.folder / "w/f").open("r+b") as file,
        mmap.mmap(file.fileno(), 4096) as mapped,
    ):
        mapped[0] = ord("1")
        first = await snapshot(store, workspace, Look(running=True))
        mapped[0] = ord("2")  # the page is dirty already, so the kernel hears of nothing
        second = await snapshot(store, workspace, Look(running=True))
    assert first.tree != second.tree


async def test_sockets_and_pipes_are_counted_and_left_out(desk: Desk) -> None:
    workspace = desk.workspace("w")
    root = desk.folder / "w"
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        place = os.open(root, os.O_PATH)
        listening.bind(f"/proc/self/fd/{place}/socket")
        os.close(place)
    (root / "f").write_bytes(b"x")
    ref = await snapshot(desk.store(), workspace)
    assert (ref.skipped, ref.files) == (2, 1)


async def test_a_pipe_in_the_way_of_a_file_gives_way(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    root = desk.folder / "w"
    plant(root, {b"f": File(b"x"), b"d": Folder({}), b"l": Link(b"f")})
    before = picture(root)
    ref = await snapshot(store, workspace)
    for name in ("f", "l"):
        (root / name).unlink()
        os.mkfifo(root / name)
    (root / "d").rmdir()
    os.mkfifo(root / "d")
    await store.restore("acme", "job", ref.root, workspace)
    assert picture(root) == before


async def test_set_uid_is_stripped_and_hard_links_part(desk: Desk) -> None:
    workspace, target = desk.workspace("w"), desk.workspace("t")
    root = desk.folder / "w"
    (root / "tool").write_bytes(b"x")
    (root / "tool").chmod(0o6755)
    os.link(root / "tool", root / "twin")
    store = desk.store()
    ref = await snapshot(store, workspace)
    await store.restore("acme", "t", ref.root, target)
    there = desk.folder / "t"
    assert (there / "tool").stat().st_mode & 0o7777 == 0o755
    assert (there / "tool").stat().st_ino != (there / "twin").stat().st_ino
    await store.restore("acme", "x", ref.root, workspace)
    assert (root / "tool").stat().st_nlink == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_is_restored_belongs_to_the_owner_of_the_workspace(desk: Desk) -> None:
    workspace, target, store = desk.workspace("w"), desk.workspace("t"), desk.store()
    plant(desk.folder / "w", {b"d": Folder({b"f": File(b"x")}), b"l": Link(b"d")})
    ref = await snapshot(store, workspace)
    os.chown(desk.folder / "t", 12345, 12346)
    await store.restore("acme", "t", ref.root, target)
    for name in ("d", "d/f", "l"):
        found = (desk.folder / "t" / name).lstat()
        assert (found.st_uid, found.st_gid) == (12345, 12346)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_what_cannot_be_read_is_said_and_left_alone(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    root = desk.folder / "w"
    plant(root, {b"closed": Folder({b"f": File(b"1")}, 0), b"f": File(b"2", 0)})
    ref = await snapshot(store, workspace)
    assert ref.skipped == 2
    done = await store.restore("acme", "job", ref.root, workspace)
    assert set(done.missing) == {("closed", "unreadable"), ("f", "unreadable")}
    (root / "closed").chmod(0o700)
    (root / "f").chmod(0o600)
    assert picture(root)[b"closed/f"] == ("file", 0o644, b"1")
    assert picture(root)[b"f"] == ("file", 0o600, b"2")


async def test_the_state_folder_is_neither_captured_nor_touched(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    state = desk.folder / "w/.peritus/journal"
    state.write_bytes(b"ours")
    plant(desk.folder / "w", {b"sub": Folder({b".peritus": File(b"theirs")})})
    ref = await snapshot(store, workspace)
    assert ref.files == 1
    await store.restore("acme", "job", ref.root, workspace)
    assert state.read_bytes() == b"ours"


async def test_a_large_file_spans_packs(desk: Desk) -> None:
    workspace, target = desk.workspace("w"), desk.workspace("t")
    content = os.urandom(2 * PACK_BYTES_MAX + 5)
    plant(desk.folder / "w", {b"big": File(content), b"copy": File(content), b"s": File(b"x")})
    store = desk.store()
    ref = await snapshot(store, workspace)
    assert ref.new_bytes < len(content) + 10_000  # the copy costs nothing
    assert max(map(len, desk.server.blobs.values())) <= PACK_BYTES_MAX
    await store.restore("acme", "t", ref.root, target)
    assert picture(desk.folder / "t") == picture(desk.folder / "w")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (SandboxLimits(workspace_files=3), "too_many_files"),
        (SandboxLimits(workspace_bytes=1999), "too_many_bytes"),
        (SandboxLimits(file_bytes=999), "file_too_large"),
    ],
)
async def test_more_than_the_limits_is_a_problem_and_leaves_nothing(
    desk: Desk, limits: SandboxLimits, code: str
) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b"a": File(b"1" * 1000), b"b": File(b"2" * 1000)})
    plant(desk.folder / "w", {b"c": Folder({b"d": Link(b"e")})})
    found = await store.capture("acme", "job", workspace, Look(limits))
    assert isinstance(found, Problem)
    assert found.code == code
    assert list((desk.folder / "worker").glob("*/packs/*")) == []
    enough = Look(SandboxLimits(workspace_files=4, workspace_bytes=2000, file_bytes=1000))
    assert isinstance(await store.capture("acme", "job", workspace, enough), Captured)
    known_already = await store.capture("acme", "job", workspace, Look(limits))
    assert isinstance(known_already, Problem)


async def test_folders_in_folders_without_end_are_a_problem(desk: Desk) -> None:
    workspace, store, target = desk.workspace("w"), desk.store(), desk.workspace("t")
    folder = os.open(desk.folder / "w", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    found = await store.capture("acme", "job", workspace)
    assert isinstance(found, Problem)
    assert found.code == "too_deep"
    (desk.folder / "t/f").write_bytes(b"x")
    ref = await snapshot(store, target)
    await store.restore("acme", "job", ref.root, workspace)
    assert picture(desk.folder / "w") == picture(desk.folder / "t")


async def test_a_crash_between_capture_and_publish_costs_only_the_work(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b"f%d" % n: File(os.urandom(100)) for n in range(50)})
    first = await snapshot(store, workspace)
    await store.close()
    (desk.folder / "w/f1").write_bytes(b"changed")
    lost = await store.capture("acme", "job", workspace)
    assert isinstance(lost, Captured)
    reborn = desk.store()  # the same folder, another life
    ref = await snapshot(reborn, workspace)
    assert ref.tree != first.tree
    assert ref.new_bytes < first.new_bytes
    target = desk.workspace("t")
    await desk.store("elsewhere").restore("acme", "job", ref.root, target)
    assert picture(desk.folder / "t") == picture(desk.folder / "w")


async def test_a_publish_that_fails_half_way_is_done_again(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b"f%d" % n: File(os.urandom(400_000)) for n in range(8)})
    captured = await store.capture("acme", "job", workspace)
    assert isinstance(captured, Captured)
    desk.server.up = False
    with pytest.raises(Unavailable):
        await store.publish(captured)
    desk.server.up = True
    ref = await store.publish(captured)
    assert await store.publish(captured) == ref.model_copy(update={"new_bytes": ref.size})
    await desk.store("elsewhere").restore("acme", "job", ref.root, desk.workspace("t"))
    assert picture(desk.folder / "t") == picture(desk.folder / "w")


async def test_a_local_pack_that_was_lost_is_noticed(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"x")
    captured = await store.capture("acme", "job", workspace)
    assert isinstance(captured, Captured)
    (pack,) = (desk.folder / "worker").glob("*/packs/*")
    pack.write_bytes(b"y")
    with pytest.raises(SnapshotLost):
        await store.publish(captured)
    with pytest.raises(SnapshotLost):
        await store.publish(captured)
    ref = await snapshot(store, workspace)
    await store.restore("acme", "job", ref.root, workspace)
    assert (desk.folder / "w/f").read_bytes() == b"x"


async def test_two_captures_may_wait_to_be_published(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"1")
    first = await store.capture("acme", "job", workspace)
    (desk.folder / "w/g").write_bytes(b"2")
    second = await store.capture("acme", "job", workspace)
    assert isinstance(first, Captured)
    assert isinstance(second, Captured)
    refs = [await store.publish(first), await store.publish(second)]
    for number, ref in enumerate(refs, start=1):
        target = desk.workspace(f"t{number}")
        await store.restore("acme", f"t{number}", ref.root, target)
        assert len(picture(desk.folder / f"t{number}")) == number
    assert list((desk.folder / "worker").glob("*/packs/*")) == []


async def test_a_restored_workspace_is_not_uploaded_again(desk: Desk) -> None:
    workspace = desk.workspace("w")
    plant(desk.folder / "w", {b"f%d" % n: File(os.urandom(1000)) for n in range(50)})
    ref = await snapshot(desk.store(), workspace)
    elsewhere, target = desk.store("elsewhere"), desk.workspace("t")
    await elsewhere.restore("acme", "job", ref.root, target)
    again = await snapshot(elsewhere, target)
    assert again.tree == ref.tree
    assert again.new_bytes < 10_000


async def test_changes_during_a_capture_do_no_harm(desk: Desk) -> None:
    """Files come, go, grow and turn into links meanwhile; the next capture is right."""
    workspace, store = desk.workspace("w"), desk.store()
    root = desk.folder / "w"
    plant(root, {b"d%d" % n: Folder({b"x": File(b"%d" % n * 50)}) for n in range(200)})
    stop = threading.Event()

    def churn() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            folder = root / f"d{turn % 200}"
            (folder / "x").unlink(missing_ok=True)
            (folder / "x").symlink_to("/etc/passwd") if turn % 3 else None
            (folder / "y").mkdir(exist_ok=True)
            (folder / "y" / "z").write_bytes(b"z" * turn)
            folder.rename(root / "away")
            (root / "away").rename(folder)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(10):
            await snapshot(store, workspace)
    finally:
        stop.set()
        thread.join()
    ref = await snapshot(store, workspace)
    assert ref.tree == (await snapshot(desk.store("fresh"), workspace)).tree


async def test_an_index_of_no_use_is_begun_anew(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"x")
    ref = await snapshot(store, workspace)
    await store.close()
    (index,) = (desk.folder / "worker").glob("*/index.json")
    index.write_bytes(index.read_bytes()[:-10])
    assert (await snapshot(desk.store(), workspace)).root == ref.root


async def test_a_room_that_is_released_is_read_again(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(b"x")
    await snapshot(store, workspace)
    await store.release("acme", "job")
    captured = await store.capture("acme", "job", workspace)
    assert isinstance(captured, Captured)
    assert captured.scan.known[b"f"].stamp is not None  # it was not read: nothing new was packed
    assert list((desk.folder / "worker").glob("*/packs/*")) == []


async def test_a_room_that_is_forgotten_leaves_nothing(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    await snapshot(store, workspace)
    await store.forget("acme", "job")
    assert list((desk.folder / "worker").iterdir()) == []


async def test_one_tenant_cannot_restore_anothers_snapshot(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    ref = await snapshot(store, workspace)
    with pytest.raises(IntegrityViolated):
        await store.restore("umbrella", "job", ref.root, workspace)


@pytest.mark.parametrize("lives_on", [True, False], ids=["same life", "next life"])
async def test_what_was_stored_long_ago_is_stored_again(desk: Desk, *, lives_on: bool) -> None:
    """Its event may never have come, so that nothing named its packs and they were collected."""
    store, workspace = desk.store(), desk.workspace("w")
    (desk.folder / "w/old.txt").write_text("an old file")
    await snapshot(store, workspace)
    await store.close()
    store = store if lives_on else desk.store()
    desk.server.blobs.clear()
    desk.now_ns += int(2 * BLOB_FRESH_S * 1e9)
    (desk.folder / "w/new.txt").write_text("a new one")
    ref = await snapshot(store, workspace)
    other = desk.workspace("other")
    await desk.store("elsewhere").restore("acme", "job", ref.root, other)
    assert (desk.folder / "other/old.txt").read_text() == "an old file"
