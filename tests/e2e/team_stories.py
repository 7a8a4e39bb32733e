"""What tests of teams ask of a job that is over: its events, and whether its requests replay.

Not a second way to run one: that is the command's.
"""

import asyncio
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.envelope import decode
from domain.events import Event, RunStarted, ToolCallEnded, ToolCallRequested
from domain.ids import RunRef
from peritus.cli.replay import blobs_of
from peritus.lookup import Runs, views_at
from peritus.project import find_project
from peritus.replay import ReplayReport, replay
from peritus.runtime import open_backbone
from peritus.settings import load_settings
from projections.queries import Filters
from tests.e2e.cli_project import BOUND_S, environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Story:
    """One run of a job: who was at work, what happened, and what replaying it found."""

    run: str
    expert: str
    parent: str
    events: tuple[Event, ...]
    report: ReplayReport = field(repr=False)

    def kinds(self) -> list[str]:
        """The types of its events, in order."""
        return [event.type for event in self.events]

    def outcomes(self, tool: str) -> list[ToolCallEnded]:
        """How its calls of a tool ended, in the order they were asked for."""
        asked = [
            event.call
            for event in self.events
            if isinstance(event, ToolCallRequested) and event.tool == tool
        ]
        ended = {event.call: event for event in self.events if isinstance(event, ToolCallEnded)}
        return [ended[call] for call in asked]


def stories_of(folder: Path) -> list[Story]:
    """All runs of the project of a folder, the first one first."""
    return asyncio.run(_stories_of(folder))


async def _stories_of(folder: Path) -> list[Story]:
    settings = load_settings()
    project = find_project(folder, settings)
    async with asyncio.timeout(BOUND_S), open_backbone(settings, project.state) as link:
        runs = Runs(link.backbone.log, settings.tenant, views_at(settings, project))
        rows = (await runs.page(Filters(), limit=100)).runs
        found: list[Story] = []
        for row in reversed(rows):
            ref = RunRef(row.tenant, row.job, row.run)
            data = [item.data for item in await link.backbone.log.load(ref)]
            report = await replay(data, blobs_of(link.backbone, ref.tenant))
            events = tuple(event for one in data for event in decode(one).events)
            (started,) = [event for event in events if isinstance(event, RunStarted)]
            parent = started.parent.run if started.parent else ""
            found.append(Story(row.run, started.expert, parent, events, report))
        return found


def verified(stories: list[Story]) -> int:
    """How many requests were rendered anew as they were recorded; all of them, or this fails."""
    checks = [(story.expert, check) for story in stories for check in story.report.checks]
    assert [one for one in checks if one[1].verdict != "verified"] == []
    return len(checks)


def demo(name: str, scratch: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the demo of an example, as a person would."""
    return subprocess.run(
        [str(EXAMPLES / name / "demo.sh"), *words],
        env=environment(TMPDIR=str(scratch), **env),
        capture_output=True,
        text=True,
        timeout=2 * BOUND_S,
        check=False,
    )


def folder_of(scratch: Path) -> Path:
    """Where a demo worked."""
    (folder,) = scratch.glob("peritus-demo.*")
    return folder


def text_of(ended: ToolCallEnded) -> str:
    """What the model was told of a call."""
    parts: list[Any] = list(ended.content)
    return "\n".join(part.text for part in parts if isinstance(getattr(part, "text", None), str))
