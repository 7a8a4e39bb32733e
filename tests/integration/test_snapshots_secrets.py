"""No secret reaches a blob by way of a snapshot (C15). Not how secrets are recognised."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.sandbox.snapshots.local import Captured, Look
from services.sandbox.snapshots.scan import LONGEST_BYTES
from services.sandbox.snapshots.tree import PACK_BYTES_MAX
from tests.support.snapshots import Desk, snapshot
from tests.support.trees import File, Folder, Link, memory_server, picture, plant

pytestmark = pytest.mark.anyio


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, memory_server())
    yield made
    for workspace in made.open:
        workspace.close()


SECRET = b"canary-secret-value"


def withhold(data: bytes) -> str | None:
    return "API_KEY" if SECRET in data else None


@pytest.mark.parametrize("offset", [PACK_BYTES_MAX - 5, PACK_BYTES_MAX + 5, 10])
async def test_c15_a_secret_never_reaches_a_blob(desk: Desk, offset: int) -> None:
    """Also across the chunks of a large file, in a name and in a link's target."""
    workspace = desk.workspace("w")
    large = b"A" * offset + SECRET + b"B" * PACK_BYTES_MAX
    plant(
        desk.folder / "w",
        {
            b"small": File(b"x" + SECRET),
            b"large": File(large),
            b"name-" + SECRET: File(b"x"),
            b"folder-" + SECRET: Folder({b"in": File(b"y")}),
            b"link": Link(SECRET),
            b"fine": File(b"z"),
        },
    )
    store = desk.store()
    ref = await snapshot(store, workspace, Look(withhold=withhold))
    assert ref.withheld == 5
    stored = b"".join(desk.server.blobs.values())
    assert SECRET not in stored
    assert SECRET[:5] not in stored  # nor the beginning of one that a chunk ended in
    kept = b"".join(path.read_bytes() for path in (desk.folder / "worker").rglob("*.json"))
    assert SECRET not in kept
    target = desk.workspace("t")
    done = await store.restore("acme", "t", ref.root, target)
    assert set(done.missing) == {
        ("small", "withheld: API_KEY"),
        ("large", "withheld: API_KEY"),
    }
    assert set(picture(desk.folder / "t")) == {b"fine"}


async def test_what_was_withheld_stays_as_it_is_when_it_is_there(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b".env": File(SECRET), b"f": File(b"1")})
    ref = await snapshot(store, workspace, Look(withhold=withhold))
    (desk.folder / "w/f").write_bytes(b"2")
    await store.restore("acme", "job", ref.root, workspace)
    assert (desk.folder / "w/.env").read_bytes() == SECRET
    assert (desk.folder / "w/f").read_bytes() == b"1"


async def test_c15_other_secrets_mean_that_everything_is_looked_at_again(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(SECRET)
    assert (await snapshot(store, workspace)).withheld == 0
    ref = await snapshot(store, workspace, Look(withhold=withhold, withhold_key="v2"))
    assert ref.withheld == 1


async def test_c15_a_pack_from_before_a_secret_was_known_is_not_used_again(desk: Desk) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    plant(desk.folder / "w", {b"f": File(SECRET), b"g": File(b"fine")})
    assert isinstance(await store.capture("acme", "job", workspace), Captured)  # never published
    ref = await snapshot(store, workspace, Look(withhold=withhold, withhold_key="v1"))
    assert (ref.withheld, ref.files) == (1, 2)
    assert SECRET not in b"".join(desk.server.blobs.values())


@pytest.mark.parametrize("key", ["", "v1"])
async def test_c15_a_look_for_secrets_reads_what_was_captured_without(desk: Desk, key: str) -> None:
    workspace, store = desk.workspace("w"), desk.store()
    (desk.folder / "w/f").write_bytes(SECRET)
    look = Look(withhold=withhold, withhold_key=key)
    assert (await snapshot(store, workspace)).withheld == 0
    assert (await snapshot(store, workspace, look)).withheld == 1
    assert (await snapshot(store, workspace, look)).withheld == 1


def test_a_secret_is_found_over_chunks_as_long_as_promised() -> None:
    assert len(SECRET) <= LONGEST_BYTES < PACK_BYTES_MAX


async def test_c15_a_form_longer_than_any_value_is_found_over_chunks(desk: Desk) -> None:
    """Some encodings take several bytes for one: whoever looks says how long a form can be."""
    form = bytes(range(256)) * 1000
    ahead = PACK_BYTES_MAX - len(form) + 10
    workspace = desk.workspace("w")
    (desk.folder / "w/f").write_bytes(b"." * ahead + form + b"." * PACK_BYTES_MAX)

    def find(data: bytes) -> str | None:
        return "FORM" if form in data else None

    look = Look(withhold=find, withhold_key="v1", withhold_longest=len(form))
    assert len(form) > LONGEST_BYTES
    assert (await snapshot(desk.store(), workspace, look)).withheld == 1
