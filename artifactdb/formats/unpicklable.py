"""Find the part of an object that no pickler takes, so that an error can name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAX_DEPTH = 6
_MAX_ITEMS = 1000


def unpicklable_attribute(obj: Any) -> str:
    """Give the path to the innermost part that cannot be dumped, e.g. ``steps[0][1].func``; "" when unknown.

    Examples
    --------
    >>> import types
    >>> unpicklable_attribute(types.SimpleNamespace(coef=[1.0], rows=[1, (row for row in [])]))
    'rows[1]'
    """
    path = ""
    for _ in range(_MAX_DEPTH):
        for step, child in _children(obj):
            if not _can_dump(child):
                path, obj = path + step, child
                break
        else:
            break
    return path.lstrip(".")


def _children(obj: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, Mapping):
        items = [(f"[{key!r}]", value) for key, value in list(obj.items())[:_MAX_ITEMS]]
    elif isinstance(obj, list | tuple):
        items = [(f"[{index}]", value) for index, value in enumerate(obj[:_MAX_ITEMS])]
    else:
        items = [(f".{name}", value) for name, value in getattr(obj, "__dict__", {}).items()]
    yield from items


def _can_dump(obj: Any) -> bool:
    import dill

    try:
        dill.dumps(obj, recurse=True)
    except Exception:
        return False
    return True
