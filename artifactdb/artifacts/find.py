"""Look records up: by id, chain, step, hash or filter. Each question is one query that an index answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from artifactdb.artifacts import parameters
from artifactdb.artifacts.place import branch_indexes
from artifactdb.chain import OperatorChain, OperatorNode
from artifactdb.database import Database
from artifactdb.database.querying import plain
from artifactdb.database.translate import interprets
from artifactdb.errors import ArtifactNotFoundError, InvalidValueError
from artifactdb.ids import LegacyId, agreeing_fold, generate_filename, parse_legacy_id, validate_count
from artifactdb.records import ArtifactRecord, ArtifactType, MetaModelConfig
from artifactdb.trust.signing import SIGNATURE_TEXT

RECORD = f"""
SELECT
  r.record_key, r.artifact_id, d.name, p.pipeline_id, c.chain_path, r.step_index, r.substep_index, r.source_index,
  r.branch_path, r.fold_id, r.artifact_type, r.class_name, r.custom_name, s.parameters, r.meta_config,
  lower(hex(b.content_hash)), r.format, r.format_version, e.versions, r.created_at,
  b.size_bytes + coalesce((
    SELECT sum(size_bytes) FROM blobs
    WHERE blob_key IN (SELECT part_key FROM blob_parts WHERE blob_key = r.blob_key)), 0),
  (SELECT json_group_array(artifact_id) FROM (
    SELECT source.artifact_id FROM record_sources AS rs JOIN records AS source ON source.record_key = rs.source_key
    WHERE rs.record_key = r.record_key ORDER BY rs.position)),
  r.blob_key,
  {SIGNATURE_TEXT}
