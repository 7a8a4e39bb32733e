"""The runs of a job as a tree in columns: what each is at, what it waits for. Not the loading."""

from domain.ids import RunRef
from peritus.cli import asks
from peritus.cli.asks import Shown
from peritus.cli.wording import clean, columns, short
from projections.family import Family
from projections.waits import Look

HEADS = ("EXPERT", "RUN", "STATUS", "STEP", "TOKENS", "MONEY", "WAITS FOR")
ALWAYS = frozenset(HEADS[:5])
"""The columns that are there also when nothing is in them."""

WAIT_CHARS_MAX = 50


def tree_text(family: Family, root: RunRef, waits: list[Shown]) -> str:
    """The tree in columns."""
    by_run: dict[str, list[Shown]] = {}
    for one in waits:
        by_run.setdefault(one.wait.ref.run, []).append(one)
    rows: list[tuple[str, ...]] = [HEADS]
    for lead, look in branches(family, root.run):
        rows.append(_row(family, look, lead, by_run.get(look.state.ref.run, [])))
    shown = [at for at, head in enumerate(HEADS) if head in ALWAYS or any(r[at] for r in rows[1:])]
    return columns([tuple(row[at] for at in shown) for row in rows])


def branches(family: Family, run: str, lead: str = "", own: str = "") -> list[tuple[str, Look]]:
    """Each run with the lines that lead to it."""
    found = [(lead + own, family.looks[run])]
    below = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[own]
    children = family.children(run)
    for child in children:
        mark = "└─ " if child == children[-1] else "├─ "
        found.extend(branches(family, child, below, mark))
    return found


def _row(family: Family, look: Look, lead: str, waits: list[Shown]) -> tuple[str, ...]:
    state = look.state
    spent = asks.money(state.money_charged) if state.money_charged else ""
    return (
        lead + clean(family.expert(state.ref.run)),
        state.ref.run,
        asks.standing_of(state, look.waits),
        f"{state.step}/{state.step + state.steps_left}" if state.version else "",
        f"{state.tokens_charged:,}" if state.version else "",
        spent,
        "; ".join(_waits_for(one) for one in waits),
    )


def _waits_for(one: Shown) -> str:
    return f"{one.wait.name}: {short(asks.what(one), WAIT_CHARS_MAX)}"
