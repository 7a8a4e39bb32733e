"""The in-memory form of all ports, with faults on demand. Not for keeping anything."""

from eventlog.memory.client import Client
from eventlog.memory.faults import (
    OK,
    CrashAt,
    Crashed,
    Fault,
    FaultPoint,
    Faults,
    Hook,
    Kind,
    NoFaults,
    NoHook,
)
from eventlog.memory.server import MemoryServer

__all__ = [
    "OK",
    "Client",
    "CrashAt",
    "Crashed",
    "Fault",
    "FaultPoint",
    "Faults",
    "Hook",
    "Kind",
    "MemoryServer",
    "NoFaults",
    "NoHook",
]
