"""What kind of operator an object is, read from what it can do; scikit-learn is asked only when it is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from artifactdb.records import ArtifactType


def is_splitter(obj: Any) -> bool:
    """Tell whether an object cuts samples into folds."""
    return callable(getattr(obj, "split", None)) and hasattr(obj, "get_n_splits")


def is_model(obj: Any) -> bool:
    """Tell whether an object predicts; what also transforms is a model if it is a regressor or a classifier.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.cross_decomposition import PLSRegression
    >>> is_model(PLSRegression()), is_model(KMeans())
    (True, False)
    """
    if not (callable(getattr(obj, "fit", None)) and predicts(obj)):
        return False
    return is_classifier(obj) or is_regressor(obj) or not hasattr(obj, "transform")


def predicts(obj: Any) -> bool:
    """Tell whether an object predicts, or will when it is fitted, as a stack whose final estimator is the usual one.

    Examples
    --------
    >>> from sklearn.ensemble import StackingRegressor
    >>> from sklearn.linear_model import Ridge
    >>> predicts(StackingRegressor([("ridge", Ridge())]))
    True
    """
    return hasattr(obj, "predict") or (hasattr(type(obj), "predict") and (is_classifier(obj) or is_regressor(obj)))


def is_selector(obj: Any) -> bool:
    """Tell whether an object chooses columns; some, as RFE, also predict with the model that they choose by.

    Examples
    --------
    >>> from sklearn.feature_selection import RFE
    >>> from sklearn.linear_model import Ridge
    >>> is_selector(RFE(Ridge()))
    True
    """
    return callable(getattr(obj, "get_support", None)) and hasattr(obj, "transform")


def is_transformer(obj: Any) -> bool:
    """Tell whether an object changes X and is no model."""
    return callable(getattr(obj, "fit", None)) and hasattr(obj, "transform") and not is_model(obj)


def is_classifier(obj: Any) -> bool:
    """Tell whether an object predicts classes."""
    from sklearn.base import is_classifier as asked

    return bool(_answered(asked, obj))


def is_regressor(obj: Any) -> bool:
    """Tell whether an object predicts numbers."""
    from sklearn.base import is_regressor as asked

    return bool(_answered(asked, obj))


def predicts_labels(obj: Any) -> bool:
    """Tell whether what an object predicts is no measure: classes, or 1 and -1 for what is usual and what is not.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.linear_model import Ridge
    >>> predicts_labels(IsolationForest()), predicts_labels(Ridge())
    (True, False)
    """
    from sklearn.base import is_outlier_detector as asked

    return is_classifier(obj) or bool(_answered(asked, obj))


def is_clusterer(obj: Any) -> bool:
    """Tell whether an object numbers clusters.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.linear_model import Ridge
    >>> is_clusterer(KMeans()), is_clusterer(Ridge())
    (True, False)
    """
    from sklearn import base

    if hasattr(base, "is_clusterer"):
        return bool(_answered(base.is_clusterer, obj))
    return getattr(obj, "_estimator_type", None) == "clusterer"  # before scikit-learn 1.6


def takes_labels(obj: Any) -> bool:
    """Tell whether an encoder of y wants one dimension, as ``LabelEncoder`` does.

    Examples
    --------
    >>> from sklearn.preprocessing import LabelEncoder, StandardScaler
    >>> takes_labels(LabelEncoder()), takes_labels(StandardScaler())
    (True, False)
    """
    return next(iter(inspect.signature(obj.fit).parameters), "") == "y"


def gives_labels_back(obj: Any) -> bool:
    """Tell whether an encoder of y makes a label of whatever numbers come back, so that a regressor classifies.

    Examples
    --------
    >>> from sklearn.preprocessing import LabelBinarizer, StandardScaler
    >>> gives_labels_back(LabelBinarizer()), gives_labels_back(StandardScaler())
    (True, False)
    """
    from sklearn.preprocessing import LabelBinarizer, LabelEncoder, OneHotEncoder, OrdinalEncoder

    several = getattr(obj, "n_features_in_", 1) > 1
    if isinstance(obj, OrdinalEncoder):  # numbers that it orders may as well be measured
        return not several and any(part.dtype.kind not in "biuf" for part in getattr(obj, "categories_", ()))
    return isinstance(obj, LabelBinarizer | LabelEncoder | OneHotEncoder) and not several


def named_columns(obj: Any) -> set[str | None]:
    """Give the names of columns that an operator chooses, or one inside it, and None where it asks a function.

    Only a frame has such names.

    Examples
    --------
    >>> from sklearn.compose import ColumnTransformer
    >>> from sklearn.pipeline import make_pipeline
    >>> sorted(named_columns(make_pipeline(ColumnTransformer([("some", "passthrough", ["a", "b"])]))))
    ['a', 'b']
    """
    inside = _answered(lambda one: list(one.get_params().values()), obj) or []
    return {name for one in [obj, *inside] for name in _answered(_chosen, one) or ()}


def artifact_type(obj: Any) -> ArtifactType:
    """Give the type under which a fitted object is stored."""
    if is_model(obj):
        return ArtifactType.MODEL
    return ArtifactType.SPLITTER if is_splitter(obj) else ArtifactType.TRANSFORMER


def _chosen(estimator: Any) -> list[str | None]:
    from sklearn.compose import ColumnTransformer

    given = [columns for _, _, columns in estimator.transformers] if isinstance(estimator, ColumnTransformer) else []
    given += [getattr(estimator, name, None) for name in ("categorical_features", "monotonic_cst")]
    ends = [[one.start, one.stop] if isinstance(one, slice) else one for one in given]
    several = [one if isinstance(one, Iterable) and not isinstance(one, str) else [one] for one in ends]
    chosen = [one for names in several for one in names if isinstance(one, str) or callable(one)]
    return [one if isinstance(one, str) else None for one in chosen]


def _answered(ask: Any, obj: Any) -> Any:
    # An object that is no scikit-learn estimator has no tags, which newer versions say by raising.
    try:
        return ask(obj)
    except Exception:
        return None
