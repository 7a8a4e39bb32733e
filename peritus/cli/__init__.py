"""The command `peritus`. Importing it is cheap: a command's parts are imported when it is run."""

from peritus.cli.main import main

__all__ = ["main"]
