"""A chat completion that is answered as one: the client waits for it. Not its content."""

from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.chat.completions import EXPECTED, ChatTeller
from gateway.operations import JSON_TYPE
from gateway.streams.hub import Hub
from gateway.turns.listening import items_of
from gateway.turns.response import viewing
from gateway.turns.turn import Turn


class WholeAnswer:
    """The response. When the client goes, the run goes on, and nobody waits for it any more."""

    def __init__(
        self, hub: Hub, turn: Turn, teller: ChatTeller, past_seq: int, headers: dict[str, str]
    ) -> None:
        self._hub = hub
        self._turn = turn
        self._teller = teller
        self._past_seq = past_seq
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it.

        Raises:
            Problem: the run did not come to an answer.
            Unavailable: it cannot be told to its end.
            IntegrityViolated: what is stored is not what was written.
        """
        found: bytes | Exception
        ref = self._turn.ref
        async with viewing(self._hub, ref, receive) as viewer:
            try:
                async with aclosing(items_of(viewer, ref.tenant, self._past_seq)) as items:
                    found = await self._teller.whole(items)
            except EXPECTED as error:
                found = error
        if isinstance(found, Exception):
            raise found
        response = Response(found, headers=self._headers, media_type=JSON_TYPE)
        await response(scope, receive, send)
