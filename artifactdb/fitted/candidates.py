"""The candidates of a search over parameters, as rows of the catalog that do not know yet what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifactdb.artifacts.parameters import readable
from artifactdb.fitted.predictions import UNNAMED, about, sign_of
from artifactdb.fitted.structure import final_estimator


def of_search(search: Any) -> list[dict[str, Any]]:
    """Give a row for each candidate of a search, in their order."""
    results = search.cv_results_
    names = [key.removeprefix("mean_test_") for key in results if key.startswith("mean_test_")]
    main = search.refit if search.refit in names else names[0]
    metrics = {name: _scorer_name(search) if names == [UNNAMED] else name for name in names}
    scorers = search.scorer_ if isinstance(search.scorer_, Mapping) else dict.fromkeys(names, search.scorer_)
    signs = {name: sign_of(metrics[name], results[f"mean_test_{name}"], scorers.get(name)) for name in names}
    ranks = results.get(f"rank_test_{main}")
    rows = []
    for candidate, params in enumerate(results["params"]):
        means = {
            partition: {
                metrics[name]: signs[name] * float(results[key][candidate])
                for name in names
                if (key := of(name)) in results
            }
            for partition, of in (("val", "mean_test_{}".format), ("train", "mean_train_{}".format))
        }
        splits = {
            metrics[name]: [
                signs[name] * results[f"split{split}_test_{name}"][candidate] for split in range(search.n_splits_)
            ]
            for name in names
        }
        rows.append(
            {
                **about(search, _predictor(search.estimator, params)),
                "op_counter": candidate,
                "partition": "val",
                "metric": metrics[main],
                "val_score": means["val"][metrics[main]],
                "train_score": means["train"].get(metrics[main]),
                "scores": readable({partition: scores for partition, scores in means.items() if scores}),
                "best_params": readable(params),
                "metadata": readable({"split_scores": splits, "rank": None if ranks is None else ranks[candidate]}),
            }
        )
    return rows


def _predictor(estimator: Any, params: Mapping[str, Any]) -> Any:
    """Give what predicts in the end with these parameters, which may name another estimator."""
    from sklearn.base import clone

    if any(hasattr(value, "get_params") for value in params.values()):
        estimator = clone(estimator).set_params(**params)
    return final_estimator(estimator)


def _scorer_name(search: Any) -> str:
    """Give the name of the metric that a search compares by, where it has one."""
    from sklearn.base import ClassifierMixin, RegressorMixin

    scoring = search.scoring
    if isinstance(scoring, str):
        return scoring
    if scoring is None:
        usual = {ClassifierMixin.score: "accuracy", RegressorMixin.score: "r2"}
        return usual.get(type(final_estimator(search.best_estimator_)).score, UNNAMED)
    computing = getattr(scoring, "_score_func", scoring)
    name = str(getattr(computing, "__name__", UNNAMED))
    return f"neg_{name}" if getattr(scoring, "_sign", 1) < 0 else name
