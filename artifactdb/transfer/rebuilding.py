"""Records whose page is gone are made again of the indexes, which hold most of what a record says."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from artifactdb.artifacts import history
from artifactdb.artifacts.save import key_of_environment
from artifactdb.blobs import store
from artifactdb.blobs.codec import decode, stored_chunk
from artifactdb.chain import OperatorChain, OperatorNode
from artifactdb.database import Database
from artifactdb.database.restoring import Restored
from artifactdb.errors import ArtifactDBError, CorruptBlobError
from artifactdb.formats.container import stream_begins_with

UNKNOWN_TYPE = "unknown"
_FROM_INDEXES = (
    "artifact_id", "dataset_key", "pipeline_key", "step_index", "parameter_set_key", "blob_key", "class_name",
)  # fmt: skip
_WHAT = "its record was made again of indexes: type, versions, time, configuration of a stack and signature are gone"


def rebuild_records(database: Database, restored: Restored) -> list[tuple[int, str]]:
    """Enter what indexes say of records whose content tells its format; give keys and what is gone of each."""
    rebuilt = []
    environment = None
    for (key,), said in list(restored.missing.get("records", {}).items()):
        if not all(said.get(name) is not None for name in _FROM_INDEXES):
            continue
        format_name = _format_of(database, said["blob_key"])
        if not format_name:
            continue
        node = _last_node(database, said.get("chain_key"))
        environment = environment or key_of_environment(database, "{}")
        row: dict[str, Any] = {
            "record_key": key,
            **{name: said[name] for name in _FROM_INDEXES},
            **{name: said.get(name) for name in ("chain_key", "fold_id")},
            "custom_name": said.get("custom_name") or "",
            "branch_path": ".".join(map(str, node.branch_path)) if node else "",
            "source_index": node.source_index if node else None,
            "substep_index": node.substep_index if node else None,
            "artifact_type": UNKNOWN_TYPE,
            "format": format_name,
            "environment_key": environment,
            "created_at": history.now(),
        }
        with suppress(ArtifactDBError):  # another record has that id
            names = ", ".join(row)
            database.rows(f"INSERT INTO records ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
            del restored.missing["records"][(key,)]
            rebuilt.append((key, _WHAT))
    return rebuilt


def _format_of(database: Database, blob_key: Any) -> str:
    """Tell what an object was stored as, by how it begins; "" where that does not tell."""
    chunk = database.row(store.CHUNK, (blob_key, 0))
    try:
        begin = stream_begins_with(decode(stored_chunk(*chunk))) if chunk else b""
    except CorruptBlobError:
        return ""
    return {b"\x80": "pickle5", b"": ""}.get(begin, "data")


def _last_node(database: Database, chain_key: Any) -> OperatorNode | None:
    path = database.value("SELECT chain_path FROM chains WHERE chain_key = ?", (chain_key,))
    with suppress(ArtifactDBError):
        return OperatorChain.from_path(path).get_last_node() if path else None
    return None
