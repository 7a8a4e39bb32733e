"""The file that a job travels in: its format, for ever by its number. Not how it is filled.

A ZIP archive (PKWARE APPNOTE 6.3; with ZIP64 where needed) of

    manifest.json     what is in it (`Manifest`), JSON
    envelopes.jsonl   {"seq", "job", "run", "data"} a line, in the order of the log they were in;
                      `data` is the envelope's exact bytes in base64 (RFC 4648)
    blobs/<digest>    content by its SHA-256, lower-case hex

Nothing else is in it, and nothing is read that the manifest does not name.
"""

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from typing import IO, Literal, NamedTuple

import orjson
from pydantic import ValidationError

from domain.errors import IntegrityViolated, Rejected
from domain.ids import RunRef
from domain.record import Record, canonical

FORMAT = "peritus.job"
VERSION = 1
MANIFEST, ENVELOPES, BLOBS = "manifest.json", "envelopes.jsonl", "blobs/"

MANIFEST_BYTES_MAX = 256 * 1024 * 1024
LINE_BYTES_MAX = 2 * 1024 * 1024
"""What is read at once at most, in bytes; an envelope in base64 has 1,200,000."""


class RunInside(Record):
    """A run in the file; `head` is the hash of its last envelope."""

    job: str
    run: str
    envelopes: int
    version: int
    head: str
    status: str


class BlobInside(Record):
    """A blob in the file."""

    digest: str
    bytes: int


class Manifest(Record):
    """What is in the file. `jobs`: the one it is of, then those that it was forked from.

    `missing`: digests that an envelope names as content, and that were gone when it was written.
    """

    format: Literal["peritus.job"] = "peritus.job"
    version: int = VERSION
    release: str
    incarnation: str
    exported_at_ms: int
    tenant: str
    job: str
    jobs: tuple[str, ...]
    at_rest: bool
    runs: tuple[RunInside, ...]
    envelopes: int
    envelopes_sha256: str
    blobs: tuple[BlobInside, ...]
    missing: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Names this very export."""
        return hashlib.sha256(canonical(self)).hexdigest()


class Line(NamedTuple):
    """One envelope in the file, with the sequence it had."""

    seq: int
    ref: RunRef
    data: bytes


class Writer:
    """Fills a file: blobs as they come, envelopes at once, the manifest last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def blob(self, digest: str, data: bytes) -> None:
        """Add content."""
        self._zip.writestr(f"{BLOBS}{digest}", data)

    def envelopes(self, lines: list[Line]) -> str:
        """Add all envelopes; the digest of what was written."""
        hashed = hashlib.sha256()
        with self._zip.open(ENVELOPES, "w", force_zip64=True) as file:
            for line in lines:
                data = _encode(line)
                hashed.update(data)
                file.write(data)
        return hashed.hexdigest()

    def close(self, manifest: Manifest) -> None:
        """Say what is in it."""
        self._zip.writestr(
            MANIFEST, orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2)
        )
        self._zip.close()


class ArchiveReader:
    """Reads a file that may be anybody's: every part of it is checked, none is unpacked."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read the manifest.

        Raises:
            Rejected: `bad_archive`: it is not such a file, or one of a newer release.
        """
        try:
            self._zip = zipfile.ZipFile(file)
            if self._zip.getinfo(MANIFEST).file_size > MANIFEST_BYTES_MAX:
                raise Rejected("bad_archive", "its manifest is too large to be one")
            raw = orjson.loads(self._zip.read(MANIFEST))
            form = (raw["format"], raw["version"])
        except (zipfile.BadZipFile, KeyError, TypeError, orjson.JSONDecodeError, OSError) as error:
            message = f"this is not an exported job: {error}"
            raise Rejected("bad_archive", message) from error
        if form != (FORMAT, VERSION):
            message = f"this is {form[0]!r} of version {form[1]!r}; this release reads {VERSION}"
            raise Rejected("bad_archive", message)
        try:
            self.manifest = Manifest.model_validate_json(orjson.dumps(raw))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise Rejected("bad_archive", f"its manifest is malformed: {problems!r}") from error

    def lines(self) -> Iterator[Line]:
        """The envelopes in their order.

        Raises:
            IntegrityViolated: they are not what was written.
        """
        hashed = hashlib.sha256()
        count = 0
        try:
            with self._zip.open(ENVELOPES) as file:
                while data := file.readline(LINE_BYTES_MAX):
                    hashed.update(data)
                    count += 1
                    yield _decode(self.manifest.tenant, data)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            msg = f"the envelopes in the file cannot be read: {error}"
            raise IntegrityViolated(msg) from error
        found = (count, hashed.hexdigest())
        if found != (self.manifest.envelopes, self.manifest.envelopes_sha256):
            msg = f"the file holds {count} envelopes that are not those it was written with"
            raise IntegrityViolated(msg)

    def blob(self, one: BlobInside) -> bytes:
        """Content, checked against its digest.

        Raises:
            IntegrityViolated: it is not what was written.
        """
        try:
            info = self._zip.getinfo(f"{BLOBS}{one.digest}")
            if info.file_size != one.bytes:
                msg = f"blob {one.digest!r} in the file has {info.file_size} bytes, not {one.bytes}"
                raise IntegrityViolated(msg)
            data = self._zip.read(info)
        except (zipfile.BadZipFile, KeyError, OSError) as error:
            msg = f"blob {one.digest!r} in the file cannot be read: {error}"
            raise IntegrityViolated(msg) from error
        if hashlib.sha256(data).hexdigest() != one.digest:
            msg = f"blob {one.digest!r} in the file is not what was stored"
            raise IntegrityViolated(msg)
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()


def _encode(line: Line) -> bytes:
    data = base64.b64encode(line.data).decode()
    row = {"seq": line.seq, "job": line.ref.job, "run": line.ref.run, "data": data}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _decode(tenant: str, data: bytes) -> Line:
    try:
        row = orjson.loads(data)
        ref = RunRef(tenant, row["job"], row["run"])
        return Line(row["seq"], ref, base64.b64decode(row["data"], validate=True))
    except (ValueError, KeyError, TypeError) as error:
        msg = f"a line of the file is no envelope: {error}"
        raise IntegrityViolated(msg) from error
