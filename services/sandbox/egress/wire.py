"""What worker and proxy process tell each other: JSON objects with descriptors. Not who asks why.

The worker asks with a number and is answered with it; the process tells of denials unasked.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Annotated, Literal

from pydantic import Discriminator, Field, TypeAdapter

from domain.record import Record
from domain.sandbox import EgressRow
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.tally import Tally

LENGTH = struct.Struct(">I")
MESSAGE_MAX = 16 * 1024 * 1024
CHUNK = 64 * 1024
DESCRIPTORS_MAX = 64  # in one chunk: every one belongs to a message of its own


class Start(Record):
    """First to the process: the operator's settings, and the authority of a process before it."""

    kind: Literal["start"] = "start"
    settings: EgressSettings
    roots: str | None  # the file of certificates the system trusts
    authority: str | None


class Ready(Record):
    """First from the process."""

    kind: Literal["ready"] = "ready"


class Prepare(Record):
    """Ask for stand-ins."""

    kind: Literal["prepare"] = "prepare"
    number: int
    policy: EgressPolicy
    variables: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    """Those of the worker that are named like secrets it asks for; a process has no others."""


class Made(Record):
    """The stand-ins by name of their secret, what has none and why, and the authority if needed.

    `authority` (key and certificate) is for the next process, `certificate` for the sandbox.
    """

    kind: Literal["made"] = "made"
    number: int
    stand_ins: dict[str, str]
    missing: dict[str, str]
    authority: str | None
    certificate: str | None


class Attach(Record):
    """Serve the listener that comes with this."""

    kind: Literal["attach"] = "attach"
    number: int
    session: int
    policy: EgressPolicy
    variables: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    stand_ins: dict[str, str]
    spent: int


class Detach(Record):
    """End a session: its listener and its connections."""

    kind: Literal["detach"] = "detach"
    number: int
    session: int


class Done(Record):
    """It is attached, or detached."""

    kind: Literal["done"] = "done"
    number: int


class Take(Record):
    """Ask what went through a session since the last time."""

    kind: Literal["take"] = "take"
    number: int
    session: int


class Taken(Record):
    """A part of it; `more`: ask again."""

    kind: Literal["taken"] = "taken"
    number: int
    tally: Tally
    more: bool
    spent: int


class Trouble(Record):
    """What was asked for cannot be done."""

    kind: Literal["trouble"] = "trouble"
    number: int
    message: str


class Denied(Record):
    """A session's first denial of a host."""

    kind: Literal["denied"] = "denied"
    session: int
    row: EgressRow


class Spent(Record):
    """How many bytes a session has transferred in all."""

    kind: Literal["spent"] = "spent"
    session: int
    spent: int


Message = Annotated[
    Start
    | Ready
    | Prepare
    | Made
    | Attach
    | Detach
    | Done
    | Take
    | Taken
    | Trouble
    | Denied
    | Spent,
    Discriminator("kind"),
]
MESSAGES = TypeAdapter[Message](Message)


class Channel:
    """One end of the pair of sockets between worker and process."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self._socket = connection
        self._unread = b""
        self._descriptors: list[int] = []
        self._turn = asyncio.Lock()

    async def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, and a descriptor with it.

        Raises:
            OSError: the other side is gone.
        """
        body = MESSAGES.dump_json(message)
        data = memoryview(LENGTH.pack(len(body)) + body)
        passed = () if descriptor is None else (descriptor,)
        async with self._turn:
            while data:
                try:
                    sent = socket.send_fds(self._socket, [data], passed)
                except BlockingIOError:
                    await self._writable()
                else:
                    data, passed = data[sent:], ()

    async def receive(self) -> tuple[Message, int | None] | None:
        """The next message, with the descriptor that is the caller's now; None at the end.

        Raises:
            OSError: the other side is gone in the middle of something.
        """
        while True:
            size = LENGTH.size
            if len(self._unread) >= size:
                (length,) = LENGTH.unpack(self._unread[:size])
                if length > MESSAGE_MAX:
                    raise ConnectionAbortedError
                if len(self._unread) >= size + length:
                    message = MESSAGES.validate_json(self._unread[size : size + length])
                    self._unread = self._unread[size + length :]
                    wanted = isinstance(message, Attach) and bool(self._descriptors)
                    return message, self._descriptors.pop(0) if wanted else None
            if not await self._fill():
                return None

    async def _fill(self) -> bool:
        try:
            data, passed, _, _ = socket.recv_fds(
                self._socket, CHUNK, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            await self._readable()
            return True
        self._unread += data
        self._descriptors += passed
        return bool(data)

    async def _readable(self) -> None:
        loop, number = asyncio.get_running_loop(), self._socket.fileno()
        ready = asyncio.Event()
        loop.add_reader(number, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(number)

    async def _writable(self) -> None:
        loop, number = asyncio.get_running_loop(), self._socket.fileno()
        ready = asyncio.Event()
        loop.add_writer(number, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(number)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
