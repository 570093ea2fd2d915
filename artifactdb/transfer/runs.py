"""Runs, what they say of pipelines, and the library of another workspace come in."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from artifactdb.artifacts.find import from_json
from artifactdb.artifacts.place import require_name
from artifactdb.artifacts.save import SETTLE
from artifactdb.database import Database, Snapshot
from artifactdb.errors import InvalidValueError
from artifactdb.library import entries
from artifactdb.transfer.conflicts import Merge
from artifactdb.transfer.keys import AT_ONCE, Keys

_RUN = (
    "run_id", "dataset_key", "name", "pipeline_id", "status", "started_at", "ended_at", "error", "process",
    "environment_key", "configuration", "metadata", "tags", "notes",
)  # fmt: skip
_PIPELINE = (
    "pipeline_key", "run_key", "name", "status", "started_at", "ended_at", "error", "configuration", "metadata", "tags",
    "notes",
)  # fmt: skip
_ENTRY = (
    "entry_type", "name", "description", "category", "tags", "config", "metrics", "source", "n_features", "content",
    "created_at", "saved_at",
)  # fmt: skip
_MADE_OUTSIDE = "SELECT record_key FROM records WHERE record_key NOT IN (SELECT record_key FROM run_records)"
_INSERT_MADE = """
INSERT OR IGNORE INTO run_records (run_key, record_key)
SELECT ?1, ?2 WHERE ?3 OR EXISTS (SELECT 1 FROM run_records WHERE record_key = ?2)
"""


def take_runs(source: Snapshot, target: Database, keys: Keys, merge: Merge) -> dict[int | None, int | None]:
    """Take in runs; give the key of the target for each of the source."""
    runs: dict[int | None, int | None] = {None: None}
    for run_key, *columns in source.rows(f"SELECT run_key, {', '.join(_RUN)} FROM run_entries ORDER BY run_key"):
        named = dict(zip(_RUN, columns, strict=True))
        named["dataset_key"] = keys.datasets[named["dataset_key"]]
        named["environment_key"] = keys.environments[named["environment_key"]]
        if named["status"] == "running":
            # Whoever carries it out does so in the other file; here nobody will end it.
            named |= {"status": "interrupted", "ended_at": named["ended_at"] or named["started_at"]}
        named["process"] = None
        key = {"run_id": named["run_id"], "dataset_key": named["dataset_key"]}
        runs[run_key] = _take(
            target, merge, "run", "run_entries", "run_key", key, named, named["run_id"],
            times=("ended_at",), ignored=("environment_key", "process"),
        )  # fmt: skip
    return runs


def take_run_records(
    source: Snapshot,
    target: Database,
    keys: Keys,
    runs: Mapping[int | None, int | None],
    came: Collection[int],
    stayed: Collection[int],
) -> None:
    """Take in which run made which record.

    What both sides made alike goes with the last of the unfinished runs of both, and with none where one side made it
    outside of one: taking back a run of one side must not take along what the other side made.

    Parameters
    ----------
    came, stayed : set of int
        Keys in the source of the records that came in, and of those for which another of ours stayed. The rest are
        the same here.
    """
    for batch in source.batches(_MADE_OUTSIDE, (), AT_ONCE):
        alike = [record for (record,) in batch if record not in came and record not in stayed]
        target.run_many(SETTLE, [(keys.records[record],) for record in alike])
    for batch in source.batches("SELECT run_key, record_key FROM run_records", (), AT_ONCE):
        target.run_many(
            _INSERT_MADE,
            [(runs[run], keys.records[record], record in came) for run, record in batch if record not in stayed],
        )


def take_trained_pipelines(
    source: Snapshot, target: Database, keys: Keys, runs: Mapping[int | None, int | None], merge: Merge
) -> None:
    """Take in what is known of pipelines; one that has ended is newer than one that was going on."""
    for pipeline_key, run_key, *columns in source.rows(
        f"SELECT {', '.join(_PIPELINE)} FROM trained_pipelines ORDER BY pipeline_key"
    ):
        values = (keys.pipelines[pipeline_key], runs[run_key], *columns)
        named = dict(zip(_PIPELINE, values, strict=True))
        if named["status"] == "running":
            named["status"] = "interrupted"
        own = {"pipeline_key": named["pipeline_key"]}
        name = target.value("SELECT pipeline_id FROM pipelines WHERE pipeline_key = ?", (named["pipeline_key"],))
        _take(
            target, merge, "pipeline", "trained_pipelines", "pipeline_key", own, named, name,
            times=("ended_at", "started_at"), ignored=(),
        )  # fmt: skip


def take_metrics(source: Snapshot, target: Database, keys: Keys, merge: Merge) -> None:
    """Take in metrics; one that differs follows the policy, where ``newer`` keeps ours: numbers bear no date."""
    for batch in source.batches(
        'SELECT pipeline_key, "partition", fold_id, metric, value FROM pipeline_metrics', (), AT_ONCE
    ):
        rows = [(keys.pipelines[key], *rest) for key, *rest in batch]
        present = {
            tuple(row[:4]): row[4]
            for row in target.rows(
                'SELECT pipeline_key, "partition", fold_id, metric, value FROM pipeline_metrics '
                "WHERE pipeline_key IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted({row[0] for row in rows})),),
            )
        }
        taken = []
        for row in rows:
            if row[:4] not in present:
                merge.count("metrics", new=1)
            elif present[row[:4]] == row[4]:
                merge.count("metrics", same=1)
                continue
            else:
                pipeline = target.value("SELECT pipeline_id FROM pipelines WHERE pipeline_key = ?", (row[0],))
                name = " ".join(str(part) for part in (pipeline, *row[1:4]) if part != "")
                sides = ("", str(present[row[:4]])), ("", str(row[4]))
                if not merge.theirs_wins("metric", name, *sides, dated=False):
                    continue
            taken.append(row)
        target.run_many("INSERT OR REPLACE INTO pipeline_metrics VALUES (?, ?, ?, ?, ?)", taken)


def take_library(source: Snapshot, target: Database, keys: Keys, merge: Merge) -> None:
    """Take in library entries with the content that they keep."""
    for entry_key, *columns in source.rows(f"SELECT entry_key, {', '.join(_ENTRY)} FROM library_entries"):
        named = dict(zip(_ENTRY, columns, strict=True))
        artifacts = [
            (position, record, keys.blobs[blob])
            for position, record, blob in source.rows(
                "SELECT position, record, blob_key FROM library_artifacts WHERE entry_key = ? ORDER BY position",
                (entry_key,),
            )
        ]
        files = [
            (name, keys.blobs[blob])
            for name, blob in source.rows(
                "SELECT name, blob_key FROM library_files WHERE entry_key = ? ORDER BY name", (entry_key,)
            )
        ]
        own = {"entry_type": named["entry_type"], "name": named["name"]}
        _require_entry(named, [record for _, record, _ in artifacts])
        before = len(merge.conflicts), merge.added.get("library entries", 0)
        vouched = _is_vouched_for(target, named, artifacts)
        key = _take(
            target, merge, "library entry", "library_entries", "entry_key", own, named, named["name"],
            times=("saved_at",), ignored=("created_at", "saved_at"), kept=(artifacts, files), wins=vouched,
        )  # fmt: skip
        is_new = merge.added.get("library entries", 0) > before[1]
        won = len(merge.conflicts) > before[0] and merge.conflicts[-1].kept == "theirs"
        if is_new or won or vouched:
            for table in ("library_artifacts", "library_files"):
                target.rows(f"DELETE FROM {table} WHERE entry_key = ?", (key,))
            target.run_many(
                entries.INSERT_ARTIFACT,
                [(key, *row) for row in artifacts],
            )
            target.run_many(
                "INSERT INTO library_files (entry_key, name, blob_key) VALUES (?, ?, ?)", [(key, *row) for row in files]
            )


def _is_vouched_for(target: Database, entry: Mapping[str, Any], artifacts: Sequence[tuple[int, str, int]]) -> bool:
    """Tell whether the user signed all of an entry, and the one of its name keeps the same as a stranger's."""
    row = target.row(
        "SELECT entry_key FROM library_entries WHERE entry_type = ? AND name = ?", (entry["entry_type"], entry["name"])
    )
    if row is None:
        return False
    present = entries.artifacts_of(target, row[0])
    theirs = [from_json(record, blob) for _, record, blob in artifacts]
    same = {record.blob_key for record in present} == {record.blob_key for record in theirs}
    return same and entries.is_replaced_by(target, present, theirs)


