"""Making one container, in a thread: image, walls, files, listener. Not what runs in it later."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from services.sandbox.docker import container, script
from services.sandbox.docker.attach import first_line, hijack
from services.sandbox.docker.engine import Api, Engine, EngineError, Facts
from services.sandbox.docker.host import Host, look
from services.sandbox.docker.images import Images
from services.sandbox.docker.listener import listen_inside
from services.sandbox.docker.moving import put_in
from services.sandbox.docker.seccomp import profile
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.docker.shell import PREPARE_S, prepare
from services.sandbox.failures import NotAhead, SandboxUnavailable
from services.sandbox.paths import MOUNT
from services.sandbox.port import FILES_FOLDER, PROXY_PORT, SECRETS_FOLDER, Owner, SandboxSpec

NOT_FOUND = 404
GONE = {NOT_FOUND, 409}
GOING_S, LOOK_S = 5.0, 0.02
"""How long the engine may take to remove what has ended, and how often that is looked at."""

FILE_MODE, SECRET_MODE = 0o444, 0o400
RUNC = {None, "runc"}


def place_for(api: Api, found: Facts) -> container.Place:
    """Where a container of an image will be."""
    facts = api.info()
    config: dict[str, Any] = found.get("Config") or {}
    volumes: dict[str, Any] = config.get("Volumes") or {}
    return container.Place(
        machine=str(facts["Architecture"]),
        cpus=int(facts["NCPU"]),
        image=str(found["Id"]),
        volumes=tuple(volumes),
    )


class Order(NamedTuple):
    """The container that is wanted. `name` is new; `privileged` says to look at it from outside.

    `image` None is the operator's.
    """

    engine: Engine
    settings: DockerSettings
    images: Images
    owner: Owner
    shape: container.Shape
    image: str | None
    name: str
    started_ms: int
    privileged: bool


class Opened:
    """A container that runs, and what holds it."""

    def __init__(
        self, name: str, image: str, shape: container.Shape, keeper: socket.socket
    ) -> None:
        self.name = name
        self.image = image  # its id
        self.user = "{}:{}".format(*shape.user)  # whom commands run as
        self.keeper_user = shape.keeper
        self.keeper = keeper
        """Our connection to it: the container ends when this is closed."""
        self.host: Host | None = None
        self.proxy: socket.socket | None = None

    def let_go(self) -> None:
        """Close what we hold of it."""
        self.keeper.close()
        if self.proxy is not None:
            self.proxy.close()


def open_container(order: Order, spec: SandboxSpec) -> Opened:
    """Make a container and everything in it. Blocks for some hundred milliseconds.

    Raises:
        SandboxUnavailable: it cannot be made; nothing of it is left.
    """

    def work(api: Api) -> Opened:
        opened = _stand(order, api)
        with _held(opened):
            _furnish(order, spec, api, opened)
        return opened

    return _whole(order.engine, order.name, work)


def stand_ahead(order: Order) -> Opened:
    """Make a container into which a workspace is put later. Blocks as long.

    Raises:
        SandboxUnavailable: none can be made, or nothing could be put into it; nothing is left.
    """

    def work(api: Api) -> Opened:
        opened = _stand(order, api)
        if opened.host is None or not opened.host.privileged:
            opened.let_go()
            message = (
                f"a container of the engine at {order.engine.host} gets its workspace when it is "
                "made: later needs an engine on this machine, in our pid namespace, with runc, and "
                "us as root"
            )
            raise NotAhead(message)
        return opened

    return _whole(order.engine, order.name, work)


def move_in(order: Order, spec: SandboxSpec, opened: Opened) -> Opened:
    """Give a container that was made ahead its workspace and all else. Blocks for a moment.

    Raises:
        SandboxUnavailable: it cannot be had; the container is gone.
    """

    def work(api: Api) -> Opened:
        with _held(opened):
            user, group = spec.workspace.owner()
            wanted = str(order.images.find(spec.image)["Id"])
            other = wanted != opened.image or user == opened.keeper_user
            if other or spec.folders or opened.host is None:
                message = "the container that was made ahead is not of the kind that is wanted"
                raise SandboxUnavailable(message)
            put_in(opened.host, spec.workspace.fileno())
            opened.user = f"{user}:{group}"
            _furnish(order, spec, api, opened)
        return opened

    return _whole(order.engine, opened.name, work)


def _whole(engine: Engine, name: str, work: Callable[[Api], Opened]) -> Opened:
    """Do some work on a container; when that fails, nothing of the container is left."""
    try:
        return engine.ask(work)
    except BaseException:
        with suppress(SandboxUnavailable):  # what went wrong first counts
            engine.ask(lambda api: discard(api, name))
        raise


@contextmanager
def _held(opened: Opened) -> Generator[None]:
    try:
        yield
    except BaseException:
        opened.let_go()
        raise


def discard(api: Api, name: str) -> None:
    """Remove a container that may not even exist; waits where the engine is at it already."""
    try:
        api.remove_container(name, v=True, force=True)
    except Exception as error:
        status = _status(error)
        if status not in GONE:
            raise
        if status != NOT_FOUND:
            _see_it_gone(api, name)


def _see_it_gone(api: Api, name: str) -> None:
    """Wait until a container that ends by itself is removed, for a bounded time."""
    for _ in range(round(GOING_S / LOOK_S)):
        try:
            api.inspect_container(name)
        except Exception as error:
            if _status(error) == NOT_FOUND:
                return
            raise
        time.sleep(LOOK_S)


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _stand(order: Order, api: Api) -> Opened:
    settings, shape = order.settings, order.shape
    place = place_for(api, order.images.find(order.image))
    if shape.workspace is None and place.volumes:
        message = f"the image wants volumes ({', '.join(place.volumes)}), whose owner is not known"
        raise NotAhead(message)
    walls = container.host_settings(shape, settings, place, profile(place.machine))
    made = api.create_container(
        place.image,
        **container.configuration(container.labels(order.owner, order.started_ms)),
        name=order.name,
        user=f"{shape.keeper}:{shape.keeper}",
        host_config=container.with_paths(api.create_host_config(**walls)),
    )
    keeper = _attach(order.engine, api, order.name)
    opened = Opened(order.name, place.image, shape, keeper)
    with _held(opened):
        api.start(order.name)
        if settings.runtime in RUNC:
            pid = int(api.inspect_container(order.name)["State"]["Pid"])
            opened.host = look(str(made["Id"]), pid, privileged=order.privileged)
    return opened


def _attach(engine: Engine, api: Api, name: str) -> socket.socket:
    """Our hold on the keeper, taken before it starts so that nothing is missed."""
    connection = engine.connect()
    try:
        connection.settimeout(PREPARE_S)
        query = "stream=1&stdin=1&stdout=1"
        hijack(connection, f"/v{api.api_version}/containers/{name}/attach?{query}", None)
    except BaseException:
        connection.close()
        raise
    return connection


def _furnish(order: Order, spec: SandboxSpec, api: Api, opened: Opened) -> None:
    """Files, secrets and the listener; and proof that the workspace is the one that was meant."""
    engine, plain = order.engine, order.settings.runtime in RUNC
    line = script.writing(FILES_FOLDER, spec.files, FILE_MODE)
    if opened.host is None and plain:
        seen = {MOUNT: os.fstat(spec.workspace.fileno()), **_stats(spec)}
        line += b" && ".join(
            b'[ "$(ls -di %s)" = "%d %s" ]' % (place.encode(), found.st_ino, place.encode())
            for place, found in seen.items()
        )
    else:
        if opened.host is not None:
            _check_workspace(opened.host, spec)
        line += b":"
    opened.keeper.sendall(line + b"\n")
    try:
        said = first_line(opened.keeper)
    except EngineError:
        said = b""
    if said != b"ok":
        message = (
            "the container cannot be furnished: its image needs /bin/sh, the engine must see the "
            "workspace where we see it, and nobody may end the container meanwhile"
        )
        raise SandboxUnavailable(message)
    if opened.host is None and not plain:
        _look_for_token(order, spec, api, opened)
    if spec.secret_files:
        _write_secrets(order, spec, api, opened)
    if spec.egress:
        if opened.host is None or not opened.host.privileged:
            message = (
                f"no egress from containers of the engine at {engine.host}: the proxy's listener "
                "is made in the container's network, so the engine must run on this machine, in "
                "our pid namespace, with runc, and we as root"
            )
            raise SandboxUnavailable(message)
        opened.proxy = listen_inside(opened.host, PROXY_PORT)


def _stats(spec: SandboxSpec) -> dict[str, os.stat_result]:
    """The folders of a spec, as they are here."""
    try:
        return {inner: outer.stat() for inner, outer in spec.folders.items()}
    except OSError as error:
        message = f"a folder cannot be shown inside: {error.strerror}"
        raise SandboxUnavailable(message) from error


def _check_workspace(host: Host, spec: SandboxSpec) -> None:
    wanted = {MOUNT: os.fstat(spec.workspace.fileno()), **_stats(spec)}
    for place, stat in wanted.items():
        try:
            found = Path(f"/proc/{host.pid}/root{place}").stat()
        except PermissionError:
            return  # only root may look; the engine is on this machine and was given the path
        if not os.path.samestat(found, stat):
            message = f"the engine mounted another folder at {place}: was it moved meanwhile?"
            raise SandboxUnavailable(message)


def _look_for_token(order: Order, spec: SandboxSpec, api: Api, opened: Opened) -> None:
    """A kernel of its own numbers files as it likes: there, a file is looked for that we make."""
    folder, token = spec.workspace.fileno(), f".peritus-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    os.close(os.open(token, flags, 0o600, dir_fd=folder))
    try:
        seen = _obeys(order, api, opened, b"[ -e %s ] && " % script.quoted(f"{MOUNT}/{token}"))
    finally:
        os.unlink(token, dir_fd=folder)
    if not seen:
        message = "the engine mounted another folder than the workspace: it must see it where we do"
        raise SandboxUnavailable(message)


def _write_secrets(order: Order, spec: SandboxSpec, api: Api, opened: Opened) -> None:
    """By a shell of the commands' user, through its standard input: in no argument, on no disk."""
    files = {name: value.reveal().encode() for name, value in spec.secret_files.items()}
    if not _obeys(order, api, opened, script.writing(SECRETS_FOLDER, files, SECRET_MODE)):
        message = "the secret files cannot be written in the container"
        raise SandboxUnavailable(message)


def _obeys(order: Order, api: Api, opened: Opened, words: bytes) -> bool:
    """Whether a shell of the commands' user gets to the end of some words."""
    shell = prepare(order.engine, api, opened.host, opened.name, opened.user)
    with shell.connection:
        shell.connection.sendall(words + b"echo ok\n")
        try:
            return first_line(shell.connection) == b"ok"
        except EngineError:
            return False
