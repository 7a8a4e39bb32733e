"""Where the gateway is and with which key it is asked. Not what the key may do."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

URL = "http://127.0.0.1:8080"
"""Where `peritus serve` listens unless it is told otherwise."""

STATE_NAME = ".peritus"
KEY_FILE = "gateway.key"

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Whether a gateway is on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def find_key(url: str, state_dir: Path | None) -> str | None:
    """The key that a gateway on this machine made for whoever may read its state folder.

    Without a folder it is looked for in the present one and those above. Never for a gateway
    elsewhere: a key is not told to whoever answers under some address.
    """
    if not is_loopback(url):
        return None
    here = Path.cwd()
    folders = [one / STATE_NAME for one in (here, *here.parents)]
    for folder in folders if state_dir is None else [state_dir]:
        with suppress(OSError):
            return (folder / KEY_FILE).read_text().strip() or None
    return None
