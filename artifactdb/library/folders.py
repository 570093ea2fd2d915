"""The library as the folders of the seed: ``templates/`` and ``trained/{filtered,pipeline,fullrun}/``.

A trained entry is a folder: ``library_metadata.json``, ``pipeline.json``, ``metrics.json``; where it keeps artifacts,
their records in ``artifacts.json`` and their bytes in ``_binaries/``; predictions and data in ``files/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from artifactdb.artifacts.save import keep_content
from artifactdb.blobs import store as blobs
from artifactdb.content import Content, Segment
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, BusyError, CorruptBlobError, InvalidValueError, StorageFullError
from artifactdb.formats.container import parts_of
from artifactdb.library import entries
from artifactdb.library.entries import KINDS, Entry
from artifactdb.records import ArtifactRecord
from artifactdb.runs.manifests import json_text
from artifactdb.runs.naming import FolderNames
from artifactdb.trust.signing import signer_of

Progress = Callable[[int, int], None]

_METADATA = "library_metadata.json"


def export_entries(database: Database, folder: Path, progress: Progress | None = None) -> int:
    """Write every entry of the library; give how many."""
    found = entries.found(database)
    names: dict[str, FolderNames] = {kind: FolderNames() for kind in KINDS}
    for done, entry in enumerate(found, start=1):
        kind = entry["type"]
        safe = names[kind].of(entry["name"])
        if kind == "template":
            _write_json(folder / "templates" / f"{safe}.json", entry)
        else:
            _write_trained(database, entry, folder / "trained" / kind / safe)
        if progress:
            progress(done, len(found))
    return len(found)


def _write_trained(database: Database, entry: dict[str, Any], folder: Path) -> None:
    key = entries.key_of(database, entry["type"], entry["name"])
    _write_json(folder / _METADATA, entry)
    _write_json(folder / "pipeline.json", entry["config"])
    _write_json(folder / "metrics.json", entry["metrics"])
    _write_json(folder / "content.json", entries.content_of(database, key))
    records = entries.artifacts_of(database, key)
    items = []
    for record in records:
        name = f"{record.content_hash.removeprefix('sha256:')}.{record.path.rpartition('.')[2]}"
        _write_blob(database, record.blob_key, folder / "_binaries" / name)
        for part_key, digest in database.rows(
            "SELECT bp.part_key, lower(hex(b.content_hash)) FROM blob_parts AS bp "
            "JOIN blobs AS b ON b.blob_key = bp.part_key WHERE bp.blob_key = ?",
            (record.blob_key,),
        ):
            _write_blob(database, part_key, folder / "_binaries" / f"{digest}.bin")
        items.append({**record.to_dict(), "file": f"_binaries/{name}"})
    if items:
        _write_json(folder / "artifacts.json", items)
    for name, blob_key in entries.files_of(database, key).items():
        _write_blob(database, blob_key, folder / "files" / name)


def _write_blob(database: Database, blob_key: int, path: Path) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.writelines(blobs.pieces(database, blob_key))


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = json.loads(json_text(value) or "null")
    path.write_text(json.dumps(plain, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def import_entries(database: Database, folder: Path, *, trust: bool = False) -> tuple[int, list[tuple[str, str]]]:
    """Take in every entry that is not there yet; give how many, and what was refused and why.

    An entry that is there stays as it is.
    """
    taken, refused = 0, []
    for kind, source in _sources(folder):
        try:
            with database.transaction():
                taken += _take(database, kind, source, trust=trust)
        except (StorageFullError, BusyError):
            raise  # of the workspace itself
        except (ArtifactDBError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            refused.append((f"library/{source.relative_to(folder)}", str(error)))
    return taken, refused


def _sources(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted((folder / "templates").glob("*.json")):
        yield "template", file
    for kind in KINDS[1:]:
        for metadata in sorted((folder / "trained" / kind).glob(f"*/{_METADATA}")):
            yield kind, metadata.parent


def _take(database: Database, kind: str, source: Path, *, trust: bool) -> bool:
    described = _read_json(source if kind == "template" else source / _METADATA)
    if not isinstance(described, Mapping):
        raise InvalidValueError(f"{source.name} is no description of an entry.")
    name = str(described.get("name") or source.stem)
    if entries.found(database, kind=kind, name=name):
        _vouch(database, entries.key_of(database, kind, name), source, trust=trust)
        return False
    entry = Entry(
        kind,
        name,
        str(described.get("description") or ""),
        str(described.get("category") or ""),
        [str(tag) for tag in described.get("tags") or []],
        source=str(described.get("source") or ""),
        n_features=described.get("n_features"),
        created_at=str(described.get("created_at") or described.get("saved_at") or ""),
        saved_at=str(described.get("saved_at") or ""),
    )
    if kind == "template":
        entry.config = json_text(described.get("config"))
    else:
        entry.config = json_text(_read_if_there(source / "pipeline.json"))
        entry.metrics = json_text(_metrics(_read_if_there(source / "metrics.json")))
        entry.content = json_text(_read_if_there(source / "content.json"))
        items = _read_if_there(source / "artifacts.json") or []
        entry.artifacts = [_take_artifact(database, item, source, trust=trust) for item in items]
        entry.files = {
            file.name: keep_content(database, Content([Segment(file.read_bytes())]))
            for file in sorted((source / "files").glob("*"))
        }
    entries.save(database, entry)
    return True


def _vouch(database: Database, key: int, source: Path, *, trust: bool) -> None:
    """Let what an entry keeps already be trusted as if it came in now."""
    items = _read_if_there(source / "artifacts.json") or []
    kept = {(record.artifact_id, record.content_hash) for record in entries.artifacts_of(database, key)}
    theirs = []
    for item in items:
        record = ArtifactRecord.from_dict(item)
        if (record.artifact_id, record.content_hash) in kept:
            record, _ = _read_artifact(database, item, source, trust=trust)
            theirs.append(record)
    entries.take_signatures(database, key, theirs)


def _take_artifact(
    database: Database, item: Mapping[str, Any], source: Path, *, trust: bool
) -> tuple[dict[str, Any], int]:
    record, content = _read_artifact(database, item, source, trust=trust)
    return record.to_dict(), keep_content(database, content)


def _read_artifact(
    database: Database, item: Mapping[str, Any], source: Path, *, trust: bool
) -> tuple[ArtifactRecord, Content]:
    """Give a record and its content, which is what the record says; signed where the user trusts it."""
    record = ArtifactRecord.from_dict(item)
    data = _inside(source, str(item["file"])).read_bytes()
    parts = []
    for digest, item_size in parts_of(data):
        part = Content([Segment(_inside(source, f"_binaries/{digest.hex()}.bin").read_bytes(), item_size)])
        _require(part, digest, f"{digest.hex()}.bin")
        parts.append(part)
    content = Content([Segment(data)], parts)
    _require(content, bytes.fromhex(record.content_hash.removeprefix("sha256:")), str(item["file"]))
    if trust:
        signer = signer_of(database)
        record.signature = str(signer.sign(record.artifact_id, record.content_hash, record.format))
    return record, content


def _require(content: Content, digest: bytes, name: str) -> None:
    if content.digest != digest:
        raise CorruptBlobError(f"{name} has other bytes than its record says.", content_hash=f"sha256:{digest.hex()}")


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidValueError(f"{name} points outside {folder.name}.", hint="It was not read.")
    return path


def _metrics(value: Any) -> dict[str, dict[str, Any]]:
    """Give metrics by partition; what other programs keep otherwise is left out."""
    if not isinstance(value, Mapping):
        return {}
    kept: dict[str, dict[str, Any]] = {}
    for partition, numbers in value.items():
        if isinstance(numbers, Mapping):
            kept[str(partition)] = {
                str(name): number for name, number in numbers.items() if isinstance(number, int | float | str)
            }
    return kept


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_if_there(path: Path) -> Any:
    return _read_json(path) if path.exists() else None
