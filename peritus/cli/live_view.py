"""A run for people: text that scrolls, with replies as they are made and outcomes. Not a record."""

import io
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text as Styled

from domain import events as e
from domain.base_tools import BASE_TOOLS
from domain.content import TextPart, text_of
from domain.ids import RunRef
from domain.limits import Usage
from domain.tools import Lane
from peritus.cli.asks import pretty
from peritus.cli.people_lines import in_line, people_line, told_line
from peritus.cli.wording import call_line, clean, duration, outcome_line, short, usage_line
from peritus.feed import Heard
from services.worker.live import LiveDelta, LiveToolOutput

QUERY_CHARS_MAX = 200
OUTPUT_LINES_MAX = 40
"""How many lines of what a tool says while it is at work are shown of one call."""

OUTPUT_CHARS_MAX = 200
INDENT = "  "
MARKS = {"completed": "✔", "stopped": "■", "failed": "✘", "cancelled": "■"}


class Place(NamedTuple):
    """A part of a reply in the making."""

    run: str
    step: int
    attempt: int
    kind: str
    part: int


@dataclass(slots=True)
class Seen:
    """What is known of a run that is shown."""

    expert: str = ""
    depth: int = 0
    since_ms: int = 0
    usage: Usage = field(default_factory=Usage)
    attempt: tuple[int, int] = (0, 0)  # the step and the attempt that is asked for
    waiting: list[LiveDelta] = field(default_factory=list[LiveDelta])
    calls: dict[str, e.ToolCallRequested] = field(default_factory=dict[str, e.ToolCallRequested])
    said: dict[str, "Saying"] = field(default_factory=dict[str, "Saying"])


@dataclass(slots=True)
class Saying:
    """What a call says while it is at work, as far as its line is not ended."""

    line: str = ""
    lines: int = 0


