"""`peritus experts`: who of a definition may call whom, as a tree. Not runs of experts."""

from collections.abc import Iterator, Mapping
from typing import Annotated, NamedTuple

import orjson
import typer

from domain.definition import Definition, Expert, McpHttpSkill, McpStdioSkill
from domain.limits import Limits, ModelChoice
from domain.topology import find_cycles, scope_of
from peritus.cli import options
from peritus.cli.loop import notice
from peritus.cli.observing import anywhere
from peritus.cli.wording import clean, duration, short
from peritus.definitions import load_definition, parse_variables
from peritus.definitions.amounts import usd
from peritus.definitions.skills import remote_names, tool_names
from peritus.project import need_config, operator_of

EPILOG = "Exit codes: 0 when there is a tree, 2 when the definition cannot be used."
DESCRIPTION_CHARS_MAX = 80

_SHOWN: Mapping[str, str] = {
    "steps_max": "{:,} steps",
    "tokens_max": "{:,} tokens",
    "tool_calls_max": "{:,} tool calls",
    "depth_max": "depth {}",
    "fan_out_max": "{} children at once",
}


def command(
    *,
    config: options.Config = None,
    variables: options.Variables = None,
    lenient: options.Lenient = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value.")] = False,
) -> None:
    """Show which expert may call which, with models, skills and limits.

    An expert that is called from several places is shown in full at the first; where a call leads
    back to an expert above it, the circle ends.
    """
    place = anywhere(config)
    loaded = load_definition(
        need_config(place.project),
        lenient=lenient,
        variables=parse_variables(variables),
        variables_open=True,
        operator=operator_of(place.settings),
    )
    if as_json:
        typer.echo(orjson.dumps(_as_json(loaded.definition), option=orjson.OPT_INDENT_2))
        return
    for text in loaded.notices:
        notice(text)
    for line in tree(loaded.definition):
        typer.echo(clean(line))
    typer.echo(f"limits: {_limits(loaded.definition.limits)}")


class _Node(NamedTuple):
    """An expert at one place of the tree."""

    key: str
    first: str  # what stands before its name
    rest: str  # what stands before everything below it
    above: frozenset[str]


def tree(definition: Definition) -> Iterator[str]:
    """The lines of the tree."""
    experts = definition.experts
    shown: set[str] = set()
    for root in _roots(experts):
        if root in shown:
            continue
        waiting = [_Node(root, "", "", frozenset())]
        while waiting:
            node = waiting.pop()
            expert = experts[node.key]
            if node.key in shown:
                why = "a circle" if node.key in node.above else "see above"
                yield f"{node.first}{node.key} ({why})"
                continue
            shown.add(node.key)
            yield f"{node.first}{node.key}  {_title(expert)}"
            inside = "│  " if expert.delegates else "   "
            yield from (f"{node.rest}{inside}{line}" for line in _details(expert))
            waiting.extend(reversed(list(_below(node, expert))))


def _below(node: _Node, expert: Expert) -> Iterator[_Node]:
    above = node.above | {node.key}
    for delegate in expert.delegates:
        last = delegate == expert.delegates[-1]
        first, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield _Node(delegate, node.rest + first, node.rest + rest, above)


def _roots(experts: Mapping[str, Expert]) -> list[str]:
    """Where the tree begins: whom nobody calls, then whoever is only called in a circle."""
    called = {delegate for expert in experts.values() for delegate in expert.delegates}
    return sorted(experts, key=lambda key: (key in called, bool(scope_of(key)), key))


def _title(expert: Expert) -> str:
    models = " → ".join(_model(choice) for choice in (expert.model, *expert.fallbacks))
    typed = [
        name
        for name, schema in (("input", expert.input_schema), ("output", expert.output_schema))
        if schema is not None
    ]
    return f"{models}  typed {' and '.join(typed)}" if typed else models


def _details(expert: Expert) -> Iterator[str]:
    if expert.description:
        yield short(expert.description, DESCRIPTION_CHARS_MAX)
    skills = (_skill(expert, name) for name in expert.skills)
    yield f"skills: {', '.join(skills)}"
    names = [
        *(tool.name for tool in expert.provider_tools),
        *(skill.name for skill in expert.provider_skills),
    ]
    if names:
        yield f"of the provider: {', '.join(names)}"


def _skill(expert: Expert, name: str) -> str:
    """A skill with the number of its tools, as far as that is known before a start."""
    tools = _tools(expert, name)
    if tools is None:
        return f"{name} (asked at each start)"
    return f"{name} ({len(tools)})" if tools else name


def _tools(expert: Expert, name: str) -> list[str] | None:
    """What a model calls the tools of a skill; None where nobody has asked its server."""
    skill = expert.skills[name]
    if not isinstance(skill, (McpStdioSkill, McpHttpSkill)):
        return sorted(tool_names(skill))
    if skill.catalogue is None:
        return None
    return sorted(tool for tool, of in remote_names(expert) if of == name)


def _model(choice: ModelChoice) -> str:
    return f"{choice.provider} {choice.model}"


def _limits(limits: Limits) -> str:
    """What bounds a run, as far as it is set."""
    parts = [
        form.format(value)
        for name, form in _SHOWN.items()
        if (value := getattr(limits, name)) is not None
    ]
    if limits.money_max is not None:
        parts.append(f"{usd(limits.money_max)} USD")
    if limits.wall_ms_max is not None:
        parts.append(duration(limits.wall_ms_max))
    return ", ".join(parts)


def _as_json(definition: Definition) -> dict[str, object]:
    experts = definition.experts
    called = {delegate for expert in experts.values() for delegate in expert.delegates}
    return {
        "experts": {key: _entry(expert) for key, expert in experts.items()},
        "roots": [key for key in experts if key not in called],
        "circles": find_cycles({key: expert.delegates for key, expert in experts.items()}),
        "limits": definition.limits.model_dump(mode="json"),
    }


def _entry(expert: Expert) -> dict[str, object]:
    return {
        "description": expert.description,
        "version": expert.version,
        "tags": expert.tags,
        "delegates": expert.delegates,
        "model": _choice(expert.model),
        "fallbacks": [_choice(choice) for choice in expert.fallbacks],
        "skills": {
            name: {"kind": skill.kind, "tools": _tools(expert, name)}
            for name, skill in expert.skills.items()
        },
        "provider_tools": [tool.name for tool in expert.provider_tools],
        "provider_skills": [skill.name for skill in expert.provider_skills],
        "input": expert.input_schema,
        "output": expert.output_schema,
    }


def _choice(choice: ModelChoice) -> dict[str, object]:
    return {
        "provider": choice.provider,
        "model": choice.model,
        "reasoning": choice.reasoning,
        "price": None if choice.price is None else choice.price.model_dump(mode="json"),
    }
