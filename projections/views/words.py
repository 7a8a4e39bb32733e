"""What finds words in the table of texts, in SQLite and in PostgreSQL. Not how they are asked for.

Words are what stands between anything that is neither a letter nor a digit, whatever their case,
in any language that has spaces; accents count. Tenant, job, run and kind are found as words, too,
so a search in one tenant costs nothing more for what the others have.
"""

from typing import Any, Literal

from sqlalchemy import Connection, Table, event

SCOPES = ("tenant", "job", "run", "kind")
"""The columns that narrow a search, beside the text."""

ASCII_MARKS = r"[\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+"
"""What stands between words: PostgreSQL would take paths and addresses for one word each."""


def lexemes_of(words: str) -> str:
    """The PostgreSQL expression of a text with nothing between its words but spaces."""
    return f"regexp_replace(CAST({words} AS text), E'{ASCII_MARKS}', ' ', 'g')"


def words_name(suffix: str) -> str:
    """The SQLite table of words."""
    return f"search_words{suffix}"


def follow_words(table: Table, suffix: str) -> None:
    """Have the words of a table of texts made, kept up and dropped with it."""
    for statement in _sqlite(table.name, words_name(suffix)):
        _when(table, "after_create", statement, "sqlite")
    drop = f"DROP TABLE IF EXISTS {words_name(suffix)}"
    _when(table, "before_drop", drop, "sqlite")
    for statement in _postgresql(table.name):
        _when(table, "after_create", statement, "postgresql")


def _when(
    table: Table, moment: Literal["after_create", "before_drop"], statement: str, dialect: str
) -> None:
    def do(_: Table, db: Connection, **__: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        if db.dialect.name == dialect:
            db.exec_driver_sql(statement)

    event.listen(table, moment, do)


def _sqlite(name: str, words: str) -> tuple[str, ...]:
    """An index of its own for the words, and triggers that keep it as the table is."""
    columns = ", ".join((*SCOPES, "text"))
    new, old = (
        ", ".join(f"{row}.{column}" for column in ("id", *SCOPES, "text")) for row in ("new", "old")
    )
    put = f"INSERT INTO {words}(rowid, {columns}) VALUES ({new});"  # noqa: S608 - our own names
    gone = f"INSERT INTO {words}({words}, rowid, {columns}) VALUES ('delete', {old});"  # noqa: S608
    return (
        f"CREATE VIRTUAL TABLE {words} USING fts5({columns}, content='{name}', content_rowid='id',"
        " columnsize=0, tokenize='unicode61 remove_diacritics 0')",
        f"CREATE TRIGGER {words}_put AFTER INSERT ON {name} BEGIN {put} END",
        f"CREATE TRIGGER {words}_gone AFTER DELETE ON {name} BEGIN {gone} END",
        f"CREATE TRIGGER {words}_changed AFTER UPDATE ON {name} BEGIN {gone} {put} END",
    )


def _postgresql(name: str) -> tuple[str, ...]:
    scopes = ", ".join(f"'{scope}=' || {scope}" for scope in SCOPES)
    lexemes = f"to_tsvector('simple', {lexemes_of('text')}) || array_to_tsvector(ARRAY[{scopes}])"
    return (
        f"ALTER TABLE {name} ADD COLUMN words tsvector GENERATED ALWAYS AS ({lexemes}) STORED",
        f"CREATE INDEX {name}_words ON {name} USING gin (words)",
    )
