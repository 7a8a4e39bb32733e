"""The port to secrets: what every source offers. Not a policy: who may use what is decided above.

A *provider* is one place where values are; a *source* is what a process asks: several places in a
documented order, an audit, and a registry that lets nothing out again.
"""

from typing import Protocol

from domain.ids import RunRef
from domain.record import Record
from domain.secrets import SecretRef, SecretValue


class SecretPlace(Record):
    """A secret that is there: its name and where. `version` is "" where there are none."""

    name: str
    source: str
    version: str = ""


class SecretProvider(Protocol):
    """One place. All of it may block for as long as a file or a service of the desktop takes."""

    @property
    def label(self) -> str:
        """What people call the place."""
        ...

    @property
    def only_secrets(self) -> bool:
        """Whether everything in it is a secret, so that all of it can be hidden from the start."""
        ...

    @property
    def asks(self) -> bool:
        """Whether a person may be asked to unlock it: only when a value is really needed."""
        ...

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value, read anew each time; None when this place has none of that name and version.

        Raises:
            Rejected: there is something of that name, and it must not or cannot be used.
            Unavailable: the place cannot be reached now.
        """
        ...

    def places(self) -> list[SecretPlace]:
        """What is there, sorted by name; nothing where a place cannot tell.

        Raises:
            Rejected: it cannot be read.
            Unavailable: it cannot be reached now.
        """
        ...

    def problems(self, name: str) -> list[str]:
        """What a person should know about how a secret is kept here, in plain words."""
        ...


class SecretSource(Protocol):
    """What a process asks for secrets."""

    async def resolve(
        self, ref: SecretRef, *, purpose: str = "", run: RunRef | None = None
    ) -> SecretValue | None:
        """The value as it is now; None when there is none. Each use is heard by the audit.

        Raises:
            Rejected: there is one, and it must not or cannot be used.
            Unavailable: a place cannot be reached now.
        """
        ...

    async def names(self) -> list[SecretPlace]:
        """What is there, sorted by name, the place that counts first.

        Raises:
            Rejected: a place cannot be read.
            Unavailable: a place cannot be reached now.
        """
        ...
