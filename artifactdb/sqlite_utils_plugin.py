"""A plugin for sqlite-utils: its command line understands a workspace.

    sqlite-utils query wheat.sqlite "SELECT artifact_id, artifact_size(content_hash) FROM artifacts"

The command runs in a process of its own, so that two engines never share the file within one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from weakref import ref

from sqlite_utils import hookimpl

from artifactdb.chain import compute_chain_hash
from artifactdb.database.migrations import APPLICATION_ID
from artifactdb.errors import ArtifactDBError
from artifactdb.ids import extract_fold_id_from_artifact_id, extract_pipeline_id_from_artifact_id

_SIZE = """
SELECT b.size_bytes + coalesce((
  SELECT sum(size_bytes) FROM blobs WHERE blob_key IN (SELECT part_key FROM blob_parts WHERE blob_key = b.blob_key)), 0)
FROM blobs AS b WHERE b.content_hash = ?
"""


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: sqlite3.Connection) -> None:
    """Register the functions ``chain_hash, pipeline_of, fold_of``, and for a workspace ``artifact_size``."""
    conn.create_function("chain_hash", 1, _chain_hash, deterministic=True)
    conn.create_function("pipeline_of", 1, _pipeline_of, deterministic=True)
    conn.create_function("fold_of", 1, _fold_of, deterministic=True)
    if _is_workspace(conn):
        conn.create_function("artifact_size", 1, _artifact_size_in(conn))


def _is_workspace(conn: sqlite3.Connection) -> bool:
    try:
        return bool(conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,))
    except sqlite3.Error:  # no database, or none that can be read; sqlite-utils will say so
        return False


def _artifact_size_in(conn: sqlite3.Connection) -> Callable[[str | None], int | None]:
    # A function keeps what it refers to for as long as there is the connection: one that refers to the connection
    # keeps it until it is closed. Other databases are spared, and a snapshot is not kept.
    get: Callable[[], sqlite3.Connection | None]
    try:
        get = ref(conn)
    except TypeError:  # of the standard library's own class
        get = partial(_itself, conn)

    def artifact_size(content_hash: str | None) -> int | None:
        """Logical bytes of a content, its arrays included."""
        asked = get()
        try:
            digest = bytes.fromhex((content_hash or "").removeprefix("sha256:"))
        except ValueError:
            return None
        found = asked.execute(_SIZE, (digest,)).fetchone() if asked else None
        return int(found[0]) if found else None

    return artifact_size


def _itself(conn: sqlite3.Connection) -> sqlite3.Connection:
    return conn


def _chain_hash(path: str | None) -> str | None:
    return None if path is None else compute_chain_hash(path)


def _pipeline_of(artifact_id: str | None) -> str | None:
    try:
        return None if artifact_id is None else extract_pipeline_id_from_artifact_id(artifact_id)
    except ArtifactDBError:
        return None


def _fold_of(artifact_id: str | None) -> int | None:
    try:
        return None if artifact_id is None else extract_fold_id_from_artifact_id(artifact_id)
    except ArtifactDBError:
        return None
