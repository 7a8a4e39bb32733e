"""The private key of a store of secrets: one age identity in a file of its own. Not the store."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from domain.errors import Rejected
from services.secrets.age import AgeKey, Unreadable, key_of, new_key
from services.secrets.files import read_private, text_of

PREFIX = "AGE-SECRET-KEY-"


def default_identity_path() -> Path:
    """Where the identity of this user is: outside every project, so no project hands it on."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "peritus" / "identity.age"


def read_identity(path: Path) -> AgeKey | None:
    """The identity in a file, in the form of age-keygen; None when there is no file.

    Raises:
        Rejected: `bad_identity`: others can read it, or it holds none.
    """
    found = read_identities(path)
    return None if found is None else found[0]


def read_identities(path: Path) -> list[AgeKey] | None:
    """All identities in a file, at least one; None when there is no file.

    Raises:
        Rejected: `bad_identity`: others can read it, or it holds none.
    """
    data = read_private(path, code="bad_identity")
    if data is None:
        return None
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        message = f"others can get at the identity {str(path)!r}: chmod 600, or make a new one"
        raise Rejected("bad_identity", message)
    found = identities_in(text_of(path, data, code="bad_identity"))
    if not found:
        raise Rejected("bad_identity", f"{str(path)!r} holds no age identity")
    return found


def identities_in(text: str) -> list[AgeKey]:
    """The identities in the lines of a text; lines that hold none are passed over."""
    found: list[AgeKey] = []
    for line in text.splitlines():
        if line.startswith(PREFIX):
            with suppress(Unreadable):
                found.append(key_of(line.strip()))
    return found


def need_identity(path: Path) -> AgeKey:
    """The identity in a file, made now if there is none.

    Raises:
        Rejected: `bad_identity`: see `read_identity`; or the file cannot be made.
    """
    found = read_identity(path)
    if found is not None:
        return found
    made = new_key()
    text = f"# public key: {made.recipient}\n{made.identity}\n"
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(fresh, text.encode())
        try:
            os.link(fresh, path)  # fails where another process was first: then that one counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except OSError as error:
        message = f"cannot make the identity {str(path)!r}: {error.strerror}"
        raise Rejected("bad_identity", message) from None
    found = read_identity(path)
    if found is None:
        raise Rejected("bad_identity", f"the identity {str(path)!r} is gone")
    return found


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner can read; on disk when this returns.

    Raises:
        OSError: it is there, or cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
