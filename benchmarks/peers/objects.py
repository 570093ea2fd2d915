"""The small fitted objects that every side registers; needs numpy and scikit-learn alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

FEATURES = 50


def scaler(number: int) -> Any:
    """Give a fitted scaler, another one for each number."""
    x = np.random.default_rng(number).normal(size=(20, FEATURES))
    return StandardScaler().fit(x)
