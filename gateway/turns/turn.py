"""Where a turn of a job stands, folded from envelopes: past, begun, over. Not how it is told."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from domain.events import Event, InputReceived
from domain.ids import RunRef
from domain.state import RunState
from gateway.turns.listening import Enveloped
from projections.family import Family
from projections.waits import Wait

Over = Literal["completed", "stopped", "failed", "cancelled", "deleted", "waiting"]
"""How a turn ends: its job is at rest, or nothing of it goes on unless a person does something."""


class Told(NamedTuple):
    """One event of a job."""

    ref: RunRef
    version: int
    at_ms: int
    event: Event


class Turn:
    """Hears the envelopes of a job in order.

    The turn is begun by the first event of one of its commands, and cannot be over before all of
    them are heard. One without commands begins when `begin` says so: it is whatever goes on then.
    """

    def __init__(self, ref: RunRef, commands: Iterable[str] = ()) -> None:
        self.ref = ref
        self.family = Family()
        self.family.look(ref)
        self.begun = False
        self.began_ms = 0  # when its first command was decided
        self.commands = frozenset(commands)
        self._due = set(self.commands)

    @property
    def root(self) -> RunState:
        """The run at the top of the job."""
        return self.family.looks[self.ref.run].state

    @property
    def waits(self) -> list[Wait]:
        """What waits for a person now, in the whole job."""
        return self.family.waits(self.ref.run)

    def begin(self) -> None:
        """What comes from now on is of the turn, if it has no commands of its own."""
        self.begun = self.begun or not self._due

    def opens(self, envelope: Enveloped) -> bool:
        """Whether the turn begins with this envelope; to be asked before it is heard."""
        if self.begun or not self._due:
            return False
        return any(_command(event) in self._due for event in envelope.events)

    def hear(self, envelope: Enveloped) -> list[Told]:
        """The events of the next envelope."""
        found: list[Told] = []
        for version, event in enumerate(envelope.events, start=envelope.version):
            if _command(event) in self._due:
                self._due.discard(_command(event))
                self.began_ms = self.began_ms or envelope.at_ms
                self.begun = True
            self.family.hear(envelope.ref, event, version, envelope.at_ms)
            found.append(Told(envelope.ref, version, envelope.at_ms, event))
        return found

    @property
    def over(self) -> Over | None:
        """How the turn has ended; None while it goes on."""
        if not self.begun or self._due:
            return None
        status = self.root.status
        if status == "new":
            return None
        if status != "running":
            return status
        if self.waits and self.family.held(self.ref.run, asking=True):
            return "waiting"
        return None


def _command(event: Event) -> str:
    """The id of the command that an event is of; empty for most."""
    if isinstance(event, InputReceived):
        return event.input
    found: object = getattr(event, "command", "")
    return found if isinstance(found, str) else ""