def _require_entry(entry: Mapping[str, Any], records: Sequence[str]) -> None:
    """Refuse what an entry of ours never looks like, before the whole library trips over it.

    Raises
    ------
    InvalidValueError
    """
    require_name("name", entry["name"])
    metrics = json.loads(entry["metrics"])
    partitions = list(metrics.values()) if isinstance(metrics, dict) else [metrics]
    numbers = [values for values in partitions if isinstance(values, dict)]
    if len(numbers) < len(partitions) or not all(map(_is_record, records)):
        raise InvalidValueError(f"the library entry {entry['name']!r} is not one that artifactdb wrote.")
    for values in numbers:
        for value in values.values():
            float(value)


def _is_record(text: str) -> bool:
    record = json.loads(text)
    return isinstance(record, dict) and isinstance(record.get("artifact_id"), str)


def _take(
    target: Database,
    merge: Merge,
    kind: str,
    table: str,
    primary: str,
    identity: Mapping[str, Any],
    columns: Mapping[str, Any],
    name: str,
    *,
    times: Sequence[str],
    ignored: Sequence[str],
    kept: tuple[list[Any], list[Any]] | None = None,
    wins: bool = False,
) -> int:
    """Take in one row: new, the same, or the subject of a conflict, unless it wins in any case; give its key.

    What is compared is the first of the times that either side has.
    """
    where = " AND ".join(f"{column} = ?" for column in identity)
    chosen = ", ".join((primary, *columns))
    row = target.row(f"SELECT {chosen} FROM {table} WHERE {where}", list(identity.values()))
    plural = "library entries" if kind == "library entry" else f"{kind}s"
    if row is None:
        marks = ", ".join("?" * len(columns))
        merge.count(plural, new=1)
        return target.insert(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))
    key, present = row[0], dict(zip(columns, row[1:], strict=True))
    same = all(present[column] == value for column, value in columns.items() if column not in ignored)
    same = same and (kept is None or _unsigned(_kept(target, key)) == _unsigned(kept))
    if same or wins:
        merge.count(plural, same=1)
    if same and not wins:
        return int(key)
    time = next((name for name in times if present[name] or columns[name]), times[0])
    if wins or merge.theirs_wins(kind, name, _side(present, time), _side(columns, time)):
        changes = ", ".join(f"{column} = ?" for column in columns)
        target.rows(f"UPDATE {table} SET {changes} WHERE {primary} = ?", [*columns.values(), key])
    return int(key)


def _side(columns: Mapping[str, Any], time: str) -> tuple[str, str]:
    described = [
        str(columns[name]) for name in ("status", "configuration", "config", "description") if columns.get(name)
    ]
    return columns[time] or "", " ".join(described)


def _unsigned(kept: tuple[list[Any], list[Any]]) -> tuple[list[Any], list[Any]]:
    """Give what an entry keeps without who signed it, which makes it no other entry."""
    records = [(position, {**json.loads(text), "signature": ""}, blob) for position, text, blob in kept[0]]
    return records, kept[1]


def _kept(target: Database, entry_key: int) -> tuple[list[Any], list[Any]]:
    artifacts = "SELECT position, record, blob_key FROM library_artifacts WHERE entry_key = ? ORDER BY position"
    files = "SELECT name, blob_key FROM library_files WHERE entry_key = ? ORDER BY name"
    return target.rows(artifacts, (entry_key,)), target.rows(files, (entry_key,))
