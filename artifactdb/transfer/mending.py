"""Rows that came out of a damaged workspace become whole again, or go: nothing dangles, and every blob has its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from artifactdb.artifacts import history
from artifactdb.artifacts.descriptions import Problem, is_chain_of
from artifactdb.artifacts.parameters import values
from artifactdb.blobs import store
from artifactdb.blobs.codec import decode, stored_chunk
from artifactdb.database import Database
from artifactdb.database.restoring import Restored
from artifactdb.errors import CorruptBlobError
from artifactdb.formats.container import parts_of
from artifactdb.transfer.rebuilding import rebuild_records
from artifactdb.transfer.recovery import Gone, Incomplete, Recovery

Progress = Callable[[int, int], None]
Lacking = list[tuple[int, str]]
"""Keys of records, and what of them is gone."""

_KINDS = {
    "records": "artifacts", "staged_predictions": "predictions", "staged_arrays": "arrays of predictions",
    "run_entries": "runs", "pipeline_metrics": "metrics", "library_entries": "library entries",
    "library_artifacts": "artifacts of library entries", "library_files": "files of library entries",
    "trained_pipelines": "descriptions of pipelines", "history": "events", "record_sources": "dependencies",
    "catalog_files": "files of the catalog", "workspace_signatures": "signatures", "parameter_sets": "parameter sets",
}  # fmt: skip
_RECORD = """
SELECT r.record_key, r.artifact_id, d.name, 'sha256:' || lower(hex(b.content_hash)), r.class_name, c.chain_path,
  s.parameters, r.created_at
FROM records AS r
LEFT JOIN datasets AS d USING (dataset_key) LEFT JOIN blobs AS b USING (blob_key)
LEFT JOIN chains AS c USING (chain_key)
LEFT JOIN parameter_sets AS s USING (parameter_set_key)
"""
_NAMES = "SELECT r.record_key, r.artifact_id, d.name FROM records AS r JOIN datasets AS d USING (dataset_key)"
_REFERENCES = """
SELECT t.name, f."from", c."notnull" OR c.pk OR t.name = 'deleted_predictions', f."table", p.name
FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f
JOIN pragma_table_info(t.name) AS c ON c.name = f."from"
JOIN pragma_table_info(f."table") AS p ON p.pk = 1
WHERE t.type = 'table'
"""
_UNUSABLE = "SELECT ?1 AS blob_key UNION SELECT blob_key FROM blob_parts WHERE part_key = ?1"


def mend(database: Database, restored: Restored, recovery: Recovery, progress: Progress | None = None) -> None:
    """Make whole what rows still tell, list and take out the rest. Runs within the caller's transaction."""
    _count_missing(restored, recovery)
    lacking: Lacking = rebuild_records(database, restored)
    _mend_chains(database, lacking)
    _mend_records(database, restored, lacking)
    _make_blobs_again(database, lacking)
    _check_blobs(database, recovery, lacking, progress)
    _let_go(database, recovery)
    _mend_parameter_values(database)
    _list_lost_records(database, restored, recovery)
    names = {key: (artifact_id, dataset) for key, artifact_id, dataset in database.rows(_NAMES)}
    recovery.incomplete += [Incomplete(*names[key], what) for key, what in dict.fromkeys(lacking) if key in names]
    if restored.guessed:
        recovery.notes.append(
            f"nothing leads to {restored.guessed} pages any more; what was deleted may be back with them"
        )


def _count_missing(restored: Restored, recovery: Recovery) -> None:
    """Count what else is gone: by the rows that an index remembers, else by what could not be read."""
    for table, kind in _KINDS.items():
        known, is_known = len(restored.missing.get(table, ())), table in restored.complete
        if table != "records":
            recovery.count_lost(kind, known if is_known else max(known, restored.entries.get(table, 0)))
        if not is_known:
            recovery.count_lost(f"pages of {kind}", len(restored.pages.get(table, ())))


