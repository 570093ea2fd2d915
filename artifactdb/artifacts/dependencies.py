"""What depends on what: written with the record, refused when it would dangle or go in a circle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from artifactdb.artifacts.find import BY_KEYS, StoredRecord, by_id, from_row
from artifactdb.artifacts.place import Place
from artifactdb.database import Database
from artifactdb.errors import DependencyCycleError, MissingDependencyError
from artifactdb.records import MetaModelConfig

_SOURCE = "SELECT record_key FROM records WHERE dataset_key = ? AND artifact_id = ?"
_EDGES_UP = """
WITH RECURSIVE up (record_key) AS (
  SELECT value FROM json_each(?)
  UNION
  SELECT rs.source_key FROM up JOIN record_sources AS rs ON rs.record_key = up.record_key
)
SELECT rs.record_key, rs.source_key FROM up JOIN record_sources AS rs ON rs.record_key = up.record_key
"""
_NAMES = "SELECT record_key, artifact_id FROM records WHERE record_key IN (SELECT value FROM json_each(?))"
DEPENDENTS_OUTSIDE = """
SELECT DISTINCT r.artifact_id FROM record_sources AS rs
JOIN records AS r ON r.record_key = rs.record_key
WHERE rs.source_key = ? AND rs.record_key NOT IN (SELECT value FROM json_each(?))
ORDER BY r.artifact_id
"""


def with_present_ids(database: Database, place: Place) -> Place:
    """Give a place whose sources bear the ids of their records, where it names them by those of older schemes."""
    older = [source for source in place.depends_on if "$" not in source]  # which no id of the present one lacks
    present = {source: found.artifact_id for source in older if (found := by_id(database, source, place.dataset))}
    if not present:
        return place
    config = place.meta_config
    if config is not None:
        named = [{**source, "artifact_id": present.get(source["artifact_id"], source["artifact_id"])}
                 for source in config.source_models]  # fmt: skip
        config = MetaModelConfig(named, config.feature_columns)
    depends_on = dict.fromkeys(present.get(source, source) for source in place.depends_on)
    return replace(place, depends_on=list(depends_on), meta_config=config)


def source_keys(database: Database, dataset_key: int | None, artifact_id: str, depends_on: Sequence[str]) -> list[int]:
    """Give the keys of the sources, each once, in order.

    Raises
    ------
    MissingDependencyError
        With the ids that are not in the dataset.
    DependencyCycleError
        When an artifact names itself.
    """
    keys: dict[int, None] = {}
    missing = []
    for source_id in depends_on:
        if source_id == artifact_id:
            raise DependencyCycleError(f"{artifact_id} would depend on itself.", cycle=[artifact_id, artifact_id])
        key = database.value(_SOURCE, (dataset_key, source_id))
        if key is None:
            missing.append(source_id)
        else:
            keys[key] = None
    if missing:
        raise MissingDependencyError(
            f"{artifact_id} depends on {len(missing)} artifacts that are not there: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}.",
            hint="Register the sources first.",
            missing=missing,
        )
    return list(keys)


def refuse_circle(database: Database, record_key: int, keys: Sequence[int]) -> None:
    """See that a record, which others may depend on already, can have these sources.

    Raises
    ------
    DependencyCycleError
    """
    if keys:
        sources_first(database, {**_sources_by_record(database, *keys), record_key: list(keys)})


def replace_sources(database: Database, record_key: int, keys: Sequence[int], *, is_new: bool) -> None:
    """Write the sources of a record."""
    if not is_new:
        database.rows("DELETE FROM record_sources WHERE record_key = ?", (record_key,))
    if keys:
        database.run_many(
            "INSERT INTO record_sources (record_key, position, source_key) VALUES (?, ?, ?)",
            [(record_key, position, key) for position, key in enumerate(keys)],
        )


def sources_first(database: Database, edges: Mapping[int, Iterable[int]]) -> list[int]:
    """Give keys of records, each after those that it depends on.

    Raises
    ------
    DependencyCycleError
        When they go in a circle, with the ids; nothing that artifactdb writes does.
    """
    try:
        return list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        keys = list(reversed(error.args[1]))
    names: dict[int, str] = dict(database.rows(_NAMES, (json.dumps(keys),)))
    cycle = [names.get(key, f"record {key}") for key in keys]
    raise DependencyCycleError(f"the dependencies go in a circle: {' > '.join(cycle[:10])}.", cycle=cycle)


def direct(database: Database, record_key: int) -> list[str]:
    """Give the ids that a record directly depends on, in the order in which they were named."""
    rows = database.rows(
        "SELECT s.artifact_id FROM record_sources AS rs JOIN records AS s ON s.record_key = rs.source_key "
        "WHERE rs.record_key = ? ORDER BY rs.position",
        (record_key,),
    )
    return [artifact_id for (artifact_id,) in rows]


def transitive(database: Database, *record_keys: int) -> list[StoredRecord]:
    """Give all records that records depend on, however far, each once, sources before what needs them.

    One recursive query reaches them; their order is a topological one.
    """
    order = sources_first(database, _sources_by_record(database, *record_keys))
    keys = [key for key in order if key not in record_keys]
    found = {row[0]: from_row(row) for row in database.rows(BY_KEYS, (json.dumps(keys),))}
    return [found[key] for key in keys]


def _sources_by_record(database: Database, *record_keys: int) -> dict[int, list[int]]:
    sources: dict[int, list[int]] = {}
    for record, source in database.rows(_EDGES_UP, (json.dumps(record_keys),)):
        sources.setdefault(record, []).append(source)
    return sources
