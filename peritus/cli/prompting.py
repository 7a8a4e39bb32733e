"""A line from the person at the terminal, while output goes on above it. Not what is asked."""

import signal
import sys
from dataclasses import dataclass
from typing import Protocol

from peritus.cli.loop import Out


def person_there() -> bool:
    """Whether somebody sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Terminal(Protocol):
    """Where a person can be asked for a line."""

    async def ask(self, prompt: str, text: str = "") -> str | None:
        """The line, edited from `text`; None when the person does not want to say it now."""
        ...


@dataclass(slots=True)
class PromptTerminal:
    """A real terminal. While it asks, what is written appears above the prompt."""

    asking: bool = False

    async def ask(self, prompt: str, text: str = "") -> str | None:
        """The line; None after Ctrl-D, and after Ctrl-C, which then does what it does elsewhere."""
        from prompt_toolkit import PromptSession  # noqa: PLC0415 - only when somebody is asked
        from prompt_toolkit.patch_stdout import patch_stdout  # noqa: PLC0415

        session: PromptSession[str] = PromptSession()
        self.asking = True
        try:
            with patch_stdout(raw=True):
                try:
                    return await session.prompt_async(prompt, default=text, handle_sigint=False)
                finally:
                    sys.stdout.flush()  # what has no end of line yet
        except EOFError:
            return None
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            return None
        finally:
            self.asking = False


class TerminalOut(Out):
    """Standard output beside a prompt."""

    def __init__(self, terminal: PromptTerminal) -> None:
        self._terminal = terminal

    async def write(self, text: str | bytes) -> None:
        """Write and flush; above a prompt, whole lines only, which it cannot break into.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._terminal.asking and text:
            sys.stdout.write(text if isinstance(text, str) else text.decode(errors="replace"))
        else:
            await super().write(text)
