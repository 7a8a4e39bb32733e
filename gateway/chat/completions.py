"""A turn as a chat completion, whole or in chunks. Not what is said in it: `words` has that."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from domain.errors import IntegrityViolated, PeritusError, Unavailable
from gateway.chat.shape import error_of
from gateway.chat.words import GAP, Words
from gateway.problems import Problem, problem_of
from gateway.turns.listening import Item
from gateway.turns.questions import question_of
from projections.waits import Wait, wait_json

NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients ask again after most errors; a run that was begun is not to be begun again."""

BAD_GATEWAY = 502
DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Chat:
    """What a completion says of itself."""

    id: str
    model: str
    with_usage: bool = False


class ChatTeller:
    """Makes the chunks of a streamed completion, or the whole of one."""

    def __init__(self, chat: Chat, words: Words) -> None:
        self._chat = chat
        self._words = words

    async def tell(self, items: AsyncIterator[Item]) -> AsyncGenerator[str]:
        """The data of each chunk."""
        try:
            begun = False
            async with aclosing(self._words.say(items)) as said:
                async for text in said:
                    if not begun and self._words.turn.begun:
                        begun = True
                        yield self._chunk({"role": "assistant", "content": ""})
                    yield self._chunk({"content": text}) if text else text
            if self._words.turn.over is None:
                return  # the gateway closes
            wait = await self._waiting_text()
            if wait:
                yield self._chunk({"content": wait})
            yield self._chunk({}, finish=self._finish(), peritus=await self._facts())
        except (Problem, PeritusError) as error:
            found = problem_of(error)
            about = {"detail": found.detail, "code": found.code}
            yield orjson.dumps(error_of(found.status, about)).decode()
            return
        if self._chat.with_usage:
            yield self._json("chat.completion.chunk", choices=[], usage=self._usage())
        yield DONE

    async def whole(self, items: AsyncIterator[Item]) -> bytes:
        """The completion as one.

        Raises:
            Problem: the run did not come to an answer.
            Unavailable: it cannot be told to its end.
            IntegrityViolated: what is stored is not what was written.
        """
        async with aclosing(self._words.say(items)) as said:
            async for _ in said:
                pass
        if self._words.turn.over is None:
            msg = "the gateway closes"
            raise Unavailable(msg)
        finish = self._finish()
        content = self._words.whole + await self._waiting_text()
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self._json(
            "chat.completion", choices=[choice], usage=self._usage(), peritus=await self._facts()
        ).encode()

    def _finish(self) -> str:
        """Why it ends.

        Raises:
            Problem: it did not come to an answer.
        """
        root = self._words.turn.root
        match self._words.turn.over:
            case "failed":
                detail = root.failure_message or "the run failed"
                raise Problem(BAD_GATEWAY, "run_failed", detail, headers=NO_RETRY)
            case "cancelled" | "deleted":
                raise Problem(409, "run_cancelled", "the run was stopped", headers=NO_RETRY)
            case "stopped":
                return "length"
            case _:
                return "stop"

    async def _waiting_text(self) -> str:
        """What is asked, so that whoever reads the answer alone knows."""
        if self._words.turn.over != "waiting":
            return ""
        lines = [await self._shown(wait) for wait in self._words.turn.waits]
        text = "\n\n".join(lines)
        return GAP + text if self._words.whole else text

    async def _shown(self, wait: Wait) -> str:
        facts = await wait_json(self._words.blobs, wait)
        if wait.kind == "question":
            return question_of(facts)
        where = f"/v1/runs/{wait.ref.run}/{'answer' if wait.kind == 'ask' else 'approve'}"
        what = facts.get("message") or f"{wait.tool or wait.limit} of {wait.expert}"
        return f"[This waits for a person: {what}. Decide with {where}, then go on here.]"

    async def _facts(self) -> dict[str, Any]:
        """What this API has no words for."""
        turn = self._words.turn
        found: dict[str, Any] = {"job": turn.ref.job, "run": turn.ref.run, "status": turn.over}
        if turn.over == "waiting":
            blobs = self._words.blobs
            found["waiting"] = [await wait_json(blobs, wait) for wait in turn.waits]
        return found

    def _usage(self) -> dict[str, Any]:
        used = self._words.spending.total
        return {
            "prompt_tokens": used.input,
            "completion_tokens": used.output,
            "total_tokens": used.input + used.output,
            "prompt_tokens_details": {"cached_tokens": used.cached},
            "completion_tokens_details": {"reasoning_tokens": used.reasoning},
        }

    def _chunk(
        self,
        delta: dict[str, str],
        *,
        finish: str | None = None,
        peritus: dict[str, Any] | None = None,
    ) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more: dict[str, Any] = {} if peritus is None else {"peritus": peritus}
        if self._chat.with_usage:
            more["usage"] = None
        return self._json("chat.completion.chunk", choices=[choice], **more)

    def _json(self, kind: str, **more: Any) -> str:  # noqa: ANN401 - any JSON
        chat = self._chat
        created = self._words.turn.began_ms // 1_000
        about = {"id": chat.id, "object": kind, "created": created, "model": chat.model}
        return orjson.dumps(about | more).decode()


EXPECTED = (Problem, Unavailable, IntegrityViolated)
