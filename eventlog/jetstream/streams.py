"""The streams of a deployment as data, and how they come to be. Not what is stored in them."""

import asyncio
import logging
from collections.abc import Mapping

from domain.errors import PeritusError
from domain.rate import HOLD_MAX_MS
from eventlog.jetstream.api import NO_PEERS, NS, STREAM_DIFFERS, Json, Refused, call, store
from eventlog.jetstream.connection import Link, NoResponders
from eventlog.jetstream.durability import SYNC_TAG, Durability, DurabilityTooWeak
from eventlog.jetstream.subjects import Names

logger = logging.getLogger(__name__)

EVENT_CONSUMERS_MAX = 5000
"""Server 2.15 caps a stream at 1000 unless a number is given."""

COMMAND_DEDUP_S = 120
LIVE_AGE_S = 60
WORK_BYTES_MAX = 64 * 1024 * 1024
LIVE_BYTES_MAX = 32 * 1024 * 1024
LEASES_BYTES_MAX = 4 * 1024 * 1024
LIMITS_BYTES_MAX = 1024 * 1024
"""A limit on a memory stream is also a reservation: a server refuses what it has not left."""

LIMITS_AGE_S = HOLD_MAX_MS // 1_000
"""A note outlives the longest hold, in seconds; what is older holds nobody."""

WORK_MESSAGES_MAX = 100_000
WORK_AGE_S = 3_600
"""Work is a hint: what nobody took in an hour, in seconds, was meant for a worker that is gone."""

DEAD_MESSAGES_MAX = 1_000_000

NEWEST: Json = {"max_msgs_per_subject": 1, "discard": "old"}
"""Only the last message of each subject is kept."""

WEAKENING = frozenset({"num_replicas", "max_consumers"})
"""What an operator may have set higher than declared; a higher value stays."""


class StreamMismatch(PeritusError):
    """A stream of that name exists with a configuration that cannot be changed into ours."""


def declarations(names: Names, replicas: int, durability: Durability) -> dict[str, Json]:
    """The configuration of every stream, by kind.

    What must survive is placed on servers that sync: a cluster obeys, a single server ignores it.
    COMMANDS carries no size limit and discards old in name only: a stream with message schedules
    refuses `discard: new` (server error 10052), and discarding old would lose commands.
    """
    file: Json = {"storage": "file", "num_replicas": replicas, "allow_direct": True}
    if durability != "process":
        file["placement"] = {"tags": [SYNC_TAG]}
    memory: Json = {"storage": "memory", "num_replicas": replicas, "allow_direct": True}
    kinds = _on_disk(names, file) | _in_memory(names, memory)
    return {
        kind: {"name": names.stream(kind), "retention": "limits"} | config
        for kind, config in kinds.items()
    }


def _on_disk(names: Names, file: Json) -> dict[str, Json]:
    """What must survive."""
    return {
        "EVENTS": file
        | {
            "subjects": [names.any("evt")],
            "discard": "new",
            "deny_delete": True,
            "max_consumers": EVENT_CONSUMERS_MAX,
            "republish": {"src": names.any("evt"), "dest": names.any("liveevt")},
        },
        "SNAPSHOTS": file | NEWEST | {"subjects": [names.any("snap")]},
        "COMMANDS": file
        | {
            "subjects": [names.any("cmd"), names.any("tmr")],
            "retention": "workqueue",
            "allow_msg_schedules": True,
            "duplicate_window": COMMAND_DEDUP_S * NS,
        },
        "OPEN": file | NEWEST | {"subjects": [names.any("open")]},
        "REGISTRY": file | NEWEST | {"subjects": [names.any("reg")]},
        "DEAD": file
        | {"subjects": [names.any("dead")], "discard": "new", "max_msgs": DEAD_MESSAGES_MAX},
        "BLOBS": file
        | NEWEST
        | {"subjects": [names.any("blob")], "discard_new_per_subject": False},
    }


