"""What WORK carries: enough to do one effect without reading the log. A hint, never a record."""

from typing import Annotated, Literal

from pydantic import Discriminator, TypeAdapter

from domain.content import Text
from domain.record import Record
from domain.tools import Lane, Safety


class GenerateWork(Record):
    """Get a reply of the model; claimed before the call is made."""

    type: Literal["generate.v1"] = "generate.v1"
    step: int
    attempt: int


class SampleWork(Record):
    """Ask the run's model once for an open call; claimed before the call is made."""

    type: Literal["sample.v1"] = "sample.v1"
    ask: str


class CallToolWork(Record):
    """Execute a tool call; claimed first when it must not run twice."""

    type: Literal["call_tool.v1"] = "call_tool.v1"
    call: str
    attempt: int
    lane: Lane
    tool: str
    skill: str
    remote: str = ""  # of a tool of an MCP server: what the server knows it by
    safety: Safety
    arguments: Text
    key: str
    timeout_ms: int
    number: int | None = None  # of the placement it is sent to, whose worker need not ask again
    expert: str = ""
    definition: str = ""
    parent: str = ""  # the run that asked for this one


class SnapshotWork(Record):
    """Store the files of the workspace, as of a checkpoint."""

    type: Literal["take_snapshot.v1"] = "take_snapshot.v1"
    step: int
    version: int
    lane: Lane = Lane.SANDBOX
    expert: str = ""
    definition: str = ""
    parent: str = ""
    number: int = 0


Work = GenerateWork | SampleWork | CallToolWork | SnapshotWork

WORK: TypeAdapter[Work] = TypeAdapter(Annotated[Work, Discriminator("type")])
