"""Manifests: the exchange form of records, as dicts that are YAML or JSON on disk.

Bytes come in as they are: a file's SHA-256 is its content hash, and nothing of it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.folder import Folder
from artifactdb.artifacts.foreign import record_of
from artifactdb.artifacts.place import require_name
from artifactdb.artifacts.reading import artifact_content
from artifactdb.artifacts.restore import place_of, versions_of
from artifactdb.artifacts.save import Payload, is_there, save_content
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, BusyError, InvalidValueError, StorageFullError
from artifactdb.records import ArtifactRecord
from artifactdb.trust.home import everything_is_trusted

SCHEMA_VERSION = "3.0"


@dataclass(slots=True)
class ManifestImport:
    """What came in, and what did not.

    Attributes
    ----------
    imported : list of str
        Ids, each in the dataset that its record names, else in that of the importing registry or loader.
    refused : list of (str, str)
        Artifact id or path, and why.
    notes : list of (str, str)
        Artifact id, and what was left out of its record, or the other dataset that it came in.
    missing : list of str
        Ids of what was refused because its file is not there.
    """

    imported: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


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
        dataset = _dataset_of(manifest, "")
    result = ManifestImport()
    inside = Folder(Path(folder))
    with database.transaction():
        waiting, parts = [], {}
        for item in items_of(manifest):
            try:
                record, note = record_of(item, _dataset_of(item, dataset), "")
            except ArtifactDBError as error:
                result.refused.append((str(item.get("artifact_id") or item.get("path"))[:200], str(error)))
                continue
            waiting.append(record)
            parts[id(record)] = item.get("parts")
            result.notes += [(record.artifact_id, note)] if note else []
        while waiting:
            ids = {record.artifact_id for record in waiting}
            ready = [record for record in waiting if not ids.intersection(record.depends_on)] or waiting
            for record in ready:
                try:
                    _import_one(database, record, parts[id(record)], inside, dataset, trust=trust)
                    result.imported.append(record.artifact_id)
                    if record.dataset != dataset:
                        result.notes.append((record.artifact_id, f"it is in its own dataset {record.dataset!r}."))
                except (StorageFullError, BusyError):
                    raise  # of the workspace itself
                except (ArtifactDBError, OSError) as error:
                    result.refused.append((record.artifact_id, str(error)))
                    result.missing += [record.artifact_id] if isinstance(error, FileNotFoundError) else []
            done = {id(record) for record in ready}
            waiting = [record for record in waiting if id(record) not in done]
    return result


def _dataset_of(item: Mapping[str, Any], dataset: str) -> str:
    named = item.get("dataset")
    return require_name("dataset", named) if named else dataset


def _import_one(
    database: Database, record: ArtifactRecord, parts: object, folder: Folder, dataset: str, *, trust: bool
) -> StoredRecord:
    # Looked for as it is named, then under ``binaries/{dataset}/``, as the workspaces of nirs4all have it.
    places = (folder.path, folder.path / "binaries" / record.dataset, folder.path / "binaries" / dataset)
    file = folder.find(record.path, places)
    content = artifact_content(file, record.format, folder.parts(parts, places).get, record.content_hash)
    content_hash = f"sha256:{content.digest.hex()}"
    payload = Payload(
        content, record.format, versions_of(record), record.format_version, record.created_at,
        vouched=trust, signature=record.signature, act="imported",
    )  # fmt: skip
    place = place_of(record, dataset)
    is_there(database, place.dataset, place.artifact_id, content_hash, record.format)
    return save_content(database, payload, place, record.params, record.class_name)


__all__ = ["ManifestImport", "export_manifest", "import_manifest", "items_of"]
