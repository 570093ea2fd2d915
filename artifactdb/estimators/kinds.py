"""What kind of operator an object is, read from what it can do; scikit-learn is asked only when it is loaded."""

from __future__ import annotations

import inspect
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
    if not (callable(getattr(obj, "fit", None)) and hasattr(obj, "predict")):
        return False
    return is_classifier(obj) or is_regressor(obj) or not hasattr(obj, "transform")


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


def takes_labels(obj: Any) -> bool:
    """Tell whether an encoder of y wants one dimension, as ``LabelEncoder`` does.

    Examples
    --------
    >>> from sklearn.preprocessing import LabelEncoder, StandardScaler
    >>> takes_labels(LabelEncoder()), takes_labels(StandardScaler())
    (True, False)
    """
    return next(iter(inspect.signature(obj.fit).parameters), "") == "y"


def artifact_type(obj: Any) -> ArtifactType:
    """Give the type under which a fitted object is stored."""
    if is_model(obj):
        return ArtifactType.MODEL
    return ArtifactType.SPLITTER if is_splitter(obj) else ArtifactType.TRANSFORMER


def _answered(ask: Any, obj: Any) -> Any:
    # An object that is no scikit-learn estimator has no tags, which newer versions say by raising.
    try:
        return ask(obj)
    except Exception:
        return None
