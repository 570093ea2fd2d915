"""Are questions to ten million predictions as fast as DuckDB's own, and does building them stay within 2 GB?

Peers: DuckDB alone on the very Parquet files, with the same statements; and nirs4all 0.6.2's way, which reads the whole
pair and then filters. Goals: at most 1.3 times the first, at least 8 times faster than the second.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from artifactdb import Catalog, Workspace
from benchmarks.catalog_rows import rows
from benchmarks.measure import header, run_fresh, spread, table, verdict
from benchmarks.peer_environment import NIRS4ALL, add_option, peer_python

AT_ONCE = 100_000
DISTINCT_ARRAYS = 200_000
GROUPS = "SELECT dataset_name, model_name, partition, count(*), avg(val_score), min(val_score) FROM {} GROUP BY ALL"
TOP = "SELECT * FROM {} WHERE dataset_name = 'site_03' AND partition = 'val' ORDER BY val_score LIMIT 10"


def build(path: Path, count: int) -> dict[str, Any]:
    """Add, flush and compact; give seconds and the most memory that the process took, in MB."""
    with Workspace(path) as workspace:
        given = rows(count, distinct_arrays=DISTINCT_ARRAYS)
        started = time.perf_counter()
        first = last = 0.0
        while batch := list(islice(given, AT_ONCE)):
            before = time.perf_counter()
            workspace.catalog.add_many(batch)  # flushes by itself
            last = time.perf_counter() - before
            first = first or last
        added = time.perf_counter()
        workspace.catalog.compact()
        compacted = time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"add": added - started, "compact": compacted - added, "memory": memory, "first": first, "last": last}


def interleaved(rounds: int, *functions: Callable[[], Any]) -> list[list[float]]:
    """Time functions in turn, in milliseconds."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 1):
        for taken, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            function()
            taken.append(1000 * (time.perf_counter() - started))
    return [taken[1:] for taken in times]  # the first reads footers


def questions(catalog: Catalog, rounds: int) -> tuple[list[tuple[Any, ...]], dict[str, float]]:
    """Ask the catalog and DuckDB alone in turn."""
    meta = f"read_parquet('{catalog.folder}/predictions_meta.parquet')"
    data = f"read_parquet('{catalog.folder}/predictions_data.parquet')"
    bare = duckdb.connect()
    bare.execute("SET GLOBAL parquet_metadata_cache = true")
    (ids,) = ([row[0] for row in bare.execute(f"SELECT id FROM {meta} USING SAMPLE 20 ROWS").fetchall()],)
    asked = {"bare": 0, "ours": 0}

    def next_id(who: str) -> str:
        asked[who] += 1
        return ids[asked[who] % len(ids)]

    def bare_get() -> None:
        row = bare.execute(f"SELECT * FROM {meta} WHERE id = ?", [next_id("bare")]).fetchall()[0]
        bare.execute(f"SELECT * FROM {data} WHERE array_id IN (?, ?)", [row[30], row[31]]).fetchall()

    pairs = {
        "top 10 with two filters": (
            lambda: catalog.top(10, "rmse", dataset_name="site_03"),
            lambda: bare.sql(TOP.format(meta)).to_arrow_table(),
        ),
        "the same as SQL": (
            lambda: catalog.sql(TOP.format("predictions")),
            lambda: bare.sql(TOP.format(meta)).to_arrow_table(),
        ),
        "group-by over all": (
            lambda: catalog.sql(GROUPS.format("predictions")),
            lambda: bare.sql(GROUPS.format(meta)).to_arrow_table(),
        ),
        "by id, with arrays": (lambda: catalog.get(next_id("ours")), bare_get),
    }
    shown, ratios = [], {}
    for name, (ours, theirs) in pairs.items():
        own, others = interleaved(rounds, ours, theirs)
        ratios[name] = median(own) / median(others)
        shown.append((name, spread(own), spread(others), f"{ratios[name]:.2f}"))
    return shown, ratios


def flush_of_a_thousand(path: Path, rounds: int) -> list[float]:
    """Give the milliseconds that it takes to flush a thousand rows."""
    taken = []
    with Workspace(path) as workspace:
        for number in range(rounds):
            workspace.catalog.add_many(
                row | {"op_counter": 1000 + number, "config_name": "new"} for row in rows(1000, seed=1 + number)
            )
            started = time.perf_counter()
            workspace.catalog.flush()
            taken.append(1000 * (time.perf_counter() - started))
        workspace.catalog.delete(config_name="new")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="keep the catalog there, or use the one that is there")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build(options.build, options.rows)))
        return
    header(f"Is a catalog of {options.rows:,} predictions asked as fast as DuckDB alone?", ["duckdb", "pyarrow"])
    with tempfile.TemporaryDirectory() as scratch:
        path = (options.folder or Path(scratch)) / "study.sqlite"
        if not path.exists():
            built = run_fresh(["-m", "benchmarks.catalog_scale", "--build", str(path), "--rows", str(options.rows)])
            table(
                ["", "seconds", "microseconds for one row"],
                [
                    (what, f"{built[what]:,.0f}", f"{1e6 * built[what] / options.rows:,.0f}")
                    for what in ("add", "compact")
                ],
            )
            verdict("memory of building, flushing and compacting", built["memory"], 2048, " MB")
            verdict("the last 100,000 / the first 100,000", built["last"] / built["first"], 1.5)
            print()
        with Workspace(path) as workspace:
            workspace.catalog.compact()  # an earlier run on this folder has flushed and deleted
            shown, ratios = questions(workspace.catalog, options.rounds)
        table(["", "artifactdb, ms", "DuckDB alone, ms", "ratio"], shown)
        for name, ratio in ratios.items():
            verdict(f"{name}: artifactdb / DuckDB alone", ratio, 1.3)
        top = median(
            [float(row[1].split()[0].replace(",", "")) for row in shown if row[0] == "top 10 with two filters"]
        )
        read = run_fresh(
            ["-m", "benchmarks.peers.read_nirs4all", str(path.with_suffix(".catalog"))],
            peer_python(NIRS4ALL, options.peers),
        )
        verdict("top 10: nirs4all 0.6.2's way / artifactdb", 1000 * read["seconds"] / top, 8, at_least=True)
        print()
        small = flush_of_a_thousand(Path(scratch) / "small.sqlite", 5)
        large = flush_of_a_thousand(path, 5)
        table(
            ["flush of 1,000 rows", "ms"], [("into an empty catalog", spread(small)), ("into this one", spread(large))]
        )
        verdict("into this one / into an empty one", median(large) / median(small), 1.5)


if __name__ == "__main__":
    main()
