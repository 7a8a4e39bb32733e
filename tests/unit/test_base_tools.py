"""The base skill as data: what the model is shown, and what deciding knows of it."""

import json

import pytest
from pydantic import ValidationError

from domain.base_tools import (
    BASE_TOOLS,
    AttemptCompletion,
    EditTextFile,
    Exec,
    ReadTextFile,
    Todo,
    base_tool,
    select_base_tools,
)
from domain.definition import BASE_SKILL
from domain.tools import Lane, Safety

SAFETY = {
    "readTextFile": Safety.READ_ONLY,
    "listDirectory": Safety.READ_ONLY,
    "glob": Safety.READ_ONLY,
    "grep": Safety.READ_ONLY,
    "getFileInfo": Safety.READ_ONLY,
    "readImageFile": Safety.READ_ONLY,
    "readPdfFile": Safety.READ_ONLY,
    "readResult": Safety.READ_ONLY,
    "writeTextFile": Safety.IDEMPOTENT,
    "createDirectory": Safety.IDEMPOTENT,
    "editTextFile": Safety.UNSAFE,
    "appendTextFile": Safety.UNSAFE,
    "moveFile": Safety.UNSAFE,
    "deleteFile": Safety.UNSAFE,
    "exec": Safety.UNSAFE,
    "startProcess": Safety.UNSAFE,
    "writeProcess": Safety.UNSAFE,
    "stopProcess": Safety.IDEMPOTENT,
    "readProcess": Safety.READ_ONLY,
    "listProcesses": Safety.READ_ONLY,
    "mergeWorkspace": Safety.IDEMPOTENT,
}
IN_THE_SANDBOX = set(SAFETY)
KEPT_IN_THE_LOG = {"todo", "clearTodo", "attemptCompletion"}


def test_the_base_skill_has_its_tools() -> None:
    assert set(BASE_TOOLS) == IN_THE_SANDBOX | KEPT_IN_THE_LOG


@pytest.mark.parametrize("name", sorted(BASE_TOOLS))
def test_every_tool_describes_all_its_arguments_and_takes_no_others(name: str) -> None:
    tool = BASE_TOOLS[name]
    schema = tool.spec.parameters
    assert tool.spec.name == tool.entry.name == name
    assert tool.entry.skill == BASE_SKILL
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert all(field["description"] for field in schema["properties"].values())
    assert set(schema["required"]) <= set(schema["properties"])
    assert "anyOf" not in json.dumps(schema)
    assert "title" not in json.dumps(schema)


def test_files_and_exec_run_in_the_sandbox_and_the_rest_is_decided_in_the_loop() -> None:
    lanes = {name: tool.entry.lane for name, tool in BASE_TOOLS.items()}
    assert {name for name, lane in lanes.items() if lane is Lane.SANDBOX} == IN_THE_SANDBOX
    assert {name for name, lane in lanes.items() if lane is Lane.LOOP} == KEPT_IN_THE_LOG


@pytest.mark.parametrize(("name", "safety"), SAFETY.items())
def test_what_a_second_execution_would_do_is_known_of_every_tool(name: str, safety: Safety) -> None:
    assert BASE_TOOLS[name].entry.safety is safety


def test_arguments_carry_the_names_that_models_know() -> None:
    read = ReadTextFile.model_validate_json('{"path": "a", "from": 1, "to": 2}')
    assert (read.from_, read.to) == (1, 2)
    todo = Todo.model_validate_json('{"newTodos": ["x"], "completedTodos": [0]}')
    assert (todo.new_todos, todo.completed_todos) == (("x",), (0,))


def test_an_edit_is_spelled_out_or_in_a_list_and_means_the_same() -> None:
    one = EditTextFile.model_validate_json('{"path": "a", "oldText": "x", "newText": "y"}')
    listed = EditTextFile.model_validate_json(
        '{"path": "a", "edits": [{"oldText": "x", "newText": "y"}]}'
    )
    assert one.all_edits() == listed.all_edits()
    items = BASE_TOOLS["editTextFile"].spec.parameters["properties"]["edits"]["items"]
    assert items["required"] == ["oldText", "newText"]
    assert items["additionalProperties"] is False


@pytest.mark.parametrize(
    "name",
    [
        *("readTextFile", "readImageFile", "readPdfFile", "writeTextFile", "editTextFile", "exec"),
        *("appendTextFile", "moveFile", "deleteFile", "createDirectory", "listDirectory"),
        "getFileInfo",
    ],
)
def test_the_names_definitions_already_use_stay(name: str) -> None:
    assert set(select_base_tools(pick=(name,))) == {name}


def test_null_counts_as_left_out() -> None:
    assert AttemptCompletion.model_validate_json('{"result": null}') == AttemptCompletion()
    assert Exec.model_validate_json('{"command": "ls", "args": null}') == Exec(command="ls")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"command": "ls", "shell": true}',
        '{"command": "ls", "shell": "ls"}',
        '{"shell": "ls", "args": []}',
        '{"command": "ls", "timeout": "5"}',
        '{"args": []}',
        "[]",
    ],
)
def test_unknown_missing_or_mistyped_arguments_are_refused(arguments: str) -> None:
    with pytest.raises(ValidationError):
        Exec.model_validate_json(arguments)


def test_a_name_without_a_tool_finds_nothing() -> None:
    assert base_tool("exec") is BASE_TOOLS["exec"]
    assert base_tool("healthCheck") is None


def test_an_empty_selection_keeps_all_tools() -> None:
    assert select_base_tools() == BASE_TOOLS


def test_picking_keeps_only_what_is_named() -> None:
    assert set(select_base_tools(pick=("exec", "todo"))) == {"exec", "todo"}


def test_omitting_wins_over_picking() -> None:
    assert set(select_base_tools(pick=("exec", "todo"), omit=("exec",))) == {"todo"}
    assert set(select_base_tools(omit=("exec",))) == set(BASE_TOOLS) - {"exec"}
