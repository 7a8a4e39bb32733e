"""From a `perstack.toml` to the definition a job is pinned to. Not what runs it."""

from peritus.definitions.find import FILE_NAME, find_config
from peritus.definitions.limits import LimitOverrides
from peritus.definitions.load import LoadedDefinition, load_definition
from peritus.definitions.models import parse_reasoning
from peritus.definitions.problems import DefinitionError, Problem

__all__ = [
    "FILE_NAME",
    "DefinitionError",
    "LimitOverrides",
    "LoadedDefinition",
    "Problem",
    "find_config",
    "load_definition",
    "parse_reasoning",
]
