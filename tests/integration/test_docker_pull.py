"""How images get onto an engine: from a real registry, by tag and digest. Not what runs in them."""

import io
import logging
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import docker  # type: ignore[import-untyped]
import docker.errors  # type: ignore[import-untyped]
import pytest

from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings, Pull
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import marker, out, spec
from tests.support import docker_engine, docker_registry
from tests.support.docker_registry import Registry

MISSING = docker_engine.missing()

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sandbox,
    pytest.mark.thorough,
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]

Word = Callable[[DockerBackend], Awaitable[str]]


@pytest.fixture(scope="module")
def engine() -> docker_engine.Running:
    return docker_engine.engine_of_session()


@pytest.fixture(scope="module")
def served() -> Generator[Registry]:
    if (why := docker_registry.missing()) is not None:
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="peritus-registry-") as folder,
        docker_registry.registry(Path(folder)) as made,
    ):
        yield made


def shell_alone() -> bytes:
    """The smallest root file system with /bin/sh: this machine's, and what it is linked with."""
    shell = str(Path("/bin/sh").resolve())
    linked = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, name in [
            (shell, "bin/sh"),
            *((found, found.lstrip("/")) for found in re.findall(r"(/\S+) \(0x", linked)),
        ]:
            archive.add(Path(path).resolve(), arcname=name)
    return packed.getvalue()


class Shop:
    """Puts images of one name into the registry, and takes them off the engine again."""

    def __init__(self, client: Any, registry: Registry) -> None:
        self.registry = registry
        self.name = f"{registry.address}/{marker()}"
        self.client = client
        self._root = shell_alone()

    def push(self, tag: str, word: str) -> str:
        """Have a tag mean an image in which WORD is a word; its digest. The engine forgets it."""
        self.client.import_image_from_data(
            self._root, repository=self.name, tag=tag, changes=[f"ENV WORD={word}"]
        )
        said = list(self.client.push(self.name, tag=tag, stream=True, decode=True))
        (digest,) = (line["aux"]["Digest"] for line in said if "aux" in line)
        self.forget(f"{self.name}:{tag}")
        return str(digest)

    def forget(self, image: str) -> None:
        with suppress(docker.errors.ImageNotFound):
            self.client.remove_image(image, force=True)

    def close(self) -> None:
        for image in self.client.images(self.name):
            self.forget(image["Id"])
        self.client.close()


@pytest.fixture
def shop(engine: docker_engine.Running, served: Registry) -> Generator[Shop]:
    made = Shop(cast("Any", docker).APIClient(base_url=engine.host), served)
    yield made
    made.close()


