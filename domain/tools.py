"""What a tool is to a run: name, lane, how safe it is to repeat, schema. Not its execution."""

from enum import StrEnum
from typing import Any

from domain.record import Record


class Lane(StrEnum):
    """Who executes a call."""

    LOOP = "loop"  # decided at once, state in the log: todo, attemptCompletion
    SANDBOX = "sandbox"  # the base skill: files and exec
    TOOL = "tool"  # tools that a program registered with its own tool service
    MCP = "mcp"  # MCP servers that are reached by HTTP: any tool service
    DELEGATE = "delegate"  # a child run
    PERSON = "person"  # somebody answers
    TEAM = "team"  # the loop itself, with what it has to read and store: changes of the team


EXECUTED = frozenset({Lane.SANDBOX, Lane.TOOL, Lane.MCP})
"""The lanes whose calls a worker takes and runs, whoever decides about the run."""


class Safety(StrEnum):
    """What a second execution would do (C3)."""

    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"  # runs only after a claim is in the log, and never twice


class ToolEntry(Record):
    """What deciding needs to know of a tool: pinned in the log before its first use."""

    name: str
    skill: str
    lane: Lane
    safety: Safety
    expert: str | None = None  # the delegate's key when the lane is `delegate`
    input_schema: dict[str, Any] | None = None  # of a delegate with typed input
    remote: str = ""  # of a tool of an MCP server: what the server knows it by
    timeout_ms: int | None = None  # of each call; None: what the run's limits say


class ToolSpec(Record):
    """A tool as the model sees it. `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class LocalTool(Record):
    """A tool of the embedding program: as the model sees it, and how safe it is to repeat."""

    spec: ToolSpec
    safety: Safety = Safety.UNSAFE
