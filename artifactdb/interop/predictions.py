"""Predictions enter the catalog: all at once where nothing is in the way, else each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifactdb.catalog.catalog import Catalog
from artifactdb.catalog.exchange import predictions_of, read_arrays
from artifactdb.catalog.files import FINAL_NAMES
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, BusyError, CatalogFileError, StorageError, StorageFullError
from artifactdb.interop.report import ImportReport

Refuse = Callable[[str, str], None]
Rows = Callable[[Refuse], Iterable[Mapping[str, Any]]]
"""Gives the rows anew each time it is called; what has no row is told to the callable it is given."""

_AT_ONCE = 1_000
_COUNT = """
SELECT (SELECT count(*) FROM staged_predictions)
  + (SELECT coalesce(sum(rows), 0) FROM catalog_files WHERE kind = 'meta')
"""


def pairs_of(folder: Path) -> list[tuple[Path, Path]]:
    """Give the pairs of Parquet files of a workspace: rows, and arrays that need not be there."""
    pairs = [
        (meta, meta.with_name(meta.name.removesuffix(".meta.parquet") + ".arrays.parquet"))
        for meta in sorted(folder.glob("*.meta.parquet"))
    ]
    for place in (folder, folder / "catalog"):
        meta, data = (place / FINAL_NAMES[kind] for kind in ("meta", "data"))
        if meta.exists():
            pairs.append((meta, data))
    return pairs


def import_pair(catalog: Catalog, meta: Path, data: Path, report: ImportReport, dataset: str | None = None) -> None:
    """Add the predictions of a pair, those of one dataset if it is named."""
    try:
        held = read_arrays(data) if data.exists() else {}
        enter(catalog, lambda refuse: _of_dataset(predictions_of(meta, held, refuse), dataset), report)
    except (CatalogFileError, pa.ArrowException, KeyError, OSError) as error:
        if isinstance(error, StorageFullError | BusyError):
            raise  # of the workspace itself
        report.refused.append((meta.name, f"it is no Parquet file of predictions ({' '.join(str(error).split())})."))


def _of_dataset(rows: Iterable[dict[str, Any]], dataset: str | None) -> Iterator[dict[str, Any]]:
    return (row for row in rows if dataset in (None, row.get("dataset_name")))


def enter(catalog: Catalog, rows: Rows, report: ImportReport) -> None:
    """Add rows; what is there with the same content is counted, what cannot come in is listed, the rest comes."""
    refused: list[tuple[str, str]] = []
    before = _count(catalog.database)
    try:
        given = len(catalog.add_many(rows(lambda *reason: refused.append(reason))))
    except StorageError:
        raise
    except ArtifactDBError:
        refused.clear()
        given = _each(catalog, rows(lambda *reason: refused.append(reason)), refused)
    new = _count(catalog.database) - before
    report.predictions += new
    if given > new:
        report.present["predictions"] = report.present.get("predictions", 0) + given - new
    report.refused += refused


def _each(catalog: Catalog, rows: Iterable[Mapping[str, Any]], refused: list[tuple[str, str]]) -> int:
    given = 0
    remaining = iter(rows)
    while batch := list(islice(remaining, _AT_ONCE)):
        try:
            given += len(catalog.add_many(batch))
            continue
        except StorageError:
            raise
        except ArtifactDBError:
            pass  # one of them, or several
        for row in batch:
            try:
                catalog.add_many([row])
                given += 1
            except StorageError:
                raise
            except ArtifactDBError as error:
                refused.append((f"prediction {row.get('id')}", str(error)))
    return given


def _count(database: Database) -> int:
    return int(database.value(_COUNT))
