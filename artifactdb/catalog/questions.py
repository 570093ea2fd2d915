"""The questions that people ask of predictions, each as one statement of SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from artifactdb.catalog.arrays import from_parquet, is_what_its_id_says
from artifactdb.catalog.asking import Ask, among, asking
from artifactdb.catalog.columns import (
    ARRAYS,
    COLUMNS,
    JSON_COLUMNS,
    NUMBER_COLUMNS,
    PARTITIONS,
    WHICH_IS_BETTER,
    column_list,
    lower_is_better,
    quoted,
    require_columns,
)
from artifactdb.catalog.store import Store
from artifactdb.database.querying import plain
from artifactdb.database.translate import interprets
from artifactdb.errors import CatalogFileError, InvalidValueError, PredictionNotFoundError
from artifactdb.results import QueryResult

_AT_ONCE = 100
_METRICS = "SELECT DISTINCT metric FROM predictions WHERE metric IS NOT NULL ORDER BY metric LIMIT 10"


def where(filters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Give SQL and parameters of conditions on columns: a value, None for missing, or several values.

    Examples
    --------
    >>> where({"partition": "val", "fold_id": [0, 1], "branch_id": None})
    ('"partition" = ? AND "fold_id" IN (?, ?) AND "branch_id" IS NULL', ['val', '0', '1'])
    """
    require_columns(filters, COLUMNS)
    parts, parameters = [], []
    for column, value in filters.items():
        value = plain(value)
        if value is None:
            parts.append(f"{quoted(column)} IS NULL")
        elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
            values = [_comparable(column, one) for one in value]
            parts.append(f"{quoted(column)} IN ({', '.join('?' * len(values))})" if values else "false")
            parameters += values
        else:
            parts.append(f"{quoted(column)} = ?")
            parameters.append(_comparable(column, value))
    return " AND ".join(parts) or "true", parameters


def _comparable(column: str, value: Any) -> Any:
    value = plain(value)
    if not isinstance(value, str | int | float):
        raise InvalidValueError(f"{column} is compared with text or a number, not with {type(value).__name__}.")
    # Else DuckDB would compare numbers: the pipelines 1, 01 and 0001 are three.
    return value if column in NUMBER_COLUMNS else str(value)


def score_of(
    put: Ask, metric: str | None, partition: str, filters: Mapping[str, Any]
) -> tuple[str, list[Any], str | None]:
    """Give the SQL of the score in a metric, its parameters, and the metric's name; None when no row names one.

    A row's own score is used where it is in that metric, else what its ``scores`` hold.
    """
    require_partition(partition)
    condition, parameters = where(filters)
    own = f"{partition}_score"
    if metric is None:
        metric = _only_metric(put, condition, parameters)
    if metric is None:
        return own, [], None
    others = f"SELECT 1 FROM predictions WHERE (metric <> ? OR metric IS NULL) AND {condition} LIMIT 1"
    if put.is_only_metric(metric) or not len(put(others, [metric, *parameters])):
        return own, [], metric
    if not metric or '"' in metric or "\\" in metric:
        raise InvalidValueError(f"a metric's name holds something, but no quotation marks or backslashes: {metric!r}.")
    path = f'$."{partition}"."{metric}"'
    return (
        f"CASE WHEN metric = ? THEN {own} ELSE try_cast(json_extract_string(scores, ?) AS DOUBLE) END",
        [metric, path],
        metric,
    )


def _only_metric(put: Ask, condition: str, parameters: list[Any]) -> str | None:
    sql = f"SELECT DISTINCT metric FROM predictions WHERE {condition} AND metric IS NOT NULL ORDER BY 1"
    metrics = [row[0] for row in put(sql, parameters)]
    if len(metrics) > 1:
        raise InvalidValueError(f"the predictions have several metrics: {', '.join(metrics)}.", hint="Name one.")
    return metrics[0] if metrics else None


def is_lower_better(
    put: Ask, metric: str | None, ascending: bool | None, condition: str, parameters: Sequence[Any]
) -> bool:
    """Tell whether lower is better: as is said, else as ``lower_is_better`` knows of the metric.

    Raises
    ------
    InvalidValueError
        When there are rows and none names a metric: which are the best would be a guess.
    """
    if ascending is not None:
        return ascending
    if metric is not None:
        try:
            return lower_is_better(metric)
        except InvalidValueError as error:
            there = [name for (name,) in put(_METRICS, [])]
            listed = f" Predictions are scored in {', '.join(there)}." if there else ""
            raise InvalidValueError(error.message, hint=error.hint + listed) from None
    if len(put(f"SELECT 1 FROM predictions WHERE {condition} LIMIT 1", parameters)):
        raise InvalidValueError("the predictions name no metric.", hint=f"{WHICH_IS_BETTER[:-1]}, or a metric.")
    return True


