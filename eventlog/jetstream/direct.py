"""Reading one stored message by subject. Not many: `reader` does that."""

from nats.aio.msg import Msg

from domain.errors import Unavailable
from eventlog.jetstream.connection import AnswerLost, Link

ATTEMPTS_MAX = 3


async def last_of(link: Link, stream: str, subject: str) -> Msg | None:
    """The newest message of a subject by direct get; None when there is none (ADR-31).

    Raises:
        NoResponders: there is no such stream now.
        Unavailable: the store is away.
    """
    verb = f"$JS.API.DIRECT.GET.{stream}.{subject}"
    for _ in range(ATTEMPTS_MAX):
        try:
            answer = await link.request(verb)
        except AnswerLost:
            continue
        status = None if answer.data or not answer.headers else answer.headers.get("Status")
        if status is None:
            return answer
        if status == "404":
            return None
        msg = f"reading {subject!r}: {status}"
        raise Unavailable(msg)
    msg = f"reading {subject!r} got no answer"
    raise Unavailable(msg)
