"""What a process knows of secret values, so that none leaves it (C15). Not where they came from."""

import hmac
import threading
from collections.abc import Iterable

from domain.redaction import Redactor
from domain.secrets import SecretValue


class Redactions:
    """All values this process ever saw, also those that were replaced since. Thread-safe.

    Belongs to the composition root, which gives it to whatever lets text out.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], None] = {}
        self._redactor = Redactor()

    def add(self, name: str, value: str) -> None:
        """Let this value out no more."""
        self.add_all([(name, value)])

    def add_all(self, values: Iterable[tuple[str, str]]) -> None:
        """The same for several: (name, value)."""
        with self._lock:
            fresh = dict.fromkeys(values)
            if fresh.keys() <= self._known.keys():
                return
            self._known |= fresh
            self._redactor = Redactor(self._known)

    def learn(self, value: SecretValue) -> None:
        """The same for a value that was resolved."""
        self.add(value.ref.name, value.reveal())

    def redactor(self) -> Redactor:
        """The redactor of all that is known now."""
        return self._redactor

    def name_of(self, key: bytes) -> str:
        """Names the set of values that are known, by a key, so that it tells nothing of them."""
        with self._lock:
            known = sorted(self._known)
        told = hmac.new(key, digestmod="sha256")
        for name, value in known:
            told.update(f"{len(name)}:{name}{len(value)}:{value}".encode(errors="surrogateescape"))
        return told.hexdigest() if known else ""
