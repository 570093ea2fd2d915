"""What a prediction row consists of, and which metrics are better when lower. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import pyarrow as pa

from artifactdb.errors import InvalidValueError

ARRAYS = {
    "y_true": "y_true",
    "y_pred": "y_pred",
    "y_proba": "y_proba",
    "sample_indices": "indices",
    "weights": "weights",
}
"""The arrays of a prediction, and the name of their role in the files."""

JSON_COLUMNS = ("best_params", "metadata", "scores")
FLOAT_COLUMNS = ("val_score", "test_score", "train_score", "exclusion_rate")
INTEGER_COLUMNS = ("step_idx", "op_counter", "n_samples", "n_features", "branch_id", "exclusion_count")
PARTITIONS = ("train", "val", "test")
REQUIRED = ("dataset_name", "model_name", "partition")
VALUES = (
    "id", "dataset_name", "dataset_path", "config_name", "config_path", "pipeline_uid", "step_idx", "op_counter",
    "model_name", "model_classname", "model_path", "model_artifact_id", "trace_id", "fold_id", "partition",
    "val_score", "test_score", "train_score", "metric", "task_type", "n_samples", "n_features", "preprocessings",
    "best_params", "metadata", "scores", "branch_id", "branch_name", "exclusion_count", "exclusion_rate",
)  # fmt: skip
ARRAY_IDS = tuple(f"{name}_id" for name in ARRAYS)
COLUMNS = VALUES + ARRAY_IDS
"""Every column of ``predictions``, in the order of the Parquet file."""

IDENTITY = (
    "dataset_name", "dataset_path", "config_name", "config_path", "pipeline_uid", "step_idx", "op_counter",
    "model_name", "model_classname", "fold_id", "partition", "branch_id", "branch_name", "sample_indices_id",
)  # fmt: skip
"""What tells one prediction from another; the id is made of it."""

SORTED_BY = ("dataset_name", "partition", "model_name", "fold_id", "pipeline_uid", "step_idx", "id")
"""Rows that people ask for together lie together, so that a filter on any of these skips whole row groups."""


def _type(column: str) -> pa.DataType:
    if column in FLOAT_COLUMNS:
        return pa.float64()
    return pa.int64() if column in INTEGER_COLUMNS else pa.string()


NUMBER_COLUMNS = frozenset((*FLOAT_COLUMNS, *INTEGER_COLUMNS))
"""All others hold text."""
SCHEMA = pa.schema([(column, _type(column)) for column in COLUMNS])
ARRAY_SCHEMA = pa.schema(
    [
        ("array_id", pa.string()),
        ("array_data", pa.large_list(pa.float64())),
        ("array_hash", pa.string()),
        ("array_size", pa.int64()),
        ("array_shape", pa.string()),
        ("array_type", pa.string()),
        ("array_dtype", pa.string()),
        ("array_bytes", pa.large_binary()),
    ]
)

LOWER_IS_BETTER = frozenset(
    [
        "mse",
        "rmse",
        "mae",
        "mape",
        "smape",
        "msle",
        "rmsle",
        "medae",
        "max_error",
        "sep",
        "bias",
        "nrmse",
        "nmse",
        "rmsep",
        "rmsec",
        "rmsecv",
        "mbe",
        "loss",
        "log_loss",
        "logloss",
        "cross_entropy",
        "brier",
        "brier_score",
        "hinge",
        "hamming_loss",
        "error",
        "error_rate",
        "nrmse_maxmin",
        "nrmse_iqr",
        "mean_squared_error",
        "root_mean_squared_error",
        "mean_absolute_error",
        "median_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_log_error",
    ]
)
HIGHER_IS_BETTER = frozenset(
    [
        "r2",
        "r2_score",
        "q2",
        "rpd",
        "rpiq",
        "rer",
        "ccc",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "f1_score",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "precision",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "sensitivity",
        "specificity",
        "auc",
        "roc_auc",
        "average_precision",
        "jaccard",
        "kappa",
        "cohen_kappa",
        "mcc",
        "matthews_corrcoef",
        "explained_variance",
        "pearson",
        "pearsonr",
        "pearson_r",
        "spearman",
        "spearmanr",
        "consistency",
        "score",  # an estimator's own, as scikit-learn has it
        # What else scikit-learn has scorers for, which are all better when higher.
        "adjusted_mutual_info_score",
        "adjusted_rand_score",
        "completeness_score",
        "d2_absolute_error_score",
        "d2_brier_score",
        "d2_log_loss_score",
        "f1_samples",
        "fowlkes_mallows_score",
        "homogeneity_score",
        "jaccard_macro",
        "jaccard_micro",
        "jaccard_samples",
        "jaccard_weighted",
        "mutual_info_score",
        "normalized_mutual_info_score",
        "positive_likelihood_ratio",
        "precision_samples",
        "rand_score",
        "recall_samples",
        "roc_auc_ovo",
        "roc_auc_ovo_weighted",
        "roc_auc_ovr",
        "roc_auc_ovr_weighted",
        "top_k_accuracy",
        "v_measure_score",
    ]
)


WHICH_IS_BETTER = "Give ascending=True or False (--ascending or --descending)."


def lower_is_better(metric: str) -> bool:
    """Tell whether a metric is better when lower; ``neg_`` turns it round, as in scikit-learn.

    Examples
    --------
    >>> lower_is_better("RMSE"), lower_is_better("r2"), lower_is_better("neg_mean_squared_error")
    (True, False, False)
    """
    name = metric.lower().replace("-", "_").replace(" ", "_")
    if name.startswith("neg_"):
        return name[4:] in HIGHER_IS_BETTER
    if name in LOWER_IS_BETTER:
        return True
    if name in HIGHER_IS_BETTER:
        return False
    raise InvalidValueError(f"whether {metric!r} is better when lower is not known.", hint=WHICH_IS_BETTER)


def require_columns(names: Iterable[str], known: Iterable[str] = VALUES + ARRAY_IDS) -> None:
    """Refuse the name of a column that does not exist, and say which do."""
    existing = tuple(known)
    for name in names:
        if name not in existing:
            close = get_close_matches(name, existing, 1)
            meant = f"Did you mean {close[0]}? " if close else ""
            raise InvalidValueError(
                f"predictions have no column {name!r}.", hint=f"{meant}The columns are {', '.join(existing)}."
            )


def quoted(column: str) -> str:
    """Give a column's name as SQL takes it; ``partition`` is a keyword."""
    return '"' + column.replace('"', '""') + '"'


def column_list(columns: Iterable[str] = COLUMNS) -> str:
    """Give columns as SQL takes them."""
    return ", ".join(quoted(column) for column in columns)