def _mend_chains(database: Database, lacking: Lacking) -> None:
    """Let go of chains that are not what their hash, or the id of the record, says."""
    wrong = []
    for key, artifact_id, path, digest in database.rows(
        "SELECT record_key, artifact_id, chain_path, chain_hash FROM records JOIN chains USING (chain_key)"
    ):
        if not is_chain_of(artifact_id, path, digest):
            wrong.append((key,))
            lacking.append((key, "its chain is not what its id says"))
    database.run_many("UPDATE records SET chain_key = NULL WHERE record_key = ?", wrong)


def _mend_records(database: Database, restored: Restored, lacking: Lacking) -> None:
    """Give records that lost what they name something in its place, as their content is what counts."""
    for column, table, what, place in (
        ("dataset_key", "datasets", "the name of its dataset", _new_dataset),
        ("pipeline_key", "pipelines", "its pipeline", _new_pipeline),
        ("parameter_set_key", "parameter_sets", "its parameters", _no_parameters),
        ("environment_key", "environments", "the versions that wrote it", _no_versions),
        ("chain_key", "chains", "its chain", None),
        ("signer_key", "signers", "who signed it", None),
    ):
        dangling = database.rows(
            f"SELECT record_key, artifact_id, {column} FROM records "
            f"WHERE {column} NOT NULL AND {column} NOT IN (SELECT {column} FROM {table})"
        )
        for key, artifact_id, old in dangling:
            new = place(database, key, artifact_id, old) if place else None
            database.rows(f"UPDATE records SET {column} = ? WHERE record_key = ?", (new, key))
            lacking.append((key, f"{what} is gone"))
    database.rows("UPDATE records SET signature = NULL WHERE signer_key IS NULL")
    for key, source in database.rows(
        "SELECT record_key, source_key FROM record_sources WHERE source_key NOT IN (SELECT record_key FROM records)"
    ):
        name = restored.missing.get("records", {}).get((source,), {}).get("artifact_id", f"record {source}")
        lacking.append((key, f"{name!s}, which it depends on, is gone"))


def _new_dataset(database: Database, key: int, artifact_id: str, old: int) -> int:
    database.rows(
        "INSERT OR IGNORE INTO datasets (dataset_key, name, created_at) VALUES (?, ?, ?)",
        (old, f"recovered-{old}", history.now()),
    )
    return old


def _new_pipeline(database: Database, key: int, artifact_id: str, old: int) -> int:
    """Make the pipeline again, whose id begins that of the artifact."""
    dataset = database.value("SELECT dataset_key FROM records WHERE record_key = ?", (key,))
    pipeline_id = artifact_id.partition("$")[0]
    found = database.value(
        "SELECT pipeline_key FROM pipelines WHERE dataset_key = ? AND pipeline_id = ?", (dataset, pipeline_id)
    )
    return int(
        found
        or database.insert(
            "INSERT INTO pipelines (pipeline_key, dataset_key, pipeline_id, created_at) VALUES (?, ?, ?, ?)",
            (old, dataset, pipeline_id, history.now()),
        )
    )


def _no_parameters(database: Database, key: int, artifact_id: str, old: int) -> int:
    return _empty(database, "parameter_sets", "parameter_set_key", "parameters")


def _no_versions(database: Database, key: int, artifact_id: str, old: int) -> int:
    return _empty(database, "environments", "environment_key", "versions")


def _empty(database: Database, table: str, key: str, column: str) -> int:
    database.rows(f"INSERT OR IGNORE INTO {table} ({column}) VALUES ('{{}}')")
    return int(database.value(f"SELECT {key} FROM {table} WHERE {column} = '{{}}'"))


# -- content ----------------------------------------------------------------------------------------


