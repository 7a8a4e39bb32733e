"""Whether a server answers JetStream calls, over a plain socket. Not a client."""

import asyncio
import json

PROBE_S = 2.0
INBOX = "_INBOX.peritus.probe"


async def answers(port: int, token: str, *, within_s: float = PROBE_S) -> bool:
    """Whether the server on that port lets us in and its JetStream answers."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return await _asked(reader, writer, token)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> bool:
    await reader.readline()
    options = {
        "auth_token": token,
        "verbose": False,
        "pedantic": False,
        "lang": "python",
        "version": "0",
        "headers": True,
        "no_responders": True,
    }
    writer.write(
        f"CONNECT {json.dumps(options)}\r\nSUB {INBOX} 1\r\n"
        f"PUB $JS.API.INFO {INBOX} 0\r\n\r\nPING\r\n".encode()
    )
    await writer.drain()
    while line := await reader.readline():
        if line.startswith(b"MSG "):
            return True
        if line.startswith((b"-ERR", b"HMSG ")):
            return False
    return False
