"""One thread of linear algebra while something is predicted: with two, BLAS may give other bits than with one."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_NAME = re.compile(r"(?:armpl|blas|blis|lapack|mkl|nvpl)[^/\\]*$", re.IGNORECASE)
"""How the name of every library of linear algebra ends, links to it included."""
_lock = threading.Lock()
_users = 0
_limit: Any = None
_found: tuple[int, Any] = (0, None)


def _controller() -> Any:
    """Give the libraries, looked for when something was imported since: it takes as long as many a prediction."""
    global _found
    controller = _class_of_controller()  # first, for it imports
    if _found[0] != len(sys.modules):
        _found = len(sys.modules), controller()
    return _found[1]


@cache
def _class_of_controller() -> Any:
    from threadpoolctl import ThreadpoolController

    class Controller(ThreadpoolController):  # type: ignore[misc]  # it has no types
        # Asked for each of hundreds of libraries; without it, all are looked at, and the same are found.
        def _make_controller_from_path(self, filepath: str) -> None:
            if _NAME.search(filepath):
                super()._make_controller_from_path(filepath)

    return Controller


def _take_over() -> None:
    """Let whoever sets threads next do so: else threadpoolctl 3.8 listens to the first one alone, and says nothing."""
    for library in _controller().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread in the whole process; the last that leaves gives back what was before."""
    global _users, _limit
    with _lock:
        if _users == 0:
            _take_over()
            _limit = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _take_over()
                _limit.restore_original_limits()
                _take_over()
