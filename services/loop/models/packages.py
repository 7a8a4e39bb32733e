"""Packages that only some providers need, imported when one is used. Not how they are used."""

from importlib import import_module
from typing import Any

from services.loop.models.port import ModelFailure


def needed(package: str, provider: str, extra: str) -> Any:  # noqa: ANN401 - these ship no types
    """Import a package.

    Raises:
        ModelFailure: `missing_package`, which says what to install.
    """
    try:
        return import_module(package)
    except ImportError:
        message = (
            f"{provider} needs the package {package.partition('.')[0]!r}, which is not installed: "
            f"pip install 'peritus[{extra}]'"
        )
        raise ModelFailure(kind="missing_package", message=message) from None
