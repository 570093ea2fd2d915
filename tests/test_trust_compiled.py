"""States that compiled code would believe: true ones load within an allow-list, false ones are refused before it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import BallTree, KDTree
from sklearn.tree import DecisionTreeClassifier

from artifactdb import UntrustedArtifactError
from artifactdb.trust.pickles.restricted import restricted_load
from tests.pickle_attacks import contained

ALLOW = ["sklearn.*", "numpy.*"]
X = np.random.default_rng(0).random((90, 3))
Y = X.sum(axis=1)

TREES = {
    "k-d tree": KDTree(X, leaf_size=7),
    "ball tree": BallTree(X, leaf_size=7, metric="mahalanobis", V=np.eye(3)),
    "weighted": KDTree(X, leaf_size=7, metric="minkowski", p=3, sample_weight=np.ones(90)),
}
"""Of neighbours."""
DISTANCES = {
    "euclidean": DistanceMetric.get_metric("euclidean"),
    "standardized": DistanceMetric.get_metric("seuclidean", V=np.ones(3)),
    "mahalanobis": DistanceMetric.get_metric("mahalanobis", V=np.eye(3)),
    "single": DistanceMetric.get_metric("minkowski", dtype=np.float32, p=3),
}
DECISIONS = {
    "classifier": DecisionTreeClassifier(max_leaf_nodes=9, random_state=0).fit(X, Y > 1.5).tree_,
    "of a forest": RandomForestRegressor(1, max_depth=4, random_state=0).fit(X, Y).estimators_[0].tree_,
}


class Forged:
    """Is written as another object: with its class and arguments, and any state."""

    def __init__(self, true: Any, state: Any, arguments: tuple[Any, ...] | None = None) -> None:
        make, own, *_ = true.__reduce__()
        self.written = make, own if arguments is None else arguments, state

    def __reduce__(self) -> Any:
        return self.written


def load(obj: Any) -> Any:
    return restricted_load(contained(pickle.dumps(obj, 5)), ALLOW)


def refused(forged: Forged) -> None:
    with pytest.raises(UntrustedArtifactError, match=r"a state that .* never has|do not fit each other"):
        load(forged)


def changed(array: Any, place: Any, value: Any) -> Any:
    """A copy with another value at a place."""
    copy = array.copy()
    copy[place] = value
    return copy


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_true_tree_of_neighbours_finds_the_same(tree: Any) -> None:
    for one, other in zip(load(tree).query(X, 4), tree.query(X, 4), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_a_true_distance_measures_the_same(distance: Any) -> None:
    rows = X.astype(np.float32 if "32" in type(distance).__name__ else np.float64)
    assert np.array_equal(load(distance).pairwise(rows), distance.pairwise(rows))


@pytest.mark.parametrize("tree", DECISIONS.values(), ids=DECISIONS)
def test_a_true_decision_tree_predicts_the_same(tree: Any) -> None:
    assert np.array_equal(load(tree).predict(X.astype(np.float32)), tree.predict(X.astype(np.float32)))


@pytest.mark.parametrize("true", [*TREES.values(), *DISTANCES.values()], ids=[*TREES, *DISTANCES])
def test_a_state_of_another_length_or_other_types_is_refused(true: Any) -> None:
    state = true.__getstate__()
    for length in range(len(state)):
        refused(Forged(true, state[:length]))
    others: list[Any] = [(), None, 5, "x", [*state], {"nodes": 1}, (*state, None)]
    for other in others[1 if type(true) in map(type, DISTANCES.values()) else 0 :]:
        if other is not None:  # which is written as no state at all
            refused(Forged(true, other))
    for place, value in enumerate(state):
        for other in (b"x", np.zeros((2, 2, 2)), np.array(["x"])):
            if type(other) is not type(value) or other.ndim != value.ndim or other.dtype != value.dtype:
                refused(Forged(true, (*state[:place], other, *state[place + 1 :])))


@pytest.mark.parametrize("true", TREES.values(), ids=TREES)
@pytest.mark.parametrize(
    ("place", "falsify"),
    [
        (0, lambda rows: rows[:40]),
        (0, lambda rows: rows[:, :2]),
        (1, lambda order: changed(order, 5, 10**9)),
        (1, lambda order: changed(order, 5, order[6])),
        (1, lambda order: order[:-1]),
        (2, lambda nodes: changed(nodes, 1, (0, 10**9, 1, 0.5))),
        (2, lambda nodes: changed(nodes, 0, (0, 90, 1, 0.5))),
        (2, lambda nodes: nodes[:3]),
        (3, lambda bounds: bounds[:, :2]),
        (4, lambda leaf_size: leaf_size * 4),
        (4, lambda leaf_size: 0),
        (5, lambda levels: levels + 20),
        (6, lambda nodes: nodes + 10**6),
        (11, lambda distance: DISTANCES["single"]),
        (11, lambda distance: DistanceMetric.get_metric("seuclidean", V=np.ones(2))),
        (11, lambda distance: None),
        (12, lambda weights: np.ones(7)),
    ],
)  # fmt: skip
def test_a_tree_of_neighbours_that_leads_elsewhere_is_refused(true: Any, place: int, falsify: Any) -> None:
    state = list(true.__getstate__())
    state[place] = falsify(state[place])
    refused(Forged(true, tuple(state)))


def test_a_matrix_of_a_distance_is_square() -> None:
    p, vector, matrix = DISTANCES["mahalanobis"].__getstate__()
    refused(Forged(DISTANCES["mahalanobis"], (p, vector, matrix[:, :1])))


@pytest.mark.parametrize("true", DECISIONS.values(), ids=DECISIONS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("left_child", 0), ("left_child", 10**9), ("right_child", -7), ("right_child", 10**6), ("feature", 3),
     ("feature", -2)],
)  # fmt: skip
def test_a_decision_tree_that_leads_elsewhere_is_refused(true: Any, name: str, value: int) -> None:
    state = true.__getstate__()
    nodes = state["nodes"].copy()
    nodes[name][0] = value
    refused(Forged(true, {**state, "nodes": nodes}))
    refused(Forged(true, {**state, "node_count": len(nodes) + 1}))
    refused(Forged(true, {name: value for name, value in state.items() if name != "nodes"}))


@pytest.mark.parametrize("arguments", [(3, np.array([1]), 10**6), (3, np.array([0]), 1), (-3, np.array([1]), 1), ()])
def test_a_decision_tree_is_made_with_as_many_classes_as_outputs(arguments: tuple[Any, ...]) -> None:
    true = DECISIONS["of a forest"]
    refused(Forged(true, true.__getstate__(), arguments))