def _in_memory(names: Names, memory: Json) -> dict[str, Json]:
    """What may be lost as a whole: hints, signs of life, what is said now."""
    return {
        "WORK": memory
        | {
            "subjects": [names.any("work")],
            "retention": "workqueue",
            "discard": "new",
            "max_age": WORK_AGE_S * NS,
            "max_msgs": WORK_MESSAGES_MAX,
            "max_bytes": WORK_BYTES_MAX,
        },
        "LEASES": memory
        | NEWEST
        | {
            "subjects": [names.any("lease")],
            "allow_msg_ttl": True,
            "max_bytes": LEASES_BYTES_MAX,
        },
        "LIMITS": memory
        | NEWEST
        | {
            "subjects": [names.any("limit")],
            "max_age": LIMITS_AGE_S * NS,
            "max_bytes": LIMITS_BYTES_MAX,
            "republish": {"src": names.any("limit"), "dest": names.any("livelimit")},
        },
        "LIVE": memory
        | {
            "subjects": [names.any("live")],
            "discard": "old",
            "no_ack": True,
            "max_age": LIVE_AGE_S * NS,
            "max_bytes": LIVE_BYTES_MAX,
            "duplicate_window": LIVE_AGE_S * NS,
        },
    }


class Streams:
    """Declares streams, at the start and whenever one has vanished."""

    def __init__(self, link: Link, names: Names, replicas: int, durability: Durability) -> None:
        self.link = link
        self.names = names
        self.replicas = replicas
        self.configs = declarations(names, replicas, durability)
        self._one_at_a_time = asyncio.Lock()

    async def ensure_all(self) -> None:
        """Every stream exists as declared.

        Raises:
            StreamMismatch: one exists and cannot be made so.
            DurabilityTooWeak: no server of the cluster may hold it.
            Unavailable: the server is away or has no JetStream.
        """
        for kind in self.configs:
            await self.ensure(kind)

    async def ensure(self, kind: str) -> Json:
        """One stream exists as declared; what the server says of it.

        Raises:
            StreamMismatch: it exists and cannot be made so.
            DurabilityTooWeak: no server of the cluster may hold it.
            Unavailable: the server is away or has no JetStream.
        """
        wanted = self.configs[kind]
        name = wanted["name"]
        async with self._one_at_a_time:
            try:
                return await call(self.link, f"STREAM.CREATE.{name}", wanted)
            except Refused as refused:
                if refused.code == NO_PEERS:
                    msg = f'{refused}: {self.replicas} servers need `server_tags: ["{SYNC_TAG}"]`'
                    raise DurabilityTooWeak(msg) from refused
                if refused.code != STREAM_DIFFERS:
                    raise
            found = await call(self.link, f"STREAM.INFO.{name}")
            return await self._update(name, wanted, found)

    async def _update(self, name: str, wanted: Json, found: Json) -> Json:
        config = merged(found["config"], wanted)
        changed = sorted(key for key in config if config[key] != found["config"].get(key))
        if not changed:
            return found
        logger.warning("stream %s differs in %s and is updated", name, ", ".join(changed))
        try:
            return await call(self.link, f"STREAM.UPDATE.{name}", config)
        except Refused as refused:
            msg = (
                f"stream {name} exists with another {', '.join(changed)}, which cannot be changed: "
                f"{refused}; move or remove that stream, or use another prefix"
            )
            raise StreamMismatch(msg) from refused

    async def store(
        self, kind: str, subject: str, data: bytes, headers: dict[str, str] | None = None
    ) -> int:
        """Store one message; a stream that has vanished is declared again first.

        Memory streams vanish with a restart of their server.

        Raises:
            TooLarge: it is above the payload limit.
            Unavailable: it is not, or may not be, stored.
        """
        try:
            return await store(self.link, subject, data, headers)
        except NoResponders:
            await self.ensure(kind)
            return await store(self.link, subject, data, headers)

    async def info(self, kind: str) -> Json:
        """What the server says of a stream.

        Raises:
            Unavailable: it says nothing, or there is no such stream.
        """
        return await call(self.link, f"STREAM.INFO.{self.configs[kind]['name']}")

    async def purge(self, kind: str, subject: str, *, before_seq: int | None = None) -> None:
        """Remove all messages of a subject or filter, or those of it before a sequence.

        Raises:
            Unavailable: they may still be there.
        """
        asked: Json = {"filter": subject}
        if before_seq is not None:
            asked["seq"] = before_seq
        await call(self.link, f"STREAM.PURGE.{self.configs[kind]['name']}", asked)


def merged(found: Json, wanted: Mapping[str, object]) -> Json:
    """The found configuration with ours laid over it; what is stronger there stays."""
    config = dict(found)
    for key, value in wanted.items():
        mine, theirs = value, found.get(key)
        if key in WEAKENING and isinstance(mine, int) and isinstance(theirs, int):
            config[key] = theirs if theirs < 0 else max(mine, theirs)
        else:
            config[key] = mine
    return config
