"""How a run came to rest, out of what its stream tells and the gateway answers. No input here."""

from dataclasses import dataclass
from typing import Any

import orjson

from domain.content import BlobRef
from domain.events import RunCompleted
from gateway.models.common import Tokens
from gateway.models.runs import Run
from peritus.client.calls import download, get
from peritus.client.exchange import Habits, Steps, exchange
from peritus.client.frames import End, Ended, Frame, Heard

RESTS = ("run.",)
"""The events that say how a run comes to rest, and goes on."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a run came to rest: `text` is its answer, or why there is none."""

    status: Ended
    text: str
    usage: Tokens
    steps: int
    data: Any = None  # the value of a typed answer
    micro_usd: int = 0  # spent, children included


class Rest:
    """Hears a run's ends; the last one is that which counts."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._end: End | None = None
        self._completed: RunCompleted | None = None

    def hear(self, frame: Frame) -> None:
        """The next frame of the run's stream."""
        match frame:
            case Heard(run=self._run, event=RunCompleted() as event):
                self._completed = event
            case End(run=self._run):
                self._end = frame
            case _:
                pass

    def result(self, habits: Habits) -> Steps[Result]:
        """Ask for the rest of it.

        Raises:
            PeritusError: it was refused, or is not answered.
        """
        end = self._end
        position = None if end is None else end.cursor
        run = yield from exchange(get(self._run, min_position=position), habits)
        status: Any = run.status if end is None else end.status
        text, data = _why_not(run), None
        if status == "completed":
            text = run.result or ""
            if self._completed is not None:
                text = yield from self._whole(self._completed, habits)
                data = orjson.loads(text) if self._completed.typed else None
        return Result(status, text, run.usage, run.step, data, run.micro_usd_charged)

    def _whole(self, completed: RunCompleted, habits: Habits) -> Steps[str]:
        if isinstance(completed.result, BlobRef):
            content = yield from exchange(download(completed.result.digest), habits)
            return content.decode("utf-8", "replace")
        return completed.result


def _why_not(run: Run) -> str:
    if run.failure is not None:
        return f"{run.failure.kind}: {run.failure.message}"
    if run.stopped_by is not None:
        return f"stopped at its limit of {run.stopped_by}"
    return run.result or ""
