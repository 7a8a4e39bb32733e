"""Prints every event of a deployment, from where it was last, with nats-py and nothing of ours.

    python follow.py CURSOR_FILE

The server is that of PERITUS_NATS_URL and PERITUS_NATS_TOKEN, or else the embedded one that
.peritus/endpoint.json names. A line is a cursor, a run and a type. The cursor is written after an
event is handled: after a crash the last event may come again, and none is left out.
"""

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path

import nats
import nats.errors
from nats.js.api import ConsumerConfig, DeliverPolicy

PREFIX = os.environ.get("PERITUS_PREFIX", "peritus")
STREAM = f"{PREFIX.replace('.', '_').upper()}_EVENTS"
QUIET_S = 10.0
"""After that long without an event it subscribes anew: the server may have forgotten us."""


def address() -> tuple[str, str | None]:
    """Where the server is, and its token."""
    if url := os.environ.get("PERITUS_NATS_URL"):
        return url, os.environ.get("PERITUS_NATS_TOKEN")
    endpoint = json.loads(Path(".peritus/endpoint.json").read_text())
    return endpoint["url"], endpoint["token"]


async def incarnation(connection: nats.NATS) -> str:
    """Names the life of the log: another one when the stream was made anew."""
    answer = await connection.request(f"$JS.API.STREAM.INFO.{STREAM}", timeout=5)
    return hashlib.sha256(json.loads(answer.data)["created"].encode()).hexdigest()[:8]


def place(file: Path, life: str) -> tuple[int, int]:
    """The sequence and the index of the last event that was handled; (1, -1): none."""
    known, seq, index = file.read_text().split("-") if file.exists() else ("", "0", "0")
    return (int(seq), int(index)) if known == life else (1, -1)


def keep(file: Path, cursor: str) -> None:
    """Write the cursor, whole or not at all."""
    written = file.with_suffix(".new")
    written.write_text(cursor)
    written.replace(file)


async def follow(connection: nats.NATS, file: Path) -> None:
    """Handle what comes after the cursor, until nothing has come for a while."""
    life = await incarnation(connection)
    seq, index = place(file, life)
    start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=seq)
    subscription = await connection.jetstream().subscribe(
        f"{PREFIX}.evt.>", ordered_consumer=True, config=start
    )
    try:
        while True:
            message = await subscription.next_msg(timeout=QUIET_S)
            envelope = json.loads(message.data)
            at = message.metadata.sequence.stream
            for number, event in enumerate(envelope["events"]):
                if (at, number) > (seq, index):
                    handle(f"{life}-{at}-{number}", envelope, event)
                    keep(file, f"{life}-{at}-{number}")
    finally:
        await subscription.unsubscribe()


def handle(cursor: str, envelope: dict, event: dict) -> None:
    """What this program is for."""
    print(cursor, envelope["run"], event["type"], flush=True)


async def main(file: Path) -> None:
    """Follow without end."""
    url, token = address()
    connection = await nats.connect(url, token=token, max_reconnect_attempts=-1)
    while True:
        try:
            await follow(connection, file)
        except nats.errors.TimeoutError:
            continue
        except (nats.errors.Error, OSError) as away:
            print(f"the server is away: {away}", file=sys.stderr)
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
