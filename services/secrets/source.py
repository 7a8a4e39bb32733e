"""Several places as one source: the first that has a name counts. Not the places."""

import asyncio
from collections.abc import Iterable, Sequence

from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from domain.secrets import Audit, SecretAccess, SecretRef, SecretValue
from services.secrets.port import SecretPlace, SecretProvider
from services.secrets.redactions import Redactions


class Secrets:
    """Fills the port `SecretSource`. Every value is read anew, so a rotated one counts at once."""

    def __init__(
        self,
        providers: Sequence[SecretProvider],
        redactions: Redactions,
        audit: Audit | None = None,
    ) -> None:
        """Nothing is read before something is asked for."""
        self._providers = tuple(providers)
        self._redactions = redactions
        self._audit = audit

    @property
    def providers(self) -> tuple[SecretProvider, ...]:
        """The places, the one that counts first."""
        return self._providers

    async def resolve(
        self, ref: SecretRef, *, purpose: str = "", run: RunRef | None = None
    ) -> SecretValue | None:
        """The value as it is now; None when there is none. Each use is heard by the audit.

        Raises:
            Rejected: there is one, and it must not or cannot be used.
            Unavailable: a place cannot be reached now.
        """
        return await asyncio.to_thread(self.resolve_now, ref, purpose=purpose, run=run)

    def resolve_now(
        self, ref: SecretRef, *, purpose: str = "", run: RunRef | None = None
    ) -> SecretValue | None:
        """The same for who may block, which it does for as long as a file takes to be read.

        Raises:
            Rejected: there is one, and it must not or cannot be used.
            Unavailable: a place cannot be reached now.
        """
        value = self.find(ref)
        if value is not None:
            self._redactions.learn(value)
        if self._audit is not None:
            access = SecretAccess(
                name=ref.name,
                version=ref.version if value is None else value.ref.version,
                source="" if value is None else value.source,
                purpose=purpose,
            )
            if run is not None:
                access = access.model_copy(update=run._asdict())
            self._audit(access)
        return value

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value, for who does not use it: no audit hears of it, no redactor learns it.

        Raises:
            Rejected: there is one, and it must not or cannot be used.
            Unavailable: a place cannot be reached now.
        """
        found = (provider.find(ref) for provider in self._providers)
        return next((value for value in found if value is not None), None)

    def learn(self, names: Iterable[str]) -> list[str]:
        """Let the redactor know these names' values wherever they are, and all of other places.

        Others are those that hold nothing but secrets. Says in plain words why it may not know all.
        """
        troubles: list[str] = []
        for provider in self._providers:
            if provider.asks:
                continue
            try:
                own = [place.name for place in provider.places()] if provider.only_secrets else []
                for name in dict.fromkeys((*names, *own)):
                    value = provider.find(SecretRef(name=name))
                    if value is not None:
                        self._redactions.learn(value)
            except (Rejected, Unavailable) as error:
                troubles.append(str(error))
        return troubles

    async def names(self) -> list[SecretPlace]:
        """What is there, sorted by name, the place that counts first.

        Raises:
            Rejected: a place cannot be read.
            Unavailable: a place cannot be reached now.
        """
        return await asyncio.to_thread(self.names_now)

    def names_now(self) -> list[SecretPlace]:
        """The same for who may block.

        Raises:
            Rejected: a place cannot be read.
            Unavailable: a place cannot be reached now.
        """
        found = [place for provider in self._providers for place in provider.places()]
        return sorted(found, key=lambda place: place.name)

    @property
    def looked_in(self) -> str:
        """The places in order, for people."""
        labels = (provider.label for provider in self._providers)
        return ", ".join(label for label in labels if label) or "nowhere"
