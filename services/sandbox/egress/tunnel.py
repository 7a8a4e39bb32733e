"""A tunnel: bytes there and back once the handshake has named the right host. Not what they say."""

import asyncio

from services.sandbox.egress.hello import Hello, read_hello
from services.sandbox.egress.names import Where
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.streams import Stream
from services.sandbox.egress.timing import Idle

HANDSHAKE = b"\x16"


async def first_bytes(stream: Stream, where: Where, within_s: float) -> bytes:
    """Wait for the client to say something.

    Raises:
        Refused: it says nothing in time.
    """
    try:
        async with asyncio.timeout(within_s):
            data = await stream.read()
    except TimeoutError:
        raise Refused(Reason.TIMEOUT, *where) from None
    if not data:
        raise EOFError
    return data


async def checked_hello(stream: Stream, data: bytes, where: Where, within_s: float) -> bytes:
    """All bytes up to a ClientHello for exactly that host, to be passed on as they are.

    Raises:
        Refused: the handshake is none, hides its host, or names another.
    """
    try:
        async with asyncio.timeout(within_s):
            while (hello := _read(data, where)) is None:
                more = await stream.read()
                if not more:
                    raise Refused(Reason.NOT_TLS, *where)
                data += more
    except TimeoutError:
        raise Refused(Reason.TIMEOUT, *where) from None
    if hello.encrypted:
        raise Refused(Reason.ENCRYPTED_HELLO, *where)
    if hello.server_name is None:
        raise Refused(Reason.NO_SNI, *where)
    if hello.server_name != where.host:
        raise Refused(Reason.SNI_MISMATCH, *where)
    return data


def _read(data: bytes, where: Where) -> Hello | None:
    try:
        return read_hello(data)
    except Refused as refused:
        raise Refused(refused.reason, *where) from None


async def relay(client: Stream, host: Stream, idle_s: float) -> None:
    """Bytes there and back until both have finished.

    Raises:
        Refused: the sandbox has transferred all it may.
        OSError: one side is gone, or both are silent for too long.
    """
    async with Idle(idle_s) as idle:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(client, host, idle))
                tasks.create_task(_pump(host, client, idle))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


async def _pump(source: Stream, sink: Stream, idle: Idle) -> None:
    while data := await source.read():
        idle.touch()
        await sink.write(data)
    await sink.finish()
