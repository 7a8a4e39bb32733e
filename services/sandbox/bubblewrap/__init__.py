"""Sandboxes by bubblewrap, with or without root. What is named here is for those who came first."""

from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.bubblewrap.once import Bubblewrap
from services.sandbox.bubblewrap.program import HOW_TO_INSTALL, copy_for_everyone
from services.sandbox.port import Command, Outcome

__all__ = [
    "HOW_TO_INSTALL",
    "Bubblewrap",
    "BubblewrapBackend",
    "Command",
    "Outcome",
    "copy_for_everyone",
]
