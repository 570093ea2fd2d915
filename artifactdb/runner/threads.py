"""One thread of linear algebra while something is predicted: with two, BLAS may give other bits than with one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_NAMES = ("armpl", "blas", "blis", "lapack", "mkl", "nvpl")
"""A part of the name of every library of linear algebra, links to it included."""
_lock = threading.Lock()
_users = 0
_limit: Any = None


@cache
def _controller() -> Any:
    """Find the libraries once: looking at each of the hundreds that are loaded takes as long as many a prediction."""
    from threadpoolctl import ThreadpoolController

    class Controller(ThreadpoolController):  # type: ignore[misc]  # it has no types
        # Asked for each library; without it, all are looked at, and the same are found.
        def _make_controller_from_path(self, filepath: str) -> None:
            if any(name in os.path.basename(filepath).lower() for name in _NAMES):  # noqa: PTH119 - a Path takes longer
                super()._make_controller_from_path(filepath)

    return Controller()


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
