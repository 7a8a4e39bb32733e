"""Where views are kept: in a file, or in a database. Not the keeping; nothing heavy is imported."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from domain.errors import Rejected

SCHEMA = "peritus"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A schema of a PostgreSQL database. The URL may hold a password (C15)."""

    url: str = field(repr=False)
    schema: str = SCHEMA


Where = Path | Postgres
"""A SQLite file, or PostgreSQL."""


def parse_where(url: str, *, schema: str = SCHEMA) -> Where:
    """What a URL names.

    Raises:
        Rejected: it is neither `sqlite:///path` nor `postgresql://…`.
    """
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"} and rest:
        return Postgres(f"postgresql://{rest}", schema)
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return Path(urlsplit(url).path[1:])
    message = "the views are kept at `sqlite:///path` or `postgresql://user@host/database`"
    raise Rejected("bad_setting", f"{message}, not at a URL that begins with {scheme[:20]!r}")