FROM records AS r
JOIN datasets AS d ON d.dataset_key = r.dataset_key
JOIN pipelines AS p ON p.pipeline_key = r.pipeline_key
JOIN parameter_sets AS s ON s.parameter_set_key = r.parameter_set_key
JOIN environments AS e ON e.environment_key = r.environment_key
JOIN blobs AS b ON b.blob_key = r.blob_key
LEFT JOIN signers AS g ON g.signer_key = r.signer_key
LEFT JOIN chains AS c ON c.chain_key = r.chain_key
"""
ORDER = " ORDER BY r.step_index, r.branch_path, r.source_index, r.substep_index, r.fold_id, r.record_key"

KEPT = """
SELECT kept.record, 'sha256:' || lower(hex(b.content_hash)) FROM library_artifacts AS kept
JOIN blobs AS b ON b.blob_key = kept.blob_key
"""
"""The records that the library keeps, each with the hash of the content that is there, whatever it claims."""

BY_ID = RECORD + "WHERE r.artifact_id = ?"
BY_DATASET_AND_ID = (
    RECORD + "WHERE r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?) AND r.artifact_id = ?"
)
BY_KEY = RECORD + "WHERE r.record_key = ?"
BY_KEYS = RECORD + "WHERE r.record_key IN (SELECT value FROM json_each(?))"
BY_HASH = RECORD + "WHERE b.content_hash = ? ORDER BY r.record_key"
BY_CHAIN = RECORD + "WHERE c.chain_path = ? ORDER BY r.record_key DESC"
BY_CHAIN_AND_FOLD = RECORD + "WHERE c.chain_path = ? AND r.fold_id = ? ORDER BY r.record_key DESC"


class StoredRecord(ArtifactRecord):
    """A record together with where its content lies in this file."""

    record_key: int
    blob_key: int


@interprets
def from_row(row: Sequence[Any]) -> StoredRecord:
    """Make a record of a row of ``RECORD``."""
    (record_key, artifact_id, dataset, pipeline_id, chain_path, step_index, substep_index, source_index,
     branch_path, fold_id, artifact_type, class_name, custom_name, parameters, meta_config,
     content_hash, format, format_version, versions, created_at, size_bytes, depends_on, blob_key,
     signature) = row  # fmt: skip
    record = stored_record(
        record_key, artifact_id, dataset, pipeline_id, chain_path or "", step_index, substep_index, source_index,
        [int(part) for part in branch_path.split(".")] if branch_path else [], fold_id,
        artifact_type, class_name, custom_name, json.loads(parameters),
        MetaModelConfig.from_dict(json.loads(meta_config)) if meta_config else None,
        content_hash, format, format_version, _environment(versions).copy(), created_at, size_bytes,
        json.loads(depends_on), blob_key, signature or "",
    )  # fmt: skip
    _require_types(record)
    return record


def stored_record(
    record_key: int, artifact_id: str, dataset: str, pipeline_id: str, chain_path: str, step_index: int,
    substep_index: int | None, source_index: int | None, branch_path: list[int], fold_id: int | None,
    artifact_type: str, class_name: str, custom_name: str, parameters: dict[str, Any],
    meta_config: MetaModelConfig | None, content_hash: str, format: str, format_version: str,
    versions: dict[str, str], created_at: str, size_bytes: int, depends_on: list[str], blob_key: int, signature: str,
) -> StoredRecord:  # fmt: skip
    """Make a record of what the columns of ``RECORD`` mean, in their order; the hash without its prefix."""
    content_hash = f"sha256:{content_hash}"
    record = StoredRecord(
        artifact_id=artifact_id,
        content_hash=content_hash,
        path=generate_filename(artifact_type, class_name, content_hash, extension_of(format)),
        chain_path=chain_path,
        source_index=source_index,
        pipeline_id=pipeline_id,
        branch_path=branch_path,
        step_index=step_index,
        substep_index=substep_index,
        fold_id=fold_id,
        artifact_type=artifact_type,
        class_name=class_name,
        custom_name=custom_name,
        depends_on=depends_on,
        format=format,
        format_version=format_version,
        nirs4all_version=versions.get("nirs4all", ""),
        size_bytes=size_bytes,
        created_at=created_at,
        params=parameters,
        meta_config=meta_config,
        dataset=dataset,
        artifactdb_version=versions.get("artifactdb", ""),
        environment=versions,
        signature=signature,
    )
    record.record_key = record_key
    record.blob_key = blob_key
    return record


@lru_cache(maxsize=64)
def _environment(versions: str) -> dict[str, str]:
    # Remembered because whole studies have the same few.
    found: dict[str, str] = json.loads(versions)
    return found


def _require_types(record: ArtifactRecord) -> None:
    """Refuse what a damaged or made-up row gives, here rather than wherever it is used."""
    texts = (record.artifact_id, record.dataset, record.pipeline_id, record.artifact_type, record.class_name,
             record.custom_name, record.format, record.path, record.content_hash, *record.depends_on)  # fmt: skip
    right = all(isinstance(text, str) for text in texts)
    if not (right and isinstance(record.environment, dict) and isinstance(record.params, dict)):
        raise TypeError("a record with other types than its columns have")


def from_json(text: str, blob_key: int = 0) -> StoredRecord:
    """Make a record of the JSON in which an entry of the library keeps it; it has no row of its own."""
    record = StoredRecord(**vars(ArtifactRecord.from_dict(json.loads(text))))
    _require_types(record)
    record.record_key, record.blob_key = 0, blob_key
    return record


def extension_of(format_: str) -> str:
    """Give the file extension of a format, without importing its serializer's library."""
    return {"pickle5": "adb", "pickle": "pkl", "cloudpickle": "pkl", "arrow": "arrows"}.get(format_, format_)


def by_id(database: Database, artifact_id: str, dataset: str | None = None) -> StoredRecord | None:
    """Give the record of an id, an id of an older scheme included, or None.

    Raises
    ------
    InvalidValueError
        When no dataset is given and the id is there in several.
    """
    if not isinstance(artifact_id, str):
        raise InvalidValueError(f"an artifact id is a string, not {type(artifact_id).__name__}.")
    if dataset is None:
        rows = database.rows(BY_ID, (artifact_id,))
    else:
        rows = database.rows(BY_DATASET_AND_ID, (dataset, artifact_id))
    if len(rows) > 1:
        raise InvalidValueError(
            f"{artifact_id!r} is there in the datasets {', '.join(sorted(row[2] for row in rows))}.",
            hint="Say which one with dataset= (--dataset).",
        )
    if rows:
        return from_row(rows[0])
    legacy = parse_legacy_id(artifact_id)
    return _by_legacy_id(database, legacy, dataset) if legacy is not None else None


