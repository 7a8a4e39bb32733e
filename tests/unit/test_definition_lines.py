"""The line index against `tomllib`: every place it knows, and no other, each on its line."""

import json
import tomllib
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peritus.definitions.lines import Loc, index_lines, line_of

NASTY = '''\
# [not.a.table] = "comment"
title = "a # no comment \\" [x]" # "a comment
multi = """
[experts.fake]
key = "value"
ends with quotes: ""\\"""" # comment
literal = \'\'\'
it's [fake] = \\ 'x' ""\'\'\'\'\'
empty = """"""
path = 'C:\\'
"quoted key" = 1
'literal key' = 2
"esc\\u0061pe.d" = 3
dotted . "a.b".c = 1979-05-27 07:32:00
dotted.other = -1_000.5e3
list = [ # [
  "]", # comment, with ] and "
  'b',
  [1, [2, 3],
   4], """
]""",
  { x = 1, "y z" = [true, { w = "}" }] },
]
inline = { a.b = 1, c = { d = ["#", 'e'] }, "f,g" = """h""" }

[ experts . "@scope/name" ]
instruction = """\\
  text \\
  """
[experts.'@scope/name'.skills."@perstack/base"] # header comment ]
pick = ["exec"]

[experts.late.skills.x]
y = 1
[experts.late]
z = 2

[[jobs]]
name = "first"
[jobs.detail]
x = 1
[[jobs.parts]]
n = 1
[[jobs.parts]]
n = 2
[[jobs]]
name = "second"
[[jobs.parts]]
n = 3'''


def places(value: object, at: Loc = ()) -> dict[Loc, object]:
    found: dict[Loc, object] = {} if at == () else {at: value}
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            found |= places(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(cast("list[object]", value)):
            found |= places(inner, (*at, index))
    return found


def test_index_knows_every_place_of_a_nasty_text_and_no_other() -> None:
    assert set(index_lines(NASTY)) == set(places(tomllib.loads(NASTY)))


@pytest.mark.parametrize(
    ("loc", "start"),
    [
        (("title",), "title ="),
        (("literal",), "literal ="),
        (("empty",), "empty ="),
        (("path",), "path ="),
        (("quoted key",), '"quoted key"'),
        (("literal key",), "'literal key'"),
        (("escape.d",), '"esc\\u0061pe.d"'),
        (("dotted",), "dotted . "),
        (("dotted", "other"), "dotted.other"),
        (("list", 0), '  "]"'),
        (("list", 2, 1, 0), "  [1, [2"),
        (("list", 2, 2), "   4]"),
        (("list", 3), "   4]"),
        (("list", 4, "y z", 1, "w"), "  { x"),
        (("inline", "c", "d", 1), "inline ="),
        (("experts", "@scope/name"), "[ experts"),
        (("experts", "@scope/name", "skills", "@perstack/base", "pick", 0), "pick ="),
        (("experts", "late"), "[experts.late]"),
        (("experts", "late", "skills"), "[experts.late.skills.x]"),
        (("jobs", 0, "detail", "x"), "x = 1"),
    ],
)
def test_place_is_on_the_line_where_it_is_written(loc: Loc, start: str) -> None:
    line = NASTY.splitlines()[index_lines(NASTY)[loc] - 1]
    assert line.startswith(start)


def test_tables_of_an_array_are_told_apart() -> None:
    lines = index_lines(NASTY)
    second = NASTY.splitlines().index('name = "second"') + 1
    assert lines["jobs", 1, "name"] == second
    assert lines["jobs", 1, "parts", 0] == second + 1
    assert lines["jobs", 0, "parts", 1, "n"] < lines["jobs", 1]


def test_windows_line_ends_do_not_move_lines() -> None:
    assert index_lines(NASTY.replace("\n", "\r\n")) == index_lines(NASTY)


def test_unknown_place_has_the_line_of_what_is_around_it() -> None:
    lines = index_lines("a = 1\n[b]\nc = [1]\n")
    assert line_of(lines, ("b", "missing")) == 2
    assert line_of(lines, ("b", "c", 7, "x")) == 3
    assert line_of(lines, ("nowhere",)) == 0
    assert line_of(lines, ()) == 0


KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
LEAVES = st.one_of(st.integers(-9, 9), st.booleans(), KEYS)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def spell(value: object) -> str:
    if isinstance(value, dict):
        pairs = [
            f"{quoted(key)} = {spell(one)}" for key, one in cast("dict[str, object]", value).items()
        ]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        items = [f"  {spell(one)}, # ,]\n" for one in cast("list[object]", value)]
        return f"[ # [\n{''.join(items)}]"
    return json.dumps(value, ensure_ascii=False)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_index_and_parser_agree_on_any_document(document: dict[str, dict[str, object]]) -> None:
    text = ""
    for table, pairs in document.items():
        text += f"[{quoted(table)}] # [\n"
        for key, value in pairs.items():
            text += f"{quoted(key)} = {spell(value)}\n"
    parsed = tomllib.loads(text)
    assert parsed == document
    assert set(index_lines(text)) == set(places(parsed))
