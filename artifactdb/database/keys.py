"""Whether the keys that new rows will get are free, which SQLite does not see to.

A made-up file can hold rows that belong to a key yet to come: an array of a blob, a source of a record. What the user
writes next would get that key, and those rows with it. Or it holds the last key that there is, and SQLite takes any
other one. What only describes its own row is left out, and is for ``verify``: versions, who signed, who acted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from artifactdb.database.translate import translated
from artifactdb.errors import CorruptWorkspaceError

_LAST_KEY = (1 << 63) - 1
_PACK = "`artifactdb pack` writes a new file of what is right, which counts from 1 again."
_RECOVER = "`artifactdb recover` writes a new file of what is right, without them."
_KEYS = {
    "datasets": "dataset_key", "pipelines": "pipeline_key", "chains": "chain_key",
    "parameter_sets": "parameter_set_key", "environments": "environment_key", "blobs": "blob_key",
    "records": "record_key", "run_entries": "run_key", "library_entries": "entry_key", "signers": "signer_key",
    "actors": "actor_key", "catalog_files": "file_key", "staged_predictions": "staged_key",
    "staged_arrays": "array_key", "deleted_predictions": "deletion_key",
    "workspace_signatures": "workspace_signature_key",
}  # fmt: skip
REFERENCES = [
    ("pipelines", "dataset_key", "datasets"),
    ("records", "dataset_key", "datasets"),
    ("records", "pipeline_key", "pipelines"),
    ("trained_pipelines", "pipeline_key", "pipelines"),
    ("pipeline_metrics", "pipeline_key", "pipelines"),
    ("records", "chain_key", "chains"),
    ("records", "parameter_set_key", "parameter_sets"),
    ("parameter_values", "parameter_set_key", "parameter_sets"),
    ("records", "blob_key", "blobs"),
    ("blob_parts", "blob_key", "blobs"),
    ("blob_parts", "part_key", "blobs"),
    ("chunks", "blob_key", "blobs"),
    ("library_artifacts", "blob_key", "blobs"),
    ("library_files", "blob_key", "blobs"),
    ("record_sources", "record_key", "records"),
    ("record_sources", "source_key", "records"),
    ("run_records", "record_key", "records"),
    ("run_records", "run_key", "run_entries"),
    ("trained_pipelines", "run_key", "run_entries"),
    ("library_artifacts", "entry_key", "library_entries"),
    ("library_files", "entry_key", "library_entries"),
    ("catalog_payloads", "file_key", "catalog_files"),
    ("deleted_predictions", "file_key", "catalog_files"),
]
"""Every reference whose column an index begins with, so that the greatest is found at once."""
_LAST = " UNION ALL ".join(
    f"SELECT '{table}', (SELECT max({key}) FROM {table}), "
    f"(SELECT seq FROM sqlite_sequence WHERE name = '{table}' ORDER BY rowid LIMIT 1)"
    for table, key in _KEYS.items()
)
_NAMED = " UNION ALL ".join(
    f"SELECT '{table}', '{parent}', (SELECT max({column}) FROM {table})" for table, column, parent in REFERENCES
)


def last_key_of(table: str) -> str:
    """Give SQL for the last key that a table has used, 0 for none; a made-up file may hold anything in its sequence."""
    return (
        f"max(coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}' AND typeof(seq) = 'integer'), 0), "
        f"coalesce((SELECT max({_KEYS[table]}) FROM {table}), 0))"
    )


def require_free_keys(connection: apsw.Connection, path: Path) -> None:
    """See that no row belongs to a key yet to come, and that there are such keys.

    Raises
    ------
    CorruptWorkspaceError
    """
    with translated(path):
        lasts: list[tuple[Any, ...]] = connection.execute(_LAST).fetchall()
        names: list[tuple[Any, ...]] = connection.execute(_NAMED).fetchall()
    last: dict[str, int] = {}
    for table, greatest, given in lasts:
        last[table] = max(greatest or 0, given if isinstance(given, int) else 0)
        if last[table] >= _LAST_KEY:
            raise CorruptWorkspaceError(
                f"{path} has no number left for another row of {table}: somebody gave the last one away. "
                "Nothing was changed.",
                hint=_PACK,
            )
    for table, parent, named in names:
        if isinstance(named, str | bytes):  # which sort above every number
            raise CorruptWorkspaceError(
                f"{path} is damaged or was made up: a row of {table} belongs to {named[:80]!r}, which is no number of "
                f"{parent}. Nothing was changed.",
                hint=_RECOVER,
            )
        if named is not None and named > last[parent]:
            raise CorruptWorkspaceError(
                f"{path} was made up: it holds rows of {table} for what is yet to come, number {named} of {parent}, "
                f"where {last[parent]} is the last. What is written next would get them. Nothing was changed.",
                hint=_RECOVER,
            )
