"""Questions to the texts: where some words occur. Not a language: what people type is words."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, and_, column, select, table, text

from domain.errors import Rejected
from projections.queries.paging import FIRST, Asked, Listing, page
from projections.queries.reader import Look, Reader
from projections.views.search import SearchView
from projections.views.words import lexemes_of, words_name

WORDS_MAX = 16
WORD_CHARS_MAX = 100
"""How many words a search may have, and how long they may be."""

SIGNS = r"[\W_]+"
"""What stands between words."""

SNIPPET_CHARS_MAX = 200
MARKS = ("\x02", "\x03")
"""How long a snippet is, and what stands around a match in it: nothing that people type."""

NO_MARKS = dict.fromkeys(map(ord, MARKS))


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """Where to look; None is everywhere."""

    job: str | None = None
    run: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A text with all the words."""

    id: int  # a newer one has a greater one
    job: str
    run: str
    version: int  # of the event that has the text
    at_ms: int
    kind: str
    snippet: str  # the place around the first match


async def search(
    reader: Reader,
    tenant: str,
    query: str,
    filters: SearchFilters | None = None,
    asked: Asked = FIRST,
) -> Listing[Hit]:
    """The newest texts in which all words occur, the last one at least as a beginning.

    Raises:
        Rejected: `empty_query`, `long_query` or `bad_cursor`.
        Unavailable: the view cannot be read.
    """
    words = words_of(query)
    pattern = pattern_of(words)
    async with reader.look(SearchView.name) as look:
        texts = look.tables["search"]
        found, order = _matching(look, texts, tenant, words, filters or SearchFilters())

        def hit(row: Row[Any]) -> Hit:
            place = (row.id, row.job, row.run, row.version, row.at_ms, row.kind)
            return Hit(*place, snippet=snippet(row.text, pattern))

        return await page(look, found, [order], asked, made=hit, newest_first=True)


def words_of(query: str) -> list[str]:
    """What a person typed, as words; signs that stand alone are none.

    Raises:
        Rejected: `empty_query`, or `long_query`.
    """
    words = [word for word in query.replace("\x00", " ").split() if any(map(str.isalnum, word))]
    if not words:
        raise Rejected("empty_query", "type a word to search for")
    if len(words) > WORDS_MAX or max(map(len, words)) > WORD_CHARS_MAX:
        message = f"at most {WORDS_MAX} words of {WORD_CHARS_MAX} characters"
        raise Rejected("long_query", message)
    return words


def snippet(whole: str, pattern: re.Pattern[str]) -> str:
    """The place around the first match, in one line, with every match in it marked."""
    whole = whole.translate(NO_MARKS)
    first = pattern.search(whole)
    start = max(0, first.start() - SNIPPET_CHARS_MAX // 4) if first else 0
    part = whole[start : start + SNIPPET_CHARS_MAX]
    marked = pattern.sub(lambda match: f"{MARKS[0]}{match[0]}{MARKS[1]}", part)
    before = "…" if start else ""
    after = "…" if start + SNIPPET_CHARS_MAX < len(whole) else ""
    return f"{before}{' '.join(marked.split())}{after}"


def pattern_of(words: list[str]) -> re.Pattern[str]:
    """The words as they stand in a text: each from its beginning, signs in it as they come."""
    found: list[str] = []
    for at, word in enumerate(words, start=1):
        letters = "".join(one if _is_letter(one) else " " for one in word)
        parts = map(re.escape, letters.split())
        end = "" if at == len(words) else r"(?![^\W_])"
        found.append(rf"(?<![^\W_]){SIGNS.join(parts)}{end}")
    return re.compile("|".join(found), re.IGNORECASE)


def _is_letter(char: str) -> bool:
    """Whether it belongs to a word: a letter, a digit, or a sign above or below one."""
    return char.isalnum() or unicodedata.category(char).startswith("M")


def _matching(
    look: Look, texts: Table, tenant: str, words: list[str], filters: SearchFilters
) -> tuple[Select[Any], ColumnElement[int]]:
    """The texts, and what they are ordered by: for SQLite, as where it finds words names it."""
    scope = {"tenant": tenant, "job": filters.job, "run": filters.run, "kind": filters.kind}
    given = {name: value for name, value in scope.items() if value is not None}
    names = ("id", "job", "run", "version", "at_ms", "kind", "text")
    query = select(*(texts.c[name] for name in names))
    # What finds words knows the scope by its words: what is meant is the same to the letter.
    exact = and_(*(texts.c[name] == value for name, value in given.items()))
    if look.dialect == "postgresql":
        return query.where(exact, _lexemes(given, words)), texts.c.id
    found = table(words_name(texts.name.removeprefix("search")), column("rowid"))
    match = text(f"{found.name} MATCH :match").bindparams(match=_fts5(given, words))
    joined = found.join(texts, texts.c.id == found.c.rowid)
    return query.add_columns(found.c.rowid).select_from(joined).where(match, exact), found.c.rowid


def _fts5(scope: dict[str, str], words: list[str]) -> str:
    """In SQLite's syntax, every word of it a string in quotes."""
    terms = [f"{name} : {_quoted(value)}" for name, value in scope.items()]
    terms += [f"text : {_quoted(word)}" for word in words]
    return f"{' AND '.join(terms)} *"


def _quoted(word: str) -> str:
    doubled = word.replace('"', '""')
    return f'"{doubled}"'


def _lexemes(scope: dict[str, str], words: list[str]) -> ColumnElement[bool]:
    """In PostgreSQL's syntax: its parser takes words apart, and scopes are lexemes as they are."""
    *whole, last = words
    terms = [f"phraseto_tsquery('simple', {lexemes_of(f':word{at}')})" for at in range(len(whole))]
    terms.append(f"to_tsquery('simple', '''' || {lexemes_of(':last')} || ''':*')")
    terms.append("CAST(:scope AS tsquery)")
    given = {f"word{at}": word for at, word in enumerate(whole)}
    scopes = " & ".join(_lexeme(f"{name}={value}") for name, value in scope.items())
    condition = text(f"words @@ ({' && '.join(terms)})")
    return condition.bindparams(**given, last=last, scope=scopes)  # type: ignore[return-value]


def _lexeme(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
