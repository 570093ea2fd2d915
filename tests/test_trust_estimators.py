"""Every estimator of scikit-learn, fitted: known-safe to a scan, and the same after a restricted load as after any."""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.datasets import load_diabetes, load_iris
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import all_estimators

from artifactdb.content import StoredContent
from artifactdb.formats import dump, serializers
from artifactdb.trust.pickles.restricted import restricted_load
from artifactdb.trust.pickles.scan import scan
from tests.pickle_attacks import content, joblib_bytes

ALLOW = ["sklearn.*", "numpy.*"]
NEEDS_SCIPY = {"SparseRandomProjection", "SpectralEmbedding", "SplineTransformer"}
"""They hold a sparse matrix or a spline of scipy's."""

ESTIMATORS = dict(all_estimators())
USUAL = {
    "ColumnTransformer", "GridSearchCV", "HistGradientBoostingRegressor", "LabelEncoder", "LogisticRegression",
    "MinMaxScaler", "OneHotEncoder", "PCA", "PLSRegression", "Pipeline", "RandomForestClassifier", "Ridge", "SVR",
    "StackingRegressor", "StandardScaler", "TfidfVectorizer",
}  # fmt: skip
IRIS, DIABETES = (tuple(part[::3] for part in load(return_X_y=True)) for load in (load_iris, load_diabetes))
TEXTS = ["red wheat", "green barley", "red barley"] * 4

SPECIAL: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "CountVectorizer": ({}, (TEXTS,)),
    "TfidfVectorizer": ({}, (TEXTS,)),
    "DictVectorizer": ({}, ([{"a": 1.0}, {"b": 2.0}],)),
    "KernelCenterer": ({}, (IRIS[0] @ IRIS[0].T,)),
    "LabelBinarizer": ({}, (IRIS[1],)),
    "LabelEncoder": ({}, (IRIS[1],)),
    "MultiLabelBinarizer": ({}, ([[1], [1, 2], [3]],)),
    "GaussianRandomProjection": ({"n_components": 2}, IRIS),
    "SparseRandomProjection": ({"n_components": 2}, IRIS),
    "SparseCoder": ({"dictionary": np.eye(4)}, IRIS),
    "FixedThresholdClassifier": ({"estimator": LogisticRegression()}, (IRIS[0], IRIS[1] == 1)),
    "TunedThresholdClassifierCV": ({"estimator": LogisticRegression()}, (IRIS[0], IRIS[1] == 1)),
    "FrozenEstimator": ({"estimator": LogisticRegression().fit(*IRIS)}, IRIS),
    "RFECV": ({"estimator": Ridge(), "cv": 2}, DIABETES),
    "LogisticRegressionCV": ({"Cs": 2, "cv": 2}, IRIS),
    "SelfTrainingClassifier": ({"estimator": LogisticRegression()}, (IRIS[0], np.where(IRIS[1] == 2, -1, IRIS[1]))),
    "HistGradientBoostingClassifier": ({"max_iter": 5}, IRIS),
    "HistGradientBoostingRegressor": ({"max_iter": 5}, DIABETES),
    "TSNE": ({"perplexity": 5, "max_iter": 250}, IRIS),
}
for _name in ("GridSearchCV", "HalvingGridSearchCV"):
    SPECIAL[_name] = ({"estimator": LogisticRegression(), "param_grid": {"C": [0.1, 1.0]}, "cv": 2}, IRIS)
for _name in ("RandomizedSearchCV", "HalvingRandomSearchCV"):
    SPECIAL[_name] = ({"estimator": LogisticRegression(), "param_distributions": {"C": [0.1, 1.0]}, "cv": 2}, IRIS)


def candidates(cls: type) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Parameters and data to try, one after the other."""
    needed = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    for model, (x, y) in ((LogisticRegression, IRIS), (Ridge, DIABETES)):
        known = {
            "estimator": model(), "estimators": [("a", model()), ("b", model())], "steps": [("a", model())],
            "transformers": [("a", "passthrough", [0, 1])], "transformer_list": [("a", "passthrough")],
        }  # fmt: skip
        parameters = {name: known[name] for name in needed if name in known}
        many = np.column_stack([y, y]).astype(type(y[0]))
        for data in ((x, y), (abs(x), y), (x[:, :1], y), (x, many), (x[:, :3], x[:, 3:])):
            yield parameters, data


def fitted(name: str) -> tuple[Any, Any]:
    cls: Any = ESTIMATORS[name]
    for parameters, data in [SPECIAL[name]] if name in SPECIAL else candidates(cls):
        model = cls(**parameters)
        if "random_state" in model.get_params(deep=False):
            model.set_params(random_state=0)
        with contextlib.suppress(Exception if name not in SPECIAL else ()):
            return model.fit(*data), data[0]
    raise AssertionError(f"{name} was not fitted; it needs an entry in SPECIAL")


def answers(model: Any, x: Any) -> dict[str, Any]:
    """What a fitted object says of its data."""
    said = {}
    for method in ("predict", "predict_proba", "decision_function", "transform", "score_samples", "kneighbors"):
        with contextlib.suppress(Exception):
            said[method] = getattr(model, method)(x)
    return said


def same(one: Any, other: Any) -> bool:
    if sparse.issparse(one):
        return bool((one != other).nnz == 0)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.campaign) for name in sorted(ESTIMATORS)]
)
@pytest.mark.filterwarnings("ignore")
def test_a_fitted_estimator_is_known_safe_and_the_same_after_a_restricted_load(name: str) -> None:
    model, x = fitted(name)
    made, serializer = dump(model)
    parts = {part.digest: bytes(part.segments[0].data) for part in made.content.parts}
    data = b"".join(bytes(segment.data) for segment in made.content.segments)
    stored = StoredContent(bytearray(data), lambda digest: bytearray(parts[digest]))

    report = scan(stored, serializer.name)
    assert report.verdict == "known-safe", str(report)

    loaded = restricted_load(stored, [*ALLOW, "scipy.*"] if name in NEEDS_SCIPY else ALLOW)
    assert type(loaded) is type(model)
    if is_classifier(model):
        assert "predict" in answers(model, x)
    expected, found = answers(serializer.load(stored), x), answers(loaded, x)
    assert expected.keys() == found.keys() == answers(model, x).keys()
    assert all(same(expected[method], found[method]) for method in expected)

    for format, written in (("pickle", pickle.dumps(model, 2)), ("joblib", joblib_bytes(model))):
        kept = content(written)
        found = answers(restricted_load(kept, [*ALLOW, "scipy.*"] if name in NEEDS_SCIPY else ALLOW, format), x)
        expected = answers(serializers()[format].load(kept), x)
        assert expected.keys() == found.keys()
        assert all(same(expected[method], found[method]) for method in expected), format


def test_the_list_of_estimators_is_long() -> None:
    assert len(ESTIMATORS) > 190
