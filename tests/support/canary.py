"""A secret planted in every source, and the search for it wherever a process leaves bytes (C15)."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.js.errors import NotFoundError

from domain.ids import RunRef
from domain.redaction import Redactor
from eventlog.port import Backbone
from services.secrets.config import SecretsConfig
from services.secrets.identity import read_identity
from services.secrets.store import AgeStore
from tests.support.sops_file import sealed_key, sops_json

SOURCES = ("ENVIRONMENT", "ENV_FILE", "FOLDER", "STORE", "SOPS")
EVERYTHING = RunRef("*", "*", "*")
LAST = (RunRef("canary", "canary", "canary"), b"the last piece")
BOUND_S = 10.0
SOPS_KEY = bytes(range(32))


@dataclass(frozen=True)
class Canary:
    """Values by name, one a source, where they were planted, and what must never show them."""

    values: Mapping[str, str]
    config: SecretsConfig
    variables: Mapping[str, str]
    planted: frozenset[Path]  # the files that hold values by design

    @property
    def redactor(self) -> Redactor:
        """Knows every form of every value."""
        return Redactor(self.values.items())

    def shown_in(self, what: str, data: bytes | str) -> list[str]:
        """`what: NAME` if a value is in some bytes, in any form."""
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        found = self.redactor.finds(raw)
        return [] if found is None else [f"{what}: {found}"]

    def shown_below(self, folder: Path, *, but: Path | None = None) -> list[str]:
        """Every file below a folder that shows a value, or is named like one."""
        return [
            line
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path not in self.planted
            and not (but is not None and path.is_relative_to(but))
            for line in (
                *self.shown_in(str(path), path.read_bytes()),
                *self.shown_in(f"the name of {path}", str(path)),
            )
        ]

    def shown_in_views(self, file: Path) -> list[str]:
        """Every value of every row of a database of views that shows a value.

        A file of SQLite breaks a long text over its pages: to search its bytes is not enough.
        """
        found: list[str] = []
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as views:
            names = [name for (name,) in views.execute("SELECT name FROM sqlite_master")]
            tables = views.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            rows = 0
            for (table,) in tables:
                for row in views.execute(f'SELECT * FROM "{table}"'):
                    rows += 1
                    for cell in row:
                        data = cell if isinstance(cell, bytes) else str(cell)
                        found += self.shown_in(f"{table}[{rows}]", data)
            assert rows, f"{file} holds nothing"  # else nothing was looked at
            found += self.shown_in("names of the views", " ".join(names))
        return found

    async def shown_in_streams(self, url: str, token: str | None, prefix: str) -> list[str]:
        """Every message of every stream of a deployment that shows a value: subject, headers, data.

        EVENTS, BLOBS, SNAPSHOTS, COMMANDS, DEAD, LIVE, and whatever else there is.
        """
        client: Any = Client()  # its types are not complete
        await client.connect(url, token=token)
        try:
            streams: Any = client.jsm()
            found: list[str] = []
            read = 0
            for stream in await streams.streams_info():
                name = stream.config.name or ""
                if not name.lower().startswith(prefix.lower()):
                    continue
                read += 1
                for seq in range(max(1, stream.state.first_seq), stream.state.last_seq + 1):
                    try:
                        message = await streams.get_msg(name, seq)
                    except NotFoundError:
                        continue  # taken from a queue, or replaced
                    head = f"{message.subject} {message.headers or ''}"
                    found += self.shown_in(f"{name}[{seq}]", message.data or b"")
                    found += self.shown_in(f"the head of {name}[{seq}]", head)
            assert read, f"no stream begins with {prefix}"  # else nothing was looked at
            return found
        finally:
            await client.close()


def plant(folder: Path, seed: str = "c4n4ry") -> Canary:
    """One value in each source that needs no desktop; the files are made below the folder."""
    names = {source: f"CANARY_{source}" for source in SOURCES}
    values = {name: f"{seed}-{name.lower()}/+Zq9&x" for name in names.values()}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    env_file, secrets = folder / ".env", folder / "run-secrets"
    env_file.write_text(f"{names['ENV_FILE']}='{values[names['ENV_FILE']]}'\n")
    secrets.mkdir(mode=0o700)
    (secrets / names["FOLDER"]).write_text(values[names["FOLDER"]])
    store, identity = folder / "secrets.age", folder / "identity.age"
    AgeStore(store, identity).set(names["STORE"], values[names["STORE"]])
    key = read_identity(identity)
    assert key is not None
    sops = folder / "secrets.json"
    ours = {"age": sealed_key(SOPS_KEY, key.recipient)}
    sops.write_text(sops_json({names["SOPS"]: values[names["SOPS"]]}, ours, key=SOPS_KEY))
    return Canary(
        values=values,
        config=SecretsConfig(
            env_files=(str(env_file),),
            folders=(str(secrets),),
            store=str(store),
            identity=str(identity),
            sops=(str(sops),),
        ),
        variables={names["ENVIRONMENT"]: values[names["ENVIRONMENT"]]},
        planted=frozenset({env_file, secrets / names["FOLDER"]}),
    )


@dataclass
class Heard:
    """What was said on LIVE while somebody listened."""

    pieces: list[bytes] = field(default_factory=list[bytes])


@asynccontextmanager
async def listening(backbone: Backbone) -> AsyncGenerator[Heard]:
    """Keep everything that this connection says of any run until the context ends."""
    heard = Heard()
    ready = asyncio.Event()

    async def listen() -> None:
        async with backbone.live.subscribe(EVERYTHING) as pieces:
            ready.set()
            async for piece in pieces:
                if piece == LAST:
                    return
                heard.pieces.append(piece.data)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listen())
        await ready.wait()
        yield heard
        await backbone.live.publish(*LAST)
        async with asyncio.timeout(BOUND_S):
            await task


def together(pieces: Iterable[bytes]) -> bytes:
    """Pieces as whoever reads them one after the other sees them: a value may lie across them."""
    return b"".join(pieces)
