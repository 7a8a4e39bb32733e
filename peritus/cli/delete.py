"""`peritus delete`: jobs and all that is stored of them, for good. Not their blobs."""

from typing import Annotated

import orjson
import typer

from commands.delete_job import Deleted, with_forks
from commands.survey import JobName
from domain.errors import Rejected
from peritus.cli import options
from peritus.cli.ages import age_of
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.cli.prompting import PromptTerminal, person_there
from peritus.people import this_user
from peritus.retention import retention
from services.retention.service import RetentionService


def command(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", help="The names of jobs.")
    ] = None,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(help="All jobs at rest for that long: 12h, 30d.", metavar="AGE"),
    ] = None,
    forks: Annotated[
        bool, typer.Option("--with-forks", help="First what was forked from them, and at rest.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Delete jobs that are at rest, with all their runs; there is no way back but an export.

    Nothing can be asked of a deleted job, and its name cannot be used again. A job that another one
    was forked from is kept as long as that one is there.
    """
    if bool(jobs) == (older_than is not None):
        raise Rejected("bad_filter", "name jobs, or say --older-than AGE, and not both")
    wish = _Wish(tuple(jobs or ()), age_of(older_than) if older_than else None, forks=forks)
    shown = options.wants_json(as_json)
    raise typer.Exit(
        run_async(_delete(here(config), wish, yes=yes, dry_run=dry_run, as_json=shown))
    )


class _Wish:
    """Which jobs are meant."""

    def __init__(self, jobs: tuple[str, ...], older_than_s: float | None, *, forks: bool) -> None:
        self.jobs = jobs
        self.older_than_s = older_than_s
        self.forks = forks

    async def names(self, service: RetentionService, tenant: str) -> list[JobName]:
        """The jobs, what has to go first before the others.

        Raises:
            Unavailable: the store is away.
        """
        survey = service.deleter.survey
        await survey.catch_up()
        if self.older_than_s is not None:
            old = await service.old_jobs(self.older_than_s)
            named = [name for name in old if name.tenant == tenant]
        else:
            named = [JobName(tenant, job) for job in self.jobs]
        if not self.forks:
            return named
        return list(dict.fromkeys(one for name in named for one in with_forks(survey, name)))


async def _delete(place: Place, wish: _Wish, *, yes: bool, dry_run: bool, as_json: bool) -> Exit:
    async with observing(place) as observer:
        service = retention(observer.backbone, None)
        names = await wish.names(service, place.settings.tenant)
        if dry_run:
            await Out().write("".join(f"{name.job}\n" for name in names))
            return Exit.COMPLETED
        if not names:
            notice("no job is that old")
            return Exit.COMPLETED
        if not yes:
            await _ask(names)
        worst = Exit.COMPLETED
        for name in names:
            try:
                deleted = await service.deleter.delete(name, this_user("cli"))
            except Rejected as refused:
                if len(names) == 1:
                    raise
                notice(f"kept: {refused}")
                worst = Exit.REJECTED
            else:
                await Out().write(_line(deleted, as_json=as_json))
    return worst


async def _ask(names: list[JobName]) -> None:
    jobs = ", ".join(name.job for name in names)
    if not person_there():
        raise Rejected("not_confirmed", f"say --yes to delete for good: {jobs}")
    answer = await PromptTerminal().ask(f"Delete for good {jobs}? [y/N] ")
    if (answer or "").strip().lower() not in ("y", "yes"):
        raise Rejected("not_confirmed", "nothing was deleted")


def _line(deleted: Deleted, *, as_json: bool) -> str:
    if as_json:
        line = orjson.dumps(deleted.model_dump(), option=orjson.OPT_APPEND_NEWLINE)
        return line.decode()
    counts = f"{deleted.runs} runs, {deleted.envelopes} envelopes"
    if deleted.kept_by:
        forks = ", ".join(deleted.kept_by)
        return f"deleted {deleted.job} ({counts}); its history is removed when {forks} is gone\n"
    return f"deleted {deleted.job} ({counts})\n"
