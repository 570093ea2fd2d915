"""Classes and functions by dotted name, and only those that may be named.

A configuration is data: it says which estimators to make, and must never become a way to call anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from artifactdb.errors import InvalidValueError

ALLOWED: tuple[str, ...] = ("sklearn", "chemotools", "xgboost", "lightgbm", "catboost")
"""Packages whose estimators may be named by default."""

# Parts of those packages that hold no estimator for use.
_CLOSED = frozenset({"conftest", "externals", "testing", "tests", "_testing", "__main__"})
_PIP = {"sklearn": "scikit-learn"}
# scikit-learn shows these only after another module was imported, which JSON cannot say.
_EXPERIMENTAL = {
    "IterativeImputer": "sklearn.experimental.enable_iterative_imputer",
    "HalvingGridSearchCV": "sklearn.experimental.enable_halving_search_cv",
    "HalvingRandomSearchCV": "sklearn.experimental.enable_halving_search_cv",
}
# Functions that choose features; parameters of scikit-learn's selectors.
_SCORES = "sklearn.feature_selection"
_SCORE_NAMES = ("chi2", "f_classif", "f_regression", "mutual_info_classif", "mutual_info_regression", "r_regression")
# Texts with which these parameters read from the disk, or None for any; and what that would do.
_READING: dict[str, tuple[tuple[str, ...] | None, str]] = {
    "memory": (None, "names a folder: joblib would load whatever pickles lie in it."),
    "input": (("filename", "file"), "is {text!r}, which would read the files that the samples name."),
}


def class_named(path: str, allow: Sequence[str] = ()) -> type:
    """Give the class of a dotted name.

    Parameters
    ----------
    path : str
        Public ("sklearn.preprocessing.MinMaxScaler"), or as the class itself says
        ("sklearn.preprocessing._data.MinMaxScaler").
    allow : sequence of str, optional
        Further packages that classes may come from: "my_company", "my_company.models".

    Raises
    ------
    InvalidValueError
        For a name outside the packages that are allowed (nothing is imported then), for what is not there, with the
        nearest names, and for what is neither an estimator nor a splitter.

    Examples
    --------
    >>> class_named("sklearn.preprocessing._data.MinMaxScaler").__name__
    'MinMaxScaler'
    >>> class_named("os.system")
    Traceback (most recent call last):
    artifactdb.errors.InvalidValueError: os.system may not be named: classes come from sklearn, chemotools, xgboost, ...
    """
    if not isinstance(path, str):
        raise InvalidValueError(f"a class is named by a text, not by {type(path).__name__}.")
    module_name, _, name = path.rpartition(".")
    parts = path.split(".")
    if not all(part.isidentifier() and not part.startswith("__") for part in parts) or name.startswith("_"):
        raise InvalidValueError(
            f"{path!r} is not the name of a class.", hint='Write package.module.Class, as "sklearn.linear_model.Ridge".'
        )
    if not module_name:
        raise InvalidValueError(
            f"{name!r} is named without its package.", hint=_meant(_elsewhere(name)) or "Write package.module.Class."
        )
    packages = _packages(allow)
    if not _within(module_name, packages):
        raise _refused(path, path, packages)
    module = _module(module_name, name)
    found = _member(module, name)
    if found is None:
        raise InvalidValueError(f"{module_name} has no {name}.", hint=_meant(_near(module, name)))
    if not isinstance(found, type):
        raise InvalidValueError(f"{path} is a {type(found).__name__}, not a class.")
    if not _within(found.__module__, packages):
        raise _refused(path, f"{found.__module__}.{found.__qualname__}", packages)
    if not is_kind_of_estimator(found):
        raise InvalidValueError(f"{path} is no estimator and no splitter: it has neither fit nor split.")
    return found


def name_of(cls: type) -> str:
    """Give the shortest dotted name under which a class is found.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> MinMaxScaler.__module__, name_of(MinMaxScaler)
    ('sklearn.preprocessing._data', 'sklearn.preprocessing.MinMaxScaler')
    """
    parts = cls.__module__.split(".")
    for length in range(1, len(parts)):
        module = sys.modules.get(".".join(parts[:length]))
        if module is not None and not parts[length - 1].startswith("_") and _member(module, cls.__qualname__) is cls:
            return f"{module.__name__}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def function_named(path: str) -> Any:
    """Give a function that may be named: a ufunc of numpy, or a score by which scikit-learn chooses features.

    Raises
    ------
    InvalidValueError
        For any other.

    Examples
    --------
    >>> function_named("numpy.log1p")
    <ufunc 'log1p'>
    """
    import numpy

    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if module == "numpy" and isinstance(getattr(numpy, name, None), numpy.ufunc):
        return getattr(numpy, name)
    if module == _SCORES and name in _SCORE_NAMES:
        return getattr(import_module(_SCORES), name)
    names = [f"numpy.{name}" for name, value in vars(numpy).items() if isinstance(value, numpy.ufunc)]
    names += [f"{_SCORES}.{name}" for name in _SCORE_NAMES]
    raise InvalidValueError(
        f"the function {path!r} may not be named: only ufuncs of numpy and scores of {_SCORES}.",
        hint=_meant(get_close_matches(str(path), names, 3)) or "For your own function write a transformer class.",
    )


def function_name(function: Any) -> str | None:
    """Give the name under which ``function_named`` finds a function, or None.

    Examples
    --------
    >>> import numpy
    >>> function_name(numpy.log1p), function_name(print)
    ('numpy.log1p', None)
    """
    import numpy

    name = getattr(function, "__name__", "")
    if isinstance(function, numpy.ufunc) and getattr(numpy, name, None) is function:
        return f"numpy.{name}"
    if name in _SCORE_NAMES and getattr(sys.modules.get(_SCORES), name, None) is function:
        return f"{_SCORES}.{name}"
    return None


def is_kind_of_estimator(cls: type) -> bool:
    """Tell whether a class is made for pipelines: an estimator, a splitter, or a part with parameters (a kernel).

    Examples
    --------
    >>> from sklearn.model_selection import KFold
    >>> is_kind_of_estimator(KFold), is_kind_of_estimator(str)
    (True, False)
    """
    if any(callable(getattr(cls, name, None)) for name in ("fit", "get_params")):
        return True
    return callable(getattr(cls, "split", None)) and hasattr(cls, "get_n_splits")


def refuse_reading(owner: str, value: Any, known: Any = None) -> None:
    """See that no parameter makes an estimator read from the disk: a folder of pickles, or files of texts.

    Parameters
    ----------
    owner : str
        What errors call it.
    value : object
        Parameters, or an estimator with them. They are looked for at any depth, also under the keys of a search's grid,
        as in ``{"estimator__memory": ["/tmp"]}``.
    known : object, optional
        Estimators that were given from Python, whose own folders stay allowed. Without it, those within ``value`` are
        not looked into.

    Raises
    ------
    InvalidValueError
        For the first such parameter.

    Examples
    --------
    >>> refuse_reading("GridSearchCV", {"param_grid": [{"input": ["content", "file"]}]})
    Traceback (most recent call last):
    artifactdb.errors.InvalidValueError: input of GridSearchCV is 'file', which would read the files ...
    """
    within = known is not None
    allowed = {(_last(key), text) for key, text in _reading(known, (), True)} if within else set()
    for key, text in _reading(value, (), within):
        if (_last(key), text) not in allowed:
            said = _READING[_last(key)][1].format(text=text)
            raise InvalidValueError(f"{key} of {owner} {said}", hint="Give the estimator itself from Python.")


def _reading(value: Any, keys: tuple[str, ...], within: bool) -> Iterator[tuple[str, str]]:
    """Give each parameter that reads and the text that it holds; ``keys`` are those above ``value`` that might."""
    if isinstance(value, str | bytes):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for key in keys:
            texts = _READING[_last(key)][0]
            if texts is None or text in texts:
                yield key, text
    elif isinstance(value, Mapping):
        for name, item in value.items():
            reads = isinstance(name, str) and _last(name) in _READING and name not in keys
            yield from _reading(item, (*keys, str(name)) if reads else keys, within)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _reading(item, keys, within)
    elif isinstance(value, slice):
        yield from _reading((value.start, value.stop, value.step), keys, within)
    elif isinstance(value, type):
        return
    elif hasattr(value, "tolist") and getattr(getattr(value, "dtype", None), "kind", "") not in [*"biufcmM"]:
        # An array of objects may hold dicts, one of texts a grid's values.
        yield from _reading(value.tolist(), keys, within)
    elif within and callable(getattr(value, "get_params", None)):
        try:
            params = value.get_params(deep=False)
        except Exception:  # scikit-learn cannot clone it either, so that it is never fitted
            return
        yield from _reading(params, keys, within)


def _last(key: str) -> str:
    return key.rpartition("__")[2]


def _packages(allow: Sequence[str]) -> tuple[str, ...]:
    added = [allow] if isinstance(allow, str) else list(allow)
    names = [str(name).removesuffix(".*") for name in added]
    for given, name in zip(added, names, strict=True):
        if not all(part.isidentifier() for part in name.split(".")):
            raise InvalidValueError(f"allow takes names of packages, not {given!r}.", hint='Write "my_company.models".')
    return (*ALLOWED, *names)


def _within(module: str, packages: Sequence[str]) -> bool:
    holders = [package for package in packages if module == package or module.startswith(f"{package}.")]
    # What the user named himself is open as a whole.
    return any(holder not in ALLOWED for holder in holders) or (
        bool(holders) and not _CLOSED.intersection(module.split("."))
    )


def _refused(path: str, real: str, packages: Iterable[str]) -> InvalidValueError:
    said = path if path == real else f"{path} is {real}, which"
    package = real.partition(".")[0]
    hint = f'If you trust {package}: PipelineRunner(..., allow=["{package}"]), or --allow {package}.'
    if package in ALLOWED:
        hint = "Tests and bundled copies of other packages are left out."
    return InvalidValueError(f"{said} may not be named: classes come from {', '.join(packages)}.", hint=hint)


def _module(module_name: str, class_name: str) -> ModuleType:
    package = module_name.partition(".")[0]
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == package:
            raise InvalidValueError(
                f"{package} is not installed, so {module_name}.{class_name} cannot be made.",
                hint=f"pip install {_PIP.get(package, package)}",
            ) from None
        if module_name == missing or module_name.startswith(f"{missing}."):
            hint = _meant(_elsewhere(class_name)) if package == "sklearn" else ""
            raise InvalidValueError(f"there is no module {missing}.", hint=hint) from None
        raise InvalidValueError(
            f"{module_name} needs {missing}, which is not installed.", hint=f"pip install {missing.partition('.')[0]}"
        ) from error
    except Exception as error:
        raise InvalidValueError(f"{module_name} cannot be imported: {error}") from error


def _member(module: ModuleType, name: str) -> Any:
    if name in _EXPERIMENTAL and module.__name__.startswith("sklearn."):
        import_module(_EXPERIMENTAL[name])
    try:
        return getattr(module, name, None)
    except ImportError:  # what a package gives only when something else is installed
        return None


def _near(module: ModuleType, name: str) -> list[str]:
    here = {
        key: f"{module.__name__}.{key}"
        for key, value in vars(module).items()
        if isinstance(value, type) and not key.startswith("_") and is_kind_of_estimator(value)
    }
    near = _closest(name, here)
    if module.__name__.partition(".")[0] != "sklearn":
        return near
    same = [_of_sklearn()[name]] if name in _of_sklearn() else []
    return list(dict.fromkeys([*same, *near, *_elsewhere(name)]))[:3]


def _elsewhere(name: str) -> list[str]:
    """Give the nearest names in all of scikit-learn; the same name comes first."""
    known = _of_sklearn()
    return [known[name]] if name in known else _closest(name, known)


@cache
def _of_sklearn() -> dict[str, str]:
    try:
        from sklearn import model_selection
        from sklearn.utils.discovery import all_estimators
    except ImportError:
        return {}
    splitters = [value for value in vars(model_selection).values() if isinstance(value, type)]
    classes = [*(cls for _, cls in all_estimators()), *filter(is_kind_of_estimator, splitters)]
    return {cls.__name__: name_of(cls) for cls in classes}


def _closest(name: str, known: dict[str, str]) -> list[str]:
    lower = {key.lower(): path for key, path in known.items()}
    return [lower[key] for key in get_close_matches(name.lower(), lower, 3, 0.7)]


def _meant(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else ""