def require_partition(partition: str) -> None:
    """Refuse what is no partition."""
    if partition not in PARTITIONS:
        raise InvalidValueError(f"partition is one of {', '.join(PARTITIONS)}, not {partition!r}.")


def top(
    store: Store,
    n: int,
    metric: str | None,
    ascending: bool | None,
    partition: str,
    group_by: str | Sequence[str] | None,
    filters: Mapping[str, Any],
) -> QueryResult:
    """Give the best predictions; those without a number for a score are left out."""
    if not isinstance(n, int | np.integer) or n < 0:
        raise InvalidValueError(f"n is a whole number, 0 or more, not {n!r}.")
    filters = {"partition": partition, **filters}
    condition, parameters = where(filters)
    groups = [group_by] if isinstance(group_by, str) else list(group_by or ())
    require_columns(groups, COLUMNS)
    with asking(store) as put:
        score, values, metric = score_of(put, metric, partition, filters)
        order = "ASC" if is_lower_better(put, metric, ascending, condition, parameters) else "DESC"
        is_number = "score IS NOT NULL AND NOT isnan(score)"
        if groups:
            ranked = f"""
                SELECT {column_list()}, {score} AS score FROM predictions WHERE {condition} AND {is_number}
                QUALIFY row_number() OVER (PARTITION BY {column_list(groups)} ORDER BY score {order}, id) <= {n}
            """
        else:
            # DuckDB ranks NaN above all numbers and what is missing last: lowest first, neither is in the way.
            before = "" if order == "ASC" else f" AND {is_number}"
            ranked = f"""
                SELECT {column_list()}, {score} AS score FROM predictions WHERE {condition}{before}
                ORDER BY score {order} LIMIT {n}
            """
        by = f"{column_list([*groups, 'score'])} {order}"
        return put(f"FROM ({ranked}) WHERE {is_number} ORDER BY {by}", [*values, *parameters])


@interprets
def get(store: Store, prediction_id: str, *, arrays: bool) -> dict[str, Any]:
    """Give one prediction as a dict, its JSON read and its arrays in place.

    Raises
    ------
    PredictionNotFoundError
        A KeyError.
    """
    with asking(store) as put:  # the arrays of a prediction that is deleted meanwhile belong to it as well
        found = look_up(put, "predictions", "id", [prediction_id], COLUMNS)
        if not found:
            raise PredictionNotFoundError(
                f"no prediction has the id {prediction_id!r}.", hint="`artifactdb predictions` lists what is there."
            )
        row = dict(zip(COLUMNS, found[0], strict=True))
        held = _arrays_of(put, [row])[prediction_id] if arrays else {}
    return {name: json.loads(value or "{}") if name in JSON_COLUMNS else value for name, value in row.items()} | held


@interprets
def arrays(store: Store, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give the arrays of predictions, by id and name; None for an array that a prediction does not have."""
    columns = ("id", *(f"{name}_id" for name in ARRAYS))
    with asking(store) as put:
        rows = [dict(zip(columns, row, strict=True)) for row in look_up(put, "predictions", "id", ids, columns)]
        missing = sorted(set(ids) - {row["id"] for row in rows})
        if missing:
            raise PredictionNotFoundError(
                f"no prediction has the id {missing[0]!r} ({len(missing)} of {len(ids)} asked)."
            )
        found = _arrays_of(put, rows)
    return {prediction_id: found[prediction_id] for prediction_id in ids}


def _arrays_of(put: Ask, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    named = sorted({row[f"{name}_id"] for row in rows for name in ARRAYS if row[f"{name}_id"] is not None})
    columns = ("array_id", "array_dtype", "array_shape", "array_data", "array_bytes")
    stored: dict[str, Any] = {}
    wrong: list[str] = []
    for start in range(0, len(named), _AT_ONCE):
        found = look_up(put, "arrays", "array_id", named[start : start + _AT_ONCE], columns)
        for array_id, *rest in found:
            stored[array_id] = array = from_parquet(*rest)
            dtype, shape = rest[:2]
            if dtype and shape and not is_what_its_id_says(array_id, dtype, shape, array.tobytes()):
                wrong.append(array_id)
    wrong += [array_id for array_id in named if array_id not in stored]
    if wrong:
        raise CatalogFileError(
            f"{wrong[0]}, an array of predictions, is not there as it was written ({len(wrong)} of {len(named)}).",
            hint="`artifactdb catalog verify` lists what is wrong.",
        )
    return {row["id"]: {name: stored.get(row[f"{name}_id"]) for name in ARRAYS} for row in rows}


def look_up(put: Ask, table: str, column: str, values: Sequence[str], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Give rows of ``predictions`` or ``arrays`` by id."""
    found: list[tuple[Any, ...]] = []
    for condition, parameters in among(column, values):
        found += put(f"SELECT {column_list(columns)} FROM {table} WHERE {condition}", parameters).rows
    return found
