"""What the models of a turn used, by provider and model. Not the ledger of a run."""

from dataclasses import dataclass, field

from ag_ui.core.events import TokenUsage

from domain import events as e
from domain.limits import Usage
from gateway.turns.turn import Told


@dataclass(slots=True)
class Spending:
    """Hears the events of a job, and counts those of a turn."""

    _models: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    _used: dict[tuple[str, str], Usage] = field(default_factory=dict[tuple[str, str], Usage])

    def hear(self, told: Told, *, counted: bool) -> None:
        """The next event."""
        match told.event:
            case e.ContextPinned(model=model):
                self._models[told.ref.run] = (model.provider, model.model)
            case (
                e.GenerationCompleted(usage=Usage() as usage)
                | e.GenerationFailed(usage=Usage() as usage)
                | e.GenerationSuperseded(usage=Usage() as usage)
            ) if counted:
                name = self._models.get(told.ref.run, ("", ""))
                self._used[name] = self._used.get(name, Usage()).plus(usage)
            case _:
                pass

    @property
    def total(self) -> Usage:
        """All of it."""
        found = Usage()
        for used in self._used.values():
            found = found.plus(used)
        return found

    def agui(self) -> list[TokenUsage] | None:
        """As AG-UI tells it."""
        found = [
            TokenUsage(
                provider=provider or None,
                model=model or None,
                input_tokens=used.input,
                output_tokens=used.output,
                total_tokens=used.input + used.output,
                reasoning_tokens=used.reasoning,
                cached_input_tokens=used.cached,
                cache_write_input_tokens=used.cache_written,
            )
            for (provider, model), used in self._used.items()
        ]
        return found or None
