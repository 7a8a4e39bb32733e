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
from typing import Any

from domain.definition import Definition
from domain.ids import RunRef
from domain.limits import ModelChoice, Price, Usage
from domain.state import RunState, Status
from domain.tools import Lane, LocalTool, Safety, ToolSpec
from peritus.definitions import load_definition, read_env_paths
from peritus.door import Door
from peritus.feed import Heard
from peritus.jobs import (
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
from peritus.lane import sandbox_lane
from peritus.lookup import Runs, views_path
from peritus.project import Project, find_project, need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models, worker_parts, working
from peritus.settings import Settings, load_settings
from services.loop.models.port import Model
from services.loop.models.scripted import PROVIDER as SCRIPTED
from services.tool.local import Function, LocalToolBox, RegisteredTool
from services.worker.toolbox import ToolBox


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


@dataclass(frozen=True, slots=True)
class Handle:
    """A run to be heard, spoken to and waited for."""

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
        return Result(state.status, _said(state, answer), state.usage, state.step)

    async def say(self, text: str) -> "Handle":
        """Say something to a root run; the handle of what follows.

        Raises:
            Rejected: it cannot be continued.
            Unavailable: not now.
        """
        state, seq = await load_state(self._link.backbone.log, self.ref)
        await say(self._send, self.ref, text)
        return Handle(self.ref, self._link, self._send, seq, state.version)

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to stop; its `result` says when it has.

        Raises:
            Unavailable: not now.
        """
        await cancel(self._send, self.ref, reason)


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
        path: Path,
        *,
        tools: Iterable[RegisteredTool] = (),
        models: Mapping[str, Model] | None = None,
        settings: Settings | None = None,
    ) -> AsyncGenerator["Peritus"]:
        """Work for the project of a folder while the context is open, as `peritus run` does.

        `models` are the program's own: `start` takes their names. At the end, work that was begun
        is finished in a bounded time; runs that are not at rest are left to whoever comes.

        Raises:
            Rejected: a setting or the definition is wrong.
            Unavailable: no server comes up.
        """
        chosen = settings or load_settings()
        project = find_project(path, chosen)
        config = project.config
        paths = read_env_paths(config) if config else ()
        keys = project_keys(chosen, project, paths)
        door = Door()
        async with open_backbone(chosen, project.state) as link, open_models(keys) as registry:
            for name, model in (models or {}).items():
                registry.register(name, model)
            local = LocalToolBox({one.tool.spec.name: one for one in tools})
            boxes: dict[Lane, ToolBox] = {Lane.TOOL: local} if local.specs() else {}
            parts = await worker_parts(
                chosen,
                link,
                door,
                generate=registry.generate,
                toolboxes=boxes,
                sandbox=sandbox_lane(chosen, project, link.backbone, keys.config),
                local_tools=local.specs(),
            )
            async with working(parts) as desk:
                yield cls(link, at_desk(desk), project, chosen, frozenset(models or ()))
                await door.idle(chosen.drain_s)

    async def start(
        self,
        expert: str,
        query: str,
        *,
        definition: Definition | None = None,
        provider: str | None = None,
        model: str | None = None,
        variables: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        job: str | None = None,
    ) -> Handle:
        """Start an expert; by default of the project's definition file, in the project's workspace.

        `provider`, `model` and `variables` go above the file, as the flags of `peritus run` do; the
        name of one of the program's own models has every expert answered by that.

        Raises:
            Rejected: the definition is wrong, has no such expert, or the job exists.
            Unavailable: not now.
        """
        if definition is None:
            own = model if model in self._models else None
            definition = load_definition(
                need_config(self._project, expert),
                wanted=expert,
                provider=None if own else provider,
                model=None if own else model,
                variables=variables,
                operator=operator_of(self._settings),
            ).definition
            if own is not None:
                free = Price(input=0, output=0, source="a model of the program")
                choice = ModelChoice(provider=SCRIPTED, model=own, price=free)
                definition = _answered_by(definition, choice)
        ref = new_root(self._settings.tenant, job)
        folder = workspace or self._project.workspace
        workspaces_of(self._project, self._settings).assign(ref, folder)
        await start(
            self._send, self._link.backbone.blobs, ref, definition, expert=expert, query=query
        )
        return Handle(ref, self._link, self._send)

    async def run(self, name: str) -> Handle:
        """A run that exists, by its id or the beginning of it; its events from the first.

        Raises:
            NoSuchRun: there is none.
            Unavailable: not now.
        """
        views = views_path(self._settings, self._project)
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
