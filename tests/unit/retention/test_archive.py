"""A job travels as one file, and is the same job where it arrives. Not the command line for it."""

import io
import json
import zipfile
from collections.abc import Awaitable, Callable

import pytest

from commands import checkpoints
from commands.delete_job import Deleter
from commands.importing import IMPORT, coming
from commands.survey import JobName, Survey
from domain import commands as c
from domain.content import BlobRef
from domain.errors import IntegrityViolated, NoSuchRun, Rejected
from domain.events import SnapshotTaken, Source
from domain.ids import RunRef, child_run_id
from domain.record import digest_of
from eventlog.memory import CrashAt, Crashed, FaultPoint, Hook
from eventlog.port import Backbone
from peritus.replay import replay
from services.retention.archive import ArchiveReader, Manifest
from services.retention.exporting import Origin, export_job
from services.retention.importing import import_job
from services.sandbox.snapshots.format import encode_root, encode_shard
from services.sandbox.snapshots.tree import Entry, Piece
from tests.support.office import Office, office
from tests.support.runs import call, delegate, goes_on, replies, result, says

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "j1", "j1")
JOB = JobName("acme", "j1")
CHILD = RunRef("acme", "j1", child_run_id("j1", "c1-0"))
FORK = RunRef("acme", "f1", "f1")
NOW = 1_800_000_000_000
LARGE = "x" * 40_000


async def worked() -> Office:
    """A job of two runs at rest, with a large text outside the log."""
    desk = office()
    await desk.start(ROOT)
    await desk.tell(ROOT, replies(delegate()))
    await desk.handle_queued()
    await desk.tell(CHILD, replies(call("look")), result("c1-0", LARGE), replies("done"))
    await desk.handle_queued()
    await desk.tell(ROOT, replies("all done"))
    await desk.handle_queued()
    return desk


async def forked(desk: Office) -> None:
    source = Source(job="j1", run="j1", version=(await desk.state(ROOT)).version, hash="")
    await desk.tell(FORK, c.ForkRun(id="fork", source=source, parts=says("go on")))
    await desk.tell(FORK, replies("and on"))


async def exported(desk: Office, name: JobName = JOB) -> bytes:
    file = io.BytesIO()
    await export_job(desk.backbone, name, file, Origin("0.0", NOW))
    return file.getvalue()


def manifest_of(data: bytes) -> Manifest:
    return ArchiveReader(io.BytesIO(data)).manifest


async def brought(data: bytes, there: Backbone | Office, tenant: str = "acme") -> tuple[str, ...]:
    backbone = there.backbone if isinstance(there, Office) else there
    return (await import_job(backbone, tenant, io.BytesIO(data), NOW)).jobs


