"""Predictions go out as a pair of Parquet files, rows and arrays, without a file of the catalog being touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.engine import literal, translated
from artifactdb.catalog.files import FINAL_NAMES, device_errors, owner_of
from artifactdb.catalog.merging import counted_from, write_sorted
from artifactdb.catalog.parquet import Written
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, rows_of

Progress = Callable[[int, int], None]


def of_pipelines(pipelines: Iterable[tuple[str, str]]) -> str:
    """Give the condition that rows belong to one of the pipelines, each a dataset and a pipeline id."""
    rows = ", ".join(f"({literal(dataset)}, {literal(name)})" for dataset, name in pipelines)
    # Joined rather than compared one by one: thousands of comparisons are deeper than an expression may be.
    return f"(dataset_name, pipeline_uid) IN (SELECT (d, p) FROM (VALUES {rows}) AS wanted (d, p))" if rows else "false"


def write_pair(
    store: Store, state: State, folder: Path, where: str = "true", progress: Progress | None = None
) -> dict[str, tuple[Path, Written]]:
    """Write the rows that meet a condition, and the arrays that they name; give path and what was written by kind.

    A kind without rows gives no file.
    """
    made = {}
    state.read_whole(state.files)
    with device_errors(folder), store.writing_engine.session(state.files) as session, translated():
        rows = f"SELECT * FROM ({rows_of(session, state, 'meta', state.of_kind('meta'))}) WHERE {where}"
        session.view("chosen_predictions", rows)
        named = " UNION ".join(f"SELECT {name} AS array_id FROM chosen_predictions" for name in ARRAY_IDS)
        arrays = rows_of(session, state, "data", state.of_kind("data"))
        selects = {"meta": "FROM chosen_predictions", "data": f"FROM ({arrays}) WHERE array_id IN ({named})"}
        counts = {
            kind: session.cursor.sql(f"SELECT count(*) FROM ({select})").fetchall()[0][0]
            for kind, select in selects.items()
        }
        owner, done = owner_of(state.snapshot), 0
        for kind, select in selects.items():
            if counts[kind]:
                path = folder / FINAL_NAMES[kind]
                written = write_sorted(
                    session, select, path, kind, owner, counts[kind], counted_from(done, sum(counts.values()), progress)
                )
                made[kind] = (path, written)
            done += counts[kind]
    return made
