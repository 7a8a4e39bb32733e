"""The packages of a place: each is fetched once, in a sandbox of its own, and then only read.

What is fetched is complete, and on the disk, before it has its name. It belongs to no tenant: it
comes from the operator's registry alone, and nothing of a run was there when it was made.
"""

import asyncio
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from domain.record import canonical, digest_of
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.opening import open_workspace
from services.sandbox.packages.fetching import Workshop, fetch
from services.sandbox.packages.lock import locked
from services.sandbox.packages.programs import Installed, look, settle
from services.sandbox.packages.request import Request, exactly
from services.sandbox.packages.scripts import CACHE, TREE
from services.sandbox.scratch import fresh_folder, passable, remove
from services.sandbox.syncing import sync_all
from services.sandbox.workspace import Workspace
from services.worker.toolbox import OnOutput

logger = logging.getLogger(__name__)

INSTALLED = "installed.json"
DIGEST_CHARS = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """Packages for one kind of sandbox: another image may need other files of the same package."""

    request: Request
    backend: str
    image: str | None
    digest: str
    tree: Path
    """Where they are, once they are there."""


@dataclass(eq=False)
class _Work:
    """An installation that is going on, and who hears what it prints."""

    task: "asyncio.Task[Installed | SandboxUnavailable]"
    hearers: list[OnOutput] = field(default_factory=list[OnOutput])


class Packages:
    """Fills a folder with packages, once for all workers of a place."""

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        self._folder = folder
        self._shop = workshop
        self._working: dict[str, _Work] = {}

    def wanted(self, request: Request, backend: str, image: str | None) -> Wanted:
        """What a skill of some kind of sandbox needs; nothing is fetched."""
        registry = self._shop.settings.registry(request.kind)
        key = [request.kind, request.packages, registry, backend, image]
        digest = digest_of(canonical(key))[:DIGEST_CHARS]
        return Wanted(request, backend, image, digest, self._folder / digest / TREE)

    async def ready(self, wanted: Wanted, hear: OnOutput | None = None) -> Installed:
        """Have packages in place; they are fetched now when they are not there.

        Fetching goes on when whoever waits for it is cancelled: the next one finds it done.

        Raises:
            SandboxUnavailable: they cannot be had; the message says why.
        """
        found = await asyncio.to_thread(self._known, wanted)
        if found is not None:
            return found
        if not self._shop.settings.fetch:
            message = (
                f"{wanted.request.name} is not here, and the operator lets no packages be fetched "
                "(PERITUS_PACKAGES_FETCH): put the program into the workspace or the image"
            )
            raise SandboxUnavailable(message)
        work = self._working.get(wanted.digest)
        if work is None:
            task = self._shop.tasks.create_task(
                self._installed(wanted), name=f"package {wanted.request.name}"
            )
            work = self._working[wanted.digest] = _Work(task)
            task.add_done_callback(lambda _: self._working.pop(wanted.digest, None))
        if hear is not None:
            work.hearers.append(hear)
        try:
            result = await asyncio.shield(work.task)
        finally:
            if hear is not None:
                work.hearers.remove(hear)
        if isinstance(result, SandboxUnavailable):
            raise result
        return result

    async def close(self) -> None:
        """End what is being fetched; nothing of it is left."""
        working = [work.task for work in self._working.values()]
        for task in working:
            task.cancel()
        if working:
            await asyncio.wait(working)

    def _known(self, wanted: Wanted) -> Installed | None:
        try:
            data = (self._folder / wanted.digest / INSTALLED).read_bytes()
            return Installed.model_validate_json(data)
        except (OSError, ValidationError):
            return None

    async def _installed(self, wanted: Wanted) -> Installed | SandboxUnavailable:
        """What was installed, or why it was not: an error would end the service's tasks."""
        try:
            return await self._install(wanted)
        except SandboxUnavailable as error:
            return error
        except OSError as error:
            message = f"{wanted.request.name} cannot be kept: {error.strerror}"
            return SandboxUnavailable(message)
        except Exception as error:
            logger.exception("package %s could not be installed", wanted.request.name)
            message = f"{wanted.request.name} cannot be installed: {type(error).__name__}"
            return SandboxUnavailable(message)

    async def _install(self, wanted: Wanted) -> Installed:
        await asyncio.to_thread(passable, self._folder)
        async with locked(self._folder / f"{wanted.digest}.lock"):
            found = await asyncio.to_thread(self._known, wanted)
            if found is not None:  # another worker has fetched it meanwhile
                return found
            fresh = self._folder / f"{wanted.digest}.new"
            await asyncio.to_thread(fresh_folder, fresh, wanted.digest)
            try:
                with await open_workspace(fresh) as workspace:
                    say = partial(self._say, wanted)
                    await fetch(self._shop, wanted.request, wanted.image, workspace, say)
                    found = await asyncio.to_thread(self._keep, wanted, workspace, fresh)
                await self._name_exactly(wanted, found.version)
                return found
            finally:
                await asyncio.shield(asyncio.to_thread(remove, fresh))

    async def _name_exactly(self, wanted: Wanted, version: str) -> None:
        """Whoever asks for the version that was found, from then on, has it already."""
        request = exactly(wanted.request, version)
        exact = self.wanted(request, wanted.backend, wanted.image)
        if exact.digest == wanted.digest:
            return
        async with locked(self._folder / f"{exact.digest}.lock"):
            if await asyncio.to_thread(self._known, exact) is None:
                name = self._folder / exact.digest
                await asyncio.to_thread(remove, name)
                name.symlink_to(wanted.digest)

    def _keep(self, wanted: Wanted, workspace: Workspace, fresh: Path) -> Installed:
        """Give what was fetched its name, when all of it is on the disk."""
        remove(fresh / CACHE)
        settle(fresh / TREE)
        installed = look(
            workspace,
            fresh / TREE,
            wanted.request,
            self._shop.settings.registry(wanted.request.kind),
        )
        fresh.chmod(0o755)
        (fresh / INSTALLED).unlink(missing_ok=True)
        with (fresh / INSTALLED).open("xb") as file:  # never through a link
            file.write(canonical(installed))
        sync_all(workspace.fileno())
        final = self._folder / wanted.digest
        remove(final)  # of another format, or cut off
        fresh.rename(final)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        logger.info("fetched %s %s", installed.name, installed.version)
        return installed

    async def _say(self, wanted: Wanted, text: str) -> None:
        work = self._working.get(wanted.digest)
        for hear in tuple(work.hearers) if work is not None and text else ():
            await hear(text)
