"""What is known of a class or function by its name alone: safe, dangerous, or neither.

**This is no boundary.** A table of dangerous names is never complete, and what is safe to make can be harmful in use:
an attacker reads these lines too. The verdicts are for a person who decides whom to believe. What is a boundary,
within what it states, is ``artifactdb.trust.pickles.restricted``; it asks these tables as well.

Nothing is imported to decide: classes of scikit-learn are looked up in its source files.
"""

from __future__ import annotations

from collections.abc import Mapping

from artifactdb.trust.pickles.report import DANGEROUS, SAFE, UNKNOWN, Verdict
from artifactdb.trust.pickles.sources import derives
from artifactdb.trust.pickles.tables import (
    DANGEROUS_BELOW,
    DANGEROUS_MODULES,
    DANGEROUS_NAMES,
    DANGEROUS_WITHIN,
    DISTANCES,
    ESTIMATORS_OF,
    MAKERS,
    REACHED,
    ROOTS,
    VALUES,
)  # fmt: skip


def judge(module: str, name: str, *, called: bool = False) -> Verdict:
    """Give the verdict on a class or function, by its name.

    Parameters
    ----------
    called : bool, default False
        Whether it is called, or only held.

    Examples
    --------
    >>> judge("posix", "system"), judge("my_company.models", "Blend"), judge("numpy", "dtype")
    ('dangerous', 'unknown', 'known-safe')
    >>> judge("sklearn.linear_model._ridge", "Ridge"), judge("sklearn.utils", "os.system")
    ('known-safe', 'dangerous')
    >>> judge("numpy", "log1p"), judge("numpy", "log1p", called=True)
    ('known-safe', 'unknown')
    """
    if is_maker(module, name):
        return SAFE
    if is_dangerous(module, name):
        return DANGEROUS
    if name in VALUES.get(module, ()):
        return UNKNOWN if called else SAFE
    if module.partition(".")[0] in ESTIMATORS_OF and is_name(module) and name.isidentifier():
        return SAFE if derives(module, name, ROOTS) else UNKNOWN
    return UNKNOWN


def is_dangerous(module: str, name: str) -> bool:
    """Tell whether a name is one that runs, imports, opens or reaches something else.

    Examples
    --------
    >>> is_dangerous("os.path", "join"), is_dangerous("builtins", "len")
    (True, False)
    """
    modules = module.split(".")
    names = name.split(".")
    above = {".".join(modules[:length]) for length in range(1, len(modules) + 1)}
    if modules[0] in DANGEROUS_MODULES or above & DANGEROUS_BELOW or "tests" in modules:
        return True
    plain = "builtins" if module in ("__builtin__", "__builtins__") else module  # Python 2 and attributes say so
    if names[0] in _named(DANGEROUS_NAMES, plain) or _named(DANGEROUS_WITHIN, modules[0]) & set(names):
        return True
    # A module that is reached as an attribute, and the attributes that lead from any object to everything else.
    return any(part in REACHED or _is_dunder(part) for part in names) or (
        len(names) > 1 and not DANGEROUS_NAMES["builtins"].isdisjoint(names)
    )


def is_maker(module: str, name: str) -> bool:
    """Tell whether a stream may call this by the tables, whatever else is allowed.

    Examples
    --------
    >>> is_maker("numpy", "dtype"), is_maker("numpy", "log1p")
    (True, False)
    """
    if module == "sklearn.metrics._dist_metrics" and DISTANCES.fullmatch(name):
        return True
    return name in MAKERS.get(module, ())


def is_name(text: str) -> bool:
    """Tell whether a text is a dotted name, as modules have.

    Examples
    --------
    >>> is_name("sklearn.base"), is_name("os; x"), is_name("a..b")
    (True, False, False)
    """
    return all(part.isidentifier() for part in text.split("."))


def _named(table: Mapping[str, frozenset[str]], key: str) -> frozenset[str]:
    return table.get(key, frozenset())


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
