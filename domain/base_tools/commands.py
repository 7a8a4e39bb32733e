"""Arguments of the tools that run programs and read what they said. Not what the tools do."""

from typing import Literal, Self

from pydantic import Field, model_validator

from domain.base_tools.arguments import Arguments

EXEC_TIMEOUT_MS_DEFAULT = 60_000
EXEC_TIMEOUT_MS_MAX = 3_600_000
WAIT_MS_MAX = 60_000


class Program(Arguments):
    """What to run and where: what `exec` and `startProcess` have in common."""

    command: str | None = Field(
        default=None,
        min_length=1,
        description='Program to run, without a shell: "python3", "git". Or give shell.',
    )
    args: tuple[str, ...] | None = Field(
        default=None, description="Arguments of command, one string each."
    )
    shell: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of command: a line or script for bash, with pipes and redirection.",
    )
    env: dict[str, str] | None = Field(default=None, description="Extra environment variables.")
    cwd: str | None = Field(
        default=None, description="Working directory, relative to the workspace. Default: its root."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.command is None) == (self.shell is None):
            message = "give either command or shell"
            raise ValueError(message)
        if self.shell is not None and self.args is not None:
            message = "args belong to command; put them into shell"
            raise ValueError(message)
        return self


class Exec(Program):
    """Arguments of `exec`."""

    stdin: str | None = Field(
        default=None, description="Text for its standard input. Default: none, it reads the end."
    )
    stdout: bool | None = Field(
        default=None, description="Whether to return standard output. Default: true."
    )
    stderr: bool | None = Field(
        default=None, description="Whether to return standard error. Default: true."
    )
    timeout: int | None = Field(
        default=None,
        ge=1,
        le=EXEC_TIMEOUT_MS_MAX,
        description=f"Milliseconds until it is killed. Default: {EXEC_TIMEOUT_MS_DEFAULT}.",
    )


class StartProcess(Program):
    """Arguments of `startProcess`."""


class _OfProcess(Arguments):
    handle: str = Field(description="What startProcess returned.")


class ReadProcess(_OfProcess):
    """Arguments of `readProcess`."""

    from_: int | None = Field(
        default=None,
        alias="from",
        description="Byte of its output to begin at: the `to` of the last answer. A negative "
        "number counts from the end. Default: 0.",
    )
    wait: int | None = Field(
        default=None,
        ge=0,
        le=WAIT_MS_MAX,
        description="Milliseconds to wait for more output or the end. Default: 0.",
    )


class WriteProcess(_OfProcess):
    """Arguments of `writeProcess`."""

    text: str = Field(default="", description="Text for its standard input, literally.")
    close: bool | None = Field(
        default=None, description="Whether its input ends after the text. Default: false."
    )


class StopProcess(_OfProcess):
    """Arguments of `stopProcess`."""


class ListProcesses(Arguments):
    """Arguments of `listProcesses`: none."""


class ReadResult(Arguments):
    """Arguments of `readResult`."""

    call: str = Field(description="Id of the call, as its truncated answer names it.")
    unit: Literal["lines", "bytes"] | None = Field(
        default=None, description="What from and to count. Default: lines."
    )
    from_: int | None = Field(
        default=None, alias="from", ge=0, description="First line or byte, counted from 0."
    )
    to: int | None = Field(
        default=None, ge=0, description="Line or byte to stop before. Default: as far as fits."
    )
