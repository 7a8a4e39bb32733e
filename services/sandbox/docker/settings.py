"""What an operator says of the Docker backend. Nothing in it comes from a definition or a model."""

from typing import Literal

from domain.record import Record

Pull = Literal["never", "missing", "always"]


class DockerSettings(Record):
    """Which engine, and what it may run.

    An image is best named by digest (`name@sha256:...`): a tag means whatever it means at the time.
    A sandbox runs the image a name had when the sandbox was opened.
    """

    image: str  # of every sandbox that asks for no other
    images: tuple[str, ...] = ()  # what a definition may ask for besides, spelled alike
    pull: Pull = "never"
    host: str | None = None  # unix:///... or tcp://...; None: DOCKER_HOST, else the usual socket
    runtime: str | None = None  # `runsc` for gVisor; None: the engine's default
    spare: bool = True  # keep one prepared shell in each sandbox, so that a command starts at once
