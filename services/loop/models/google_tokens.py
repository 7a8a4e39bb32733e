"""Access tokens for Google Cloud: one that was given, or the application's default. No storage."""

import asyncio
from collections.abc import Sequence
from typing import Any

from services.loop.models.failures import hide
from services.loop.models.packages import needed
from services.loop.models.port import ModelFailure

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PROVIDER = "google-vertex"
TOKEN = "GOOGLE_VERTEX_ACCESS_TOKEN"  # noqa: S105 - the name of the variable


class GoogleTokens:
    """The token of each request. The application default credentials are looked for once."""

    def __init__(self, given: str = "") -> None:
        """Import nothing and ask nobody yet. `given` is used as it is, and never renewed."""
        self._given = given
        self._credentials: Any = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def secrets(self) -> Sequence[str]:
        """What must not be in a message."""
        return (self._given,)

    async def token(self) -> str:
        """A token that is valid now, renewed when the last one is not.

        Raises:
            ModelFailure: `missing_package` without google-auth, `missing_key` without credentials,
                `auth` when Google refuses them, `network` when it cannot be asked.
        """
        if self._given:
            return self._given
        async with self._one_at_a_time:  # credentials must not be renewed twice at once
            return await asyncio.to_thread(self._current)

    def _current(self) -> str:
        auth = needed("google.auth", PROVIDER, "vertex")
        errors = needed("google.auth.exceptions", PROVIDER, "vertex")
        transport = needed("google.auth.transport.requests", PROVIDER, "vertex")
        try:
            if self._credentials is None:
                self._credentials, _ = auth.default(scopes=[SCOPE])
            if not self._credentials.valid:
                self._credentials.refresh(transport.Request())
        except errors.DefaultCredentialsError as error:
            message = (
                f"{PROVIDER} needs {TOKEN} or application default credentials, and there are none "
                f"(gcloud auth application-default login makes some): {error}"
            )
            raise ModelFailure("missing_key", hide(message, ())) from None
        except errors.TransportError as error:
            message = f"no token could be got from Google: {error}"
            raise ModelFailure("network", hide(message, ())) from None
        except errors.GoogleAuthError as error:
            message = f"Google gives no token for these credentials: {error}"
            raise ModelFailure("auth", hide(message, ())) from None
        return str(self._credentials.token)
