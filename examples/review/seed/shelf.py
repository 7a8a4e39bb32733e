"""A shelf of notes: one text file each."""

from pathlib import Path


class Shelf:
    """The notes of one folder, by name."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def put(self, name, text):
        """Keep a note; an older one of that name is replaced."""
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name of a note")
        (self.folder / f"{name}.txt").write_text(text)

    def get(self, name):
        """The text of a note."""
        return (self.folder / f"{name}.txt").read_text()

    def newest(self, count):
        """The names of the newest notes, the newest first."""
        notes = sorted(self.folder.glob("*.txt"), key=lambda note: note.stat().st_mtime)
        return [note.stem for note in notes[-count:]]
