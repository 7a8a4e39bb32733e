"""Durations as people type them. Not how they are shown: `wording`."""

import re

import typer

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def age_of(text: str) -> float:
    """A duration such as `12h`, in seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        message = "give a number and s, m, h or d, such as 12h or 7d"
        raise typer.BadParameter(message)
    return int(found[1]) * UNITS[found[2]]