class LiveView:
    """Text that only ever scrolls. Two runs never write into one line: the second one waits."""

    live = True

    def __init__(
        self,
        root: RunRef,
        *,
        width: int | None = None,
        colour: bool = True,
        verbose: bool = False,
    ) -> None:
        """With `verbose`, arguments and results are shown whole."""
        self._root = root
        self._verbose = verbose
        self._buffer = io.StringIO()
        self._console = Console(
            file=self._buffer,
            force_terminal=colour,
            no_color=None if colour else True,
            width=width,
            markup=False,
            highlight=False,
            emoji=False,
        )
        self._runs: dict[str, Seen] = {}
        self._open: Place | None = None  # whose line is not ended yet
        self._shown: dict[Place, int] = {}
        self._last_text = ""

    def heard(self, heard: Heard) -> str:
        """What to write for an event."""
        self._event(heard, self._runs.setdefault(heard.ref.run, Seen(since_ms=heard.at_ms)))
        return self._written()

    def piece(self, ref: RunRef, data: bytes) -> str:
        """What to write for a piece of a reply, or of what a tool says while it is at work.

        Nothing when it does not follow what is shown.
        """
        try:
            delta = LiveDelta.model_validate_json(data)
        except ValidationError:
            return self._output(ref, data)
        run = self._runs.setdefault(ref.run, Seen())
        if delta.kind == "arguments" or (delta.step, delta.attempt) < run.attempt:
            return ""
        if (delta.step, delta.attempt) > run.attempt:
            run.waiting.append(delta)  # LIVE is faster than the log: what led here comes first
        else:
            self._piece(ref.run, delta)
        return self._written()

    def _output(self, ref: RunRef, data: bytes) -> str:
        """Whole lines of what a server of a skill says: its progress, most often.

        What commands print is not shown: it is long, and the result has what matters.
        """
        run = self._runs.setdefault(ref.run, Seen())
        try:
            piece = LiveToolOutput.model_validate_json(data)
        except ValidationError:
            return ""  # a newer release's word
        call = run.calls.get(piece.call)
        if call is None or call.tool in BASE_TOOLS:
            return ""
        saying = run.said.setdefault(piece.call, Saying())
        *lines, saying.line = f"{saying.line}{piece.text}".split("\n")
        saying.line = saying.line[-OUTPUT_CHARS_MAX:]
        for line in filter(str.strip, lines[: OUTPUT_LINES_MAX - saying.lines]):
            saying.lines += 1
            self._line(run, f"{INDENT}·", short(line, OUTPUT_CHARS_MAX), "dim")
        return self._written()

    def _piece(self, name: str, delta: LiveDelta) -> None:
        place = Place(name, delta.step, delta.attempt, delta.kind, delta.part)
        busy = self._open is not None and self._open.run != name
        if not busy and self._shown.get(place, 0) == delta.offset:
            self._stream(place, delta.text)

    def recall(self, heard: Heard) -> None:
        """Know of an event that was before: its run goes on from there, and nothing is shown."""
        self.heard(heard)
        self._last_text = ""

    def note(self, text: str) -> str:
        """Lines beside the events; without any, the line that is being written is ended."""
        self._end_line()
        self._put(Styled(text))
        return self._written()

    def result(self, text: str) -> str:
        """The answer of the root run, unless it is what was said last."""
        if text.strip() and text != self._last_text:
            self._end_line()
            self._put(Styled(f"\n{clean(text).strip()}\n"))
        return self._written()

    def _event(self, heard: Heard, run: Seen) -> None:
        match heard.event:
            case e.RunStarted() as event:
                run.expert, run.depth, run.since_ms = event.expert, event.depth, heard.at_ms
            case e.RunForked() as event:
                run.expert, run.depth, run.since_ms = event.expert, 0, heard.at_ms
                came = f"from run {event.source.run} after step {event.step}"
                self._line(run, "⑂", came, "dim")
            case e.RunContinued():
                run.since_ms = heard.at_ms
            case e.ContextPinned(model=model):
                name = f"{run.expert}  {heard.ref.run}  {model.provider} {model.model}"
                self._line(run, "●", name, "bold")
            case e.InputReceived() as event:
                self._line(run, *told_line(event, first=run.attempt == (0, 0)))
            case e.GenerationRequested() as event:
                self._requested(heard.ref.run, run, event)
            case e.GenerationCompleted() as event:
                self._reply(heard.ref.run, run, event)
            case e.CancelRequested():
                self._line(run, "■", "asked to stop", "yellow")
            case e.RunCompleted() | e.RunStopped() | e.RunFailed() | e.RunCancelled() as event:
                self._rest(heard, run, event)
            case _:
                self._trouble(heard, run)

    def _trouble(self, heard: Heard, run: Seen) -> None:
        match heard.event:
            case e.GenerationFailed(failure=failure, attempt=attempt, usage=usage):
                run.usage = run.usage.plus(usage or Usage())
                said = short(f"{failure.kind}: {failure.message}", QUERY_CHARS_MAX)
                self._line(run, "!", f"attempt {attempt} failed: {said}", "yellow")
            case e.TimerArmed(purpose="retry", due_ms=due_ms):
                wait = duration(max(0, due_ms - heard.at_ms))
                self._line(run, " ", f"next attempt in {wait}", "dim")
            case e.GenerationAbandoned(attempt=attempt, reason="holder_lost"):
                self._line(run, "!", f"attempt {attempt} was lost with its worker", "yellow")
            case e.SamplingEnded(usage=usage):
                run.usage = run.usage.plus(usage or Usage())
            case e.GenerationAbandoned(reason="interrupted"):
                self._line(run, "!", "the reply is given up for what was said", "yellow")
            case _:
                self._call(run, heard.event)

    def _call(self, run: Seen, event: e.Event) -> None:
        match event:
            case e.ToolCallRequested() as call:
                run.calls[call.call] = call
                if call.lane is not Lane.LOOP:
                    self._line(run, "▸", call_line(call.tool, call.arguments), "cyan")
                    self._whole(run, pretty(call.arguments))
            case e.ToolCallEnded() as ended:
                self._outcome(run, ended)
            case e.TodoChanged(items=items):
                self._todos(run, items)
            case e.ToolCallRetried(call=name, attempt=attempt):
                tool = run.calls[name].tool if name in run.calls else name
                self._line(run, "!", f"{clean(tool)} is handed out again ({attempt})", "yellow")
            case _:
                if line := people_line(event, run.calls):
                    self._line(run, *line)
                if isinstance(event, e.ApprovalDecided) and event.approval in run.calls:
                    self._edited(run, event)

    def _edited(self, run: Seen, event: e.ApprovalDecided) -> None:
        """From here on the call is the one that runs."""
        if event.arguments is not None:
            changes = {"arguments": event.arguments}
            run.calls[event.approval] = run.calls[event.approval].model_copy(update=changes)

    def _todos(self, run: Seen, items: tuple[e.TodoItem, ...]) -> None:
        done = sum(item.completed for item in items)
        if done:
            left = [short(item.title, QUERY_CHARS_MAX) for item in items if not item.completed]
            follows = f"; next: {left[0]}" if left else ""
            self._line(run, "☑", f"{done} of {len(items)} done{follows}", "dim")
            return
        for item in items:
            self._line(run, "☐", short(item.title, QUERY_CHARS_MAX), "dim")

    def _outcome(self, run: Seen, ended: e.ToolCallEnded) -> None:
        call = run.calls.get(ended.call)
        tool = clean(call.tool) if call else ended.call
        if call is not None and call.lane is Lane.LOOP and not ended.is_error:
            return
        took = "" if ended.duration_ms is None else f" {duration(ended.duration_ms)}"
        said = outcome_line(ended)
        word = "" if ended.outcome in {"succeeded", "failed"} else f" {ended.outcome}"
        mark, style = ("✗", "red") if ended.is_error else ("✓", "green")
        self._line(run, f"{INDENT}{mark}", f"{tool}{word}{took}  {said}".rstrip(), style)
        self._whole(run, text_of(ended.content))

    def _whole(self, run: Seen, text: str) -> None:
        """All of it, for whoever asked for that."""
        if self._verbose and text.strip():
            lead = f"{self._lead(run)}{INDENT}{INDENT}"
            self._put(
                Styled("".join(f"{lead}{line}\n" for line in clean(text).splitlines()), "dim")
            )

    def _rest(
        self,
        heard: Heard,
        run: Seen,
        event: e.RunCompleted | e.RunStopped | e.RunFailed | e.RunCancelled,
    ) -> None:
        status = event.type.split(".")[1]
        facts = [f"{status} in step {event.step}", duration(heard.at_ms - run.since_ms)]
        if used := usage_line(run.usage):
            facts.append(used)
        name = f"{run.expert} " if run.depth else ""
        style = "bold green" if status == "completed" else "bold red"
        self._line(run, MARKS[status], f"{name}{' · '.join(facts)}", style)

    def _requested(self, name: str, run: Seen, event: e.GenerationRequested) -> None:
        if event.attempt == 1:
            self._line(run, "──", f"step {event.step}", "dim")
        run.attempt = (event.step, event.attempt)
        waiting, run.waiting = run.waiting, []
        for delta in waiting:
            if (delta.step, delta.attempt) == run.attempt:
                self._piece(name, delta)
            elif (delta.step, delta.attempt) > run.attempt:
                run.waiting.append(delta)

    def _reply(self, name: str, run: Seen, event: e.GenerationCompleted) -> None:
        """Write what was not streamed of a reply, and end its line."""
        usage = event.usage or Usage()
        run.usage = run.usage.plus(usage)
        for index, part in enumerate(event.parts):
            if not isinstance(part, TextPart):
                continue
            place = Place(name, event.step, event.attempt, "text", index)
            text = part.text
            if not isinstance(text, str):
                self._line(run, "…", in_line(text), "")
                continue
            self._stream(place, text[self._shown.get(place, 0) :])
            if name == self._root.run:
                self._last_text = text
        self._end_line()
        if used := usage_line(usage):
            self._line(run, " ", used, "dim")
        for place in [p for p in self._shown if (p.run, p.step) == (name, event.step)]:
            del self._shown[place]

    def _stream(self, place: Place, text: str) -> None:
        """Go on with a part of a reply, in its own line."""
        if not text:
            return
        lead = self._lead(self._runs.get(place.run, Seen()))
        fresh = self._open != place
        if fresh:
            self._end_line()
        self._open = place
        self._shown[place] = self._shown.get(place, 0) + len(text)
        shown = clean(text).replace("\n", f"\n{lead}")
        style = "dim italic" if place.kind == "thinking" else ""
        self._put(Styled((lead if fresh else "") + shown, style))

    def _line(self, run: Seen, mark: str, text: str, style: str) -> None:
        self._end_line()
        self._put(Styled(f"{self._lead(run)}{mark} {text}\n", style))

    def _end_line(self) -> None:
        if self._open is not None:
            self._open = None
            self._put(Styled("\n"))

    def _lead(self, run: Seen) -> str:
        return INDENT * run.depth

    def _put(self, text: Styled) -> None:
        self._console.print(text, end="", soft_wrap=True)

    def _written(self) -> str:
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text
