"""Rows that are not what artifactdb wrote, named as the user calls what they are about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from artifactdb.artifacts.descriptions import Problem
from artifactdb.database import Database
from artifactdb.database.row_checks import KEYS, of_another_program, wrong_rows
from artifactdb.errors import CorruptWorkspaceError

_MOST = 1000
_PIPELINE = "'pipeline ' || (SELECT pipeline_id FROM pipelines WHERE pipeline_key = t.pipeline_key)"
_ENTRY = "(SELECT entry_type || ' ' || name FROM library_entries WHERE entry_key = t.entry_key)"
_EVENT = """
'event ' || event_index || ' of ' || CASE record_key WHEN 0 THEN 'the workspace' ELSE coalesce(artifact_id,
  (SELECT artifact_id FROM records WHERE record_key = t.record_key), 'record ' || record_key) END
"""
_NAMES = {
    "blobs": "'blob sha256:' || lower(hex(content_hash))",
    "catalog_files": "'catalog file ' || name",
    "datasets": "'dataset ' || name",
    "history": _EVENT,
    "library_artifacts": f"'library entry ' || {_ENTRY} || ', artifact ' || position",
    "library_entries": "'library entry ' || entry_type || ' ' || name",
    "pipelines": "'pipeline ' || pipeline_id",
    "records": "artifact_id",
    "run_entries": "'run ' || run_id",
    "signers": "'signer ' || key_id",
    "staged_arrays": "'array ' || array_id",
    "staged_predictions": "'prediction ' || id",
    "trained_pipelines": _PIPELINE,
}
_WRONG, _OF_OTHERS = "is not what was written", "rows were written by another program"
_HINT = (
    "`artifactdb verify --repair` restores it where the workspace is protected; else restore a backup, or write it anew"
)


def check(database: Database) -> Iterator[Problem]:
    """Compare each row with its check; a file of a stranger's may hold any, and nothing but this looks at them."""
    for table in KEYS:
        try:
            yield from _of_table(database, table)
        except CorruptWorkspaceError as error:  # a page of it; what else there is can still be named
            yield Problem(f"table {table}", error.message)


def is_of_a_row(problem: Problem) -> bool:
    """Tell whether a problem is one of these; what another program changes looks as what a disk does."""
    return _WRONG in problem.what or _OF_OTHERS in problem.what


def row_of(table: str, key: Iterable[Any]) -> str:
    """Name a row by its table and key."""
    return f"{table} row {', '.join(part.hex() if isinstance(part, bytes) else str(part) for part in key)}"


def _of_table(database: Database, table: str) -> Iterator[Problem]:
    wrong = wrong_rows(database, table, _NAMES.get(table, "NULL"), _MOST + 1)
    for key, name in wrong[:_MOST]:
        where = name or row_of(table, key)
        ids = (name,) if table == "records" and name else ()
        yield Problem(where, f"its row of {table} {_WRONG}: {_HINT}", ids)
    if len(wrong) > _MOST:
        yield Problem(f"table {table}", f"of more than {_MOST} rows each {_WRONG}")
    if count := of_another_program(database, table):
        yield Problem(
            f"table {table}",
            f"{count} {_OF_OTHERS}: nothing tells whether it wrote this; `artifactdb pack` takes them as they are",
        )
