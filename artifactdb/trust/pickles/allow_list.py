"""The allow-list of types: which classes and functions a restricted load may find."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from artifactdb.errors import InvalidValueError
from artifactdb.trust.pickles.known import is_dangerous, is_maker, is_name

_PLAIN_MODULES: Final = frozenset({"_codecs", "builtins", "collections", "copyreg", "datetime", "decimal", "fractions"})
_OWN_MODULE: Final = "artifactdb.artifacts.composite"


class AllowList:
    """Which classes and functions may be loaded; tells it of a module and a name.

    Parameters
    ----------
    patterns : iterable of str
        "sklearn.*" for a package with all that is below it; "my_company.models.Blend" for one class or function.
        A package as a whole means its classes and functions; of those as large as numpy or scikit-learn, the
        estimators and what is known to put objects together. Plain types of Python are always allowed.

    Raises
    ------
    InvalidValueError
        For what is neither, and for packages that would make the list pointless.

    Examples
    --------
    >>> allowed = AllowList(["sklearn.*", "my_company.models.Blend"])
    >>> allowed("sklearn.linear_model._ridge", "Ridge"), allowed("sklearnex", "Ridge")
    (True, False)
    >>> allowed("my_company.models", "Blend"), allowed("my_company.models", "Other")
    (True, False)
    >>> AllowList(["os.*"])
    Traceback (most recent call last):
    artifactdb.errors.InvalidValueError: the pattern 'os.*' would allow what runs code. ...
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        given = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in given:
            _check_pattern(pattern)
        self.patterns = tuple(given)
        self._packages = tuple(pattern.removesuffix(".*") for pattern in given if pattern.endswith(".*"))
        self._named = frozenset(pattern for pattern in given if not pattern.endswith(".*"))

    def __call__(self, module: str, name: str) -> bool:
        """Tell whether something that is defined in a module may be loaded."""
        if is_maker(module, name) and (module in _PLAIN_MODULES or module == _OWN_MODULE):
            return True
        if is_dangerous(module, name) and not is_maker(module, name):
            return False
        return self.names(module, name) or any(
            module == package or module.startswith(f"{package}.") for package in self._packages
        )

    def names(self, module: str, name: str) -> bool:
        """Tell whether a pattern is the full name of something."""
        return f"{module}.{name}" in self._named


def _check_pattern(pattern: str) -> None:
    name = pattern.removesuffix(".*") if isinstance(pattern, str) else ""
    if not name or not is_name(name) or ("." not in pattern):
        raise InvalidValueError(
            f"{pattern!r} is no pattern of an allow-list.",
            hint='Write "my_company.*" for a package, "my_company.models.Blend" for one class.',
        )
    module, _, last = name.rpartition(".")
    whole = pattern.endswith(".*")
    if is_dangerous(name if whole else module, "" if whole else last) or (whole and name in ("builtins", "copyreg")):
        raise InvalidValueError(
            f"the pattern {pattern!r} would allow what runs code.",
            hint="Load an object that needs it with trust, or not at all.",
        )
