"""Texts in which `${NAME}` stands for the secret of that name. Not where the values come from."""

import re
from collections.abc import Mapping

from domain.secrets import SECRET_NAME

REFERENCE = re.compile(rf"\$\{{({SECRET_NAME.pattern})\}}")


def reference(name: str) -> str:
    """What stands for the secret of that name."""
    return f"${{{name}}}"


def references_in(*texts: str) -> tuple[str, ...]:
    """The names of all secrets that the texts ask for, each once, in their order."""
    found = (match.group(1) for text in texts for match in REFERENCE.finditer(text))
    return tuple(dict.fromkeys(found))


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with the values put in; what a value holds is not looked through again.

    Raises:
        KeyError: a value is not among those that are given; it holds the name.
    """
    return REFERENCE.sub(lambda match: values[match.group(1)], text)
