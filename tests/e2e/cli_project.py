"""A project folder and the real command in it, as a person would use them. Not the tests."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOUND_S = 60.0
"""How long a test waits for anything, in seconds."""

CACHE = str(Path(tempfile.gettempdir()) / "peritus-tests-cache")
"""What is found out about this machine once, for all tests."""

DEFINITION = """\
[experts.helper]
description = "Helps."
instruction = "Help."
"""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that Peritus would read, and some more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERITUS_")}
    return {**kept, "XDG_CACHE_HOME": CACHE, **more}


@dataclass
class Started:
    """A command that runs: its events as they come."""

    process: subprocess.Popen[bytes]
    _lines: "queue.Queue[bytes | None]" = field(default_factory=queue.Queue[bytes | None])
    _said: list[bytes] = field(default_factory=list[bytes])

    def __post_init__(self) -> None:
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._hear, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _hear(self) -> None:
        assert self.process.stderr is not None
        self._said.extend(self.process.stderr)

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of that type; what comes before it is passed over."""
        for event in self.events():
            if event["event"]["type"] == kind:
                return event
        msg = f"the command ended without {kind}: {self.said}"
        raise AssertionError(msg)

    def events(self) -> Iterator[dict[str, Any]]:
        """The events that come, until the command ends."""
        while (line := self._lines.get(timeout=BOUND_S)) is not None:
            yield json.loads(line)

    def line(self) -> str:
        """The next line, of a command that does not write JSON."""
        line = self._lines.get(timeout=BOUND_S)
        assert line is not None, f"the command ended: {self.said}"
        return line.decode().rstrip()

    def rest(self) -> list[str]:
        """All lines up to its end."""
        found = list[str]()
        while (line := self._lines.get(timeout=BOUND_S)) is not None:
            found.append(line.decode().rstrip())
        return found

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.process.kill()
        self.end()

    def end(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(BOUND_S)
        for thread in self._threads:
            thread.join(BOUND_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    @property
    def said(self) -> str:
        """What it wrote to standard error so far."""
        return b"".join(self._said).decode()


@dataclass(frozen=True)
class Outcome:
    """A command that has ended."""

    code: int
    out: str
    said: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def run(self) -> str:
        """The run that its first event is of."""
        name = self.events[0]["run"]
        assert isinstance(name, str)
        return name


@dataclass(frozen=True)
class Project:
    """A folder with a definition, and the settings that all of its commands have."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    bound_s: float = BOUND_S

    def write(self, name: str, text: str) -> None:
        """Put a file there."""
        (self.folder / name).write_text(text)

    @property
    def workspace(self) -> Path:
        """Where experts work."""
        return self.folder / "workspace"

    def until_there(self, name: str) -> None:
        """Wait until a file is in the workspace."""
        deadline = time.monotonic() + BOUND_S
        while not (self.workspace / name).exists():
            assert time.monotonic() < deadline, f"there is no {name} after {BOUND_S} s"
            time.sleep(0.01)

    def peritus(self, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run the command to its end."""
        ended = subprocess.run(
            [sys.executable, "-m", "peritus", *words],
            cwd=self.folder,
            env=environment(**self.settings, **(env or {})),
            capture_output=True,
            timeout=self.bound_s,
            check=False,
        )
        return Outcome(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def run(self, script: str, *words: str, query: str = "Help me") -> Outcome:
        """`peritus run` with a script, to its end."""
        return self.peritus("run", "helper", query, *scripted(script), *words)

    def close(self) -> None:
        """End the server that processes which were killed have left: the last to leave stops it."""
        left = (self.folder / ".peritus" / "endpoint.json").exists()
        assert not left or self.peritus("runs").code == 0

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> Started:
        """Begin a command."""
        return Started(
            subprocess.Popen(
                [sys.executable, "-m", "peritus", *words],
                cwd=self.folder,
                env=environment(**self.settings, **(env or {})),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )

    def start_run(self, script: str, *words: str, env: Mapping[str, str] | None = None) -> Started:
        """Begin `peritus run` with a script."""
        return self.start("run", "helper", "Help me", *scripted(script), *words, env=env)


def scripted(script: str) -> tuple[str, ...]:
    """The options for a model that a script plays."""
    return ("--provider", "scripted", "--model", script)
