"""Predictions of a store of nirs4all 1.4: rows of its SQLite file, arrays of one Parquet file for each dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifactdb.artifacts.reading import parse_json
from artifactdb.errors import InvalidValueError

_ROWS_AT_ONCE = 2_000
_ARRAYS = ("y_true", "y_pred", "y_proba", "sample_indices", "weights")
_LABELS = ("y_true_labels", "y_pred_labels")
_LEFT_OUT = ("X", "spectra")
_TEXTS = ("sample_metadata", "result_metadata")
_OURS = {
    "prediction_id": "id", "dataset_name": "dataset_name", "pipeline_id": "pipeline_uid", "chain_id": "trace_id",
    "model_name": "model_name", "model_class": "model_classname", "fold_id": "fold_id", "partition": "partition",
    "val_score": "val_score", "test_score": "test_score", "train_score": "train_score", "metric": "metric",
    "task_type": "task_type", "n_samples": "n_samples", "n_features": "n_features", "preprocessings": "preprocessings",
    "scores": "scores", "best_params": "best_params", "branch_id": "branch_id", "branch_name": "branch_name",
    "exclusion_count": "exclusion_count", "exclusion_rate": "exclusion_rate",
}  # fmt: skip
"""Their columns and ours; whatever else a row has goes into its metadata."""

Refuse = Callable[[str, str], None]


@dataclass(slots=True)
class Arrays:
    """The files of arrays of a store.

    Parameters
    ----------
    files : list of Path

    Attributes
    ----------
    left_out : dict
        How many predictions came with something that the catalog does not keep, by its name.
    """

    files: list[Path]
    left_out: dict[str, int] = field(default_factory=dict)

    def each(self, refuse: Refuse) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give id and arrays of each prediction, the last ones where a file holds several."""
        self.left_out.clear()
        given: set[str] = set()
        for file in self.files:
            try:
                yield from self._of_file(file, given, refuse)
            except (pa.ArrowException, KeyError, OSError) as error:
                refuse(f"arrays/{file.name}", f"it is no Parquet file of arrays ({' '.join(str(error).split())}).")

    def _of_file(self, path: Path, given: set[str], refuse: Refuse) -> Iterator[tuple[str, dict[str, Any]]]:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            ids = file.read(["prediction_id"]).column(0).to_pylist()
            last = {prediction_id: position for position, prediction_id in enumerate(ids)}
            position = -1
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                columns = {name: batch.column(name) for name in names}
                for row in range(batch.num_rows):
                    position += 1
                    prediction_id = ids[position]
                    if last[prediction_id] != position or prediction_id in given:
                        continue
                    given.add(prediction_id)
                    try:
                        yield prediction_id, self._arrays(columns, row)
                    except (ValueError, TypeError, RecursionError) as error:
                        refuse(f"arrays of prediction {prediction_id}", str(error))

    def _arrays(self, columns: Mapping[str, Any], row: int) -> dict[str, Any]:
        arrays: dict[str, Any] = {name: _values(columns, name, row) for name in _ARRAYS}
        for name in ("y_true", "y_pred", "y_proba"):
            shape = columns[f"{name}_shape"][row].as_py() if f"{name}_shape" in columns else None
            if arrays[name] is not None and shape:
                arrays[name] = arrays[name].reshape(shape)
        metadata: dict[str, Any] = {}
        labels = [columns[name][row].as_py() if name in columns else None for name in _LABELS]
        if any(labels):
            decoded, vocabulary = _decoded(labels)
            arrays |= {
                name: array for name, array in zip(("y_true", "y_pred"), decoded, strict=True) if array is not None
            }
            if vocabulary:
                metadata["labels"] = vocabulary
        for name in _TEXTS:
            text = columns[name][row].as_py() if name in columns else None
            if text and text != "{}":
                metadata[name] = _parsed(text)
        for name in _LEFT_OUT:
            if name in columns and columns[name][row].is_valid:
                self.left_out[name] = self.left_out.get(name, 0) + 1
        return arrays | {"metadata": metadata}


def _values(columns: Mapping[str, Any], name: str, row: int) -> Any:
    found = columns[name][row] if name in columns else None
    if found is None or not found.is_valid:
        return None
    return np.array(found.values.to_numpy(zero_copy_only=False))


def _decoded(labels: list[str | None]) -> tuple[list[Any], list[str]]:
    """Give class labels as whole numbers, and the names of the classes if they are texts: number i is name i.

    Each array came with its own list of names; here both have the same, so that they can be compared.
    """
    read = []
    for text in labels:
        value = parse_json(text, "labels") if text else None
        if value is not None and (not isinstance(value, dict) or value.get("schema_version") != 1):
            raise InvalidValueError("labels are written in a way that is not known.")
        read.append(value)
    numeric = all(value is None or value["label_type"] == "int64" for value in read)
    names = sorted({str(name) for value in read if value is not None for name in value["vocabulary"]})
    numbers = {name: number for number, name in enumerate(names)}
    arrays: list[Any] = []
    for value in read:
        if value is None:
            arrays.append(None)
            continue
        vocabulary = value["vocabulary"] if numeric else [numbers[str(name)] for name in value["vocabulary"]]
        codes = np.array(vocabulary, np.int64)[np.array(value["indices"], np.int64)]
        arrays.append(codes.reshape(value["shape"]))
    return arrays, [] if numeric else names


def predictions(
    rows: Mapping[str, Mapping[str, Any]],
    arrays: Arrays,
    place_of: Callable[[Mapping[str, Any]], dict[str, Any]],
    refuse: Refuse,
) -> Iterator[dict[str, Any]]:
    """Give predictions as ``Catalog.add_many`` takes them, those without arrays last.

    Parameters
    ----------
    rows : dict
        Rows of the table ``predictions`` by id.
    place_of : callable
        Gives the columns that other tables know of a row: its configuration, step, and model.
    """
    given = set()
    for prediction_id, held in arrays.each(refuse):
        row = rows.get(prediction_id)
        if row is not None:
            given.add(prediction_id)
            yield _prediction(row, held, place_of(row))
    for prediction_id, row in rows.items():
        if prediction_id not in given:
            yield _prediction(row, {}, place_of(row))


def _prediction(row: Mapping[str, Any], held: Mapping[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in row.items() if name not in _OURS and value is not None}
    metadata |= held.get("metadata", {})
    prediction = {ours: row.get(theirs) for theirs, ours in _OURS.items()}
    for name in ("scores", "best_params"):
        parsed = _parsed(prediction[name])
        if isinstance(parsed, str):  # no JSON after all
            metadata[name], parsed = parsed, None
        prediction[name] = parsed
    arrays = {name: held.get(name) for name in _ARRAYS}
    return prediction | place | {"metadata": metadata} | arrays


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value, "value")
    except InvalidValueError:
        return value
