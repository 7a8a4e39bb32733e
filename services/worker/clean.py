"""Takes secrets out of what a tool answered, before anything of it is kept or told (C15)."""

from dataclasses import replace

from domain.content import TextPart
from domain.redaction import Redactor
from services.worker.toolbox import ToolFile, ToolResult

WITHHELD_FILE = "The file holds secret {name!r}, so it is not shown."


def clean_result(redactor: Redactor, result: ToolResult) -> ToolResult:
    """The result without any form of a value that is known; a file that has one is withheld."""
    kept: list[ToolFile] = []
    notes: list[TextPart] = []
    for file in result.files:
        found = redactor.finds(file.data)
        if found is None:
            kept.append(replace(file, name=redactor.text(file.name)))
        else:
            notes.append(TextPart(text=WITHHELD_FILE.format(name=found)))
    return replace(
        result,
        content=(*redactor.value(result.content), *notes),
        full_output=_data(redactor, result.full_output),
        files=tuple(kept),
        egress=redactor.value(result.egress),
        full_egress=_data(redactor, result.full_egress),
    )


def _data(redactor: Redactor, data: bytes | None) -> bytes | None:
    return None if data is None else redactor.data(data)
