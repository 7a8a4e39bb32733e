"""Asks the person at the terminal for what a run waits for, one thing at a time. Not a screen."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from domain.asks import Action, Elicitation
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from eventlog.port import Blobs
from peritus.cli import asks
from peritus.cli.asks import Shown
from peritus.cli.loop import Out
from peritus.cli.prompting import Terminal
from peritus.ids import now_ms
from peritus.jobs import Send
from peritus.people import answer, answer_ask, change_policy, decide
from projections.remembering import allowing
from projections.waits import Wait

PROMPTS = {
    "question": "answer> ",
    "ask": "answer (/decline, /cancel, /later)> ",
    "approval": "[a]pprove, [A]lways approve this tool, [d]eny, [e]dit, [l]ater> ",
    "budget": "[a]pprove, [d]eny: stop the run, [l]ater> ",
}
CONFIRM = "[a]ccept, [d]ecline, [c]ancel, [l]ater> "
"""What a tool asks without a form."""

GONE = frozenset({"not_waiting", "other_arguments", "no_such_run", "at_rest"})
"""Refusals after which there is nothing left to ask."""

FORM_KEYS: Mapping[str, Action] = {"/decline": "decline", "/cancel": "cancel"}
CONFIRM_KEYS: Mapping[str, Action] = {"a": "accept", "d": "decline", "c": "cancel"}

Key = tuple[str, str]


def _is_later(wait: Wait, line: str) -> bool:
    form = wait.about is not None and wait.about.form is not None
    return wait.kind != "question" and line == ("/later" if form else "l")


def _key(wait: Wait) -> Key:
    return wait.ref.run, wait.id


@dataclass(slots=True)
class Person:
    """Somebody at a terminal; `update` says what waits now."""

    terminal: Terminal
    out: Out
    blobs: Blobs
    send: Send
    root: RunRef
    end_line: Callable[[], str] = str  # what ends the line that is being written
    _open: dict[Key, Wait] = field(default_factory=dict[Key, Wait])
    _aside: set[Key] = field(default_factory=set[Key])
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, waits: Iterable[Wait]) -> None:
        """What waits now; what does not any more is not asked for any longer."""
        self._open = {_key(wait): wait for wait in waits}
        self._changed.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._changed.wait()
                self._changed.clear()
                wanted = [one for one in self._open if one not in self._aside]
                if not wanted:
                    continue
                asking = tasks.create_task(self._ask(self._open[wanted[0]]))
                await self._until_over(wanted[0], asking)
                self._changed.set()

    async def _until_over(self, key: Key, asking: asyncio.Task[None]) -> None:
        """Wait for the person, or until it is decided elsewhere."""
        asking.add_done_callback(lambda _: self._changed.set())
        while not asking.done():
            await self._changed.wait()
            self._changed.clear()
            if key not in self._open and not asking.done():
                asking.cancel()
                await asyncio.wait([asking])
        if asking.cancelled():
            await self.out.write("that is settled: it was decided elsewhere, or its time is over\n")

    async def _ask(self, wait: Wait) -> None:
        one = await asks.shown(self.blobs, wait)
        await self.out.write(f"{self.end_line()}\n{asks.block(one, now_ms())}")
        while True:
            plain = wait.about is not None and wait.about.form is None
            line = await self.terminal.ask(CONFIRM if plain else PROMPTS[wait.kind])
            try:
                done = line is None or await self._said(one, line.strip())
            except Rejected as refused:
                await self.out.write(f"! {refused.message}\n")
                done = refused.code in GONE
            except Unavailable as away:
                await self.out.write(f"! not now: {away}\n")
                done = False
            if line is None or _is_later(wait, line.strip()):
                await self._put_aside(wait)
            if done:
                self._aside.add(_key(wait))  # until the log says that it does not wait any more
                return

    async def _put_aside(self, wait: Wait) -> None:
        lines = "".join(f"  $ {line}\n" for line in asks.commands_for(wait))
        await self.out.write(f"left for later:\n{lines}")

    async def _said(self, one: Shown, line: str) -> bool:
        """Whether that settles it."""
        wait = one.wait
        if wait.kind == "question":
            if line:
                await answer(self.send, wait, line)
            return bool(line)
        if wait.about is not None:
            return await self._said_to_tool(wait, wait.about, line)
        match line:
            case "a":
                await decide(self.send, wait, approve=True)
            case "A" if wait.kind == "approval":
                await decide(self.send, wait, approve=True)
                await change_policy(self.send, self.root, (allowing(wait),))
            case "d":
                reason = (
                    "" if wait.kind == "budget" else await self.terminal.ask("why (or Enter)> ")
                )
                if reason is None:
                    return False
                await decide(self.send, wait, approve=False, reason=reason.strip())
            case "e" if wait.kind == "approval":
                return await self._edited(one)
            case _:
                return line == "l"
        return True

    async def _said_to_tool(self, wait: Wait, about: Elicitation, line: str) -> bool:
        """Whether that settles what a tool asks."""
        keys = FORM_KEYS if about.form is not None else CONFIRM_KEYS
        action = keys.get(line)
        if action is not None:
            await answer_ask(self.send, wait, action)
        elif about.form is not None and line and not _is_later(wait, line):
            await answer(self.send, wait, line)
        else:
            return _is_later(wait, line)
        return True

    async def _edited(self, one: Shown) -> bool:
        """Whether the person gave other arguments; those that do not fit can be given again."""
        text: str | None = one.arguments
        while True:
            text = await self.terminal.ask("arguments> ", text or "")
            if text is None or not text.strip():
                return False
            try:
                await decide(self.send, one.wait, approve=True, arguments=text.strip())
            except Rejected as refused:
                if refused.code in GONE:
                    raise
                await self.out.write(f"! {refused.message}\n")
            else:
                return True
