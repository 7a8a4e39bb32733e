"""The nats-server that runs beside Peritus. Not a client: `eventlog.jetstream` is one."""

from eventlog.embedded.folder import Endpoint, join_state_folder
from eventlog.embedded.server import EmbeddedServer, Running

__all__ = ["EmbeddedServer", "Endpoint", "Running", "join_state_folder"]