_NEAR = """
SELECT r.artifact_id, d.name FROM records AS r JOIN datasets AS d ON d.dataset_key = r.dataset_key
WHERE r.artifact_id >= ? AND r.artifact_id < ? ORDER BY r.artifact_id, d.name LIMIT 20
"""


def require(database: Database, artifact_id: str, dataset: str | None) -> StoredRecord:
    """Give the record of an id.

    Raises
    ------
    ArtifactNotFoundError
        A KeyError, which says what the chain of the id does have.
    """
    record = by_id(database, artifact_id, dataset)
    if record is not None:
        return record
    shown = artifact_id if len(artifact_id) <= 100 else artifact_id[:97] + "..."
    stem = artifact_id.rpartition(":")[0]
    there = database.rows(_NEAR, (f"{stem}:", f"{stem};"))
    elsewhere = ", ".join(name for found, name in there if found == artifact_id)
    folds = ", ".join(found.rpartition(":")[2] for found, name in there if dataset in (None, name)) if stem else ""
    where = f"{database.path.name}" + (f", dataset {dataset!r}" if dataset is not None else "")
    if elsewhere:
        hint = f"It is of {elsewhere}."
    else:
        hint = f"That chain has the folds {folds}." if folds else "`artifactdb ls` lists what is there."
    raise ArtifactNotFoundError(f"{shown!r} is not in {where}.", hint=hint)


def _by_legacy_id(database: Database, legacy: LegacyId, dataset: str | None) -> StoredRecord | None:
    """Find by position: pipelines were named by their number alone, or in full."""
    matches = filtered(
        database, dataset=dataset, pipeline_number=legacy.pipeline_id, step_index=legacy.step_index,
        fold_id=legacy.fold_id, shared_only=legacy.fold_id is None,
    )  # fmt: skip
    for record in matches:
        branch_fits = not legacy.branch_path or list(legacy.branch_path) == record.branch_path
        if branch_fits and (legacy.substep_index is None or legacy.substep_index == record.substep_index):
            return record
    return None


def by_hash(database: Database, content_hash: str) -> StoredRecord | None:
    """Give the first record with that content ("sha256:" or bare hex), or None."""
    try:
        digest = bytes.fromhex(content_hash.removeprefix("sha256:"))
    except (ValueError, AttributeError):
        return None
    row = database.row(BY_HASH, (digest,))
    return from_row(row) if row else None


def read_chain(chain: str | OperatorChain) -> tuple[str, OperatorNode]:
    """Give the path of a chain, checked, and its last operator."""
    if isinstance(chain, OperatorChain):
        chain = chain.to_path()
    elif not isinstance(chain, str):
        raise InvalidValueError(f"a chain is a string or an OperatorChain, not {type(chain).__name__}.")
    # What can be read is printed back as it was, so the text is its own canonical form.
    return chain, _last_operator(chain)


@lru_cache(maxsize=256)
def _last_operator(chain_path: str) -> OperatorNode:
    # Remembered because each fold comes with the same chain; who asks does not change the answer.
    return OperatorChain.from_path(chain_path).nodes[-1]


def chain_text(chain: str | OperatorChain) -> str:
    """Give the path of a chain, checked."""
    return read_chain(chain)[0]


def by_chain(
    database: Database,
    chain: str | OperatorChain,
    fold_id: int | None,
    dataset: str | None,
    pipeline_id: str = "",
) -> StoredRecord | None:
    """Give the record of a chain and fold, which the chain may name itself.

    Without a fold: what all folds share, else the first fold. The pipeline's own comes first, then the newest.
    """
    fold_id = agreeing_fold(chain, fold_id)
    path = chain.to_path() if isinstance(chain, OperatorChain) else chain
    rows = database.rows(BY_CHAIN, (path,)) if fold_id is None else database.rows(BY_CHAIN_AND_FOLD, (path, fold_id))
    rows = [row for row in rows if dataset is None or row[2] == dataset]
    rows.sort(key=lambda row: (row[3] != pipeline_id, row[9] is not None, row[9] or 0))
    return from_row(rows[0]) if rows else None


