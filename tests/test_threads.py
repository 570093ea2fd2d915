"""One thread of linear algebra while something is predicted, and what was before afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading

import scipy.linalg  # noqa: F401 - brings a BLAS of its own
from threadpoolctl import ThreadpoolController, threadpool_info

from artifactdb.runner.threads import _controller, one_blas_thread


def blas() -> dict[str, int]:
    return {lib["filepath"]: lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_every_library_of_linear_algebra_is_found() -> None:
    known = {lib["filepath"] for lib in ThreadpoolController().info() if lib["user_api"] == "blas"}
    assert {lib["filepath"] for lib in _controller().info()} == known
    assert known


def test_the_last_that_leaves_gives_back_what_was() -> None:
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        before, inside = blas(), threading.Barrier(2)

        def other() -> None:
            with one_blas_thread():
                inside.wait()
                inside.wait()

        thread = threading.Thread(target=other)
        with one_blas_thread():
            thread.start()
            inside.wait()
        assert set(blas().values()) == {1}, "the other one is still at work"
        inside.wait()
        thread.join()
        assert blas() == before


LATER = """
import numpy
from threadpoolctl import ThreadpoolController, threadpool_info
from artifactdb.runner.threads import one_blas_thread

def threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

with one_blas_thread():
    before = len(threadpool_info())
import scipy.linalg
ThreadpoolController().limit(limits=2, user_api="blas")
with one_blas_thread():
    assert len(threadpool_info()) > before, "scipy brings a library of its own"
    assert threads() == {1}, threads()
"""


def test_a_library_that_comes_later_is_found_too() -> None:
    subprocess.run([sys.executable, "-c", LATER], check=True)
