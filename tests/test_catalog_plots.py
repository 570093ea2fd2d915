"""Pictures: the points are the predictions, the boxes the scores, the cells the means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest

from artifactdb import Catalog, InvalidValueError, Workspace

matplotlib.use("Agg")


@pytest.fixture
def catalog(workspace: Workspace) -> Iterator[Catalog]:
    rng = np.random.default_rng(0)
    for number in range(30):
        fold, model = number % 5, number // 5
        measured = rng.normal(10, 3, 12)
        workspace.catalog.add(
            dataset_name="wheat", config_name=f"{model:04}", model_name=f"model_{model % 2}", fold_id=fold,
            partition="val", metric="rmse", val_score=1.0 + model + fold / 10,
            y_true=measured, y_pred=measured + rng.normal(0, 0.5, 12),
            best_params={"n_components": 2 + model % 3, "window": 5 * (1 + model // 3)},
        )  # fmt: skip
    yield workspace.catalog
    matplotlib.pyplot.close("all")


def test_predicted_against_measured_tells_folds_apart(catalog: Catalog) -> None:
    (row,) = catalog.filter(config_name="0001", fold_id=3).to_dicts()
    ax = catalog.plot_predictions(row["id"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"fold {fold}" for fold in range(5)]
    drawn = ax.collections[3].get_offsets()
    arrays = catalog.get(row["id"])
    np.testing.assert_allclose(drawn[:, 0], arrays["y_true"])
    np.testing.assert_allclose(drawn[:, 1], arrays["y_pred"])
    again: Any = catalog.plot_predictions(row["id"], ax=ax)
    assert again is ax


def test_scores_by_a_column(catalog: Catalog) -> None:
    ax = catalog.plot_scores("rmse", by="fold_id")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    assert ax.get_ylabel() == "rmse (val)"
    with pytest.raises(InvalidValueError, match="no column"):
        catalog.plot_scores("rmse", by="fold")
    with pytest.raises(InvalidValueError, match="no prediction"):
        catalog.plot_scores("rmse", model_name="nothing")


def test_a_heat_map_of_two_parameters(catalog: Catalog) -> None:
    ax = catalog.plot_scores("rmse", by=("n_components", "window"))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["2", "3", "4"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["5", "10"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[1.2, 2.2, 3.2], [4.2, 5.2, 6.2]])
    with pytest.raises(InvalidValueError, match="names both"):
        catalog.plot_scores("rmse", by=("alpha", "window"))
