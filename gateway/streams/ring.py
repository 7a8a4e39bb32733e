"""The newest envelopes in a ring, and older ones that were encoded lately. Both only caches."""

from collections import OrderedDict

from domain.ids import RunRef
from eventlog.port import Stored
from gateway.streams.bounds import Bounds
from gateway.streams.entries import Entry
from gateway.streams.feed import Feed


class Ring:
    """Every envelope after `base` up to `head`, in order: there is no gap between the two."""

    def __init__(self, bounds: Bounds) -> None:
        self.base = 0
        self.head = 0
        self._bounds = bounds
        self._entries: dict[int, Entry] = {}
        self._bytes = 0

    def begin(self, seq: int) -> None:
        """Begin anew after that sequence, empty."""
        self._entries.clear()
        self._bytes = 0
        self.base = self.head = seq

    def add(self, entry: Entry) -> None:
        """Take the next one, and let go of the oldest."""
        self._entries[entry.seq] = entry
        self._bytes += entry.size
        self.head = entry.seq
        bounds = self._bounds
        while len(self._entries) > bounds.ring_envelopes or self._bytes > bounds.ring_bytes:
            seq = next(iter(self._entries))
            self._bytes -= self._entries.pop(seq).size
            self.base = seq

    def get(self, seq: int) -> Entry | None:
        """The entry at a sequence."""
        return self._entries.get(seq)

    def after(self, seq: int, feed: Feed, limit: int) -> list[Entry] | None:
        """The first of a feed's entries after a sequence; None when some may be gone from here."""
        if seq < self.base:
            return None
        found: list[Entry] = []
        for entry in reversed(self._entries.values()):
            if entry.seq <= seq:
                break
            if feed.within(entry.ref):
                found.append(entry)
        found.reverse()
        return found[:limit]

    def forget(self, ref: RunRef) -> None:
        """Let go of a job's envelopes: they are no longer in the log either."""
        for seq, entry in list(self._entries.items()):
            if entry.ref[:2] == ref[:2]:
                self._bytes -= self._entries.pop(seq).size


class Shelf:
    """Entries of older envelopes, so that many who catch up have one encoding."""

    def __init__(self, bounds: Bounds) -> None:
        self._bytes_max = bounds.shelf_bytes
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._bytes = 0

    def get(self, stored: Stored) -> Entry:
        """The entry of an envelope."""
        entry = self._entries.get(stored.seq)
        if entry is not None:
            self._entries.move_to_end(stored.seq)
            return entry
        entry = self._entries[stored.seq] = Entry(stored)
        self._bytes += entry.size
        while self._bytes > self._bytes_max:
            self._bytes -= self._entries.popitem(last=False)[1].size
        return entry

    def forget(self, ref: RunRef) -> None:
        """Let go of a job's envelopes."""
        for seq, entry in list(self._entries.items()):
            if entry.ref[:2] == ref[:2]:
                self._bytes -= self._entries.pop(seq).size

    def clear(self) -> None:
        """Let go of all."""
        self._entries.clear()
        self._bytes = 0
