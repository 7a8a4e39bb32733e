"""What a run is told by the command line: a text, data, or the answer to its question."""

import json
from typing import Any, cast

from commands.task import task_of
from domain.definition import Expert
from domain.errors import Rejected
from peritus.cli import options
from projections.waits import parsed


class Task:
    """What is said, read from standard input where it is asked for."""

    def __init__(self, query: str, data: str | None, *, go_on: bool, answers: bool) -> None:
        """Check that it goes together.

        `go_on`: it is said to a run that exists. `answers`: as the answer to its open question.
        """
        self.go_on = go_on
        self.answers = answers
        self.text = options.text_of(query)
        self._data = None if data is None else _object(options.text_of(data))
        if go_on and self._data is not None:
            options.refuse("--input is for a new run; say something to one that goes on")
        if answers and not go_on:
            options.refuse("-i answers a run that exists: add --continue or --continue-job ID")
        if answers and not self.text.strip():
            options.refuse("the answer is empty")
        if not query and self._data is None and not go_on:
            options.refuse("Missing argument 'QUERY': say what the expert is to do")

    def of(self, expert: Expert) -> str:
        """The task of a new run of an expert.

        Raises:
            Rejected: it is not what the expert takes.
        """
        return task_of(expert, self.text, self._data)

    @property
    def answer(self) -> tuple[str | None, str]:
        """The call and the answer in the form of perstack, `toolCallId` and `text`; else a text."""
        value = parsed(self.text)
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value)
            said, call = table.get("text"), table.get("toolCallId")
            if isinstance(said, str) and (call is None or isinstance(call, str)):
                return call, said
        return None, self.text


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Rejected("bad_input", f"--input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Rejected("bad_input", "--input must be a JSON object")
    return cast("dict[str, Any]", value)
