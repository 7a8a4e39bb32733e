"""Where a project keeps its definition, its state and its workspaces. Not what is in them."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from peritus.definitions import FILE_NAME, Operator, find_config
from peritus.definitions.shipped import shipped_file
from peritus.settings import Settings
from services.sandbox.bubblewrap.users import OWN_USERS, user_for

STATE_NAME = ".peritus"
WORKSPACE_NAME = "workspace"
PRIVATE_FOLDER = 0o700

SANDBOX_UIDS = OWN_USERS
"""Users that no system has by itself: each job of a service that is root gets one of them."""


@dataclass(frozen=True, slots=True)
class Project:
    """The folders of one project."""

    folder: Path
    state: Path
    config: Path | None = None

    @property
    def workspace(self) -> Path:
        """The workspace of jobs for which no other is named."""
        return self.folder / WORKSPACE_NAME


def find_project(start: Path, settings: Settings, config: Path | None = None) -> Project:
    """The project of a folder: that of the definition file in it or above it, else the folder."""
    found = config.resolve() if config is not None else _nearest(start)
    folder = start.resolve() if found is None else found.parent
    state = folder / STATE_NAME if settings.state_dir is None else settings.state_dir.resolve()
    return Project(folder, state, found)


def need_config(project: Project, expert: str | None = None) -> Path:
    """The definition file of a project; where it would be, if none is needed for that expert.

    Raises:
        Rejected: there is none.
    """
    if project.config is not None:
        return project.config
    if expert is not None and shipped_file(expert) is not None:
        return project.folder / FILE_NAME
    return find_config(project.folder)


def operator_of(settings: Settings) -> Operator:
    """What the operator of this process says about every definition it reads."""
    folders = tuple(Path(folder) for folder in settings.include_dirs)
    return Operator(settings.prices_file, folders, dict(os.environ))


def _nearest(start: Path) -> Path | None:
    folder = start.resolve()
    places = (place / FILE_NAME for place in (folder, *folder.parents))
    return next((place for place in places if place.is_file()), None)


@dataclass(frozen=True, slots=True)
class Workspaces:
    """Which folder is the workspace of a job: written down once, so every worker uses the same."""

    state: Path
    default_root: Path

    def assign(self, ref: RunRef, wanted: Path) -> Path:
        """Make that folder the workspace of a job, before its first run is started.

        Raises:
            Rejected: it cannot be one, or the job has another.
        """
        folder = _usable(wanted, self.state)
        known = self.known(ref)
        if known is not None and known != folder:
            message = f"job {ref.job!r} works in {str(known)!r}; a job keeps its workspace"
            raise Rejected("workspace_taken", message)
        record = self._record(ref)
        record.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        fresh = record.with_suffix(".new")
        fresh.write_text(str(folder))
        fresh.replace(record)
        return folder

    def copy(self, ref: RunRef, wanted: Path) -> Path:
        """Make a copy of that folder the workspace of a job; nothing in the folder changes.

        Raises:
            Rejected: it cannot be copied, or the job has a workspace.
        """
        from services.sandbox.snapshots.copying import import_folder  # noqa: PLC0415 - seldom
        from services.sandbox.workspace import Workspace  # noqa: PLC0415

        own = self.own(ref)
        if self.known(ref) is not None or own.exists():
            message = f"job {ref.job!r} has a workspace already; a job keeps its workspace"
            raise Rejected("workspace_taken", message)
        fresh = own.with_name(f"{own.name}.new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=PRIVATE_FOLDER, parents=True)
            _own_user(fresh)
            source = os.open(wanted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with Workspace(fresh) as target:
                    copied = import_folder(source, target.fileno())
            finally:
                os.close(source)
        except (OSError, Unavailable) as error:
            message = f"the folder {str(wanted)!r} cannot be copied: {error}"
            raise Rejected("bad_workspace", message) from None
        if not hasattr(copied, "files"):
            raise Rejected("bad_workspace", f"{str(wanted)!r} is too large to copy: {copied}")
        fresh.rename(own)
        note = self._record(ref).with_suffix(".copied")
        note.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        note.write_text(str(wanted.resolve()))
        return own

    def known(self, ref: RunRef) -> Path | None:
        """The folder that was assigned to a job, if one was."""
        try:
            return Path(self._record(ref).read_text())
        except FileNotFoundError:
            return None

    def of(self, ref: RunRef) -> Path:
        """The workspace of a job; a folder of its own, made now, when none was assigned."""
        assigned = self.known(ref)
        if assigned is not None:
            return assigned
        own = self.own(ref)
        if not own.exists():
            own.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            _own_user(own)
        return own

    def found(self, ref: RunRef) -> Path | None:
        """The workspace of a job, if there is one already."""
        known = self.known(ref) or self.own(ref)
        return known if known.is_dir() else None

    def own(self, ref: RunRef) -> Path:
        """The folder of a job that was assigned none; it need not be there yet."""
        return self.default_root / ref.tenant / ref.job

    def isolated(self, ref: RunRef) -> Path:
        """The workspace of a run that does not share its job's: beside those of jobs."""
        return self.default_root / ref.tenant / f"{ref.job}.{ref.run}"

    def kind(self, ref: RunRef) -> Literal["mounted", "copied", "own"]:
        """Whose folder the workspace of a job is: a person's, a copy of it, or its own."""
        if self.known(ref) is not None:
            return "mounted"
        return "copied" if self._record(ref).with_suffix(".copied").exists() else "own"

    @property
    def place(self) -> Path:
        """Where a sandbox worker keeps what belongs to these workspaces: journals and snapshots.

        Beside them, so that it is there when, and only when, they are.
        """
        return self.default_root / ".place"

    def _record(self, ref: RunRef) -> Path:
        return self.state / "jobs" / ref.tenant / f"{ref.job}.workspace"


def _own_user(folder: Path) -> None:
    """Give a job's folder to a user of its own, where we may: its commands run as that user.

    Not below a folder that is closed to others: bubblewrap, being that user, has to get there.
    """
    if os.geteuid() == 0 and all(above.stat().st_mode & 0o001 for above in folder.parents):
        number = user_for(folder.name, SANDBOX_UIDS)
        os.chown(folder, number, number)


def workspaces_of(project: Project, settings: Settings) -> Workspaces:
    """The workspaces of a project."""
    root = settings.workspaces_dir or project.state / "workspaces"
    return Workspaces(project.state, root.resolve())


WorkspaceOf = Callable[[RunRef], Path]


def _usable(wanted: Path, state: Path) -> Path:
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        folder = wanted.resolve(strict=True)
    except OSError as error:
        message = f"the workspace {str(wanted)!r} cannot be used: {error.strerror}"
        raise Rejected("bad_workspace", message) from None
    if state.resolve().is_relative_to(folder):
        message = (
            f"the workspace {str(folder)!r} holds Peritus' own state {str(state)!r}, which an "
            "expert must not reach; choose a folder beside it, or set PERITUS_STATE_DIR"
        )
        raise Rejected("bad_workspace", message)
    return folder
