"""The state that clients see: the runs of the job, what they are to do, what waits. Pure."""

from typing import Any, cast

from ag_ui.core.types import State

from gateway.turns.turn import Turn

Patch = list[dict[str, Any]]


def board(turn: Turn) -> dict[str, Any]:
    """The state as it is now: plain JSON."""
    family = turn.family
    runs = [look.state.ref.run for look in family.under(turn.ref.run)]
    return {
        "job": turn.ref.job,
        "status": turn.root.status,
        "runs": {run: family.facts(run) for run in runs},
        "todos": {
            run: [todo.model_dump(mode="json") for todo in todos]
            for run in runs
            if (todos := family.looks[run].state.todos)
        },
    }


def patch(old: State, new: State, path: str = "") -> Patch:
    """The JSON patch from one state to another; lists that differ are replaced whole."""
    if old == new:
        return []
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [{"op": "replace", "path": path, "value": new}]
    before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
    found: Patch = []
    for name in before.keys() - after.keys():
        found.append({"op": "remove", "path": f"{path}/{_escaped(name)}"})
    for name, value in after.items():
        below = f"{path}/{_escaped(name)}"
        if name in before:
            found.extend(patch(before[name], value, below))
        else:
            found.append({"op": "add", "path": below, "value": value})
    return found


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