def _check_blobs(database: Database, recovery: Recovery, lacking: Lacking, progress: Progress | None) -> None:
    """Compare each blob with its hash, and take out those that differ with what cannot do without them."""
    keys = [key for (key,) in database.rows("SELECT blob_key FROM blobs ORDER BY blob_key")]
    wrong = {}
    for done, key in enumerate(keys, start=1):
        reason = store.check(database, key)
        if reason and _list_parts_again(database, key):
            reason = store.check(database, key)
        if reason:
            wrong[key] = reason
        if progress:
            progress(done, len(keys))
    for key, reason in wrong.items():
        unusable = [unusable for (unusable,) in database.rows(_UNUSABLE, (key,))]
        for blob in unusable:
            _take_out(database, recovery, lacking, "r.blob_key = ?", (blob,), reason)
            for table, kind in (("library_artifacts", "artifacts"), ("library_files", "files")):
                gone = database.rows(f"DELETE FROM {table} WHERE blob_key = ? RETURNING 1", (blob,))
                recovery.count_lost(f"{kind} of library entries", len(gone))
        database.run_many("DELETE FROM blob_parts WHERE blob_key = ?", [(blob,) for blob in unusable])
        database.run_many("DELETE FROM blobs WHERE blob_key = ?", [(blob,) for blob in unusable])
    _take_out(
        database,
        recovery,
        lacking,
        "r.blob_key NOT IN (SELECT blob_key FROM blobs)",
        (),
        "the row of its content is gone",
    )


def _make_blobs_again(database: Database, lacking: Lacking) -> None:
    """Make the rows of blobs again of which only the chunks are left; nothing but a signature proves their hash."""
    for (key,) in database.rows(
        "SELECT DISTINCT blob_key FROM chunks WHERE blob_key NOT IN (SELECT blob_key FROM blobs)"
    ):
        hasher, size_bytes, stored_bytes, next_index = hashlib.sha256(), 0, 0, 0
        for (index,) in database.rows("SELECT chunk_index FROM chunks WHERE blob_key = ? ORDER BY 1", (key,)):
            row = database.rows(store.CHUNK, (key, index))[0]
            try:
                plain = decode(stored_chunk(*row))
            except CorruptBlobError:
                break
            if index != next_index:
                break
            hasher.update(plain)
            size_bytes, stored_bytes, next_index = size_bytes + len(plain), stored_bytes + len(row[3]), index + 1
        else:
            database.rows(
                "INSERT OR IGNORE INTO blobs (blob_key, content_hash, size_bytes, stored_bytes, created_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (key, hasher.digest(), size_bytes, stored_bytes, history.now()),
            )
            for (record,) in database.rows("SELECT record_key FROM records WHERE blob_key = ?", (key,)):
                lacking.append((record, "its hash is gone, and was made again of the content that is there"))


def _list_parts_again(database: Database, key: int) -> bool:
    """List the arrays of an object anew, which names them itself; give whether all are there."""
    chunk = database.row(store.CHUNK, (key, 0))
    try:
        named = [digest for digest, _ in parts_of(decode(stored_chunk(*chunk)))] if chunk else []
    except CorruptBlobError:
        return False
    found = [store.find(database, digest) for digest in named]
    if not named or None in found:
        return False
    database.rows("DELETE FROM blob_parts WHERE blob_key = ?", (key,))
    database.run_many(
        "INSERT INTO blob_parts (blob_key, position, part_key) VALUES (?, ?, ?)",
        [(key, position, part) for position, part in enumerate(found)],
    )
    return True


def _take_out(
    database: Database, recovery: Recovery, lacking: Lacking, where: str, parameters: Iterable[Any], reason: str
) -> None:
    """Take records out, and leave what was known of them in the history."""
    names = ("class_name", "chain_path", "parameters", "created_at")
    for key, artifact_id, dataset, content, *known in database.rows(f"{_RECORD} WHERE {where}", tuple(parameters)):
        recovery.gone.append(Gone(artifact_id, dataset or "", reason, content or "", has_record=True))
        details = {"content": content, "reason": reason, **dict(zip(names, known, strict=True))}
        for (dependent,) in database.rows(
            "DELETE FROM record_sources WHERE source_key = ? RETURNING record_key", (key,)
        ):
            lacking.append((dependent, f"{artifact_id}, which it depends on, is gone"))
        history.note_many(database, "lost", [(key, artifact_id, details)])
        database.rows("DELETE FROM records WHERE record_key = ?", (key,))


# -- the rest ---------------------------------------------------------------------------------------


