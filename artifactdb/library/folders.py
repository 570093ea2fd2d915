"""The library as the folders of the seed: ``templates/`` and ``trained/{filtered,pipeline,fullrun}/``.

A trained entry is a folder: ``library_metadata.json``, ``pipeline.json``, ``metrics.json``; where it keeps artifacts,
their records in ``artifacts.json`` and their bytes in ``_binaries/``; predictions and data in ``files/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifactdb.artifacts.folder import Folder
from artifactdb.artifacts.foreign import record_of
from artifactdb.artifacts.reading import artifact_content
from artifactdb.artifacts.save import keep_content
from artifactdb.blobs import store as blobs
from artifactdb.content import Content, Segment
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, BusyError, DuplicateError, InvalidValueError, StorageFullError
from artifactdb.library import entries
from artifactdb.library.entries import KINDS, Entry
from artifactdb.records import ArtifactRecord
from artifactdb.runs.manifests import json_text
from artifactdb.runs.naming import FolderNames
from artifactdb.runs.store import tags_json
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


def import_entries(
    database: Database, folder: Folder, *, trust: bool = False
) -> tuple[list[bool], list[tuple[str, str]]]:
    """Take in every entry that is not there yet; give whether each is new, and what was refused and why.

    An entry that is there stays as it is, unless it is a stranger's and the user vouches for this one: it then comes
    instead, as a whole. One that differs from what is there is refused.

    Parameters
    ----------
    folder : Folder
        What is imported, with a folder ``library``.
    """
    taken: list[bool] = []
    refused = []
    for kind, source in _sources(folder):
        try:
            with database.transaction():
                taken.append(_take(database, kind, folder, source, trust=trust))
        except (StorageFullError, BusyError):
            raise  # of the workspace itself
        except (ArtifactDBError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            refused.append((folder.named(source), str(error)))
    return taken, refused


def _sources(folder: Folder) -> Iterator[tuple[str, Path]]:
    """Give the entries; what leads outside too, to be refused by its name."""
    for kind in KINDS:
        place = folder.path / "library" / ("templates" if kind == "template" else f"trained/{kind}")
        if not folder.holds(place):
            yield kind, place
            continue
        for source in sorted(place.glob("*.json" if kind == "template" else "*")):
            if kind == "template" or any(source.glob(_METADATA)):
                yield kind, source


def _take(database: Database, kind: str, folder: Folder, source: Path, *, trust: bool) -> bool:
    folder.within(source)
    described = folder.json(source if kind == "template" else source / _METADATA)
    if not isinstance(described, Mapping):
        raise InvalidValueError(f"{source.name} is no description of an entry.")
    name = str(described.get("name") or source.stem)
    records = [] if kind == "template" else _records(database, folder, source, trust=trust)
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
        entry.metrics = _metrics(described.get("metrics"))
    else:
        entry.config = json_text(_read_if_there(folder, source / "pipeline.json"))
        entry.metrics = _metrics(_read_if_there(folder, source / "metrics.json"))
        entry.content = json_text(_read_if_there(folder, source / "content.json"))
    files = {
        file.name: Content([Segment(folder.content(file))])
        for file in (sorted(folder.within(source / "files").glob("*")) if kind != "template" else ())
    }
    if entries.found(database, kind=kind, name=name):
        key = entries.key_of(database, kind, name)
        theirs = [record for record, _ in records]
        if not entries.is_replaced_by(database, entries.artifacts_of(database, key), theirs):
            _require_same(database, key, entry, theirs, files)
            return False
        entries.delete(database, kind, name)
    entry.artifacts = [_take_artifact(database, record, file, folder, source) for record, file in records]
    entry.files = {file: keep_content(database, content) for file, content in files.items()}
    entries.save(database, entry)
    return True


def _require_same(
    database: Database, key: int, entry: Entry, records: Sequence[ArtifactRecord], files: Mapping[str, Content]
) -> None:
    """Refuse an entry that differs from the one of its name.

    Raises
    ------
    DuplicateError
    """
    given: dict[str, Any] = {
        "description": entry.description, "category": entry.category, "tags": tags_json(entry.tags),
        "config": entry.config, "metrics": entry.metrics, "source": entry.source, "n_features": entry.n_features,
        "content": entry.content,
    }  # fmt: skip
    row = database.rows(f"SELECT {', '.join(given)} FROM library_entries WHERE entry_key = ?", (key,))[0]
    present: dict[str, Any] = dict(zip(given, row, strict=True))
    for each, kept in ((given, records), (present, entries.artifacts_of(database, key))):
        for name in ("config", "metrics", "content"):  # whatever the order of keys, and 1 is 1.0
            each[name] = json.loads(each[name] or "null")
        each["artifacts"] = [(record.artifact_id, record.content_hash, record.format) for record in kept]
    given["files"] = {name: blobs.find(database, content.digest) for name, content in files.items()}
    present["files"] = entries.files_of(database, key)
    differ = [name for name in given if given[name] != present[name]]
    if differ:
        raise DuplicateError(
            f"the library has a {entry.kind} {entry.name!r} already, with other {', '.join(differ)}.",
            hint="What is there stays; import into a new workspace.",
        )


def _records(database: Database, folder: Folder, source: Path, *, trust: bool) -> list[tuple[ArtifactRecord, str]]:
    """Give the records of an entry; signed where the user trusts it."""
    items = _read_if_there(folder, source / "artifacts.json") or []
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise InvalidValueError("artifacts.json holds no list of records.")
    records = []
    for item in items:
        record, _ = record_of(item, str(item.get("dataset") or ""), "")
        if trust:
            record.signature = str(signer_of(database).sign(record.artifact_id, record.content_hash, record.format))
        records.append((record, str(item.get("file") or "")))
    return records


def _take_artifact(
    database: Database, record: ArtifactRecord, name: str, folder: Folder, source: Path
) -> tuple[dict[str, Any], int]:
    """Store the content of a record, which is what the record says; give both."""
    if not record.content_hash:
        raise InvalidValueError(f"the record of {record.artifact_id} has no hash.")
    content = artifact_content(
        folder.find(name, [source]), record.format, lambda part: folder.find(f"_binaries/{part}.bin", [source]),
        record.content_hash,
    )  # fmt: skip
    record.size_bytes = content.total_bytes
    return record.to_dict(), keep_content(database, content)


def _metrics(value: Any) -> str | None:
    """Give metrics by partition, as JSON; what other programs keep otherwise is left out."""
    kept: dict[str, dict[str, Any]] = {}
    for partition, numbers in value.items() if isinstance(value, Mapping) else ():
        if isinstance(numbers, Mapping):
            kept[str(partition)] = {
                str(name): number for name, number in numbers.items() if isinstance(number, int | float | str)
            }
    return json_text(kept, canonical=True)


def _read_if_there(folder: Folder, path: Path) -> Any:
    return folder.json(path) if path.exists() else None
