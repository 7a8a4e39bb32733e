"""The experts that come with this release, each with its team in a file. Not how they are read."""

from pathlib import Path

from peritus.definitions.find import FILE_NAME

FOLDER = Path(__file__).parents[1] / "experts"


def shipped_file(expert: str) -> Path | None:
    """The file that defines an expert that is shipped; None if no such expert is."""
    if expert not in shipped_experts():
        return None
    return FOLDER / expert / FILE_NAME


def shipped_experts() -> tuple[str, ...]:
    """The keys of the experts that can be run wherever no other is defined by that name."""
    return tuple(sorted(file.parent.name for file in FOLDER.glob(f"*/{FILE_NAME}")))
