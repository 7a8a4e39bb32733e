"""Checking a server against a durability class at the start. Not the classes: `durability` is."""

import asyncio
from dataclasses import dataclass

import orjson
from nats.aio.msg import Msg

from domain.errors import Unavailable
from eventlog.jetstream.api import Json
from eventlog.jetstream.connection import Link
from eventlog.jetstream.durability import SYNC_TAG, Durability, DurabilityTooWeak

VERSION_MIN = (2, 12, 3)
"""Older ones lose acknowledged messages on membership changes (Jepsen, #7545)."""

VERSION_MIN_REPLICATED_SYNC = (2, 15, 0)
"""From here on, `always` with replicas syncs once for each Raft entry (server PR 8447)."""

REPLICAS_MIN_NODE = 3
PEERS_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    name: str
    tags: tuple[str, ...]


def check_version(link: Link, durability: Durability) -> None:
    """The server is new enough.

    Raises:
        DurabilityTooWeak: it is not.
    """
    wanted = VERSION_MIN_REPLICATED_SYNC if durability == "node" else VERSION_MIN
    if link.version < wanted:
        msg = (
            f"nats-server {_dotted(link.version)} at {link.url} is too old for durability "
            f"{durability!r}: run {_dotted(wanted)} or newer"
        )
        raise DurabilityTooWeak(msg)


async def check_servers(link: Link, durability: Durability, events: Json) -> None:
    """The servers that hold the event stream keep what the class promises.

    Raises:
        DurabilityTooWeak: they do not, or it cannot be told.
        Unavailable: they do not answer.
    """
    config = events["config"]
    if config.get("storage") != "file" or config.get("persist_mode", "default") == "async":
        msg = f"stream {config['name']} is not kept in synchronous files: move it away"
        raise DurabilityTooWeak(msg)
    if durability == "process":
        return
    holders = _holders(events.get("cluster") or {})
    if durability == "node" and len(holders) < REPLICAS_MIN_NODE:
        msg = (
            f"durability 'node' needs the event stream on {REPLICAS_MIN_NODE} servers and it is on "
            f"{max(1, len(holders))}: connect to a cluster and set replicas to {REPLICAS_MIN_NODE}"
        )
        raise DurabilityTooWeak(msg)
    servers = await _peers(link, len(holders)) if holders else [await _own(link)]
    seen = [server for server in servers if not holders or server.name in holders]
    untagged = sorted(server.name for server in seen if SYNC_TAG not in server.tags)
    if untagged or 2 * len(seen) <= len(holders):
        msg = (
            f"durability {durability!r} needs every server of the event stream to sync before it "
            f"acknowledges; not known of: {', '.join(untagged) or 'servers that do not answer'}. "
            f'Set `jetstream {{ sync_interval: always }}` and `server_tags: ["{SYNC_TAG}"]` there, '
            "or declare durability 'process'"
        )
        raise DurabilityTooWeak(msg)


def _holders(cluster: Json) -> set[str]:
    """The names of the servers that hold a stream; none when it is not in a cluster."""
    peers: list[Json] = cluster.get("replicas") or []
    names: set[str] = {peer["name"] for peer in peers}
    leader: str = cluster.get("leader") or ""
    return names | {leader} if leader else names


async def _own(link: Link) -> Server:
    answer = await link.request("$SYS.REQ.USER.INFO")
    return _server(answer.data)


async def _peers(link: Link, count: int) -> list[Server]:
    """All servers of the cluster that answer in time; each answers for the account."""
    found: dict[str, Server] = {}
    enough = asyncio.Event()

    def hear(msg: Msg) -> None:
        if msg.data:
            server = _server(msg.data)
            found[server.name] = server
        if len(found) >= count:
            enough.set()

    inbox = link.inbox()
    subscription = await link.subscribe(inbox, hear)
    try:
        await link.publish("$SYS.REQ.ACCOUNT.PING.CONNZ", b'{"limit":1}', reply=inbox)
        async with asyncio.timeout(PEERS_WAIT_S):
            await enough.wait()
    except TimeoutError:
        pass
    finally:
        await link.unsubscribe(subscription)
    if not found:
        msg = f"no server of the cluster at {link.url} tells its tags"
        raise Unavailable(msg)
    return list(found.values())


def _server(data: bytes) -> Server:
    server: Json = orjson.loads(data)["server"]
    return Server(server["name"], tuple(server.get("tags") or ()))


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
