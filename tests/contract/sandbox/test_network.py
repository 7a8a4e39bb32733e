"""The network of a sandbox, in any backend: its own loopback, and the proxy (C16)."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from services.sandbox.port import PROXY_PORT, Backend, Sandbox
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import BOUND_S, err, out, python, spec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_sandbox_without_egress_has_no_proxy_and_no_route(sandbox: Sandbox) -> None:
    """C16."""
    assert sandbox.proxy is None
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        outcome = await sandbox.exec(python(REACH, str(listener.getsockname()[1])))
    assert out(outcome).split() == ["refused"] * 7, err(outcome)


REACH = """
import socket, sys
for host in ('127.0.0.1', '10.0.0.1', '8.8.8.8', '169.254.169.254', '::1'):
    try:
        socket.create_connection((host, int(sys.argv[1])), 2)
        print('reached')
    except OSError as error:
        print('refused')
try:
    socket.getaddrinfo('example.com', 80)
    print('reached')
except OSError:
    print('refused')
try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        tried.sendto(b'x', ('8.8.8.8', 53))
    print('reached')
except OSError:
    print('refused')
"""


async def test_the_proxys_listener_is_inside_and_served_from_outside(
    backend: Backend, workspace: Workspace, promises: Callable[[str], None]
) -> None:
    """C16: one way out, which is ours; the proxy's port can be neither taken nor closed inside."""
    promises("egress")
    sandbox = await backend.open(spec(workspace, egress=True))
    try:
        assert sandbox.proxy is not None
        listener = sandbox.proxy.dup()
        assert listener.getsockname() == ("127.0.0.1", PROXY_PORT)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello " + await reader.readline())
            writer.close()

        async with await asyncio.start_server(serve, sock=listener):
            for word in ("first", "second"):
                outcome = await sandbox.exec(python(CALL, str(PROXY_PORT), word))
                assert out(outcome) == f"hello {word}\n", err(outcome)
            outcome = await sandbox.exec(python(TAKE, str(PROXY_PORT)))
            assert out(outcome).split() == ["refused", "refused"], err(outcome)
            outcome = await sandbox.exec(python(REACH, "1"))
            assert out(outcome).split() == ["refused"] * 7, err(outcome)
    finally:
        await sandbox.close()


CALL = """
import socket, sys
with socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10) as called:
    called.sendall(sys.argv[2].encode() + b'\\n')
    sys.stdout.write(called.makefile().read())
"""

TAKE = """
import fcntl, socket, struct, sys
with socket.socket() as taken:
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taken.bind(('127.0.0.1', int(sys.argv[1])))
        taken.listen()
        print('taken')
    except OSError:
        print('refused')
    try:
        fcntl.ioctl(taken, 0x8914, struct.pack('16sh22x', b'lo', 0))  # SIOCSIFFLAGS: down
        print('down')
    except OSError:
        print('refused')
"""


async def test_two_sandboxes_do_not_see_each_other(
    backend: Backend, workspaces: Callable[[], Workspace], promises: Callable[[str], None]
) -> None:
    promises("own_network")
    one, other = await backend.open(spec(workspaces())), await backend.open(spec(workspaces()))
    served = asyncio.Event()
    script = (
        "import socket\n"
        "with socket.create_server(('127.0.0.1', 4321)) as s:\n"
        "    print('up', flush=True)\n"
        "    s.accept()\n"
    )

    async def heard(_chunk: bytes) -> None:
        served.set()

    try:
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            serving = group.create_task(one.exec(python(script), on_stdout=heard))
            await served.wait()
            call = "import socket; socket.create_connection(('127.0.0.1', 4321), 5)"
            assert (await other.exec(python(call))).exit_code == 1
            assert (await one.exec(python(call))).exit_code == 0
            assert (await serving).exit_code == 0
    finally:
        await one.close()
        await other.close()
