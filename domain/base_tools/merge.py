"""Arguments of the tool that brings a delegate's copy of the workspace back. Not the merging."""

from typing import Literal

from pydantic import Field

from domain.base_tools.arguments import Arguments


class MergeWorkspace(Arguments):
    """Arguments of `mergeWorkspace`."""

    run: str = Field(description="The delegate's run, as its answer names it.")
    on_conflict: Literal["fail", "ours", "theirs"] | None = Field(
        default=None,
        alias="onConflict",
        description="What to do with files both sides changed: merge nothing (`fail`, the "
        "default), keep ours, or take theirs.",
    )
    dry_run: bool | None = Field(
        default=None, alias="dryRun", description="Only say what would be merged. Default: false."
    )