def _let_go(database: Database, recovery: Recovery) -> None:
    """Take out what refers to a row that is gone, or let the reference go where there need be none."""
    references = database.rows(_REFERENCES)
    changed = True
    while changed:
        changed = False
        for table, column, required, parent, key in references:
            act = f"DELETE FROM {table}" if required else f"UPDATE {table} SET {column} = NULL"
            gone = database.rows(
                f"{act} WHERE {column} NOT NULL AND {column} NOT IN (SELECT {key} FROM {parent}) RETURNING 1"
            )
            changed = changed or bool(gone)
            if required and table in _KINDS:
                recovery.count_lost(_KINDS[table], len(gone))


def _mend_parameter_values(database: Database) -> None:
    """Write parameters one by one again, where they are not all there: the set has them."""
    for key, parameters in database.rows("SELECT parameter_set_key, parameters FROM parameter_sets"):
        database.rows("DELETE FROM parameter_values WHERE parameter_set_key = ?", (key,))
        if not parameters.startswith("{"):
            continue
        rows = [(key, name, value) for name, value in values(parameters)]
        database.run_many("INSERT INTO parameter_values (parameter_set_key, name, value) VALUES (?, ?, ?)", rows)


def _list_lost_records(database: Database, restored: Restored, recovery: Recovery) -> None:
    """List the records that only an index remembers."""
    for key, said in restored.missing.get("records", {}).items():
        blob = database.row(
            "SELECT 'sha256:' || lower(hex(content_hash)) FROM blobs WHERE blob_key = ?", (said.get("blob_key"),)
        )
        dataset = database.value("SELECT name FROM datasets WHERE dataset_key = ?", (said.get("dataset_key"),))
        artifact_id = str(said.get("artifact_id") or f"record {key[0]}")
        recovery.gone.append(
            Gone(artifact_id, dataset or "", "the page of its record is damaged", blob[0] if blob else "",
                 has_content=blob is not None)
        )  # fmt: skip


# -- in place ---------------------------------------------------------------------------------------


_EDGES = frozenset(("blob_parts", "deleted_predictions", "parameter_values", "record_sources", "run_records"))
"""Tables whose rows say nothing when an end of them is gone."""


_COUNT_AGAIN = """
UPDATE blobs SET stored_bytes = (SELECT coalesce(sum(length(payload)), 0) FROM chunks WHERE blob_key = ?1)
WHERE blob_key = ?1
"""


def plan_mending(database: Database, problems: Iterable[Problem]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Give what can be mended without a loss: what to say of it, statement and parameters."""
    plan: list[tuple[str, str, tuple[Any, ...]]] = []
    for table, column, _, parent, key in database.rows(_REFERENCES):
        where = f"{column} NOT NULL AND {column} NOT IN (SELECT {key} FROM {parent})"
        count = database.value(f"SELECT count(*) FROM {table} WHERE {where}") if table in _EDGES else 0
        if count:
            said = f"{count} rows of {table} that lead to no row of {parent} were taken out"
            plan.append((said, f"DELETE FROM {table} WHERE {where}", ()))
    for problem in problems:
        digest = problem.where.removeprefix("blob sha256:")
        key = store.find(database, bytes.fromhex(digest)) if digest != problem.where else None
        if key is not None and store.lists_other_parts(problem.what):
            plan.append((f"the arrays of blob sha256:{digest} were listed again", "", (key,)))
        elif key is not None and store.says_other_size(problem.what):
            plan.append((f"what blob sha256:{digest} takes was counted again", _COUNT_AGAIN, (key,)))
    return plan


def carry_out(database: Database, plan: Iterable[tuple[str, str, tuple[Any, ...]]]) -> list[str]:
    """Do what was planned, in one transaction, and give what to say of it."""
    said = []
    with database.transaction():
        for what, statement, parameters in plan:
            if statement:
                database.rows(statement, parameters)
            elif not _list_parts_again(database, *parameters):
                continue
            said.append(what)
        history.note(database, "repaired", details={"done": said})
    return said
