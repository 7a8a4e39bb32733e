"""`POST /v1/chat/completions` and `GET /v1/models`: experts for clients of OpenAI's API."""

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from starlette.types import ASGIApp

from domain.commands import AnswerQuestion
from domain.content import FilePart, TextPart
from domain.ids import TOKEN, RunRef, derive_id
from gateway.chat.answer import WholeAnswer
from gateway.chat.asked import ChatMessage, ChatRequest
from gateway.chat.completions import Chat, ChatTeller
from gateway.chat.rendering import rendered, said_last, text_of
from gateway.chat.words import Words
from gateway.deps import GatewayDeps
from gateway.operations import Asked, Operation
from gateway.problems import Problem
from gateway.streams.hub import Hub
from gateway.turns.files import store_file
from gateway.turns.reading import read_model
from gateway.turns.response import TurnStream, admit
from gateway.turns.saying import Known, Sayer, Saying
from gateway.turns.turn import Turn
from projections.waits import Wait

JOB_HEADER = "peritus-job"
JOB_KEY = "peritus_job"
TAG = "protocols"


class ModelFacts(BaseModel):
    """An expert as a model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "peritus"


class ModelList(BaseModel):
    """The experts that the caller may start."""

    object: Literal["list"] = "list"
    data: list[ModelFacts]


def operations(deps: GatewayDeps, hub: Hub) -> tuple[Operation, ...]:
    """What it is asked by; OpenAI's own documents describe it, so ours does not."""
    chats = Chats(deps, hub)
    return (
        Operation(
            "POST",
            "/v1/chat/completions",
            "chat_completions",
            "operator",
            "Ask an expert as one asks a model of OpenAI's API",
            chats.complete,
            "application/json",
            problems=(409,),
            tag=TAG,
            shown=False,
        ),
        Operation(
            "GET",
            "/v1/models",
            "list_models",
            "viewer",
            "The experts, as models of OpenAI's API",
            chats.models,
            ModelList,
            tag=TAG,
            shown=False,
        ),
        Operation(
            "GET",
            "/v1/models/{model}",
            "get_model",
            "viewer",
            "One expert, as a model of OpenAI's API",
            chats.model,
            ModelFacts,
            tag=TAG,
            shown=False,
        ),
    )


class Chats(Sayer):
    """The handlers."""

    def __init__(self, deps: GatewayDeps, hub: Hub) -> None:
        super().__init__(deps)
        self._hub = hub

    async def models(self, asked: Asked[Any, Any]) -> ModelList:
        """`GET /v1/models`.

        Raises:
            Rejected: the definition cannot be used.
        """
        return ModelList(data=[ModelFacts(id=name) for name in await self._names(asked)])

    async def model(self, asked: Asked[Any, Any]) -> ModelFacts:
        """`GET /v1/models/{model}`.

        Raises:
            Problem: there is no such expert, or the caller may not start it.
            Rejected: the definition cannot be used.
        """
        name = asked.part("model")
        if name not in await self._names(asked):
            raise Problem(404, "model_not_found", "There is no such expert.", param="model")
        return ModelFacts(id=name)

    async def complete(self, asked: Asked[Any, Any]) -> ASGIApp:
        """One turn of a new job, or of the job that is named.

        Raises:
            Problem: the body is wrong, or there is no such job.
            Rejected: it cannot be said.
            Unavailable: it was neither handled nor stored.
        """
        body = await read_model(asked.request, ChatRequest)
        body.check()
        if not said_last(body.messages):
            detail = "messages: the last one has to be the user's"
            raise Problem(400, "empty_input", detail, param="messages")
        await admit(self._hub)
        key, named = self.key(asked), _job(asked, body)
        name = named or derive_id("chat", asked.tenant, key)
        known = await self.known(RunRef(asked.tenant, name, name))
        if named is not None:
            self._check(known, body.model)
        command = await self._say(asked, known, body, key)
        turn = Turn(known.ref, (command,))
        options = body.stream_options
        chat = Chat(
            id=f"chatcmpl-{command}",
            model=body.model,
            with_usage=options is not None and options.include_usage,
        )
        teller = ChatTeller(chat, Words(self.deps.backbone.blobs, turn))
        headers = {"Peritus-Job": known.ref.job}
        if body.stream:
            return TurnStream(self._hub, turn, teller, known.seq, headers)
        return WholeAnswer(self._hub, turn, teller, known.seq, headers)

    async def _say(self, asked: Asked[Any, Any], known: Known, body: ChatRequest, key: str) -> str:
        """Have it said; the id of the command."""
        root, now = known.root, said_last(body.messages)
        saying = Saying(f"chat {key}", rendered(body.messages), expert=body.model)
        command = saying.command(known.ref)
        if root is not None and command in root.commands_seen:
            return command
        files = await self._files(asked.tenant, now)
        if root is None:
            said = Saying(saying.name, saying.text, files, body.model)
            await self.say(asked, known.ref, said, None)
            return command
        question = _question(known)
        if question is not None:
            parts = (TextPart(text=text_of(now)),)
            answer = AnswerQuestion(id=command, call=question.id, parts=parts, by=asked.by)
            await self.submit(asked, question.ref, answer)
            return command
        await self.say(asked, known.ref, Saying(saying.name, text_of(now), files), root)
        return command

    async def _files(self, tenant: str, messages: list[ChatMessage]) -> tuple[FilePart, ...]:
        found: list[FilePart] = []
        for part in (part for one in messages for part in one.parts if part.type != "text"):
            url = str(part.image_url.get("url", ""))
            head, comma, data = url.removeprefix("data:").partition(";base64,")
            if part.type != "image_url" or not comma:
                detail = "messages: send images as data URLs; experts take no other files here"
                raise Problem(400, "bad_file", detail, param="messages")
            found.append(await store_file(self.deps.backbone.blobs, tenant, head, data))
        return tuple(found)

    def _check(self, known: Known, model: str) -> None:
        root = known.root
        if root is None or not root.expert:
            raise Problem(404, "no_such_job", "There is no such job.", param=JOB_KEY)
        if root.expert != model:
            detail = f"model: that job is of the expert {root.expert!r}"
            raise Problem(422, "other_expert", detail, param="model")

    async def _names(self, asked: Asked[Any, Any]) -> list[str]:
        definition = await asyncio.to_thread(self.deps.definitions, provider=None, model=None)
        may = asked.caller.experts
        return sorted(name for name in definition.experts if may is None or name in may)


def _job(asked: Asked[Any, Any], body: ChatRequest) -> str | None:
    """The job that is to go on."""
    name = asked.request.headers.get(JOB_HEADER) or (body.metadata or {}).get(JOB_KEY)
    if name is not None and TOKEN.fullmatch(name) is None:
        raise Problem(404, "no_such_job", "There is no such job.", param=JOB_KEY)
    return name


def _question(known: Known) -> Wait | None:
    """The question that what is said now answers: the only one that waits."""
    waits = [wait for wait in known.waits.values() if wait.kind == "question"]
    return waits[0] if len(waits) == 1 and known.family.held(known.ref.run) else None
