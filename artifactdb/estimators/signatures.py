"""What constructors take, and what objects were made with: also of splitters, which have no ``get_params``."""

from __future__ import annotations

import inspect
from typing import Any


def names(cls: type) -> list[str] | None:
    """Give the parameters of a constructor by name, or None where any may be given.

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> names(KFold)
    ['n_splits', 'shuffle', 'random_state']
    """
    found = _constructor(cls)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in found):
        return None
    return [parameter.name for parameter in found if parameter.kind is not inspect.Parameter.VAR_POSITIONAL]


def defaults(cls: type) -> dict[str, Any]:
    """Give the parameters that may be left out, with their values.

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> defaults(KFold)
    {'n_splits': 5, 'shuffle': False, 'random_state': None}
    """
    return {one.name: one.default for one in _constructor(cls) if one.default is not inspect.Parameter.empty}


def parameters(obj: Any) -> dict[str, Any]:
    """Give what an object was made with.

    Raises
    ------
    AttributeError
        For a parameter that the object does not keep under its name.

    Examples
    --------
    >>> from sklearn.model_selection import RepeatedKFold
    >>> parameters(RepeatedKFold(n_splits=3))
    {'n_splits': 3, 'n_repeats': 10, 'random_state': None}
    """
    if callable(getattr(obj, "get_params", None)):
        return dict(obj.get_params(deep=False))
    # Repeated splitters keep those of what they repeat in cvargs.
    kept = getattr(obj, "cvargs", {})
    named = [one.name for one in _constructor(type(obj)) if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    return {name: kept[name] if name in kept else getattr(obj, name) for name in named}


def _constructor(cls: type) -> list[inspect.Parameter]:
    """Give the parameters of a constructor, and where it hands on what it does not name, those of its bases too."""
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if init is None or base is object:
            continue
        # scikit-learn wraps the constructors of what is deprecated.
        try:
            own = list(inspect.signature(getattr(init, "deprecated_original", init)).parameters.values())[1:]
        except (TypeError, ValueError):  # written in C
            break
        found = {**{parameter.name: parameter for parameter in own}, **found}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own):
            break
    return list(found.values())
