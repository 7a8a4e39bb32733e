"""Reading the first message of TLS: which host it names. Not the rest of the handshake."""

from typing import NamedTuple

from services.sandbox.egress.refusals import Reason, Refused

HELLO_MAX = 32 * 1024
RECORD_MAX = 16 * 1024
RECORD_HEAD = 5
MESSAGE_HEAD = 4
HANDSHAKE = 22
CLIENT_HELLO = 1
SERVER_NAME = 0
HOST_NAME = 0
ENCRYPTED_CLIENT_HELLO = 0xFE0D
ALERT = b"\x15\x03\x03\x00\x02\x02\x31"
"""The fatal alert `access_denied`: what a client is told whose handshake is refused."""


class Hello(NamedTuple):
    """What matters of a ClientHello."""

    server_name: str | None
    encrypted: bool  # it holds another one inside, for another host


class _Bytes:
    """A piece of a message, read from the front and never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left():
            raise Refused(Reason.NOT_TLS)
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> "_Bytes":
        return _Bytes(self.take(self.number(length_size)))


def read_hello(data: bytes) -> Hello | None:
    """The ClientHello at the start of some bytes; None while it is not complete.

    Raises:
        Refused: the bytes are, or will be, no proper ClientHello.
    """
    message = _message(data)
    if message is None:
        return None
    body = _Bytes(message)
    body.take(2 + 32)  # version and random
    body.vector(1)  # session id
    body.vector(2)  # cipher suites
    body.vector(1)  # compression methods
    extensions = body.vector(2) if body.left() else _Bytes(b"")
    if body.left():
        raise Refused(Reason.NOT_TLS)
    name, seen = None, set[int]()
    while extensions.left():
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise Refused(Reason.NOT_TLS)
        seen.add(kind)
        if kind == SERVER_NAME:
            name = _server_name(content)
    return Hello(name, ENCRYPTED_CLIENT_HELLO in seen)


def _server_name(content: _Bytes) -> str:
    """The one name in the extension."""
    names = content.vector(2)
    kind = names.number(1)
    name = names.vector(2)
    if kind != HOST_NAME or names.left() or content.left():
        raise Refused(Reason.NOT_TLS)
    try:
        return name.take(name.left()).decode("ascii").lower()
    except UnicodeDecodeError:
        raise Refused(Reason.NOT_TLS) from None


def _message(data: bytes) -> bytes | None:
    """The body of the first handshake message, put together from records."""
    message = b""
    at = 0
    while True:
        head = data[at : at + RECORD_HEAD]
        if head[:1] not in (b"", bytes([HANDSHAKE])) or head[1:2] not in (b"", b"\x03"):
            raise Refused(Reason.NOT_TLS)
        if len(head) < RECORD_HEAD:
            break
        length = int.from_bytes(head[3:], "big")
        if not 0 < length <= RECORD_MAX:
            raise Refused(Reason.NOT_TLS)
        message += data[at + RECORD_HEAD : at + RECORD_HEAD + length]
        at += RECORD_HEAD + length
        if message[0:1] not in (b"", bytes([CLIENT_HELLO])):
            raise Refused(Reason.NOT_TLS)
        size = MESSAGE_HEAD + int.from_bytes(message[1:MESSAGE_HEAD], "big")
        if len(message) >= MESSAGE_HEAD and size > HELLO_MAX:
            raise Refused(Reason.TOO_LARGE)
        if len(message) >= max(MESSAGE_HEAD, size):
            return message[MESSAGE_HEAD:size]
        if at > len(data):
            break
    if len(data) > 2 * HELLO_MAX:
        raise Refused(Reason.TOO_LARGE)
    return None
