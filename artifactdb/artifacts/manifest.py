"""Manifests: the exchange form of records, as dicts that are YAML or JSON on disk.

Bytes come in as they are: a file's SHA-256 is its content hash, and nothing of it is executed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.history import now
from artifactdb.artifacts.restore import place_of, versions_of
from artifactdb.artifacts.save import Payload, is_there, save_content
from artifactdb.content import Content, Segment
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, BusyError, InvalidValueError, StorageFullError
from artifactdb.ids import require_artifact_id
from artifactdb.records import ArtifactRecord
from artifactdb.trust.home import everything_is_trusted

SCHEMA_VERSION = "3.0"


@dataclass(slots=True)
class ManifestImport:
    """What came in, and what did not: ``refused`` has (artifact id or path, reason)."""

    imported: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def export_manifest(records: Sequence[ArtifactRecord]) -> dict[str, Any]:
    """Give ``{"schema_version": "3.0", "items": [...]}``."""
    return {"schema_version": SCHEMA_VERSION, "items": [record.to_dict() for record in records]}


def items_of(manifest: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Give the record dicts of a manifest, of a pipeline manifest that holds one, or of a plain list."""
    if isinstance(manifest, Mapping):
        inner = manifest.get("artifacts", manifest)
        items = inner.get("items", []) if isinstance(inner, Mapping) else inner
    else:
        items = manifest
    if not isinstance(items, Sequence) or isinstance(items, str) or not all(isinstance(i, Mapping) for i in items):
        raise InvalidValueError(
            "a manifest is a dict with 'items', a dict with 'artifacts', or a list of records.",
            hint="Each record is a dict with at least artifact_id and path.",
        )
    return list(items)


def import_manifest(
    database: Database,
    manifest: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    folder: Path,
    dataset: str,
    *,
    trust: bool = False,
) -> ManifestImport:
    """Take in the records of a manifest and the files they name; what cannot come in is listed, the rest comes.

    Parameters
    ----------
    trust : bool, default False
        Vouch for all of it.

    Raises
    ------
    InvalidValueError
        When it is no manifest.
    """
    trust = trust or everything_is_trusted()
    if dataset == "" and isinstance(manifest, Mapping):
        dataset = str(manifest.get("dataset") or "")
    result = ManifestImport()
    with database.transaction():
        waiting = [ArtifactRecord.from_dict(item) for item in items_of(manifest)]
        while waiting:
            ids = {record.artifact_id for record in waiting}
            ready = [record for record in waiting if not ids.intersection(record.depends_on)] or waiting
            for record in ready:
                try:
                    _import_one(database, record, Path(folder), dataset, trust=trust)
                    result.imported.append(record.artifact_id)
                except (StorageFullError, BusyError):
                    raise  # of the workspace itself
                except (ArtifactDBError, OSError) as error:
                    result.refused.append((record.artifact_id or record.path, str(error)))
            done = {id(record) for record in ready}
            waiting = [record for record in waiting if id(record) not in done]
    return result


def _import_one(database: Database, record: ArtifactRecord, folder: Path, dataset: str, *, trust: bool) -> StoredRecord:
    require_artifact_id(record.artifact_id)
    file = find_file(record, folder, dataset)
    data = file.read_bytes()
    content_hash = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if record.content_hash and record.content_hash != content_hash:
        raise InvalidValueError(f"{file.name} has the hash {content_hash}, its record says {record.content_hash}.")
    payload = Payload(
        Content([Segment(data)]), record.format, versions_of(record), record.format_version, record.created_at or now(),
        vouched=trust, signature=record.signature, act="imported",
    )  # fmt: skip
    place = place_of(record, dataset)
    is_there(database, place.dataset, place.artifact_id, content_hash, record.format)
    return save_content(database, payload, place, record.params, record.class_name)


def find_file(record: ArtifactRecord, folder: Path, dataset: str) -> Path:
    """Give the file of a record, which must lie inside the folder.

    Looked for as it is named, then under ``binaries/{dataset}/``, as the workspaces of nirs4all have it.
    """
    if not record.path:
        raise InvalidValueError(f"the record {record.artifact_id} names no file.")
    root = folder.resolve()
    tried = []
    for candidate in (folder / record.path, folder / "binaries" / dataset / record.path):
        resolved = candidate.resolve()
        if not resolved.is_relative_to(root):
            raise InvalidValueError(f"{record.path} points outside {folder}.", hint="It was not read.")
        if resolved.is_file():
            return resolved
        tried.append(os.fspath(candidate))
    raise FileNotFoundError(f"the file of {record.artifact_id} is not there; looked for {' and '.join(tried)}.")


__all__ = ["ManifestImport", "export_manifest", "find_file", "import_manifest", "items_of"]
