"""Which image a container is made of, and how it gets onto the engine. Not the container.

A name by digest (`name@sha256:...`) means the same bytes for ever, and the engine proves that when
it fetches them. A tag means what its registry says at the time: where one has moved, that is told.
"""

import logging
import re

from services.sandbox.docker.engine import Api, Engine, EngineError, Facts
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable

logger = logging.getLogger(__name__)

NOT_FOUND = 404
BY_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
TAGGED = re.compile(r"[:@][^/]+$")


class Images:
    """The images of one backend. Its methods are called in threads."""

    def __init__(self, settings: DockerSettings, engine: Engine) -> None:
        """Nothing is asked of the engine yet."""
        self._settings = settings
        self._engine = engine
        self._meant: dict[str, str] = {}

    def find(self, wanted: str | None) -> Facts:
        """The image as it is on the engine now; pulled before, where the operator says so.

        Raises:
            SandboxUnavailable: it is not allowed, not there, or cannot be pulled.
        """
        settings = self._settings
        image = wanted or settings.image
        if image not in {settings.image, *settings.images}:
            message = (
                f"the image {image!r} is not allowed here; the operator allows: "
                f"{', '.join((settings.image, *settings.images))}"
            )
            raise SandboxUnavailable(message)
        fixed = BY_DIGEST.search(image) is not None
        if settings.pull == "always" and not fixed:
            self._pull(image)
        try:
            found = self._engine.ask(lambda api: api.inspect_image(image))
        except EngineError as error:
            if error.status != NOT_FOUND:
                raise
            found = self._fetched(image)
        self._compare(image, str(found["Id"]))
        return found

    def _fetched(self, image: str) -> Facts:
        if self._settings.pull == "never":
            message = (
                f"the image {image!r} is not on this engine and is not pulled by itself; pull it, "
                "or set PERITUS_SANDBOX_PULL=missing"
            )
            raise SandboxUnavailable(message)
        self._pull(image)
        return self._engine.ask(lambda api: api.inspect_image(image))

    def _pull(self, image: str) -> None:
        """Have the engine fetch an image; what goes wrong halfway is told among its progress."""
        # Without a tag the engine would fetch all there are.
        name = image if TAGGED.search(image) else f"{image}:latest"

        def pull(api: Api) -> Facts:
            for line in api.pull(name, stream=True, decode=True):
                if "error" in line:
                    return {"error": str(line["error"])}
            return {}

        try:
            said = self._engine.ask(pull).get("error", "")
        except EngineError as error:
            raise _unpulled(image, str(error), error.status) from error
        if said:
            raise _unpulled(image, said, 0)

    def _compare(self, image: str, found: str) -> None:
        before = self._meant.setdefault(image, found)
        if before != found:
            self._meant[image] = found
            logger.warning(
                "the image %s means another one now: %s, before %s; name it by digest to keep one",
                image,
                found,
                before,
            )


def _unpulled(image: str, said: str, status: int) -> SandboxUnavailable:
    if status == NOT_FOUND:
        advice = (
            "its registry does not have it: correct the name or the digest in "
            "PERITUS_SANDBOX_IMAGE or PERITUS_SANDBOX_IMAGES"
        )
    elif "verification failed" in said:
        advice = "its registry sends what the digest does not name, and nothing of it is used"
    else:
        advice = (
            "see that the engine reaches its registry, or bring the image there by hand and set "
            "PERITUS_SANDBOX_PULL=never"
        )
    return SandboxUnavailable(f"the image {image!r} cannot be pulled; {advice} ({said})")
