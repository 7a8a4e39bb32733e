"""Peritus inside a Python program: start experts, hear their events, give them tools. Not the CLI.

async with Peritus.embedded(Path("my-project")) as peritus:
    run = await peritus.start("bugfixer", "Repair the tests")
    async for heard in run.events():
        print(heard.event.type)
    print((await run.result()).text)
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from commands.checkpoints import Checkpoint, checkpoints_of, find_beginning
from commands.task import task_of
from domain.definition import Definition
from domain.ids import RunRef
from domain.limits import ModelChoice, Price, Usage
from domain.policy import PolicyRule
from domain.record import canonical
from domain.state import RunState, Status
from domain.tools import LocalTool, Safety, ToolSpec
from peritus.catalogues import resolve
from peritus.definitions import LimitOverrides, load_definition, read_env_paths
from peritus.definitions.limits import check_overrides
from peritus.discovering import asker
from peritus.door import Door
from peritus.feed import Heard
from peritus.forking import Edits, fork
from peritus.jobs import (
    Raised,
    Send,
    at_desk,
    cancel,
    load_state,
    new_root,
    rest_of,
    say,
    start,
    text_at,
    until_rest,
)
from peritus.keys import project_keys
from peritus.lane import sandbox_lane, skill_lane
from peritus.lookup import Runs, views_at
from peritus.people import (
    answer,
    answer_ask,
    change_policy,
    decide,
    pause,
    resume,
    signed,
    steer,
    this_user,
)
from peritus.project import Project, find_project, need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models, worker_parts, working
from peritus.settings import Settings, load_settings
from projections.family import load_family
from projections.remembering import allowing, denying
from projections.waits import (
    ANSWERABLE,
    APPROVALS,
    Wait,
    WaitKind,
    arguments_of,
    find_wait,
    parsed,
)
from services.loop.models.port import Model
from services.loop.models.scripted import PROVIDER as SCRIPTED
from services.tool.local import Function, LocalToolBox, RegisteredTool


def tool(
    name: str,
    description: str,
    parameters: dict[str, Any],
    function: Function,
    *,
    safety: Safety = Safety.UNSAFE,
) -> RegisteredTool:
    """A function of this program as a tool; experts name it in a skill of type `localSkill`.

    `parameters` is a JSON schema of an object. A tool that is not declared read-only or idempotent
    never runs twice for one call: if this process dies inside it, the outcome is unknown.
    """
    spec = ToolSpec(name=name, description=description, parameters=parameters)
    return RegisteredTool(LocalTool(spec=spec, safety=safety), function)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run came to rest: `text` is its answer, or why there is none."""

    status: Status
    text: str
    usage: Usage
    steps: int
    data: Any = None  # the value of a typed answer
    micro_usd: int = 0  # spent, children included


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something a person has to decide or answer, with the exact arguments they have to be shown.

    It is given back with the decision, so that this is what is decided about (C14).
    """

    wait: Wait
    arguments: str  # JSON; empty when it is about a limit

    @property
    def kind(self) -> WaitKind:
        """`question`, `ask` (of a tool, in the middle of a call), `approval` or `budget`."""
        return self.wait.kind


@dataclass(frozen=True, slots=True)
class Handle:
    """A run to be heard, spoken to, decided about and waited for."""

    ref: RunRef
    _link: Link
    _send: Send
    _after_seq: int = 0
    _after_version: int = 0

    async def events(self) -> AsyncGenerator[Heard]:
        """The events of the run and of all under it, until it comes to rest.

        Raises:
            Unavailable: the log stayed away.
        """
        found = until_rest(
            self._link.backbone.log,
            self.ref,
            after_seq=self._after_seq,
            after_version=self._after_version,
        )
        async with aclosing(found):
            async for events in found:
                for heard in events:
                    yield heard

    async def result(self) -> Result:
        """Wait until the run is at rest.

        Raises:
            Unavailable: the log stayed away.
        """
        log = self._link.backbone.log
        await rest_of(log, self.ref, after_seq=self._after_seq, after_version=self._after_version)
        state, _ = await load_state(log, self.ref)
        blobs = self._link.backbone.blobs
        answer = await text_at(blobs, self.ref.tenant, state.result)
        data = parsed(answer) if state.typed_result else None
        said, money = _said(state, answer), state.money_charged
        return Result(state.status, said, state.usage, state.step, data, money)

    async def say(self, text: str) -> "Handle":
        """Say something to a root run; the handle of what follows.

        Raises:
            Rejected: it cannot be continued.
            Unavailable: not now.
        """
        state, seq = await load_state(self._link.backbone.log, self.ref)
        await say(self._send, self.ref, text)
        return Handle(self.ref, self._link, self._send, seq, state.version)

    async def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The beginning of the run and the ends of its steps, those of its source before its own.

        Raises:
            Unavailable: not now.
            IntegrityViolated: what is stored is not what was written.
        """
        return tuple(await checkpoints_of(self._link.backbone.log, self.ref))

    async def fork(
        self,
        step: int,
        query: str = "",
        *,
        results: Mapping[str, str] | None = None,
        definition: Definition | None = None,
        job: str | None = None,
        **limits: Unpack[Raised],
    ) -> "Handle":
        """Go on after a step in a run of its own; this one stays as it is, and may be at work.

        `results` says what calls came to, by call; `definition` pins the fork to another one. Step
        0 is the beginning.

        Raises:
            Rejected: that step has not ended, or it cannot be forked so.
            Unavailable: not now.
            IntegrityViolated: what is stored is not what was written.
        """
        ports = self._link.backbone
        at = await find_beginning(ports.log, self.ref, step, says=bool(query))
        edits = Edits(query, dict(results or {}), definition, limits=limits)
        made = new_root(self.ref.tenant, job)
        await fork(self._send, ports.blobs, made, at, edits)
        return Handle(made, self._link, self._send)

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to stop; its `result` says when it has.

        Raises:
            Unavailable: not now.
        """
        await cancel(self._send, self.ref, reason)

    async def waiting(self) -> tuple[Waiting, ...]:
        """What waits for a person now, in the run and under it, oldest first.

        Raises:
            Unavailable: not now.
        """
        ports = self._link.backbone
        family = await load_family(ports.log, self.ref)
        return tuple([await self._shown(wait) for wait in family.waits(self.ref.run)])

    async def _shown(self, wait: Wait) -> Waiting:
        about_a_call = wait.kind != "budget"
        blobs = self._link.backbone.blobs
        return Waiting(wait, await arguments_of(blobs, wait) if about_a_call else "")

    async def answer(self, text: str, to: Waiting | None = None) -> None:
        """Answer a question, or what a tool asks; without `to`, exactly one has to be open.

        A tool that asks with a form gets a JSON object, or the one value that the form is for.

        Raises:
            Rejected: it is not open any more, there are none or several, or the answer does not
                fit the form.
            Unavailable: not now.
        """
        await answer(self._send, (await self._meant(to, ANSWERABLE)).wait, text)

    async def respond(
        self,
        action: Literal["accept", "decline", "cancel"],
        to: Waiting | None = None,
        *,
        content: Mapping[str, Any] | None = None,
    ) -> None:
        """Accept, decline or close what a tool asks; `content` fits its form, if it has one.

        Raises:
            Rejected: it is not open any more, there are none or several, or the content does not
                fit.
            Unavailable: not now.
        """
        meant = await self._meant(to, frozenset({"ask"}))
        given = None if content is None else dict(content)
        await answer_ask(self._send, meant.wait, action, given)

    async def approve(
        self,
        what: Waiting | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        reason: str = "",
        remember: Literal["no", "tool", "exact"] = "no",
    ) -> None:
        """Let a call run, or a soft limit be passed; without `what`, exactly one has to wait.

        With `arguments` the call runs with these. What is remembered holds for the whole job: the
        tool for this expert, or these exact arguments only.

        Raises:
            Rejected: it does not wait any more, or the arguments are wrong.
            Unavailable: not now.
        """
        meant = await self._meant(what, APPROVALS)
        given = None if arguments is None else canonical(dict(arguments)).decode()
        await decide(self._send, meant.wait, approve=True, arguments=given, reason=reason)
        if remember != "no":
            exactly = (given or meant.arguments) if remember == "exact" else None
            await self._rule(allowing(meant.wait, arguments=exactly, reason=reason))

    async def deny(
        self, what: Waiting | None = None, *, reason: str = "", remember: bool = False
    ) -> None:
        """Keep a call from running, and say why; of a soft limit: the run stops.

        Raises:
            Rejected: it does not wait any more.
            Unavailable: not now.
        """
        meant = await self._meant(what, APPROVALS)
        await decide(self._send, meant.wait, approve=False, reason=reason)
        if remember:
            await self._rule(denying(meant.wait, reason=reason))

    async def steer(self, text: str, *, now: bool = False) -> None:
        """Say something to the run while it is at work; `now` gives up the reply being made.

        Raises:
            Rejected: it is not at work.
            Unavailable: not now.
        """
        await steer(self._send, self.ref, text, now=now)

    async def pause(self) -> None:
        """Let the run, and what is under it, begin nothing new.

        Raises:
            Rejected: it is not at work.
            Unavailable: not now.
        """
        await pause(self._send, self.ref)

    async def resume(self) -> None:
        """Let the run go on, if it is paused.

        Raises:
            Unavailable: not now.
        """
        await resume(self._send, self.ref)

    async def change_policy(self, rules: Iterable[PolicyRule], *, replace: bool = False) -> None:
        """Add rules for the run and those under it, or replace those that were given.

        Raises:
            Rejected: it is over for good.
            Unavailable: not now.
        """
        await change_policy(self._send, self.ref, tuple(rules), replace=replace)

    async def _meant(self, given: Waiting | None, kinds: frozenset[WaitKind]) -> Waiting:
        if given is not None:
            return given
        found = await self.waiting()
        wait = find_wait([one.wait for one in found], None, kinds)
        return next(one for one in found if one.wait == wait)

    async def _rule(self, rule: PolicyRule) -> None:
        family = await load_family(self._link.backbone.log, self.ref)
        await change_policy(self._send, family.root(self.ref.run), (rule,))


class Peritus:
    """A worker in this process, and the way to give it work."""

    def __init__(
        self,
        link: Link,
        send: Send,
        project: Project,
        settings: Settings,
        models: frozenset[str] = frozenset(),
    ) -> None:
        """Use `embedded`."""
        self._link = link
        self._models = models
        self._send = send
        self._project = project
        self._settings = settings

    @classmethod
    @asynccontextmanager
    async def embedded(
        cls,
        path: Path | None = None,
        *,
        tools: Iterable[RegisteredTool] = (),
        models: Mapping[str, Model] | None = None,
        settings: Settings | None = None,
        user: str | None = None,
    ) -> AsyncGenerator["Peritus"]:
        """Work for the project of a folder while the context is open, as `peritus run` does.

        Without a `path` it is the present folder, or the one above that has a definition file.

        `models` are the program's own: `start` takes their names. What is asked of runs is recorded
        as `user`'s, by default that of the process. At the end, work that was begun
        is finished in a bounded time; runs that are not at rest are left to whoever comes.

        Raises:
            Rejected: a setting or the definition is wrong.
            Unavailable: no server comes up.
        """
        chosen = settings or load_settings()
        project = find_project(Path() if path is None else path, chosen)
        config = project.config
        paths = read_env_paths(config) if config else ()
        keys = project_keys(chosen, project, paths)
        door = Door()
        async with open_backbone(chosen, project.state) as link, open_models(keys) as registry:
            for name, model in (models or {}).items():
                registry.register(name, model)
            local = LocalToolBox({one.tool.spec.name: one for one in tools})
            skills = skill_lane(chosen, project, link.backbone, keys.config, local)
            sandbox = sandbox_lane(chosen, project, link.backbone, keys.config, skills=skills)
            parts = await worker_parts(
                chosen, link, door, generate=registry.generate, sandbox=sandbox, skills=skills
            )
            async with working(parts) as desk:
                by = this_user("api")
                by = by if user is None else by.model_copy(update={"name": user})
                send = signed(at_desk(desk), by)
                yield cls(link, send, project, chosen, frozenset(models or ()))
                await door.idle(chosen.drain_s)

    async def start(  # noqa: PLR0913 - what a start may be given
        self,
        expert: str,
        query: str = "",
        *,
        data: dict[str, Any] | None = None,
        limits: LimitOverrides | None = None,
        definition: Definition | None = None,
        provider: str | None = None,
        model: str | None = None,
        variables: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        job: str | None = None,
    ) -> Handle:
        """Start an expert; by default of the project's definition file, in the project's workspace.

        It is told `query`, or `data` if its definition asks for typed input. `limits` go above
        those of the file.

        `provider`, `model` and `variables` go above the file, as the flags of `peritus run` do; the
        name of one of the program's own models has every expert answered by that.

        Raises:
            Rejected: the definition is wrong, has no such expert, or the job exists.
            Unavailable: not now.
        """
        lock = None
        if definition is None:
            own = model if model in self._models else None
            loaded = load_definition(
                need_config(self._project, expert),
                wanted=expert,
                provider=None if own else provider,
                model=None if own else model,
                variables=variables,
                operator=operator_of(self._settings),
                **(limits or LimitOverrides()),
            )
            definition, lock = loaded.definition, loaded.lock
            if own is not None:
                free = Price(input=0, output=0, source="a model of the program")
                choice = ModelChoice(provider=SCRIPTED, model=own, price=free)
                definition = _answered_by(definition, choice)
        elif limits:
            above = definition.limits.model_copy(update=check_overrides(limits))
            definition = definition.model_copy(update={"limits": above})
        task = task_of(definition.expert(expert), query, data)
        ref = new_root(self._settings.tenant, job)
        folder = workspace or self._project.workspace
        workspaces_of(self._project, self._settings).assign(ref, folder)
        ask = asker(self._link.backbone, ref, definition)
        definition = await resolve(definition, lock, ask, wanted=expert)
        await start(
            self._send, self._link.backbone.blobs, ref, definition, expert=expert, query=task
        )
        return Handle(ref, self._link, self._send)

    async def run(self, name: str) -> Handle:
        """A run that exists, by its id or the beginning of it; its events from the first.

        Raises:
            NoSuchRun: there is none.
            Unavailable: not now.
        """
        views = views_at(self._settings, self._project)
        ref = await Runs(self._link.backbone.log, self._settings.tenant, views).find(name)
        return Handle(ref, self._link, self._send)


def _answered_by(definition: Definition, choice: ModelChoice) -> Definition:
    experts = {
        key: expert.model_copy(update={"model": choice, "fallbacks": ()})
        for key, expert in definition.experts.items()
    }
    return definition.model_copy(update={"experts": experts})


def _said(state: RunState, answer: str) -> str:
    match state.status:
        case "failed":
            return f"{state.failure_kind}: {state.failure_message}"
        case "stopped":
            return f"stopped at its limit of {state.stopped_by}"
        case _:
            return answer
