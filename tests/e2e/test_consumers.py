"""Programs that follow runs from outside: the examples, and the library over real runs."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path

import pytest
from eventsourcing.application import AggregateNotFoundError

from domain.envelope import decode
from domain.evolve import fold_all
from domain.ids import RunRef
from eventlog.embedded import join_state_folder
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Stored
from eventlog.recorders.hosted import Hosted
from eventlog.recorders.runs import Runs
from tests.e2e.cli_project import Outcome, Project, Started, environment

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
CONSUMERS = ROOT / "examples" / "consumers"

ASKING = """\
[[reply]]
text = "One thing to do."
usage = { input = 7, output = 5 }
[[reply.call]]
tool = "todo"
arguments = { newTodos = ["look"] }

[[reply]]
text = "Done."
"""


@pytest.fixture
def served(project: Project) -> Generator[Project]:
    """A project whose embedded server stays while nobody runs."""
    project.write("asking.toml", ASKING)
    joined = Hosted(partial(join_state_folder, project.folder / ".peritus"), name="member")
    yield project
    joined.close()


def consumer(project: Project, name: str, *words: str) -> Started:
    """Begin an example in a project's folder."""
    return Started(
        subprocess.Popen(
            [sys.executable, str(CONSUMERS / name), *words],
            cwd=project.folder,
            env=environment(PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )


def ran(outcome: Outcome) -> list[tuple[str, str]]:
    """The cursors and types of what a run did."""
    assert outcome.code == 0, outcome.said
    return [(line["cursor"], line["event"]["type"]) for line in outcome.events]


def test_follower_on_nats_alone_misses_nothing_when_it_is_killed(served: Project) -> None:
    wanted = ran(served.run("asking.toml", "--json"))
    first = consumer(served, "follow.py", "cursor")
    seen = [first.line().split() for _ in wanted]
    first.kill()
    while_away = ran(served.run("hello.toml", "--json"))
    again = consumer(served, "follow.py", "cursor")
    live = [again.line().split() for _ in while_away]
    if live[0][0] == seen[-1][0]:  # killed between handling it and writing the cursor
        live = [*live[1:], again.line().split()]
    wanted_live = ran(served.run("hello.toml", "--json"))
    seen_live = [again.line().split() for _ in wanted_live]
    again.kill()

    assert [(one[0], one[2]) for one in seen] == wanted
    assert [(one[0], one[2]) for one in live] == while_away
    assert [(one[0], one[2]) for one in seen_live] == wanted_live


def test_projection_of_the_library_counts_real_runs_and_goes_on_where_it_was(
    served: Project,
) -> None:
    ran(served.run("hello.toml", "--json"))
    first = consumer(served, "count.py", "counts.sqlite")
    until(first, "run.completed.v2")
    ran(served.run("asking.toml", "--json"))  # while it follows
    until(first, "run.completed.v2")
    first.kill()
    ran(served.run("hello.toml", "--json"))  # while it is away
    again = consumer(served, "count.py", "counts.sqlite")
    until(again, "run.completed.v2")
    again.interrupt()
    said = again.rest()
    assert again.end() == 0, again.said

    assert said == ["started: 3", "completed: 3", "generations: 4", "tokens: 12"]


def test_run_folded_by_the_librarys_repository_is_the_run_that_the_domain_folds(
    served: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = served.run("asking.toml", "--json")
    assert outcome.code == 0, outcome.said
    ref = RunRef(*(outcome.events[0][part] for part in ("tenant", "job", "run")))
    endpoint = json.loads((served.folder / ".peritus" / "endpoint.json").read_text())
    stored = asyncio.run(history(endpoint["url"], endpoint["token"], ref))
    wanted = fold_all(ref, [decode(one.data) for one in stored])

    monkeypatch.setenv("PERITUS_STATE_DIR", str(served.folder / ".peritus"))
    with Runs() as runs:
        whole = runs.run(*ref)
        early = runs.run(*ref, version=5)
        with pytest.raises(AggregateNotFoundError):
            runs.run("default", "nothing", "here")

    assert whole.state == wanted
    assert (whole.state.status, whole.state.result) == ("completed", "Done.")
    assert (early.version, early.state.status) == (5, "running")


async def history(url: str, token: str, ref: RunRef) -> list[Stored]:
    """A run's envelopes, read by the port that workers have."""
    async with connect_backbone(url, token=token) as backbone:
        return await backbone.log.load(ref)


def until(started: Started, kind: str) -> None:
    """Read on to a line that ends so."""
    while not started.line().endswith(kind):
        pass