def filtered(
    database: Database,
    *,
    dataset: str | None = None,
    pipeline_id: str | None = None,
    pipeline_number: str | None = None,
    step_index: int | None = None,
    branch_path: Sequence[int] | None = None,
    source_index: int | None = None,
    fold_id: int | None = None,
    shared_only: bool = False,
    folds_only: bool = False,
    artifact_type: str | None = None,
    class_name: str | None = None,
    custom_name: str | None = None,
    parameter: tuple[str, Any] | None = None,
    chain_prefix: str | OperatorChain | None = None,
    limit: int | None = None,
) -> list[StoredRecord]:
    """Give the records that meet every condition; None matches anything."""
    sql, values = filter_sql(
        {name: value for name, value in locals().items() if name not in ("database", "limit")}, limit
    )
    return [from_row(row) for row in database.rows(sql, values)]


_CONDITIONS = {
    # The plus keeps the planner from walking the whole dataset where another condition selects more.
    "dataset": "+r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)",
    "pipeline_id": "r.pipeline_key IN (SELECT pipeline_key FROM pipelines WHERE pipeline_id = ?)",
    "step_index": "r.step_index = ?",
    "branch_path": "r.branch_path = ?",
    "source_index": "r.source_index = ?",
    "fold_id": "r.fold_id = ?",
    "artifact_type": "r.artifact_type = ?",
    "class_name": "r.class_name = ?",
    "custom_name": "r.custom_name = ? AND r.custom_name <> ''",  # as the partial index has it
}


def filter_sql(criteria: dict[str, Any], limit: int | None = None) -> tuple[str, list[Any]]:
    """Build the query for criteria; the one place where SQL is put together from parts."""
    conditions: list[str] = []
    values: list[Any] = []
    narrowing = ("pipeline_id", "pipeline_number", "class_name", "custom_name", "parameter", "chain_prefix")
    narrowed = any(criteria.get(name) is not None for name in narrowing)
    for name, condition in _CONDITIONS.items():
        value = criteria.get(name)
        if value is not None:
            conditions.append(condition if narrowed else condition.lstrip("+"))
            values.append(".".join(map(str, branch_indexes(value))) if name == "branch_path" else plain(value))
    number = criteria.get("pipeline_number")
    if number is not None:
        conditions.append(
            "r.pipeline_key IN (SELECT pipeline_key FROM pipelines WHERE pipeline_id = ? UNION ALL "
            "SELECT pipeline_key FROM pipelines AS p WHERE p.pipeline_id >= ? AND p.pipeline_id < ? AND NOT EXISTS "
            "(SELECT 1 FROM pipelines AS named WHERE named.dataset_key = p.dataset_key AND named.pipeline_id = ?))"
        )
        values += [number, f"{number}_", f"{number}`", number]  # the character after _
    prefix = criteria.get("chain_prefix")
    if prefix is not None:
        prefix = prefix.to_path() if isinstance(prefix, OperatorChain) else prefix
        # A prefix ends where an operator ends: s1.A is none of s1.AB.
        conditions.append(
            "r.chain_key IN (SELECT chain_key FROM chains WHERE chain_path = ? OR (chain_path >= ? AND chain_path < ?))"
        )
        values += [prefix, f"{prefix}>", f"{prefix}?"]  # the character after >
    parameter = criteria.get("parameter")
    if parameter is not None:
        conditions.append(
            "r.parameter_set_key IN (SELECT parameter_set_key FROM parameter_values WHERE name = ? AND value IS ?)"
        )
        if not isinstance(parameter, tuple | list) or len(parameter) != 2 or not isinstance(parameter[0], str):
            raise InvalidValueError(
                f"parameter is a name and a value, not {str(parameter)[:80]!r}.", hint="As ('n_components', 10)."
            )
        name, wanted = parameter
        values += [name, *(kept for _, kept in parameters.values(parameters.to_json({name: wanted})))]  # as it is kept
    if criteria.get("shared_only"):
        conditions.append("r.fold_id IS NULL")
    if criteria.get("folds_only"):
        conditions.append("r.fold_id IS NOT NULL")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    tail = ORDER
    if limit is not None:
        tail += " LIMIT ?"
        values.append(validate_count("limit (--limit)", limit))
    return RECORD + where + tail, values


def is_model(record: ArtifactRecord) -> bool:
    """Tell whether a record is a model or a meta-model."""
    return str(record.artifact_type) in (ArtifactType.MODEL.value, ArtifactType.META_MODEL.value)
