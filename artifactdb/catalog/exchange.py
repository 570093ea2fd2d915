"""Predictions come in from the Parquet pairs of nirs4all, and go out as files that anybody reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from artifactdb.artifacts.folder import Folder
from artifactdb.catalog.arrays import from_parquet
from artifactdb.catalog.columns import ARRAYS, VALUES
from artifactdb.catalog.files import FINAL_NAMES, beside, device_errors
from artifactdb.catalog.folds import residuals
from artifactdb.catalog.questions import get
from artifactdb.catalog.staging import add_many
from artifactdb.catalog.store import Store
from artifactdb.errors import CatalogFileError, InvalidValueError, WorkspaceNotFoundError
from artifactdb.results import QueryResult

_ROWS_AT_ONCE = 10_000


def import_parquet(store: Store, path: Path, data_path: Path | None) -> list[str]:
    """Add the predictions of a pair of files; nothing in them is run."""
    meta, data = _pair(path, data_path)
    try:
        return add_many(store, predictions_of(meta, read_arrays(data)))
    except pa.ArrowException as error:
        raise CatalogFileError(
            f"{meta} or {data} is no Parquet file of predictions ({error}).", file=str(meta)
        ) from error


def _pair(path: Path, data_path: Path | None) -> tuple[Path, Path]:
    folder = Folder(path) if path.is_dir() else None
    if folder:
        metas = [path / FINAL_NAMES["meta"], *sorted(path.glob("*.meta.parquet"))]
        path = next((meta for meta in metas if meta.exists()), metas[0])
    name = path.name
    if data_path is None:
        for mine, theirs in ((".meta.parquet", ".arrays.parquet"), ("_meta.parquet", "_data.parquet")):
            if name.endswith(mine):
                data_path = path.with_name(name.removesuffix(mine) + theirs)
                break
        else:
            raise InvalidValueError(f"{path} is not named as the rows of a pair are.", hint="Give data_path too.")
    for file in (path, data_path):
        if not file.is_file():
            raise WorkspaceNotFoundError(
                f"{file} is not there, or no file.", hint="A pair is a file of rows and one of arrays."
            )
        if folder:
            folder.within(file)
    return path, data_path


def read_arrays(path: Path) -> dict[str, Any]:
    """Give the arrays of a file of arrays by id; in place of one that cannot be read, the error that says why."""
    held: dict[str, Any] = {}
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist() if "array_bytes" in names else _plain_rows(batch):
                held[row["array_id"]] = _array_of(row, path)
    return held


def _array_of(row: dict[str, Any], path: Path) -> Any:
    numbers = row["array_data"]
    try:
        return from_parquet(
            row.get("array_dtype"),
            row.get("array_shape"),
            [] if numbers is None else numbers,
            row.get("array_bytes"),
        )
    except (ValueError, TypeError) as error:
        return CatalogFileError(f"the array {row['array_id']} of {path} cannot be read ({error}).", file=str(path))


def _plain_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    lists = batch.column("array_data")
    shapes = batch.column("array_shape").to_pylist() if "array_shape" in batch.schema.names else [None] * len(lists)
    for array_id, numbers, shape in zip(batch.column("array_id").to_pylist(), lists, shapes, strict=True):
        values = [] if numbers.values is None else numbers.values.to_numpy(zero_copy_only=False)
        yield {"array_id": array_id, "array_data": values, "array_shape": shape}


def predictions_of(
    path: Path, held: dict[str, Any], refuse: Callable[[str, str], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Give the predictions of a file of rows with their arrays, as ``Catalog.add_many`` takes them.

    Parameters
    ----------
    refuse : callable, optional
        Called with the id of a row whose arrays are not to be had, and the reason; else that is an error.
    """
    with pq.ParquetFile(path) as file:
        present = [name for name in file.schema_arrow.names if name in VALUES]
        references = [name for name in ARRAYS if f"{name}_id" in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*present, *(f"{name}_id" for name in references)]):
            for row in batch.to_pylist():
                try:
                    arrays = {name: _held(held, row.pop(f"{name}_id"), path) for name in references}
                except CatalogFileError as error:
                    if refuse is None:
                        raise
                    refuse(str(row.get("id")), str(error))
                    continue
                yield row | arrays


def _held(held: dict[str, Any], array_id: str | None, path: Path) -> Any:
    if not array_id:
        return None
    if array_id not in held:
        raise CatalogFileError(
            f"{path} names the array {array_id}, which its file of arrays does not hold.", file=str(path)
        )
    if isinstance(held[array_id], CatalogFileError):
        raise held[array_id]
    return held[array_id]


def export_csv(store: Store, prediction_id: str, path: Path | None) -> Path:
    """Write one prediction as CSV."""
    row = get(store, prediction_id, arrays=False)
    if path is None or path.is_dir() or not path.suffix:
        folder = path if path is not None else beside(store.database.path, "exports") / "best_predictions"
        fold = "" if row["fold_id"] is None else f"fold{row['fold_id']}"
        named = [row["dataset_name"], row["pipeline_uid"], row["model_name"], row["partition"], fold]
        parts = [re.sub(r"[^\w.-]+", "_", str(part)) for part in (*named, prediction_id) if part]
        path = folder / f"{'_'.join(parts)}.csv"
    rows = residuals(store, {"id": prediction_id}).to_dicts()
    columns = ["y_true", "y_pred", "sample_index", "fold_id", "partition"]
    table = QueryResult(
        [*columns[:3], "fold", "partition"], [tuple(sample[name] for name in columns) for sample in rows]
    )
    with device_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table.to_csv(), encoding="utf-8")
    return path
