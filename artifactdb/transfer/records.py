"""Records of another workspace come in: datasets, chains, parameters, pipelines, artifacts and what they depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from artifactdb.artifacts import history
from artifactdb.artifacts.dependencies import sources_first
from artifactdb.artifacts.parameters import values
from artifactdb.artifacts.save import key_of_dataset
from artifactdb.chain import compute_chain_hash
from artifactdb.database import Database, Snapshot
from artifactdb.errors import InvalidValueError
from artifactdb.records import ArtifactRecord
from artifactdb.transfer.conflicts import Merge, is_earlier
from artifactdb.transfer.keys import AT_ONCE, Keys
from artifactdb.trust.signing import Signature, is_own

_BRANCH = re.compile(r"(\d+(\.\d+)*)?")
_COLUMNS = (
    "dataset_key", "pipeline_key", "artifact_id", "chain_key", "step_index", "substep_index", "source_index",
    "branch_path", "fold_id", "artifact_type", "class_name", "custom_name", "parameter_set_key", "meta_config",
    "blob_key", "format", "format_version", "environment_key", "created_at", "signer_key", "signature",
)  # fmt: skip
_LIST = ", ".join(_COLUMNS)
_IGNORED = {_COLUMNS.index(name) for name in ("environment_key", "created_at", "signer_key", "signature")}
_SIGNER = _COLUMNS.index("signer_key")
_BLOB, _CREATED = _COLUMNS.index("blob_key"), _COLUMNS.index("created_at")
_THEIRS = f"SELECT record_key, {_LIST} FROM records ORDER BY record_key"
_OURS = f"SELECT record_key, {_LIST} FROM records WHERE artifact_id IN (SELECT value FROM json_each(?))"
_SOURCES = """
SELECT rs.record_key, s.artifact_id FROM record_sources AS rs JOIN records AS s ON s.record_key = rs.source_key
WHERE rs.record_key IN (SELECT value FROM json_each(?)) ORDER BY rs.record_key, rs.position
"""
_INSERT = f"INSERT INTO records (record_key, {_LIST}) VALUES (?, {', '.join('?' * len(_COLUMNS))})"
_UPDATE = f"UPDATE records SET {', '.join(f'{name} = ?' for name in _COLUMNS)} WHERE record_key = ?"
_EDGES = """
SELECT record_key, position, source_key FROM record_sources
WHERE record_key IN (SELECT value FROM json_each(?)) ORDER BY record_key, position
"""
_DEPENDENTS = """
SELECT rs.record_key, r.artifact_id, s.artifact_id FROM record_sources AS rs
JOIN records AS r ON r.record_key = rs.record_key JOIN records AS s ON s.record_key = rs.source_key
WHERE rs.source_key IN (SELECT value FROM json_each(?)) ORDER BY rs.record_key, rs.position
"""


def take_shared_values(source: Snapshot, target: Database, keys: Keys) -> None:
    """Take in what records name: datasets, pipelines, chains, parameters and environments, each once."""
    for key, name in source.rows("SELECT dataset_key, name FROM datasets ORDER BY dataset_key"):
        keys.datasets[key] = key_of_dataset(target, name)
    _take_pipelines(source, target, keys)
    keys.environments |= _by_text(source, target, "environments", "environment_key", ("versions",))
    keys.chains |= _by_text(source, target, "chains", "chain_key", ("chain_path", "chain_hash"))
    known = target.value("SELECT coalesce(max(parameter_set_key), 0) FROM parameter_sets")
    keys.parameter_sets = _by_text(source, target, "parameter_sets", "parameter_set_key", ("parameters",))
    new = target.rows("SELECT parameter_set_key, parameters FROM parameter_sets WHERE parameter_set_key > ?", (known,))
    target.run_many(
        "INSERT INTO parameter_values (parameter_set_key, name, value) VALUES (?, ?, ?)",
        [(key, name, value) for key, text in new for name, value in values(text)],
    )


def _by_text(source: Snapshot, target: Database, table: str, key: str, columns: Sequence[str]) -> dict[Any, Any]:
    """Take in the rows of a table whose first column tells them apart, those that records or runs name."""
    found: dict[Any, Any] = {}
    used = " UNION ".join(
        f"SELECT {key} FROM {user}" for user in ("records", *(("run_entries",) if table == "environments" else ()))
    )
    for batch in source.batches(
        f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} IN ({used}) ORDER BY {key}", (), AT_ONCE
    ):
        for row in batch:
            _require(table, row[1:])
        marks = ", ".join("?" * len(columns))
        target.run_many(
            f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", [row[1:] for row in batch]
        )
        texts = json.dumps([row[1] for row in batch])
        present: dict[str, int] = dict(
            target.rows(
                f"SELECT {columns[0]}, {key} FROM {table} WHERE {columns[0]} IN (SELECT value FROM json_each(?))",
                (texts,),
            )
        )
        found |= {row[0]: present[row[1]] for row in batch}
    return found


def _require(table: str, columns: tuple[Any, ...]) -> None:
    """Refuse what a file of ours never holds."""
    is_chain = table == "chains"
    if not (compute_chain_hash(columns[0]) == columns[1] if is_chain else _is_object(columns[0])):
        raise InvalidValueError(f"{table} holds {str(columns[0])[:80]!r}, which artifactdb did not write.")


def _take_pipelines(source: Snapshot, target: Database, keys: Keys) -> None:
    for batch in source.batches(
        "SELECT pipeline_key, dataset_key, pipeline_id, created_at FROM pipelines ORDER BY pipeline_key", (), AT_ONCE
    ):
        rows = [(keys.datasets[dataset], pipeline_id, created) for _, dataset, pipeline_id, created in batch]
        target.run_many(
            "INSERT INTO pipelines (dataset_key, pipeline_id, created_at) VALUES (?, ?, ?) "
            "ON CONFLICT (dataset_key, pipeline_id) DO UPDATE SET created_at = min(created_at, excluded.created_at)",
            rows,
        )
        present = {
            (dataset, name): key
            for key, dataset, name in target.rows(
                "SELECT pipeline_key, dataset_key, pipeline_id FROM pipelines "
                "WHERE pipeline_id IN (SELECT value FROM json_each(?))",
                (json.dumps([row[1] for row in rows]),),
            )
        }
        keys.pipelines |= {given[0]: present[row[0], row[1]] for given, row in zip(batch, rows, strict=True)}


def take_records(
    source: Snapshot, target: Database, keys: Keys, merge: Merge
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Take in records; their content, and what they name, is there already.

    Gives the keys, in the source, of those that are new, of those that replaced another, of those whose signature
    alone came in, and of those for which ours stayed.
    """
    new_keys = history.new_keys(target)
    new: list[int] = []
    replaced: list[int] = []
    signed: list[int] = []
    stayed: list[int] = []
    for batch in source.batches(_THEIRS, (), AT_ONCE):
        mapped = [(row[0], _mapped(row[1:], keys)) for row in batch]
        ids = json.dumps([columns[2] for _, columns in mapped])
        present = {(row[1], row[3]): row for row in target.rows(_OURS, (ids,))}
        our_sources = _sources_of(target, [row[0] for row in present.values()])
        their_sources = _sources_of(source, [key for key, columns in mapped if (columns[0], columns[2]) in present])
        inserted, updated = [], []
        for their_key, columns in mapped:
            ours = present.get((columns[0], columns[2]))
            if ours is None:
                keys.records[their_key] = next(new_keys)
                inserted.append((keys.records[their_key], *columns))
                new.append(their_key)
                continue
            keys.records[their_key] = ours[0]
            own = ours[1:]
            same_sources = our_sources.get(ours[0]) == their_sources.get(their_key)
            if _compared(own) == _compared(columns) and same_sources:
                merge.count("artifacts", same=1)
                # Who signed ours vouches for the same content; nobody's becomes theirs, a stranger's the user's own.
                same_signer = own[_SIGNER:] == columns[_SIGNER:]
                takes = not same_signer and (
                    own[_SIGNER] is None or (_is_own(target, columns) and not _is_own(target, own))
                )
                if takes:
                    signed.append(their_key)
                kept = columns if takes else (*columns[:_SIGNER], *own[_SIGNER:])
                is_older = is_earlier(columns[_CREATED], own[_CREATED])
                if is_older or kept[_SIGNER:] != own[_SIGNER:]:
                    oldest = (columns if is_older else own)[_CREATED]
                    updated.append((*kept[:_CREATED], oldest, *kept[_CREATED + 1 :], ours[0]))
            elif merge.theirs_wins("artifact", columns[2], _side(target, own), _side(target, columns)):
                updated.append((*columns, ours[0]))
                replaced.append(their_key)
            else:
                stayed.append(their_key)
        target.run_many(_INSERT, inserted)
        target.run_many(_UPDATE, updated)
        merge.count("artifacts", new=len(inserted))
    for table in ("record_sources", "run_records"):  # theirs come instead
        target.run_many(f"DELETE FROM {table} WHERE record_key = ?", [(keys.records[key],) for key in replaced])
    changed = new + replaced
    new_edges: dict[int, list[int]] = {}
    for first in range(0, len(changed), AT_ONCE):
        edges = source.rows(_EDGES, (json.dumps(changed[first : first + AT_ONCE]),))
        mapped_edges = [(keys.records[record], position, keys.records[key]) for record, position, key in edges]
        target.run_many("INSERT INTO record_sources (record_key, position, source_key) VALUES (?, ?, ?)", mapped_edges)
        for record, _, source_key in mapped_edges:
            new_edges.setdefault(record, []).append(source_key)
    _refuse_cycles(target, new_edges, everything=bool(replaced))
    still_ours = [keys.records[key] for key in stayed]
    came, theirs = {keys.records[key] for key in changed}, {*keys.records.values()} - {*still_ours}
    merge.notes += [
        f"{artifact_id} of theirs depends on {source}, of which ours was kept"
        for key, artifact_id, source in _dependents(target, still_ours)
        if key in came
    ]
    merge.notes += [
        f"{artifact_id} of ours depends on {source}, which is theirs now"
        for key, artifact_id, source in _dependents(target, [keys.records[key] for key in replaced])
        if key not in theirs
    ]
    return new, replaced, signed, stayed


