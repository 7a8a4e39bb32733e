"""Arguments of the tools that look at files and change them. Not what the tools do."""

from typing import Self

from pydantic import Field, model_validator

from domain.base_tools.arguments import Arguments

PATTERN_CHARACTERS_MAX = 1000
EDITS_MAX = 100
CONTEXT_LINES_MAX = 20


class ReadTextFile(Arguments):
    """Arguments of `readTextFile`."""

    path: str = Field(description="File to read, relative to the workspace.")
    from_: int | None = Field(
        default=None, alias="from", ge=0, description="First line to read, counted from 0."
    )
    to: int | None = Field(
        default=None, ge=0, description="Line to stop before. Default: the end of the file."
    )


class WriteTextFile(Arguments):
    """Arguments of `writeTextFile`."""

    path: str = Field(description="File to write, relative to the workspace.")
    text: str = Field(description="The whole new content of the file.")


class AppendTextFile(Arguments):
    """Arguments of `appendTextFile`."""

    path: str = Field(description="File to append to, relative to the workspace; it must exist.")
    text: str = Field(description="Text to put at its end, literally.")


class Edit(Arguments):
    """One replacement of `editTextFile`."""

    old_text: str = Field(
        alias="oldText", min_length=1, description="Text to replace, exactly as in the file."
    )
    new_text: str = Field(alias="newText", description="Text to put in its place, literally.")
    replace_all: bool | None = Field(
        default=None,
        alias="replaceAll",
        description="Whether to replace every occurrence. Default: false, and there must be one.",
    )


class EditTextFile(Arguments):
    """Arguments of `editTextFile`: one edit spelled out, or several in a list."""

    path: str = Field(description="File to edit, relative to the workspace.")
    old_text: str | None = Field(
        default=None,
        alias="oldText",
        min_length=1,
        description="Text to replace, exactly as in the file; it must occur exactly once.",
    )
    new_text: str | None = Field(
        default=None, alias="newText", description="Text to put in its place, literally."
    )
    replace_all: bool | None = Field(
        default=None,
        alias="replaceAll",
        description="Whether to replace every occurrence of oldText. Default: false.",
    )
    edits: tuple[Edit, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=EDITS_MAX,
        description="Several edits instead of oldText and newText, done in this order: "
        "each sees what the ones before it made. If one of them fails, none is done.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        one = self.old_text is not None and self.new_text is not None
        any_of_one = (self.old_text, self.new_text, self.replace_all) != (None, None, None)
        if any_of_one if self.edits is not None else not one:
            message = "give either both oldText and newText, or edits"
            raise ValueError(message)
        return self

    def all_edits(self) -> tuple[Edit, ...]:
        """The edits in order, however they were given."""
        if self.edits is not None or self.old_text is None or self.new_text is None:
            return self.edits or ()
        return (Edit(oldText=self.old_text, newText=self.new_text, replaceAll=self.replace_all),)


class ListDirectory(Arguments):
    """Arguments of `listDirectory`."""

    path: str = Field(
        default=".", description="Directory to list, relative to the workspace. Default: its root."
    )


class Glob(Arguments):
    """Arguments of `glob`."""

    pattern: str = Field(
        min_length=1,
        max_length=PATTERN_CHARACTERS_MAX,
        description="Pattern for paths below `path`: * ? [a-z] {a,b} in a name, ** for any number "
        'of folders: "**/*.py". A pattern without / is looked for in every folder.',
    )
    path: str = Field(
        default=".",
        description="Directory to look in, relative to the workspace. Default: its root.",
    )


class Grep(Arguments):
    """Arguments of `grep`."""

    pattern: str = Field(
        min_length=1,
        max_length=PATTERN_CHARACTERS_MAX,
        description="Regular expression (Python's re) to find within a line.",
    )
    path: str = Field(
        default=".",
        description="Directory or file to search, relative to the workspace. Default: its root.",
    )
    glob: str | None = Field(
        default=None,
        min_length=1,
        max_length=PATTERN_CHARACTERS_MAX,
        description="Only files whose path below `path` this pattern matches, as in glob.",
    )
    literal: bool | None = Field(
        default=None, description="Whether pattern is plain text. Default: false."
    )
    ignore_case: bool | None = Field(
        default=None, alias="ignoreCase", description="Whether case is ignored. Default: false."
    )
    context: int | None = Field(
        default=None,
        ge=0,
        le=CONTEXT_LINES_MAX,
        description="Lines to show before and after each match. Default: 0.",
    )


class MoveFile(Arguments):
    """Arguments of `moveFile`."""

    source: str = Field(description="File or directory to move, relative to the workspace.")
    destination: str = Field(description="Its new path, name included; it must not exist.")
    overwrite: bool | None = Field(
        default=None, description="Whether a file there may be replaced. Default: false."
    )


class DeleteFile(Arguments):
    """Arguments of `deleteFile`."""

    path: str = Field(description="File or link to delete, relative to the workspace.")
    recursive: bool | None = Field(
        default=None,
        description="Whether a directory may be deleted with all that is in it. Default: false.",
    )


class CreateDirectory(Arguments):
    """Arguments of `createDirectory`."""

    path: str = Field(description="Directory to make, relative to the workspace.")


class GetFileInfo(Arguments):
    """Arguments of `getFileInfo`."""

    path: str = Field(description="File, directory or link, relative to the workspace.")


class ReadImageFile(Arguments):
    """Arguments of `readImageFile`."""

    path: str = Field(description="PNG, JPEG, GIF or WebP file, relative to the workspace.")


class ReadPdfFile(Arguments):
    """Arguments of `readPdfFile`."""

    path: str = Field(description="PDF file, relative to the workspace.")
