"""A trained entry becomes a workspace of its own, with runs, metrics, predictions and who signed it; the entry too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.restore import restore
from artifactdb.artifacts.save import INSERT_SIGNATURE, key_of_signer
from artifactdb.blobs import store as blobs
from artifactdb.blobs.copying import copy_blobs
from artifactdb.catalog.files import FINAL_NAMES
from artifactdb.catalog.inside import put_inside
from artifactdb.catalog.parquet import written_of
from artifactdb.database import Database, Snapshot
from artifactdb.database.making import new_workspace, scratch_folder
from artifactdb.library import entries
from artifactdb.library.entries import Entry
from artifactdb.runs.manifests import enter_pipeline, enter_run, json_text
from artifactdb.trust import signing

Progress = Callable[[int, int], None]

_SIGNATURES = """
SELECT s.statement, s.signature, g.scheme, g.key_id, g.material, g.name
FROM signatures AS s JOIN signers AS g ON g.signer_key = s.signer_key
WHERE s.statement IN (SELECT unhex(value) FROM json_each(?)) ORDER BY s.statement, s.signer_key
"""


def cut_out(database: Database, entry: dict[str, Any], target: Path, progress: Progress | None = None) -> Path:
    """Make a workspace of an entry."""
    with database.snapshot() as source:
        key = entries.key_of(database, entry["type"], entry["name"])
        records = entries.artifacts_of(database, key)
        kept = entries.files_of(database, key)
        content = entries.content_of(database, key)
        with new_workspace(target) as made, made.transaction():
            for run in content["runs"]:
                enter_run(made, run)
            for manifest in content["pipelines"]:
                enter_pipeline(made, manifest)
            keys = copy_blobs(source, made, [*(record.blob_key for record in records), *kept.values()], progress)
            for record in records:
                restore(made, record)
            _take_signatures(source, made, records)
            files = {name: keys[blob_key] for name, blob_key in kept.items()}
            _let_predictions_count(made, files)
            entries.save(made, _again(entry, content, records, keys, files))
    return target


def _again(
    entry: dict[str, Any],
    content: dict[str, Any],
    records: Sequence[StoredRecord],
    keys: dict[int, int],
    files: dict[str, int],
) -> Entry:
    alike = {field.name for field in fields(Entry)} & entry.keys() - {"artifacts", "metrics", "config", "source"}
    return Entry(
        kind=entry["type"],
        config=json_text(entry["config"]),
        metrics=json_text(entry["metrics"]),
        source=entry["source"] or "",
        content=None if entry["type"] == "template" else json.dumps(content, ensure_ascii=False),
        artifacts=[(record.to_dict(), keys[record.blob_key]) for record in records],
        files=files,
        **{name: entry[name] for name in alike},
    )


def _take_signatures(source: Snapshot, made: Database, records: Sequence[StoredRecord]) -> None:
    """Take in the signatures that anyone can check, of what the entry keeps."""
    said = [signing.statement(record.artifact_id, record.content_hash, record.format) for record in records]
    chosen = json.dumps([hashlib.sha256(statement).hexdigest() for statement in said])
    made.run_many(
        INSERT_SIGNATURE,
        [
            (statement, key_of_signer(made, *signer), signature)
            for statement, signature, *signer in source.rows(_SIGNATURES, (chosen,))
        ],
    )


def _let_predictions_count(made: Database, files: dict[str, int]) -> None:
    """Put the pair of Parquet files that a fullrun keeps to where the catalog looks for it."""
    for kind, name in FINAL_NAMES.items():
        if name in files:
            with scratch_folder() as folder:
                path = folder / name
                with path.open("wb") as stream:
                    stream.writelines(blobs.pieces(made, files[name]))
                put_inside(made, path, written_of(path, kind))
