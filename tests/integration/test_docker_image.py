"""The image of our Dockerfile over a Debian root: made, and used as a sandbox. Not its services."""

import os
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import docker  # type: ignore[import-untyped]
import pytest

from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.workspace import Workspace
from tests.contract.sandbox_backends import out, shell, spec
from tests.support import docker_engine

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.sandbox,
    pytest.mark.thorough,
    pytest.mark.skipif(docker_engine.missing() is not None, reason=str(docker_engine.missing())),
]

SOURCE = Path(__file__).parents[2]
BUILD_S = 600.0
IMAGE, BASE = "peritus-built:1", "peritus-base:1"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def build(host: str) -> None:
    """Make the image; its packages come over the host's network, as in any build."""
    docker_engine.import_image(
        host, BASE, "passwd", "python3.11-venv", env={"PIP_CERT": CERTIFICATES}
    )
    client: Any = cast("Any", docker).APIClient(base_url=host, timeout=BUILD_S)
    said: list[dict[str, Any]] = []
    try:
        said += client.build(
            path=str(SOURCE), tag=IMAGE, buildargs={"BASE": BASE}, network_mode="host", decode=True
        )
    finally:
        client.close()
    errors = [line["error"] for line in said if "error" in line]
    assert not errors, "".join(str(line.get("stream", "")) for line in said)[-4000:]


@pytest.fixture
async def backend() -> AsyncGenerator[DockerBackend]:
    engine = docker_engine.engine_of_session()
    build(engine.host)
    made = DockerBackend(DockerSettings(image=IMAGE, host=engine.host))
    yield made
    await made.close()


async def test_our_own_image_is_made_over_a_debian_root_and_serves_as_a_sandbox(
    backend: DockerBackend,
) -> None:
    report = await backend.report()
    assert all(report.checks.values())
    with tempfile.TemporaryDirectory(prefix="peritus-work-") as name:
        os.chown(name, 23456, 23456)
        with Workspace(Path(name)) as workspace:
            sandbox = await backend.open(spec(workspace))
            outcome = await sandbox.exec(shell("peritus --help | head -n 3; id -u; ls /project"))
            assert "peritus" in out(outcome).lower()
            assert "\n23456\n" in out(outcome)
