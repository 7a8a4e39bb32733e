"""Starts or continues a run in this process and attends it to its end. Not the command line."""

from dataclasses import dataclass
from pathlib import Path

from domain.definition import Definition
from domain.errors import Rejected
from domain.ids import RunRef
from domain.state import RunState
from peritus.cli import limits
from peritus.cli.attend import Attendance
from peritus.cli.ending import finish
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice
from peritus.cli.person import Person
from peritus.cli.prompting import PromptTerminal, TerminalOut, person_there
from peritus.cli.screens import Form, screen_for
from peritus.cli.serving import at_work, leave, tell_others
from peritus.cli.tasks import Task
from peritus.definitions import LimitOverrides, LoadedDefinition
from peritus.discovering import known
from peritus.jobs import Send, at_desk, load_state, new_root, say, start
from peritus.keys import Keys
from peritus.lookup import Runs, views_at
from peritus.people import answer, signed, this_user
from peritus.project import Project, workspaces_of
from peritus.runtime import Link, open_backbone, open_models
from peritus.settings import Settings
from projections.waits import ANSWERABLE, find_wait


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    expert: str
    task: Task
    job: str | None
    workspace: Path | None
    copy: bool
    limits: LimitOverrides
    leaves: bool  # not to stay when only a person can go on
    form: Form


def attending(link: Link, send: Send, ref: RunRef, form: Form, *, leaves: bool) -> Attendance:
    """How a run is attended here: with the person asked, if one sits there and we stay."""
    screen = screen_for(ref, form)
    if leaves or not (screen.live and person_there()):
        return Attendance(link.backbone, send, ref, screen, Out(), leaves=leaves)
    terminal = PromptTerminal()
    out = TerminalOut(terminal)
    root = RunRef(ref.tenant, ref.job, ref.job)  # a job has one root, which has its name
    blobs = link.backbone.blobs
    person = Person(terminal, out, blobs, send, root, lambda: screen.note(""))
    return Attendance(link.backbone, send, ref, screen, out, person=person)


async def run(
    settings: Settings, project: Project, loaded: LoadedDefinition, keys: Keys, asked: Asked
) -> Exit:
    """Do what is asked for, and stay until the run is at rest or we are to leave it.

    Raises:
        Rejected: there is no such run, or it cannot be started or continued so.
        Unavailable: there is no server to use.
    """
    definition = loaded.definition
    task = "" if asked.task.go_on else asked.task.of(definition.expert(asked.expert))
    async with open_backbone(settings, project.state) as link, open_models(keys) as models:
        ref = await _target(settings, project, link, asked)
        if asked.task.go_on:
            state, _ = await load_state(link.backbone.log, ref)
            _check_what_stays(state, definition, asked.expert)
        _settle_workspace(settings, project, ref, asked)
        async with at_work(settings, project, link, models, keys) as (desk, door):
            send = signed(at_desk(desk), this_user("cli"))
            attendance = attending(link, send, ref, asked.form, leaves=asked.leaves)
            if asked.task.go_on:
                await _go_on(attendance, asked)
            else:
                definition = await known(link.backbone, ref, loaded, wanted=asked.expert)
                blobs = link.backbone.blobs
                await start(send, blobs, ref, definition, expert=asked.expert, query=task)
            await tell_others(link, ref)
            end = await attendance.watch()
            code = await finish(attendance, end)
            if end != "left":
                await leave(door, settings)
            return code


async def _target(settings: Settings, project: Project, link: Link, asked: Asked) -> RunRef:
    if not asked.task.go_on or asked.job is not None:
        return new_root(settings.tenant, asked.job)
    runs = Runs(link.backbone.log, settings.tenant, views_at(settings, project))
    return await runs.newest_root(asked.expert)


def _check_what_stays(state: RunState, definition: Definition, expert: str) -> None:
    """A run keeps its expert and its model for life: refuse another one, and do not hide another.

    Raises:
        Rejected: the run is one of another expert.
    """
    if state.expert != expert:
        message = f"job {state.ref.job!r} is one of expert {state.expert!r}, not of {expert!r}"
        raise Rejected("nothing_to_continue", message)
    kept, wanted = state.model, definition.expert(expert).model
    if kept is not None and (kept.provider, kept.model) != (wanted.provider, wanted.model):
        notice(f"the run keeps the model it was started with: {kept.provider} {kept.model}")


def _settle_workspace(settings: Settings, project: Project, ref: RunRef, asked: Asked) -> None:
    """Write down where the job works, and say so."""
    workspaces = workspaces_of(project, settings)
    known = workspaces.known(ref)
    if asked.task.go_on and known is None and workspaces.kind(ref) == "copied":
        notice(f"run {ref.run} in its copy {workspaces.own(ref)}")
    elif asked.copy:
        wanted = asked.workspace or project.workspace
        notice(f"run {ref.run} in {workspaces.copy(ref, wanted)}, a copy of {wanted.resolve()}")
    else:
        wanted = asked.workspace or known or project.workspace
        notice(f"run {ref.run} in workspace {workspaces.assign(ref, wanted)}")


async def _go_on(attendance: Attendance, asked: Asked) -> None:
    """Say or answer what was asked for, and attend what follows."""
    send, ref = attendance.send, attendance.ref
    await attendance.recall()
    if asked.task.answers:
        call, text = asked.task.answer
        wait = find_wait(attendance.family.waits(ref.run), call, ANSWERABLE)
        await answer(send, wait, text)
    else:
        await say(send, ref, asked.task.text, **limits.raised_of(asked.limits))
