"""From a `perstack.toml` to the definition a job is pinned to. Not what runs it."""

from peritus.definitions.amounts import parse_duration, parse_usd
from peritus.definitions.find import FILE_NAME, find_config
from peritus.definitions.limits import LimitOverrides
from peritus.definitions.load import (
    LoadedDefinition,
    Operator,
    load_definition,
    read_env_paths,
)
from peritus.definitions.models import parse_reasoning
from peritus.definitions.problems import DefinitionError, Problem
from peritus.definitions.variables import parse_variables

__all__ = [
    "FILE_NAME",
    "DefinitionError",
    "LimitOverrides",
    "LoadedDefinition",
    "Operator",
    "Problem",
    "find_config",
    "load_definition",
    "parse_duration",
    "parse_reasoning",
    "parse_usd",
    "parse_variables",
    "read_env_paths",
]
