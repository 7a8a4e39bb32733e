"""Stored envelopes as views see them: decoded once. Not a fold."""

from domain.envelope import decode, hash_of
from domain.errors import IntegrityViolated
from eventlog.port import Stored
from projections.view import Seen


def see(stored: Stored) -> Seen:
    """The envelope, or why there is none."""
    digest = hash_of(stored.data)
    try:
        envelope = decode(stored.data)
    except IntegrityViolated as error:
        return Seen(stored.seq, stored.ref, digest, None, str(error))
    if envelope.ref != stored.ref:
        broken = f"holds an envelope of run {envelope.ref.run!r}"
        return Seen(stored.seq, stored.ref, digest, None, broken)
    return Seen(stored.seq, stored.ref, digest, envelope)
