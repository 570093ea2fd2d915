"""Pictures of predictions and scores; each gives the axes it drew on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from artifactdb.catalog.asking import Ask, asking
from artifactdb.catalog.columns import COLUMNS, quoted, require_columns
from artifactdb.catalog.folds import MODEL, residuals
from artifactdb.catalog.questions import get, score_of, where
from artifactdb.catalog.store import Store
from artifactdb.errors import InvalidValueError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MOST_GROUPS = 40


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise InvalidValueError("plots need matplotlib.", hint='pip install "artifactdb[plot]"') from None
    drawn: Axes = plt.subplots(figsize=(5.5, 5), layout="constrained")[1]
    return drawn


def plot_predictions(store: Store, prediction_id: str, ax: Axes | None = None) -> Axes:
    """Draw predicted against measured, one colour a fold, for all folds of a prediction's model and partition."""
    row = get(store, prediction_id, arrays=False)
    same = {column: row[column] for column in (*MODEL, "partition")}
    found = residuals(store, same).to_dicts()
    points = [sample for sample in found if sample["y_true"] is not None and sample["output"] == 0]
    if not points:
        raise InvalidValueError(f"prediction {prediction_id} has no arrays y_true and y_pred to draw.")
    ax = _axes(ax)
    folds = sorted({sample["fold_id"] for sample in points}, key=lambda fold: (len(fold or ""), fold or ""))
    for position, fold in enumerate(folds):
        own = [sample for sample in points if sample["fold_id"] == fold]
        label = "all" if fold in (None, "") else f"fold {fold}"
        ax.scatter(
            [sample["y_true"] for sample in own], [sample["y_pred"] for sample in own],
            s=22, alpha=0.75, label=label, color=f"C{position % 10}", linewidths=0,
        )  # fmt: skip
    ends = [value for sample in points for value in (sample["y_true"], sample["y_pred"])]
    ax.axline((min(ends), min(ends)), slope=1, color="0.5", linewidth=1, zorder=0)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel("measured")
    ax.set_ylabel("predicted")
    ax.set_title(f"{row['model_name']} on {row['dataset_name']}, {row['partition']}")
    ax.legend(frameon=False)
    return ax


def plot_scores(
    store: Store,
    metric: str | None,
    by: str | Sequence[str],
    partition: str,
    ax: Axes | None,
    filters: Mapping[str, Any],
) -> Axes:
    """Draw how scores are distributed over the values of a column, or their mean over two parameters."""
    filters = {"partition": partition, **filters}
    condition, parameters = where(filters)
    if isinstance(by, str):
        require_columns([by], COLUMNS)
    elif len(by) != 2:
        raise InvalidValueError(f"a heat map has two parameters, not {len(by)}.", hint='by=("n_components", "window")')
    with asking(store) as put:
        score, values, metric = score_of(put, metric, partition, filters)
        scored = (
            f"SELECT * FROM (SELECT *, {score} AS score FROM predictions WHERE {condition}) "
            "WHERE score IS NOT NULL AND isfinite(score)"
        )
        draw = _boxes if isinstance(by, str) else _heat_map
        return draw(put, scored, [*values, *parameters], by, f"{metric or 'score'} ({partition})", ax)


def _boxes(put: Ask, scored: str, values: list[Any], by: Any, label: str, ax: Axes | None) -> Axes:
    rows = put(
        f"SELECT coalesce({quoted(by)}::VARCHAR, 'none'), list(score) FROM ({scored}) GROUP BY 1 "
        f"ORDER BY try_cast(any_value({quoted(by)}) AS BIGINT), 1 LIMIT {_MOST_GROUPS}",
        values,
    )
    if not len(rows):
        raise InvalidValueError("no prediction with a score meets these conditions.")
    ax = _axes(ax)
    ax.boxplot([scores for _, scores in rows], tick_labels=[name for name, _ in rows], widths=0.6)
    if len(rows) > 4 or any(len(name) > 12 for name, _ in rows):
        ax.tick_params(axis="x", labelrotation=30)
    ax.set_xlabel(by)
    ax.set_ylabel(label)
    return ax


def _heat_map(put: Ask, scored: str, values: list[Any], by: Any, label: str, ax: Axes | None) -> Axes:
    # A model's own parameters answer where the prediction does not name them.
    parameter = "coalesce(json_extract_string(best_params, ?), json_extract_string(a.parameters, ?))"
    paths = [path for name in by for path in [f'$."{name}"'] * 2]
    rows = put(
        f"SELECT {parameter} AS x, {parameter} AS y, avg(score) AS score FROM ({scored}) AS p "
        "LEFT JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id GROUP BY ALL",
        [*paths, *values],
    )
    found = [(x, y, mean) for x, y, mean in rows if x is not None and y is not None]
    if not found:
        raise InvalidValueError(
            f"no prediction names both {by[0]} and {by[1]} in its best_params or its model's parameters."
        )
    ax = _axes(ax)
    across, along = (sorted({cell[axis] for cell in found}, key=_as_number) for axis in (0, 1))
    means = {(x, y): mean for x, y, mean in found}
    grid = [[means.get((x, y), float("nan")) for x in across] for y in along]
    picture = ax.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
    ax.figure.colorbar(picture, ax=ax, label=f"mean {label}")
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(along)), along)
    ax.set_xlabel(by[0])
    ax.set_ylabel(by[1])
    return ax


def _as_number(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