def _sources_of(state: Snapshot | Database, keys: list[int]) -> dict[int, list[str]]:
    """Give the ids that records depend on directly, in their order; nothing for a record that depends on none."""
    sources: dict[int, list[str]] = {}
    for key, artifact_id in state.rows(_SOURCES, (json.dumps(keys),)) if keys else ():
        sources.setdefault(key, []).append(artifact_id)
    return sources


def _dependents(target: Database, keys: list[int]) -> list[tuple[int, str, str]]:
    """Give what depends on records directly: its key, its id, and that of the record."""
    return target.rows(_DEPENDENTS, (json.dumps(keys),)) if keys else []


def _refuse_cycles(target: Database, edges: dict[int, list[int]], *, everything: bool) -> None:
    """Raise when what came in leads back to itself; a replaced record may close a circle through what was here."""
    if everything:
        for record, source in target.rows("SELECT record_key, source_key FROM record_sources"):
            edges.setdefault(record, []).append(source)
    sources_first(target, edges)


def _mapped(row: tuple[Any, ...], keys: Keys) -> tuple[Any, ...]:
    named = dict(zip(_COLUMNS, row, strict=True))
    named["dataset_key"] = keys.datasets[named["dataset_key"]]
    named["pipeline_key"] = keys.pipelines[named["pipeline_key"]]
    named["chain_key"] = keys.chains[named["chain_key"]]
    named["parameter_set_key"] = keys.parameter_sets[named["parameter_set_key"]]
    named["blob_key"] = keys.blobs[named["blob_key"]]
    named["environment_key"] = keys.environments[named["environment_key"]]
    named["signer_key"] = keys.signers[named["signer_key"]]
    if not _BRANCH.fullmatch(named["branch_path"]) or not _is_object(named["meta_config"] or "{}"):
        raise InvalidValueError(f"the record of {named['artifact_id']!r} is not one that artifactdb wrote.")
    return tuple(named.values())


@lru_cache(maxsize=1024)
def _is_object(text: str) -> bool:
    return isinstance(json.loads(text), dict)


def _compared(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value for position, value in enumerate(columns) if position not in _IGNORED)


def _is_own(target: Database, columns: tuple[Any, ...]) -> bool:
    """Tell whether the user signed a record, of which the keys are those of the target."""
    named = dict(zip(_COLUMNS, columns, strict=True))
    row = target.row("SELECT key_id, material FROM signers WHERE signer_key = ?", (named["signer_key"],))
    if row is None or not isinstance(named["signature"], bytes):
        return False
    signature = str(Signature(row[0], row[1], named["signature"]))
    record = ArtifactRecord(
        named["artifact_id"], _side(target, columns)[1], format=named["format"], signature=signature
    )
    return is_own(target, record)


def _side(target: Database, columns: tuple[Any, ...]) -> tuple[str, str]:
    digest = target.value("SELECT lower(hex(content_hash)) FROM blobs WHERE blob_key = ?", (columns[_BLOB],))
    return columns[_CREATED], f"sha256:{digest}"
