"""Library entries in the file: functions on a database."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifactdb.artifacts import history
from artifactdb.artifacts.find import BY_KEY, StoredRecord, from_json, from_row
from artifactdb.artifacts.place import require_name
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import InvalidValueError, LibraryEntryNotFoundError
from artifactdb.records import ArtifactRecord
from artifactdb.runs.store import tags_json
from artifactdb.trust.signing import is_own

KINDS = ("template", "filtered", "pipeline", "fullrun")

_CONTENT_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_SEPARATORS = set("/\\\0")
_SELECT = """
SELECT name, entry_type, description, category, tags, config, metrics, source, n_features, created_at, saved_at,
  (SELECT count(*) FROM library_artifacts AS kept WHERE kept.entry_key = e.entry_key)
FROM library_entries AS e
"""
_FIND = (
    _SELECT + "WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR entry_type = ?2) AND (?3 IS NULL OR category = ?3) "
    "AND (?4 IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?4)) "
    "ORDER BY name, entry_type"
)
_SAVE = """
INSERT INTO library_entries (entry_type, name, description, category, tags, config, metrics, source, n_features,
  content, created_at, saved_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (entry_type, name) DO UPDATE SET
  description = excluded.description, category = excluded.category, tags = excluded.tags, config = excluded.config,
  metrics = excluded.metrics, source = excluded.source, n_features = excluded.n_features, content = excluded.content,
  saved_at = excluded.saved_at
"""


INSERT_ARTIFACT = """
INSERT INTO library_artifacts (entry_key, position, record, blob_key, row_check)
VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))
"""


@dataclass(slots=True)
class Entry:
    """What is saved under a name.

    Attributes
    ----------
    config, metrics : str
        JSON.
    content : str, optional
        JSON with ``runs`` and ``pipelines``: dicts as in manifests.
    artifacts : sequence of (dict, int)
        Records as in manifests, with the key of their blob.
    files : mapping
        Keys of blobs by file name.
    """

    kind: str
    name: str
    description: str = ""
    category: str = ""
    tags: Sequence[str] = ()
    config: str | None = None
    metrics: str | None = "{}"
    source: str = ""
    n_features: int | None = None
    content: str | None = None
    created_at: str = ""
    saved_at: str = ""
    artifacts: Sequence[tuple[Mapping[str, Any], int]] = ()
    files: Mapping[str, int] = field(default_factory=dict)


def save(database: Database, entry: Entry) -> dict[str, Any]:
    """Save an entry; one of the same kind and name is replaced."""
    require_name("name", entry.name)
    if not entry.name.strip():
        raise InvalidValueError("an entry needs a name that is not empty.")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    values = (
        entry.kind, entry.name, entry.description or "", entry.category or "", tags_json(entry.tags), entry.config,
        entry.metrics, entry.source, entry.n_features, entry.content, entry.created_at or now, entry.saved_at or now,
    )  # fmt: skip
    with database.transaction():
        database.rows(_SAVE, values)
        key = key_of(database, entry.kind, entry.name)
        history.note(database, "saved", details={"library": entry.kind, "name": entry.name})
        database.rows("DELETE FROM library_artifacts WHERE entry_key = ?", (key,))
        database.rows("DELETE FROM library_files WHERE entry_key = ?", (key,))
        database.run_many(
            INSERT_ARTIFACT,
            [
                (key, position, json.dumps(record, ensure_ascii=False), blob_key)
                for position, (record, blob_key) in enumerate(entry.artifacts)
            ],
        )
        database.run_many(
            "INSERT INTO library_files (entry_key, name, blob_key) VALUES (?, ?, ?)",
            [(key, name, blob_key) for name, blob_key in entry.files.items()],
        )
    return found(database, kind=entry.kind, name=entry.name)[0]


def found(
    database: Database,
    *,
    kind: str | None = None,
    name: str | None = None,
    category: str | None = None,
    tag: str | None = None,
    text: str | None = None,
) -> list[dict[str, Any]]:
    """Give the entries that meet every condition, by name, as the seed's dicts."""
    rows = database.rows(_FIND, (name, kind, category, tag))
    if text is not None:  # SQLite's lower knows the letters of English alone
        rows = [row for row in rows if text.casefold() in f"{row[0]} {row[2]}".casefold()]
    return [_as_dict(row) for row in rows]


def key_of(database: Database, kind: str, name: str) -> int:
    """Give the key of an entry.

    Raises
    ------
    LibraryEntryNotFoundError
        A FileNotFoundError.
    """
    key = database.value("SELECT entry_key FROM library_entries WHERE entry_type = ? AND name = ?", (kind, name))
    if key is None:
        raise not_found(database, name, kind)
    return int(key)


