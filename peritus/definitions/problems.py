"""What is wrong with a definition, place by place. Not the rules that find it."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import Rejected

SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One violation or notice; `line` counts from 1, and is 0 where no line is to blame."""

    path: str  # of the file, as people read it
    line: int
    message: str
    column: int = 0  # only of syntax errors

    def __str__(self) -> str:
        """The problem as `path:line: message`."""
        numbers = (str(number) for number in (self.line, self.column) if number)
        return f"{':'.join([self.path, *numbers])}: {self.message}"


class DefinitionError(Rejected):
    """A definition cannot be used; `problems` holds every violation, by file and line."""

    def __init__(self, problems: Sequence[Problem], notes: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        self.notes = tuple(notes)
        lines = [str(problem) for problem in self.problems[:SHOWN_MAX]]
        if len(self.problems) > SHOWN_MAX:
            lines.append(f"{problems[0].path}: and {len(self.problems) - SHOWN_MAX} more")
        super().__init__(code="bad_definition", message="\n".join(lines))
