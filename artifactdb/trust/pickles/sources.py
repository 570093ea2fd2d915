"""What a class of an installed package is, read from its source file: nothing is imported for it."""

from __future__ import annotations

import ast
import warnings
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

_MAX_DEPTH = 12
_MAX_SOURCE_BYTES = 4 << 20


def derives(module: str, name: str, roots: frozenset[str]) -> bool:
    """Tell whether a class is defined in a module and has one of the root classes among its ancestors.

    Parameters
    ----------
    module, name : str
        Where the class itself is defined; a name that the module imports does not count.
    roots : frozenset of str
        Full names of classes.

    Examples
    --------
    >>> derives("sklearn.linear_model._ridge", "Ridge", frozenset({"sklearn.base.BaseEstimator"}))
    True
    >>> derives("sklearn.linear_model._ridge", "LinearModel", frozenset({"sklearn.base.BaseEstimator"}))
    False
    """
    known = _classes(module).get(name)
    waiting = [(base, 1) for base in known or ()]
    while waiting:
        base, depth = waiting.pop()
        if base in roots:
            return True
        where, _, ancestor = base.rpartition(".")
        if where and depth < _MAX_DEPTH:
            found = _classes(where)
            bases = found.get(ancestor) or filter(None, [_imported(where).get(ancestor)])
            waiting += [(further, depth + 1) for further in bases]
    return False


def _classes(module: str) -> dict[str, list[str]]:
    return _read(module)[0]


def _imported(module: str) -> dict[str, str]:
    return _read(module)[1]


@lru_cache(maxsize=4096)
def _read(module: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Give the classes that a module defines with the full names of their bases, and what it imports by name."""
    path = _file(module)
    if path is None:
        return {}, {}
    try:
        with warnings.catch_warnings():  # of how others write their strings
            warnings.simplefilter("ignore")
            body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return {}, {}
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported: dict[str, str] = {}
    classes: dict[str, list[str]] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom):
            source = _absolute(package, node.module, node.level)
            imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            classes[node.name] = [imported.get(base, f"{module}.{base}") for base in bases]
            imported.pop(node.name, None)
        elif isinstance(node, ast.Assign):  # what is bound to something else afterwards is no longer that class
            for target in node.targets:
                if isinstance(target, ast.Name):
                    classes.pop(target.id, None)
    return classes, imported


def _absolute(package: str, module: str | None, level: int) -> str:
    parts = package.split(".")
    start = parts[: len(parts) - level + 1] if level else []
    return ".".join([*start, *([module] if module else [])])


def _file(module: str) -> Path | None:
    package, *inner = module.split(".")
    folder = _folder(package)
    if folder is None:
        return None
    for file in (folder.joinpath(*inner, "__init__.py"), folder.joinpath(*inner).with_suffix(".py")):
        if file.is_file() and file.stat().st_size <= _MAX_SOURCE_BYTES:
            return file
    return None


@cache
def _folder(package: str) -> Path | None:
    # Finding a top-level package imports nothing; finding one inside another would import the outer.
    spec = PathFinder.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin and spec.submodule_search_locations else None