@pytest.fixture
async def backend(
    engine: docker_engine.Running,
) -> AsyncGenerator[Callable[[str, Pull], DockerBackend]]:
    made: list[DockerBackend] = []

    def make(image: str, pull: Pull) -> DockerBackend:
        made.append(DockerBackend(DockerSettings(image=image, host=engine.host, pull=pull)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def word() -> Generator[Word]:
    """What WORD is in a sandbox of a backend."""
    place = marker()
    with tempfile.TemporaryDirectory(prefix="peritus-work-") as name:
        if os.geteuid() == 0:
            os.chown(name, 23456, 23456)
        with Workspace(Path(name)) as workspace:

            async def said(made: DockerBackend) -> str:
                sandbox = await made.open(spec(workspace, place=place))
                try:
                    return out(await sandbox.exec(Command("sh", ("-c", 'echo "$WORD"')))).strip()
                finally:
                    await sandbox.close()

            yield said


async def test_an_image_by_digest_is_pulled_once_when_it_is_missing(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    image = f"{shop.name}@{shop.push('1', 'first')}"
    made = backend(image, "missing")
    assert await word(made) == "first"
    shop.push("1", "second")
    assert await word(made) == "first"
    shop.registry.manifest(image.partition("@")[2]).unlink()
    for pull in ("missing", "never", "always"):  # what is there by digest need not be asked for
        assert await word(backend(image, pull)) == "first"


@pytest.mark.parametrize("by_digest", [True, False], ids=["digest", "tag"])
async def test_with_never_nothing_is_pulled_and_the_setting_is_named(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word, *, by_digest: bool
) -> None:
    digest = shop.push("1", "first")
    image = f"{shop.name}@{digest}" if by_digest else f"{shop.name}:1"
    with pytest.raises(SandboxUnavailable, match="set PERITUS_SANDBOX_PULL=missing"):
        await word(backend(image, "never"))
    assert shop.client.images(shop.name) == []
    shop.client.pull(image)
    assert await word(backend(image, "never")) == "first"


async def test_a_tag_that_moved_is_followed_with_always_and_told_of(
    shop: Shop,
    backend: Callable[[str, Pull], DockerBackend],
    word: Word,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop.push("1", "first")
    always, missing = backend(f"{shop.name}:1", "always"), backend(f"{shop.name}:1", "missing")
    with caplog.at_level(logging.WARNING):
        assert [await word(one) for one in (always, missing, always)] == ["first"] * 3
        assert "means another one" not in caplog.text
        kept = shop.client.inspect_image(f"{shop.name}:1")["Id"]
        shop.push("1", "second")
        shop.client.tag(kept, shop.name, "1")  # as it is on an engine that did not push it
        assert await word(missing) == "first"
        assert "means another one" not in caplog.text
        assert await word(always) == "second"
        assert await word(always) == "second"
        assert caplog.text.count(f"the image {shop.name}:1 means another one now") == 1
        assert await word(missing) == "second"  # the engine has one meaning of a tag
        assert caplog.text.count("name it by digest to keep one") == 2


async def test_a_name_without_a_tag_is_that_of_latest_and_no_other_is_pulled(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    shop.push("latest", "newest")
    shop.push("other", "another")
    assert await word(backend(shop.name, "missing")) == "newest"
    tags = [tag for found in shop.client.images(shop.name) for tag in found["RepoTags"]]
    assert tags == [f"{shop.name}:latest"]


async def test_a_digest_that_the_registry_does_not_have_is_refused(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    shop.push("1", "first")
    for image in (f"{shop.name}@sha256:{'0' * 64}", f"{shop.name}:2", f"{shop.name}-not:1"):
        for pull in ("missing", "always"):
            with pytest.raises(
                SandboxUnavailable, match="correct the name or the digest"
            ) as caught:
                await word(backend(image, pull))
            assert image in str(caught.value)


async def test_a_registry_that_sends_something_else_is_refused(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    digest = shop.push("1", "first")
    by_digest = backend(f"{shop.name}@{digest}", "missing")
    by_tag = backend(f"{shop.name}:1", "always")
    manifest, layer = shop.registry.manifest(digest), shop.registry.layer(digest)
    true = manifest.read_bytes()
    manifest.write_bytes(true + b"\n")
    with pytest.raises(SandboxUnavailable, match="nothing of it is used"):
        await word(by_digest)
    manifest.write_bytes(true)
    true = layer.read_bytes()
    layer.write_bytes(true[:-1] + bytes([true[-1] ^ 1]))
    for made in (by_digest, by_tag):
        with pytest.raises(SandboxUnavailable, match="nothing of it is used"):
            await word(made)
    layer.write_bytes(true)
    assert [await word(made) for made in (by_digest, by_tag)] == ["first", "first"]


async def test_with_always_a_registry_that_is_gone_is_no_reason_to_use_an_old_image(
    shop: Shop, backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    shop.push("1", "first")
    nobody = f"127.0.0.1:{docker_registry.free_port()}/{marker()}"
    shop.client.pull(shop.name, tag="1")
    shop.client.tag(f"{shop.name}:1", nobody, "1")
    try:
        assert await word(backend(f"{nobody}:1", "missing")) == "first"
        with pytest.raises(SandboxUnavailable, match="see that the engine reaches its registry"):
            await word(backend(f"{nobody}:1", "always"))
    finally:
        shop.forget(f"{nobody}:1")


async def test_a_registry_that_cannot_be_reached_says_what_to_change(
    backend: Callable[[str, Pull], DockerBackend], word: Word
) -> None:
    image = f"127.0.0.1:{docker_registry.free_port()}/none@sha256:{'1' * 64}"
    with pytest.raises(SandboxUnavailable) as caught:
        await word(backend(image, "missing"))
    for said in (image, "connection refused", "PERITUS_SANDBOX_PULL=never"):
        assert said in str(caught.value)
