"""`POST /v1/agui`: what a client of AG-UI asks, as commands, and the answer. Not how it is told."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from ag_ui.core.types import (
    ContentPart,
    DataSource,
    DocumentPart,
    ImagePart,
    ResumeEntry,
    RunAgentInput,
    TextPart,
    ToolMessage,
    UserMessage,
)
from starlette.types import ASGIApp

from domain.content import FilePart
from domain.errors import Rejected
from domain.ids import derive_id
from gateway.agui.history import CONTEXT_TITLE, said_now, says_something, text_of_message
from gateway.agui.interrupts import command_of, name_of
from gateway.agui.names import InterruptName, job_of
from gateway.agui.telling import AguiTeller
from gateway.deps import GatewayDeps
from gateway.operations import EVENTS_TYPE, Asked, Operation
from gateway.problems import Problem
from gateway.streams.hub import Hub
from gateway.turns.files import store_file
from gateway.turns.reading import read_model
from gateway.turns.response import TurnStream, admit
from gateway.turns.saying import Known, Sayer, Saying
from gateway.turns.turn import Turn

NAMES_CHARS_MAX = 512


def operations(deps: GatewayDeps, hub: Hub) -> tuple[Operation, ...]:
    """What it is asked by; the protocol's own documents describe it, so OpenAPI does not."""
    agui = Agui(deps, hub)
    return tuple(
        Operation(
            "POST",
            path,
            name,
            "operator",
            "Speak the Agent-User Interaction protocol: one turn of a thread",
            agui.run,
            EVENTS_TYPE,
            problems=(409,),
            tag="protocols",
            shown=False,
        )
        for path, name in (("/v1/agui", "agui"), ("/v1/agui/{expert}", "agui_expert"))
    )


class Agui(Sayer):
    """The handler."""

    def __init__(self, deps: GatewayDeps, hub: Hub) -> None:
        super().__init__(deps)
        self._hub = hub

    async def run(self, asked: Asked[Any, Any]) -> ASGIApp:
        """One turn, or what goes on of the thread; the same `runId` again is the same turn.

        Raises:
            Problem: the body is wrong, or there is nothing to go on with.
            Rejected: it cannot be said, or what is answered does not wait.
            Unavailable: it was neither handled nor stored.
        """
        body = await read_model(asked.request, RunAgentInput)
        if max(len(body.thread_id), len(body.run_id)) > NAMES_CHARS_MAX:
            raise Problem(422, "invalid", f"threadId, runId: {NAMES_CHARS_MAX} characters at most")
        await admit(self._hub)
        known = await self.known(job_of(asked.tenant, body.thread_id))
        turn = Turn(known.ref, await self._commands(asked, known, body))
        ports = self.deps.backbone
        teller = AguiTeller(ports.log, ports.blobs, turn, body)
        return TurnStream(self._hub, turn, teller, known.seq)

    async def _commands(
        self, asked: Asked[Any, Any], known: Known, body: RunAgentInput
    ) -> tuple[str, ...]:
        """Have said what is said; the ids of the commands that the turn is."""
        turn = Saying(f"agui {body.run_id}", "", expert=_expert(asked, body))
        command = turn.command(known.ref)
        if body.resume:
            answers = [(one.interrupt_id, one) for one in body.resume]
            return await self._answer(asked, known, body.run_id, answers)
        if known.root is not None and command in known.root.commands_seen:
            return (command,)
        if not says_something(body.messages):
            if known.root is None:
                detail = "messages: there is none of the user to begin with"
                raise Problem(422, "empty_input", detail)
            return ()
        now = said_now(body.messages)
        results = [_answer_of(one, known) for one in now if isinstance(one, ToolMessage)]
        answered = await self._answer(asked, known, body.run_id, results)
        said = [one for one in now if isinstance(one, UserMessage)]
        if not said:
            return answered
        text = "\n\n".join(found for one in said if (found := text_of_message(one)))
        files = [await self._file(asked.tenant, part) for part in _files(said)]
        whole = replace(turn, text=text + _context(body), files=tuple(files))
        await self.say(asked, known.ref, whole, known.root)
        return (*answered, command)

    async def _answer(
        self,
        asked: Asked[Any, Any],
        known: Known,
        run_id: str,
        answers: Sequence[tuple[str, ResumeEntry | ToolMessage]],
    ) -> tuple[str, ...]:
        """Have each decided; what was decided by this turn before is not decided again.

        Raises:
            Rejected: it does not wait.
        """
        waits = known.waits
        found: list[str] = []
        for text, answer in answers:
            name = InterruptName.parse(text)
            look = None if name is None else known.family.looks.get(name.run)
            if name is None or look is None:
                raise Rejected("not_waiting", "no such interrupt is open in this thread")
            ref = look.state.ref
            command = derive_id("answer", *ref, f"agui {run_id}", name.wait)
            found.append(command)
            if command in look.state.commands_seen:
                continue
            wait = waits.get((name.run, name.wait))
            if wait is None:
                raise Rejected("not_waiting", "no such interrupt is open in this thread")
            if wait.digest != name.digest:
                raise Rejected("other_arguments", "it waits with other arguments")
            cancelled = isinstance(answer, ResumeEntry) and answer.status == "cancelled"
            payload = _content(answer) if isinstance(answer, ToolMessage) else answer.payload
            said = command_of(wait, command, payload, asked.by, cancelled=cancelled)
            await self.submit(asked, ref, said)
        return tuple(found)

    async def _file(self, tenant: str, part: ImagePart | DocumentPart) -> FilePart:
        """Content that came with a message, stored.

        Raises:
            Problem: it is not in the message, or of a type that experts cannot see.
        """
        source = part.source
        if not isinstance(source, DataSource):
            detail = "messages: send files within the message (source.type: data)"
            raise Problem(422, "bad_file", detail)
        return await store_file(self.deps.backbone.blobs, tenant, source.mime_type, source.value)


def _answer_of(message: ToolMessage, known: Known) -> tuple[str, ToolMessage]:
    """A question that the client takes for a call of a tool of its own, and its answer."""
    run, _, call = message.tool_call_id.partition(".")
    wait = known.waits.get((run, call))
    return str(InterruptName(run, call, "")) if wait is None else name_of(wait), message


def _expert(asked: Asked[Any, Any], body: RunAgentInput) -> str | None:
    """Whom a new thread is with: the path says so, else `forwardedProps.expert`."""
    named = asked.request.path_params.get("expert")
    if named is not None:
        return str(named)
    props: object = body.forwarded_props
    given = cast("dict[str, object]", props).get("expert") if isinstance(props, dict) else None
    return given if isinstance(given, str) else None


def _files(said: list[UserMessage]) -> list[ImagePart | DocumentPart]:
    found: list[ImagePart | DocumentPart] = []
    for one in said:
        for part in _parts(one):
            if isinstance(part, ImagePart | DocumentPart):
                found.append(part)
            elif part.type != "text":
                raise Problem(422, "bad_file", "messages: experts cannot hear or watch files")
    return found


def _content(message: ToolMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _parts(message: UserMessage) -> list[ContentPart]:
    return [] if isinstance(message.content, str) else message.content


def _context(body: RunAgentInput) -> str:
    if not body.context:
        return ""
    lines = [f"- {one.description}: {one.value}" for one in body.context]
    return "\n\n" + "\n".join([CONTEXT_TITLE, *lines])