async def code_of(what: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(Rejected) as caught:
        await what()
    return caught.value.code


async def lines(desk: Office, ref: RunRef) -> list[bytes]:
    return [one.data for one in await desk.backbone.log.load(ref)]


async def replays(desk: Office, ref: RunRef) -> bool:
    async def get_blob(digest: str) -> bytes | None:
        return desk.server.blobs.get((ref.tenant, digest))

    return (await replay(await lines(desk, ref), get_blob)).verified


async def test_a_job_arrives_byte_by_byte_with_all_it_refers_to() -> None:
    here, there = await worked(), office()
    data = await exported(here)
    assert await brought(data, there) == ("j1",)
    for ref in (ROOT, CHILD):
        assert await lines(there, ref) == await lines(here, ref)
        assert await replays(there, ref)
    assert there.server.blobs.keys() <= here.server.blobs.keys()
    assert ("acme", digest_of(LARGE.encode())) in there.server.blobs
    assert await there.backbone.open_runs.list() == []
    assert await there.backbone.registry.list(IMPORT) == []
    manifest = manifest_of(data)
    assert (manifest.at_rest, manifest.missing, manifest.jobs) == (True, (), ("j1",))
    assert {(run.run, run.status) for run in manifest.runs} == {
        (ROOT.run, "completed"),
        (CHILD.run, "completed"),
    }
    state = await there.tell(ROOT, goes_on(), replies("more"))  # it can be continued there
    assert state.status == "completed"


async def test_a_fork_arrives_with_the_job_it_was_forked_from() -> None:
    here, there = await worked(), office()
    await forked(here)
    data = await exported(here, JobName("acme", "f1"))
    assert manifest_of(data).jobs == ("f1", "j1")
    assert await brought(data, there) == ("j1", "f1")
    found = await checkpoints.checkpoints_of(there.backbone.log, FORK)
    assert found == await checkpoints.checkpoints_of(here.backbone.log, FORK)
    assert await office("e2", there).state(FORK) == await office("e2", here).state(FORK)


async def test_a_source_that_is_here_and_went_on_is_taken_as_it_is() -> None:
    here, there = await worked(), office()
    await brought(await exported(here), there)
    await there.tell(ROOT, goes_on(), replies("more"))
    await forked(here)
    imported = await import_job(
        there.backbone, "acme", io.BytesIO(await exported(here, JobName("acme", "f1"))), NOW
    )
    assert (imported.jobs, imported.here) == (("f1",), ("j1",))
    await office("e2", there).state(FORK)


async def test_the_files_of_a_workspace_travel_too() -> None:
    here, there = await worked(), office()
    pack = b"print('hello')\n"
    entry = Entry(b"main.py", "file", 0o644, len(pack), digest_of(pack))
    places = {entry.digest: (Piece(digest_of(pack), 0, len(pack)),)}
    blob, shard = encode_shard([entry], places)
    root = encode_root([shard], {"files": 1, "bytes": len(pack), "skipped": 0, "withheld": 0})
    for data in (pack, blob, root):
        here.server.blobs["acme", digest_of(data)] = data
    at = (await here.state(ROOT)).version
    placed = await there_is_a_snapshot(here, BlobRef(digest=digest_of(root), size=len(root)), at)
    assert placed
    await brought(await exported(here), there)
    for data in (pack, blob, root):
        assert there.server.blobs["acme", digest_of(data)] == data
    del here.server.blobs["acme", digest_of(pack)]
    assert manifest_of(await exported(here)).missing == (digest_of(pack),)


async def there_is_a_snapshot(desk: Office, manifest: BlobRef, version: int) -> bool:
    """An envelope that says so, appended as a worker of the sandbox has it decided."""
    from domain.envelope import Cause, Envelope, encode  # noqa: PLC0415

    loaded = await desk.runs.fresh(ROOT)
    taken = SnapshotTaken(run="j1", step=1, version=version, manifest=manifest)
    cause = Cause(type="record_snapshot.v1", id="")
    envelope = Envelope(
        "x", ROOT, version + 1, loaded.state.at_ms, cause, "e1", loaded.hash, (taken,)
    )
    return bool(await desk.backbone.log.append(ROOT, encode(envelope), expected_seq=loaded.seq))


async def test_a_job_that_is_here_is_never_changed() -> None:
    here, there = await worked(), office()
    data = await exported(here)
    assert await brought(data, here) == ()  # the very same is here
    await brought(data, there)
    assert await brought(data, there) == ()
    await there.tell(ROOT, goes_on(), replies("more"))
    before = await lines(there, ROOT)
    assert await code_of(lambda: brought(data, there)) == "job_exists"
    assert await lines(there, ROOT) == before
    other = office()
    await other.start(ROOT, text="something else")
    assert await code_of(lambda: brought(data, other)) == "job_exists"


async def test_a_job_of_another_tenant_or_not_at_rest_is_not_brought() -> None:
    here = await worked()
    data = await exported(here)
    assert await code_of(lambda: brought(data, office(), "umbrella")) == "other_tenant"
    await here.tell(ROOT, goes_on())
    data = await exported(here)
    assert not manifest_of(data).at_rest
    there = office()
    assert await code_of(lambda: brought(data, there)) == "not_at_rest"
    assert there.server.log.all == []


async def test_a_deleted_job_is_neither_exported_nor_brought_back() -> None:
    here = await worked()
    data = await exported(here)
    await remover(here).delete(JOB)
    assert await code_of(lambda: exported(here)) == "gone"
    assert await code_of(lambda: brought(data, here)) == "gone"
    assert await code_of(lambda: exported(here, JobName("acme", "no"))) == "no_such_job"


def remover(desk: Office) -> Deleter:
    other = office("retention", desk)
    return Deleter(other.backbone, other.runs, Survey(other.backbone.log), other.desk.new_id)


def changed(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The file with another content of one member."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for one in old.namelist():
            content = old.read(one)
            new.writestr(one, change(content) if one.startswith(name) else content)
    return made.getvalue()


def resumed(content: bytes, **more: object) -> bytes:
    return json.dumps(json.loads(content) | more).encode()


Change = Callable[[bytes], bytes]

CHANGES: list[tuple[str, Change]] = [
    ("envelopes.jsonl", lambda old: old[:-200]),
    ("envelopes.jsonl", lambda old: old.replace(b'"seq":2,', b'"seq":7,')),
    ("envelopes.jsonl", lambda old: b"\n".join(reversed(old.splitlines())) + b"\n"),
    ("blobs/", lambda old: old[:-1] + b"?"),
    ("blobs/", lambda old: old + b"?"),
    ("manifest.json", lambda old: resumed(old, envelopes=1)),
    ("manifest.json", lambda old: resumed(old, runs=[])),
    ("manifest.json", lambda old: resumed(old, jobs=["other"])),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
async def test_a_file_that_was_changed_brings_nothing(name: str, change: Change) -> None:
    data, there = changed(await exported(await worked()), name, change), office()
    with pytest.raises(IntegrityViolated):
        await brought(data, there)
    assert there.server.log.all == []
    assert there.server.registry.entries == {}


async def test_an_envelope_that_does_not_follow_the_one_before_is_found() -> None:
    """Also when whoever changed it made the sums of the file anew."""
    here = await worked()
    stored = here.server.log.all
    lied = stored[-1].data.replace(b"all done", b"all lost")
    here.server.log._runs[ROOT][-1] = stored[-1]._replace(data=lied)  # pyright: ignore[reportPrivateUsage]
    there = office()
    data = await exported(here)  # the last one is named by no other
    assert await brought(data, there) == ("j1",)
    first = here.server.log._runs[ROOT][0]  # pyright: ignore[reportPrivateUsage]
    here.server.log._runs[ROOT][0] = first._replace(data=first.data.replace(b'"go"', b'"no"'))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(IntegrityViolated):
        await exported(here)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK nonsense",
        b"PK\x05\x06" + bytes(18),  # an archive with nothing in it
    ],
)
async def test_a_file_of_another_kind_is_refused(data: bytes) -> None:
    assert await code_of(lambda: brought(data, office())) == "bad_archive"


async def test_a_file_of_a_newer_format_is_refused() -> None:
    data = changed(
        await exported(await worked()), "manifest.json", lambda old: resumed(old, version=2)
    )
    assert await code_of(lambda: brought(data, office())) == "bad_archive"


class DieAt(Hook):
    """Dies at the n-th moment that a process has at all, before or after any call."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def before(self, point: FaultPoint) -> None:
        self._pass(point)

    def after(self, point: FaultPoint) -> None:
        self._pass(point)

    def _pass(self, point: FaultPoint) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crashed(point)


async def test_an_import_that_dies_at_any_moment_goes_on_where_it_was() -> None:
    here = await worked()
    await forked(here)
    data = await exported(here, JobName("acme", "f1"))
    moment, died = 0, True
    while died:
        moment += 1
        there = office()
        died = False
        try:
            await brought(data, there.server.ports(there.server.client(hook=DieAt(moment))))
        except Crashed:
            died = True
        jobs = {stored.ref[:2] for stored in there.server.log.all}
        rest = {name for name in jobs if not await at_rest(there, JobName(*name))}
        assert rest <= await coming(there.backbone.registry)  # nobody does anything of these
        await brought(data, there)
        assert await coming(there.backbone.registry) == set()
        for ref in (ROOT, CHILD, FORK):
            assert await lines(there, ref) == await lines(here, ref)
    assert moment > 50


async def at_rest(desk: Office, name: JobName) -> bool:
    survey = Survey(desk.backbone.log)
    await survey.catch_up()
    return not survey.jobs[name].at_work


async def test_a_job_that_is_here_in_part_can_be_deleted() -> None:
    here, there = await worked(), office()
    data = await exported(here)
    third = CrashAt(FaultPoint.APPEND, after=True, occurrence=3)
    with pytest.raises(Crashed):
        await brought(data, there.server.ports(there.server.client(hook=third)))
    assert not await at_rest(there, JOB)
    foreign = await there.ask(ROOT, goes_on(text="hello there"))
    assert foreign.status == "accepted"
    assert await code_of(lambda: brought(data, there)) == "import_failed"
    await remover(there).delete(JOB)
    assert await coming(there.backbone.registry) == set()
    assert await there.backbone.retention.runs(*JOB) == {ROOT: 1}
    with pytest.raises((NoSuchRun, IntegrityViolated, Rejected)):
        await export_job(there.backbone, JOB, io.BytesIO(), Origin("0.0", NOW))
