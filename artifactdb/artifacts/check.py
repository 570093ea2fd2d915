"""Walk the whole file and say what is wrong with it, without running anything that it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from artifactdb.artifacts import descriptions, row_problems
from artifactdb.artifacts.descriptions import Problem
from artifactdb.blobs import store
from artifactdb.database import Database
from artifactdb.database.rules import broken_rules
from artifactdb.database.translate import interprets
from artifactdb.errors import CorruptWorkspaceError

_KEYED = """
SELECT t.name, k.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS k
WHERE t.type = 'table' AND k.pk = 1 AND k.type = 'INTEGER'
  AND (t.name = 'history' OR (SELECT count(*) FROM pragma_table_info(t.name) WHERE pk > 0) = 1)
"""
_LISTED = 20


@dataclass(slots=True)
class Verification:
    """What a walk through the file found.

    Attributes
    ----------
    blobs, bytes_read, records : int
        How much was read and compared.
    problems : list of Problem
    notes : list of str
        What to know besides; nothing that is wrong.
    """

    blobs: int = 0
    bytes_read: int = 0
    records: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        problems = [problem.to_dict() for problem in self.problems]
        return {
            "ok": self.ok,
            "blobs": self.blobs,
            "bytes_read": self.bytes_read,
            "records": self.records,
            "problems": problems,
            "notes": list(self.notes),
        }


@interprets
def verify(database: Database, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Check pages, keys, foreign keys, every blob against its hash, and what records say against itself.

    Parameters
    ----------
    progress : callable, optional
        Called with (blobs done, blobs in all).
    """
    found = Verification()
    _check_structure(database, found)
    found.problems += row_problems.check(database)
    try:
        _check_content(database, found, progress)
    except CorruptWorkspaceError as error:
        if found.ok:
            raise
        found.problems.append(Problem(str(database.path), error.message))  # which a row that is named above made
    return found


def _check_content(database: Database, found: Verification, progress: Callable[[int, int], None] | None) -> None:
    _check_keys(database, found)
    blobs = database.rows("SELECT blob_key, lower(hex(content_hash)), size_bytes FROM blobs ORDER BY blob_key")
    for done, (blob_key, digest, size_bytes) in enumerate(blobs, start=1):
        # One state for each blob: others may delete it meanwhile, and one for all would keep their log long.
        with database.reading():
            if database.value("SELECT 1 FROM blobs WHERE blob_key = ?", (blob_key,)):
                wrong = store.check(database, blob_key)
                if wrong:
                    found.problems.append(Problem(f"blob sha256:{digest}", wrong, _users(database, blob_key)))
                found.blobs += 1
                found.bytes_read += size_bytes
        if progress:
            progress(done, len(blobs))
    found.records = database.value("SELECT count(*) FROM records")
    found.problems += descriptions.check(database)


def _check_structure(database: Database, found: Verification) -> None:
    for (message,) in database.rows("PRAGMA integrity_check"):
        if message != "ok":
            found.problems.append(Problem(str(database.path), message))
    # A connection that cannot write knows no CHECK, and ``integrity_check`` passes over them there.
    for table, rule, count in broken_rules(database):
        found.problems.append(Problem(f"table {table}", f"{count} rows break the rule {rule}"))
    for table, rowid, parent, _ in database.rows("PRAGMA foreign_key_check"):
        found.problems.append(Problem(f"{table} row {rowid}", f"refers to a row of {parent} that is not there"))


def _check_keys(database: Database, found: Verification) -> None:
    """See that keys count from 1: what has another one was not written by artifactdb, and could be overlooked."""
    for table, key in database.rows(_KEYED):
        least = 0 if table == "history" else 1  # what happened to the workspace as a whole
        for (number,) in database.rows(
            f"SELECT DISTINCT {key} FROM {table} WHERE {key} < ? ORDER BY {key} LIMIT ?", (least, _LISTED)
        ):
            ids = database.rows("SELECT artifact_id FROM records WHERE record_key = ?", (number,))
            found.problems.append(
                Problem(
                    f"{table} row {number}",
                    f"artifactdb counts from {least}: somebody else wrote this row",
                    tuple(name for (name,) in ids) if table == "records" else (),
                )
            )


def _users(database: Database, blob_key: int) -> tuple[str, ...]:
    rows = database.rows(
        "SELECT artifact_id FROM records WHERE blob_key = ? OR blob_key IN "
        "(SELECT blob_key FROM blob_parts WHERE part_key = ?) ORDER BY artifact_id",
        (blob_key, blob_key),
    )
    return tuple(artifact_id for (artifact_id,) in rows)
