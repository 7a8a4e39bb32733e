"""Definition files for tests: written, loaded, and what is wrong with them. No cases."""

from pathlib import Path
from typing import Any

import pytest

from domain.definition import Expert
from peritus.definitions import DefinitionError, LoadedDefinition, load_definition

HELLO = '[experts.hello]\ninstruction = "Greet."\n'


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files, and return the path of the definition among them."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "perstack.toml"


def load(folder: Path, text: str, **asked: Any) -> LoadedDefinition:
    """Load a text as the definition of a folder."""
    return load_definition(write(folder, {"perstack.toml": text}), **asked)


def hello(folder: Path, text: str, **asked: Any) -> Expert:
    """The expert `hello` of a text."""
    return load(folder, text, **asked).definition.experts["hello"]


def problems(folder: Path, text: str, **asked: Any) -> list[str]:
    """What is wrong with a text, a line each."""
    with pytest.raises(DefinitionError) as caught:
        load(folder, text, **asked)
    return caught.value.message.splitlines()


def problem(folder: Path, text: str, **asked: Any) -> str:
    """The one thing that is wrong with a text."""
    (found,) = problems(folder, text, **asked)
    return found


def expert(keys: str = "", *, name: str = "hello") -> str:
    """An expert's table with some keys; the first of them is on its third line."""
    return f'[experts."{name}"]\ninstruction = "Work."\n{keys}\n'