@interprets
def not_found(database: Database, name: str, kind: str | None) -> LibraryEntryNotFoundError:
    """Give the error that says what there is instead."""
    known = [
        other
        for (other,) in database.rows(
            "SELECT DISTINCT name FROM library_entries WHERE ?1 IS NULL OR entry_type = ?1 ORDER BY name LIMIT 10",
            (kind,),
        )
    ]
    what = {None: "library entry", "template": "template"}.get(kind, f"library entry of kind {kind}")
    return LibraryEntryNotFoundError(
        f"{database.path} has no {what} {name!r}.", hint=f"It has {', '.join(known)}." if known else "It has none yet."
    )


def dataset_of(run_dir: Any) -> str:
    """Give the dataset that is named as such, or as the folder that the seed keeps its runs in."""
    name = Path(str(run_dir)).name
    if not name:
        raise InvalidValueError("which run or dataset is not said.", hint="Give a run's id, or a dataset.")
    return name


def delete(database: Database, kind: str, name: str) -> None:
    """Remove an entry; content that nobody else has becomes an orphan."""
    with database.transaction():
        database.rows("DELETE FROM library_entries WHERE entry_key = ?", (key_of(database, kind, name),))
        history.note(database, "deleted", details={"library": kind, "name": name})


@interprets
def content_of(database: Database, key: int) -> dict[str, Any]:
    """Give runs and pipelines of a trained entry, as dicts."""
    text = database.value("SELECT content FROM library_entries WHERE entry_key = ?", (key,))
    return json.loads(text) if text else {"runs": [], "pipelines": []}


@interprets
def artifacts_of(database: Database, key: int) -> list[StoredRecord]:
    """Give the records of a trained entry, sources before what needs them."""
    records = []
    for text, blob_key in database.rows(
        "SELECT record, blob_key FROM library_artifacts WHERE entry_key = ? ORDER BY position", (key,)
    ):
        record = from_json(text, blob_key)
        # Hash and extension become the name of a file when the entry is exported.
        if not _CONTENT_HASH.fullmatch(record.content_hash) or set(record.path.rpartition(".")[2]) & _SEPARATORS:
            raise ValueError(f"a record with the content {record.content_hash[:80]!r} in {record.path[:80]!r}")
        records.append(record)
    return records


def is_replaced_by(database: Database, present: Sequence[ArtifactRecord], theirs: Sequence[ArtifactRecord]) -> bool:
    """Tell whether another takes the place of an entry: all that it keeps is the user's own, and of the present not.

    An entry without artifacts is nobody's, and takes no place.
    """
    return bool(theirs) and _all_own(database, theirs) and not (present and _all_own(database, present))


def _all_own(database: Database, records: Sequence[ArtifactRecord]) -> bool:
    return all(is_own(database, record) for record in records)


@interprets
def files_of(database: Database, key: int) -> dict[str, int]:
    """Give the files of a trained entry: keys of blobs by name."""
    files: dict[str, int] = dict(
        database.rows("SELECT name, blob_key FROM library_files WHERE entry_key = ? ORDER BY name", (key,))
    )
    for name in files:
        if not _is_file_name(name):  # it would be written there by an export
            raise ValueError(f"a file of the name {str(name)[:80]!r}")
    return files


def _is_file_name(name: Any) -> bool:
    """Tell whether a name leads nowhere but into the folder that it is put in, on any system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & _SEPARATORS


def record_by_key(database: Database, record_key: int) -> StoredRecord:
    """Give a record."""
    return from_row(database.rows(BY_KEY, (record_key,))[0])


@interprets
def _as_dict(row: tuple[Any, ...]) -> dict[str, Any]:
    (name, kind, description, category, tags, config, metrics, source, n_features, created_at, saved_at,
     artifacts) = row  # fmt: skip
    if kind not in KINDS:
        raise ValueError(f"an entry of kind {kind!r}")
    return {
        "name": name,
        "type": kind,
        "description": description,
        "category": category,
        "tags": json.loads(tags),
        "config": None if config is None else json.loads(config),
        "metrics": {name: _numbers(values) for name, values in json.loads(metrics).items()},
        "source": source or None,
        "n_features": n_features,
        "artifacts": artifacts,
        "created_at": created_at,
        "saved_at": saved_at,
    }


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    # What is not a number is kept as the text nan.
    return {name: float(value) for name, value in values.items()}
