"""Scores and predictions across folds, sample by sample; all of it computed by DuckDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifactdb.catalog.asking import Ask, asking
from artifactdb.catalog.columns import column_list, quoted
from artifactdb.catalog.questions import is_lower_better, score_of, where
from artifactdb.catalog.store import Store
from artifactdb.errors import InvalidValueError
from artifactdb.results import QueryResult

MODEL = (
    "dataset_name", "config_name", "pipeline_uid", "step_idx", "model_name", "model_classname", "branch_id",
    "branch_name",
)  # fmt: skip
"""What the fold models of one model have in common; ``op_counter`` they have not, as nirs4all counts."""

_IS_FOLD = "regexp_full_match(fold_id, '[0-9]+')"

_CLASSIFIES = "coalesce(task_type LIKE '%classification', false)"
_SAMPLES = """
WITH chosen AS (
  SELECT *, {score} AS score FROM predictions WHERE {condition}
), joined AS (
  SELECT chosen.*, p.array_data AS predicted, i.array_data AS indices,
    CASE WHEN t.array_size = p.array_size THEN t.array_data END AS measured,
    greatest(coalesce(json_extract(p.array_shape, '$[1]')::BIGINT, 1), 1) AS outputs
  FROM chosen
  JOIN arrays AS p ON p.array_id = chosen.y_pred_id
  LEFT JOIN arrays AS t ON t.array_id = chosen.y_true_id
  LEFT JOIN arrays AS i ON i.array_id = chosen.sample_indices_id
), placed AS (
  SELECT *, unnest(range(len(predicted))) AS place FROM joined
), samples AS (
  SELECT *, place // outputs AS position, place % outputs AS output,
    coalesce(try_cast(list_extract(indices, place // outputs + 1) AS BIGINT), place // outputs) AS sample_index,
    list_extract(measured, place + 1) AS y_true, list_extract(predicted, place + 1) AS y_pred
  FROM placed
)
"""
"""One row for each sample of each prediction: positions count from 0, ``output`` tells several targets apart."""


_ROUNDED = """
SELECT array_type FROM arrays
WHERE array_bytes IS NOT NULL AND substr(array_dtype, 2, 1) IN ('i', 'u', 'c')
  AND array_id IN (SELECT unnest([y_pred_id, y_true_id, sample_indices_id]) FROM predictions WHERE {condition})
LIMIT 1
"""


def fold_scores(store: Store, metric: str | None, partition: str, filters: Mapping[str, Any]) -> QueryResult:
    """Give one row for each model, with a column for each fold."""
    filters = {"partition": partition, **filters}
    condition, parameters = where(filters)
    with asking(store) as put:
        score, values, _ = score_of(put, metric, partition, filters)
        folds = put(
            f"SELECT fold_id FROM predictions WHERE {condition} AND fold_id IS NOT NULL GROUP BY 1 "
            "ORDER BY try_cast(fold_id AS BIGINT) NULLS LAST, fold_id",
            parameters,
        )
        columns = "".join(
            f", any_value(score) FILTER (WHERE fold_id = ?) AS {quoted(f'fold_{fold}')}" for (fold,) in folds
        )
        return put(
            f"""
            WITH scored AS (SELECT {column_list(MODEL)}, fold_id, {score} AS score FROM predictions WHERE {condition})
            SELECT {column_list(MODEL)}{columns} FROM scored GROUP BY ALL ORDER BY ALL
            """,
            [*values, *parameters, *(fold for (fold,) in folds)],
        )


def fold_summary(
    store: Store, metric: str | None, partition: str, ascending: bool | None, filters: Mapping[str, Any]
) -> QueryResult:
    """Give mean, standard deviation and range of each model's scores over its folds, best mean first."""
    filters = {"partition": partition, **filters}
    condition, parameters = where(filters)
    with asking(store) as put:
        score, values, metric = score_of(put, metric, partition, filters)
        order = "ASC" if is_lower_better(put, metric, ascending, condition, parameters) else "DESC"
        return put(
            f"""
            WITH scored AS (
              SELECT {column_list(MODEL)}, {score} AS score FROM predictions WHERE {condition} AND {_IS_FOLD}
            )
            SELECT {column_list(MODEL)}, count(score) AS folds, avg(score) AS mean,
              stddev_samp(score) AS std, min(score) AS min, max(score) AS max
            FROM scored WHERE score IS NOT NULL AND NOT isnan(score)
            GROUP BY ALL ORDER BY mean {order}
            """,
            [*values, *parameters],
        )


def averaged(
    store: Store, metric: str | None, partition: str, weighted: bool, ascending: bool | None, filters: Mapping[str, Any]
) -> QueryResult:
    """Give for each sample the mean of what the fold models predicted, of classes the one with the most votes."""
    filters = {"partition": partition, **filters}
    condition, parameters = where(filters)
    score, weight = "NULL", "1"
    values: list[Any] = []
    with asking(store) as put:
        _require_exact(put, condition, parameters)
        if weighted:
            score, values, metric = score_of(put, metric, "val", filters)
            lower = is_lower_better(put, metric, ascending, condition, parameters)
            # DuckDB's greatest passes over what is missing: a fold without a score would outweigh all others.
            by_score = "1 / greatest(score, 1e-12)" if lower else "greatest(score, 0)"
            weight = f"CASE WHEN score IS NOT NULL THEN {by_score} END"
        mean, std, counted = "sum(weight * y_pred) / sum(weight)", "stddev_samp(y_pred)", "weighed"
        if len(put(f"SELECT 1 FROM predictions WHERE {condition} AND {_CLASSIFIES} LIMIT 1", parameters)):
            mean = f"CASE WHEN bool_or({_CLASSIFIES}) THEN first(y_pred ORDER BY votes DESC, y_pred) ELSE {mean} END"
            std = f"CASE WHEN NOT bool_or({_CLASSIFIES}) THEN {std} END"
            counted = f"""(
              SELECT *, sum(weight) OVER (PARTITION BY {column_list(MODEL)}, sample_index, output, y_pred) AS votes
              FROM weighed WHERE weight > 0 AND isfinite(weight)
            )"""
        return put(
            f"""
            {_SAMPLES.format(score=score, condition=f"{condition} AND {_IS_FOLD}")}
            , weighed AS (SELECT *, {weight} AS weight FROM samples)
            SELECT {column_list(MODEL)}, sample_index, output, any_value(y_true) AS y_true,
              {mean} AS y_pred, {std} AS std, count(*) AS folds
            FROM {counted} WHERE weight > 0 AND isfinite(weight)
            GROUP BY ALL ORDER BY {column_list(MODEL)}, sample_index, output
            """,
            [*values, *parameters],
        )


def residuals(store: Store, filters: Mapping[str, Any]) -> QueryResult:
    """Give one row for each sample: measured, predicted, and the difference."""
    condition, parameters = where(filters)
    sql = f"""
        {_SAMPLES.format(score="NULL", condition=condition)}
        SELECT id, model_name, fold_id, "partition", sample_index, output, y_true, y_pred, y_pred - y_true AS residual
        FROM samples ORDER BY id, position, output
    """
    with asking(store) as put:
        _require_exact(put, condition, parameters)
        return put(sql, parameters)


def confusion_matrix(store: Store, filters: Mapping[str, Any]) -> QueryResult:
    """Count how often each class was predicted as each."""
    condition, parameters = where(filters)
    with asking(store) as put:
        tasks = put(f"SELECT DISTINCT task_type FROM predictions WHERE {condition}", parameters)
        if any("regression" in (task or "") for (task,) in tasks):
            raise InvalidValueError(
                "a confusion matrix counts classes; these predictions are of a regression.", hint="Ask for residuals."
            )
        _require_exact(put, condition, parameters)
        return put(
            f"""
            {_SAMPLES.format(score="NULL", condition=condition)}
            SELECT y_true, y_pred, count(*) AS count FROM samples GROUP BY ALL ORDER BY ALL
            """,
            parameters,
        )


def _require_exact(put: Ask, condition: str, parameters: list[Any]) -> None:
    """Refuse numbers that DuckDB would take for others: two samples would become one.

    Raises
    ------
    InvalidValueError
    """
    for (kind,) in put(_ROUNDED.format(condition=condition), parameters):
        raise InvalidValueError(
            f"an array {kind} holds whole numbers beyond 2**53 or complex ones, which are not computed with here.",
            hint="Catalog.arrays gives it as it is; number samples and classes from 0 to have them compared.",
        )
