"""Peritus from another program: start experts over HTTP, hear their events, answer, approve, fork.

async with AsyncClient() as peritus:
    started = await peritus.start("bugfixer", "Repair the tests")
    async for frame in peritus.stream(started, live=True):
        if isinstance(frame, Heard):
            print(frame.event.type)
    print((await peritus.result(started)).text)

`Client` is the same for programs that block.
"""

from domain.errors import PeritusError, Rejected, TooLarge, Unavailable
from peritus.client.aio import AsyncClient
from peritus.client.blocking import Client
from peritus.client.calls import Attachment, Limits
from peritus.client.errors import Faulty, Invalid, NotAllowed, NotFound, Refused, TooMany
from peritus.client.frames import (
    Beat,
    Delta,
    End,
    Frame,
    Heard,
    Hello,
    Other,
    Output,
    OutputSoFar,
    Reset,
    SoFar,
    Trouble,
)
from peritus.client.results import Result

__all__ = [
    "AsyncClient",
    "Attachment",
    "Beat",
    "Client",
    "Delta",
    "End",
    "Faulty",
    "Frame",
    "Heard",
    "Hello",
    "Invalid",
    "Limits",
    "NotAllowed",
    "NotFound",
    "Other",
    "Output",
    "OutputSoFar",
    "PeritusError",
    "Refused",
    "Rejected",
    "Reset",
    "Result",
    "SoFar",
    "TooLarge",
    "TooMany",
    "Trouble",
    "Unavailable",
]
