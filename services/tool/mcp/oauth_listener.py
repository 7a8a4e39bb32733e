"""A person at a browser of this machine, who logs in once. Not a web server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult

from services.tool.mcp.oauth import Person
from services.tool.mcp.oauth_failures import LoginFailed

PATH = "/callback"
HEAD_BYTES_MAX = 16 * 1024
HEAD_S = 10.0
LOGIN_S = 600.0
"""How long a person may take."""

DONE = "You are logged in. You can close this window."
REFUSED = "There is no login here that this answers."


LOGINS_MAX = 3
"""How often a person logs in for one server: it may have moved to another authorisation server."""


class AtBrowser(Person):
    """Shows a person where to log in, and hears what came of it."""

    def __init__(self, redirect: str, show: Callable[[str], None]) -> None:
        """`redirect` leads to who listens; `show` takes the address a person is to open."""
        super().__init__("")
        self.redirect = redirect
        self._show = show
        self._state: str | None = None
        self._logins = 0
        self._heard: asyncio.Future[AuthorizationCodeResult] = (
            asyncio.get_running_loop().create_future()
        )

    async def send(self, url: str) -> None:
        """Show a person the address of a login.

        Raises:
            LoginFailed: there were enough of them.
        """
        self._logins += 1
        if self._logins > LOGINS_MAX:
            message = f"the server takes no login: {LOGINS_MAX} were made"
            raise LoginFailed(message)
        if self._heard.done():
            self._heard = asyncio.get_running_loop().create_future()
        self._state = parse_qs(urlsplit(url).query).get("state", [""])[0]
        self._show(url)

    async def hear(self) -> AuthorizationCodeResult:
        """What came of it.

        Raises:
            LoginFailed: the person was refused, or took too long.
        """
        try:
            async with asyncio.timeout(LOGIN_S):
                return await asyncio.shield(self._heard)
        except TimeoutError:
            message = f"nobody logged in within {LOGIN_S:g} s"
            raise LoginFailed(message) from None

    def take(self, target: str) -> bool:
        """Whether a request is the answer of the authorisation server to this login."""
        parts = urlsplit(target)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        fits = parts.path == PATH and self._state and given.get("state") == self._state
        if not fits or self._heard.done():
            return False
        if "code" in given:
            self._heard.set_result(
                AuthorizationCodeResult(
                    code=given["code"], state=given["state"], iss=given.get("iss")
                )
            )
        else:
            error = given.get("error", "nothing")[:40]
            said = LoginFailed(f"the authorisation server gave no permission: {error!r}")
            self._heard.set_exception(said)
            self._heard.exception()  # it may be that nobody waits any more
        return True


@asynccontextmanager
async def at_browser(show: Callable[[str], None], port: int = 0) -> AsyncGenerator[AtBrowser]:
    """Listen on loopback for the answer to one login, until this is left.

    Raises:
        OSError: the port is taken.
    """
    person: AtBrowser | None = None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ", 2)
                taken = method == "GET" and person is not None and person.take(target)
                writer.write(_page("200 OK", DONE) if taken else _page("404 Not Found", REFUSED))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
    async with server:
        bound: int = server.sockets[0].getsockname()[1]
        person = AtBrowser(f"http://127.0.0.1:{bound}{PATH}", show)
        yield person


def _page(status: str, text: str) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
