"""What is wrong with a definition file, line by line. Not the rules that find it."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import Rejected

SHOWN_MAX = 100


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One violation; `line` counts from 1, and is 0 where no line is to blame."""

    line: int
    message: str
    column: int = 0  # only of syntax errors

    def at(self, path: str) -> str:
        """The problem as `path:line: message`."""
        place = ":".join([path, *(str(number) for number in (self.line, self.column) if number)])
        return f"{place}: {self.message}"


class DefinitionError(Rejected):
    """A definition file cannot be used; `problems` holds every violation, sorted by line."""

    def __init__(self, path: str, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(set(problems)))
        lines = [problem.at(path) for problem in self.problems[:SHOWN_MAX]]
        if len(self.problems) > SHOWN_MAX:
            lines.append(f"{path}: and {len(self.problems) - SHOWN_MAX} more")
        super().__init__(code="bad_definition", message="\n".join(lines))
