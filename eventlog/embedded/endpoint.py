"""The endpoint file of a state folder: which server lives there. Not a lock."""

import json
from dataclasses import dataclass
from pathlib import Path

from eventlog.embedded.config import ServerConfig, write_private
from eventlog.embedded.process import Process
from eventlog.embedded.server import Running
from eventlog.jetstream.durability import Durability

DURABILITIES: dict[str, Durability] = {"process": "process", "os": "os"}


@dataclass(frozen=True, slots=True)
class EndpointFile:
    """`endpoint.json`: written at once and whole, readable by its owner alone."""

    path: Path
    folder: Path

    def write(self, running: Running) -> None:
        """Name the server that runs."""
        config = running.config
        text = json.dumps(
            {
                "url": config.url,
                "port": config.port,
                "token": config.token,
                "durability": config.durability,
                "pid": running.process.pid,
                "started": running.process.started,
            }
        )
        write_private(self.path, text)

    def read(self) -> Running | None:
        """The server it names, alive or not; None when it names none."""
        try:
            found = json.loads(self.path.read_text())
            durability = DURABILITIES[found["durability"]]
            config = ServerConfig(self.folder, int(found["port"]), str(found["token"]), durability)
            return Running(config, Process(int(found["pid"]), int(found["started"])))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        """No server lives here."""
        self.path.unlink(missing_ok=True)
