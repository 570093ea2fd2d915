"""The rules of the schema, asked as questions: SQLite forgets each CHECK on a connection that cannot write."""

from __future__ import annotations

import re
from collections.abc import Iterator

from artifactdb.database.connection import Database

_TABLES = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL ORDER BY name"
_COMMENT = re.compile(r"--[^\n]*")
_CHECK = re.compile(r"\bCHECK\s*\(")


def rules_of(sql: str) -> Iterator[str]:
    """Give the expressions of the CHECK constraints of a table that artifactdb declares.

    Examples
    --------
    >>> list(rules_of("CREATE TABLE a (b TEXT CHECK (length(b) = 2), c ANY CHECK (c IN ('x', 'y'))) -- no CHECK (c)"))
    ['length(b) = 2', "c IN ('x', 'y')"]
    """
    text = _COMMENT.sub("", sql)
    for found in _CHECK.finditer(text):
        depth, end = 1, found.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield text[found.end() : end - 1].strip()


def broken_rules(database: Database) -> Iterator[tuple[str, str, int]]:
    """Give table, rule and number of rows for each rule that rows break; the file declares what artifactdb does."""
    for table, sql in database.rows(_TABLES):
        for rule in rules_of(sql):
            count = database.value(f'SELECT count(*) FROM "{table}" WHERE NOT ({rule})')
            if count:
                yield table, rule, count
