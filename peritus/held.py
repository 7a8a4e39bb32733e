"""A definition file as a place where secrets are: those written into it. Never the best place."""

from pathlib import Path

from domain.secrets import SecretRef, SecretValue
from peritus.definitions.include import read_whole
from peritus.definitions.literals import literals_in
from peritus.definitions.problems import DefinitionError
from peritus.definitions.report import Report
from peritus.definitions.sources import read_source
from services.secrets.port import SecretPlace


class DefinitionSecrets:
    """The literal keys of one definition file, under the names that its definition has for them.

    Fills the port `SecretProvider`. A file that cannot be read has none: whoever loads it says why.
    """

    only_secrets = True
    asks = False

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self._path = path
        self._known: tuple[tuple[int, int], dict[str, str]] = ((-1, -1), {})

    @property
    def label(self) -> str:
        """The file, if anything is written in it: nobody is to think of it as a place for keys."""
        return str(self._path) if self._values() else ""

    def find(self, ref: SecretRef) -> SecretValue | None:
        """The value that the file has for a name."""
        value = None if ref.version else self._values().get(ref.name)
        return SecretValue(SecretRef(name=ref.name), value, self.label) if value else None

    def places(self) -> list[SecretPlace]:
        """The names that stand for what is written in it."""
        return [SecretPlace(name=name, source=self.label) for name in sorted(self._values())]

    def problems(self, name: str) -> list[str]:
        """That it is there at all, if it is."""
        if name not in self._values():
            return []
        return [f"it is written in {self.label}: take it out after `peritus secrets set {name}`"]

    def _values(self) -> dict[str, str]:
        """By name; parsed again when the file has changed. A name of two values has none."""
        try:
            stat = self._path.stat()
        except OSError:
            return {}
        seen = (stat.st_mtime_ns, stat.st_size)
        if self._known[0] != seen:
            self._known = (seen, self._read())
        return self._known[1]

    def _read(self) -> dict[str, str]:
        try:
            first = read_source(self._path)
            whole = read_whole(Report(first.shown), first)  # what is wrong is told elsewhere
            found = literals_in(whole.content)
        except DefinitionError:
            return {}
        values: dict[str, set[str]] = {}
        for one in found:
            values.setdefault(one.name, set()).add(one.value)
        return {name: same.pop() for name, same in values.items() if len(same) == 1}
