"""Chance against the scan and the restricted load: whatever the bytes, a report or an error of ours."""

from __future__ import annotations

import base64
import contextlib
import io
import pickle
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from artifactdb.content import StoredContent
from artifactdb.errors import ArtifactDBError
from artifactdb.trust.pickles.restricted import restricted_load
from artifactdb.trust.pickles.scan import scan
from tests.pickle_attacks import (
    FURTHER,
    RIDGE,
    SCORE,
    SYSTEM,
    binary,
    contained,
    content,
    joblib_bytes,
    pickled,
    stored,
    text,
)

ALLOW = ["sklearn.*", "numpy.*"]


@given(st.binary(max_size=400), st.sampled_from(["pickle", "joblib", "pickle5", "dill", "other"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_report(data: bytes, format: str) -> None:
    assert isinstance(str(scan(content(data), format)), str)


RIDGE_CONTENT = stored(Ridge().fit(np.eye(20), np.arange(20.0)))[0]
HONEST = [bytes(RIDGE_CONTENT.data), joblib_bytes(Ridge().fit(np.eye(4), np.arange(4.0))),
          pickle.dumps({"a": [1, (2.5, "x")], "b": np.arange(3)}, 2)]  # fmt: skip
PIECES = st.sampled_from(
    [SYSTEM, RIDGE, SCORE, text("x"), binary(b"y"), b"h\x00", b"\x82\xf7", b"\x81", b"\x94", b"\x85"]
    + [bytes((code,)) for code in b"()tRbsuaeN}]02Qo"]
)


EDITS = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=3)), min_size=1, max_size=6)


def mutated(data: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, replacement in edits:
        place %= len(changed) or 1
        changed[place : place + 1] = replacement
    return bytes(changed)


@given(st.sampled_from(HONEST), EDITS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_pickles_give_a_report_or_an_error_of_ours(data: bytes, edits: list[tuple[int, bytes]]) -> None:
    data = mutated(data, edits)
    for format in ("pickle5", "pickle", "joblib"):
        scan(content(data), format)
    with contextlib.suppress(ArtifactDBError):
        restricted_load(StoredContent(bytearray(data), RIDGE_CONTENT.part), ALLOW)


@given(st.lists(PIECES, max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_call_that_loads_is_a_call_that_was_told(pieces: list[bytes]) -> None:
    """What the restricted load takes, a scan calls known-safe; and whatever else happens, nothing runs."""
    stream = pickled(*pieces, protocol=5)
    report = scan(content(stream), "pickle")
    try:
        restricted_load(contained(stream), ALLOW)
    except ArtifactDBError:
        return
    assert report.verdict != "dangerous", base64.b64encode(stream)


class Stub:
    """Stands for everything a stream imports, and does nothing whatever is asked of it."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    __call__ = extend = add = __setstate__


class Recording:
    """What the standard library's unpicklers ask for when they are given a stream."""

    asked: set[tuple[str, str]]

    def find_class(self, module: str, name: str) -> Any:
        self.asked.add((module, name))
        return Stub

    def persistent_load(self, pid: Any) -> Any:
        return Stub()


class RecordingInC(Recording, pickle.Unpickler):
    pass


class RecordingInPython(Recording, pickle._Unpickler):
    pass


def takes_gigabytes(stream: bytes) -> bool:
    """Tell whether a stream makes the unpickler in C reserve room for millions of memo entries, which says nothing."""
    with contextlib.suppress(Exception):
        return any(code.name == "LONG_BINPUT" and entry > 1 << 20 for code, entry, _ in pickletools.genops(stream))
    return False


def asked_of(kind: Any, stream: bytes) -> set[tuple[str, str]]:
    unpickler = kind(io.BytesIO(stream))
    unpickler.asked = set()
    if takes_gigabytes(stream):
        return set()
    with contextlib.suppress(Exception):
        unpickler.load()
    return unpickler.asked


@pytest.mark.parametrize("kind", [RecordingInC, RecordingInPython])
@given(st.lists(PIECES, max_size=60), st.sampled_from(range(6)))
@settings(max_examples=150, deadline=None)
def test_what_an_unpickler_asks_for_was_told(kind: Any, pieces: list[bytes], protocol: int) -> None:
    check_told(kind, pickled(*pieces, protocol=protocol))


@pytest.mark.parametrize("kind", [RecordingInC, RecordingInPython])
@given(st.sampled_from([*HONEST, *FURTHER.values()]), EDITS)
@settings(max_examples=150, deadline=None)
def test_what_an_unpickler_asks_of_a_mutated_stream_was_told(kind: Any, data: bytes, edits: Any) -> None:
    check_told(kind, mutated(data, edits))


def check_told(kind: Any, stream: bytes) -> None:
    """Every import that is asked for stands in the report, under its name of today where Python 2 had another."""
    told = {(found.module, found.name) for found in scan(content(stream), "pickle").imports}
    for module, name in asked_of(kind, stream):
        today = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
        assert told & {(module, name), today}, base64.b64encode(stream)
