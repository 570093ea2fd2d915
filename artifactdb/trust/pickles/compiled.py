"""States that compiled code would believe: a false one can end the process, so each is looked at before it is set.

Trees of neighbours are compared with one that is built anew of the same rows; distances with what their class holds;
decision trees are followed. What is looked at is how the code finds its way: which class, lengths, types, and each
index. What the numbers say is not judged.
"""

from __future__ import annotations

from typing import Any, Final

import numpy

_DISTANCES: Final = "sklearn.metrics._dist_metrics"
_TREES_OF_NEIGHBOURS: Final = ("sklearn.neighbors._ball_tree", "sklearn.neighbors._kd_tree")
_DECISION_TREES: Final = "sklearn.tree._tree"
_LEAF: Final = -1


def is_true_state(target: Any, state: Any) -> bool:
    """Tell whether a compiled object may be given a state; True for what this module does not know.

    Examples
    --------
    >>> from sklearn.neighbors import KDTree
    >>> tree = KDTree([[0.0], [1.0]])
    >>> is_true_state(tree, tree.__getstate__()), is_true_state(tree, tree.__getstate__()[:-1])
    (True, False)
    """
    module = type(target).__module__
    try:
        if module == _DISTANCES:
            return _is_distance(target, state)
        if module in _TREES_OF_NEIGHBOURS:
            return _is_tree_of_neighbours(target, state)
        if module == _DECISION_TREES:
            return _is_decision_tree(target, state)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False
    return True


def are_true_arguments(made: Any, arguments: Any) -> bool:
    """Tell whether a compiled class may be called with some arguments; True for what this module does not know.

    Examples
    --------
    >>> from sklearn.tree._tree import Tree
    >>> are_true_arguments(Tree, (4, numpy.array([3]), 1)), are_true_arguments(Tree, (4, numpy.array([3]), 10**6))
    (True, False)
    """
    if getattr(made, "__module__", None) != _DECISION_TREES or getattr(made, "__name__", None) != "Tree":
        return True
    try:
        n_features, n_classes, n_outputs = arguments
        return bool(
            type(n_features) is int and type(n_outputs) is int and min(n_features, n_outputs) > 0
            and type(n_classes) is numpy.ndarray and n_classes.shape == (n_outputs,) and n_classes.dtype.kind in "iu"
            and n_classes.min() > 0
        )  # fmt: skip
    except (TypeError, ValueError):
        return False


def _are_alike(given: tuple[Any, ...], fresh: tuple[Any, ...]) -> bool:
    """Tell whether two states have the same length, and their values the same types, dtypes and ranks."""
    return len(given) == len(fresh) and all(
        type(one) is type(other)
        and (type(one) is not numpy.ndarray or (one.dtype == other.dtype and one.ndim == other.ndim))
        for one, other in zip(given, fresh, strict=True)
    )


def _is_distance(target: Any, state: Any) -> bool:
    kind: Any = type(target)
    fresh = kind.__new__(kind).__getstate__()
    if type(state) is not tuple or not _are_alike(state, fresh):
        return False
    return all(array.ndim < 2 or array.shape[0] == array.shape[1] for array in state if type(array) is numpy.ndarray)


def _is_tree_of_neighbours(target: Any, state: Any) -> bool:
    if type(state) is not tuple or len(state) < 12 or type(state[0]) is not numpy.ndarray or type(state[4]) is not int:
        return False
    rows, order, leaf_size, metric = state[0], state[1], state[4], state[11]
    weights = state[12] if len(state) > 12 else None
    if rows.dtype.kind != "f" or rows.ndim != 2 or type(metric).__module__ != _DISTANCES:
        return False
    if weights is not None and numpy.shape(weights) != rows.shape[:1]:
        return False
    weighted = {} if weights is None else {"sample_weight": weights}
    fresh = type(target)(rows, leaf_size=leaf_size, metric=metric, **weighted).__getstate__()
    if not _are_alike(state, fresh):
        return False
    places = [name for name in fresh[2].dtype.names if name != "radius"]
    return bool(
        all(one.shape == other.shape for one, other in zip(state, fresh, strict=True) if type(one) is numpy.ndarray)
        and numpy.array_equal(numpy.sort(order), numpy.sort(fresh[1]))
        and all(numpy.array_equal(state[2][name], fresh[2][name]) for name in places)
        and state[4:7] == fresh[4:7]
    )


def _is_decision_tree(target: Any, state: Any) -> bool:
    nodes = state["nodes"]
    if type(nodes) is not numpy.ndarray or nodes.ndim != 1 or type(state["node_count"]) is not int:
        return False
    inner = numpy.flatnonzero(nodes["left_child"] != _LEAF)
    ways = [nodes[side][inner] for side in ("left_child", "right_child")]
    features = nodes["feature"][inner]
    return bool(
        state["node_count"] == len(nodes) > 0
        and all((way > inner).all() and (way < len(nodes)).all() for way in ways)
        and (features >= 0).all() and (features < target.n_features).all()
    )  # fmt: skip
