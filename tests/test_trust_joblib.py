"""A joblib file that attacks whoever loads it, and dtypes that lie: the allow-list holds, and nothing is reserved."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib.util
import io
import lzma
import os
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from artifactdb.errors import ArtifactDBError, DeserializationError, UntrustedArtifactError
from artifactdb.trust.pickles.findings import Limits
from artifactdb.trust.pickles.restricted import restricted_load
from artifactdb.trust.pickles.scan import scan
from tests.pickle_attacks import (
    RIDGE,
    SYSTEM,
    Reduced,
    called,
    contained,
    content,
    evil,
    found,
    joblib_bytes,
    pickled,
    shell,
    text,
)
from tests.test_trust_chance import EDITS, mutated

ALLOW = ["sklearn.*", "numpy.*"]
NDARRAY, DTYPE = found("numpy", "ndarray"), found("numpy", "dtype")
DOUBLE = called(DTYPE, text("f8"))
WRAPPER = found("joblib.numpy_pickle", "NumpyArrayWrapper")
MADE = WRAPPER + b")\x81"


def state(**said: bytes) -> bytes:
    """What a wrapper says of an array of two doubles, but for what is said otherwise."""
    usual = {"subclass": NDARRAY, "shape": b"K\x02\x85", "order": text("C"), "dtype": DOUBLE}
    return b"}(" + b"".join(text(key) + value for key, value in {**usual, **said}.items()) + b"u"


def ahead(items: bytes = np.arange(2.0).tobytes(), **said: bytes) -> bytes:
    return MADE + state(**said) + b"b" + items


def number(value: int) -> bytes:
    return b"\x8a" + bytes([17]) + value.to_bytes(17, "little", signed=True)


def load(*parts: bytes) -> Any:
    return restricted_load(content(pickled(*parts)), ALLOW, "joblib")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def test_what_is_written_by_hand_here_is_what_joblib_reads() -> None:
    for parts in (ahead(), b"]" + ahead() + b"a" + ahead(shape=b"K\x01K\x02\x86") + b"a"):
        np.testing.assert_equal(load(parts), joblib.load(io.BytesIO(pickled(parts))))


# -- code

CODE: dict[str, Callable[[Path], bytes]] = {
    "in an array of objects": lambda canary: joblib_bytes(np.array([Reduced(os.system, shell(canary))], dtype=object)),
    "in a field of objects": lambda canary: joblib_bytes(
        np.array([(Reduced(os.system, shell(canary)),)], dtype=[("a", object)])
    ),
    "in a pickle that a wrapper says is an array": lambda canary: pickled(
        ahead(evil(canary), dtype=called(DTYPE, text("O")))
    ),
    "behind an array": lambda canary: pickled(ahead(), b"0", called(SYSTEM, text(shell(canary)))),
    "in bytes that are said to be no array any more": lambda canary: pickled(
        ahead(np.arange(1.0).tobytes(), shape=b"K\x01\x85"), b"0", called(SYSTEM, text(shell(canary)))
    ),
    "in bytes that a padding leads to": lambda canary: pickled(
        ahead(b"\x02.." + np.arange(2.0).tobytes(), numpy_array_alignment_bytes=b"K\x10"),
        b"0", called(SYSTEM, text(shell(canary))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_code_in_a_joblib_file_is_refused_before_it_runs(name: str, canary: Path) -> None:
    data = CODE[name](canary)
    with pytest.raises(UntrustedArtifactError, match=r"an array of objects|posix\.system|os\.system"):
        restricted_load(content(data), ALLOW, "joblib")
    assert not canary.exists()
    with contextlib.suppress(Exception):
        joblib.load(io.BytesIO(data))
    assert canary.exists(), "this is no attack, so that refusing it says nothing"


def test_an_array_whose_bytes_are_opcodes_is_an_array(canary: Path) -> None:
    items = evil(canary) + b"." * 10
    data = joblib_bytes([np.frombuffer(items, np.uint8).copy(), "last"])
    array, last = restricted_load(content(data), ALLOW, "joblib")
    assert array.tobytes() == items and last == "last" and not canary.exists()


# -- what a wrapper says

LIES: dict[str, tuple[bytes, str]] = {
    "an item too many": (ahead(shape=b"K\x03\x85"), "cut off"),
    "more than any memory": (ahead(shape=number(2**50) + b"\x85"), "cut off"),
    "more than a number of the machine holds": (ahead(shape=number(2**63) + number(2**63) + b"\x86"), "cut off"),
    "whose product is two": (ahead(shape=number(-1) + number(-2) + b"\x86"), "without a shape"),
    "negative": (ahead(shape=number(-1) + b"\x85"), "without a shape"),
    "truth": (ahead(shape=b"\x88\x85"), "without a shape"),
    "a list": (ahead(shape=b"](K\x02e"), "without a shape"),
    "an array as a length": (ahead(shape=ahead() + b"\x85"), "without a shape"),
    "no order": (ahead(order=text("K")), "without a shape"),
    "long items": (ahead(dtype=called(DTYPE, text("V2147483647"))), "cut off"),
    "items of no bytes": (ahead(dtype=called(DTYPE, text("V0")), shape=number(2**60) + b"\x85"), "without a dtype"),
    "a text as its dtype": (ahead(dtype=text("f8")), "without a dtype"),
    "a class as its dtype": (ahead(dtype=found("numpy", "float64")), "without a dtype"),
    "an object that says it is a dtype": (
        ahead(dtype=RIDGE + b")\x81}(" + text("hasobject") + b"\x89" + text("itemsize") + b"K\x08ub"), "without a dtype"
    ),
    "a dtype of arrays": (ahead(dtype=called(DTYPE, text("2f8"))), "without a dtype"),
    "texts that numpy keeps elsewhere": (ahead(dtype=called(DTYPE, text("T"))), "cannot be loaded"),
    "objects, where an estimator is": (
        ahead(pickle.dumps(Ridge(), 2), dtype=called(DTYPE, text("O8"))), "something else where"
    ),
    "objects, where a class is": (
        ahead(pickle.dumps(np.ndarray, 2), dtype=called(DTYPE, text("O8"))), "something else where"
    ),
    "objects, where nothing is": (ahead(b"", dtype=called(DTYPE, text("O8"))), "cannot be loaded"),
    "numpy.matrix": (ahead(subclass=found("numpy", "matrix")), "another class"),
    "an estimator": (ahead(subclass=RIDGE), "another class"),
    "the wrapper itself": (ahead(subclass=WRAPPER), "another class"),
    "a text as its class": (ahead(subclass=text("numpy.ndarray")), "another class"),
    "no dict": (MADE + b"K\x01b", "another state"),
    "nothing": (MADE + b"}b", "another state"),
    "attributes of slots": (MADE + b"N" + state() + b"\x86b", "another state"),
    "keys that are no texts": (MADE + state() + b"K\x01K\x01sb", "another state"),
    "a dict of a class of its own": (MADE + called(found("collections", "OrderedDict")) + b"b", "another state"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_wrapper_that_lies_is_refused_and_no_memory_is_reserved_for_it(lie: str) -> None:
    stream, said = LIES[lie]
    tracemalloc.start()
    try:
        with pytest.raises((UntrustedArtifactError, DeserializationError), match=said):
            load(stream)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


MISUSES: dict[str, tuple[bytes, str]] = {
    "given a second state": (MADE + b"q\x00" + state() + b"b" + bytes(16) + b"h\x00" + state() + b"b", "two places"),
    "given a second state, on the stack": (MADE + b"2" + state() + b"b" + bytes(16) + b"0" + state() + b"b", "two pla"),
    "taken from a far memo": (MADE + b"r\x00\x00\x01\x000j\x00\x00\x01\x00", "two places"),
    "taken from a memo by number": (MADE + b"p7\n0g7\n", "two places"),
    "in its own state": (MADE + b"q\x00}" + text("subclass") + b"h\x00s", "two places"),
    "left as it is": (MADE, "without its array"),
    "left in a list": (b"]" + MADE + b"a", "without its array"),
    "dropped": (MADE + b"0N", "without its array"),
    "given an item": (MADE + text("shape") + b"Ns", "items of something"),
    "extended": (MADE + b"Na", "items of something"),
    "called": (MADE + b")R", "a call of something"),
    "its class called": (WRAPPER + b")R", "a call of something"),
    "its class made with arguments": (WRAPPER + b"N\x85\x81", "made with arguments"),
    "its class made with keywords": (WRAPPER + b")}\x92", "a call of something"),
    "its class given a state": (WRAPPER + b"}" + text("shape") + b"Nsb", "a change of something"),
    "its class given to a call": (called(found("copyreg", "_reconstructor"), WRAPPER, b"NN"), "as argument"),
    "given to a call": (called(found("builtins", "list"), MADE), "as argument"),
    "asked by another name": (found("joblib.numpy_pickle", "NumpyUnpickler"), "NumpyUnpickler"),
    "what reads it": (found("joblib.numpy_pickle", "NumpyArrayWrapper.read_array"), "read_array"),
    "of before 0.10": (found("joblib.numpy_pickle", "NDArrayWrapper") + b")\x81", r"before 0\.10"),
    "of before 0.10, compressed": (found("joblib.numpy_pickle_compat", "ZNDArrayWrapper") + b")\x81", r"before 0\.10"),
    "in a frame that goes on": (b"\x95" + struct.pack("<Q", 400) + ahead() + b"0N." + bytes(400), "within a frame"),
}  # fmt: skip


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_wrapper_is_good_for_one_array_and_nothing_else(misuse: str) -> None:
    stream, said = MISUSES[misuse]
    with pytest.raises(UntrustedArtifactError, match=said):
        load(stream)


def test_no_code_of_joblibs_runs(monkeypatch: pytest.MonkeyPatch, xy: tuple[Any, Any]) -> None:
    model = Ridge().fit(*xy)
    data = joblib_bytes(model)
    for name in ("read", "read_array", "read_mmap", "__init__"):
        monkeypatch.delattr(joblib.numpy_pickle.NumpyArrayWrapper, name)
    assert np.array_equal(restricted_load(content(data), ALLOW, "joblib").predict(xy[0]), model.predict(xy[0]))


# -- bombs

BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
}  # fmt: skip
if importlib.util.find_spec("lz4"):
    BOMBS["lz4"] = lambda data: __import__("lz4.frame").frame.compress(data)


@pytest.mark.campaign
@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_too_much_is_an_error_of_ours(name: str) -> None:
    limit = Limits().size_bytes
    bomb = BOMBS[name](pickled(b"]" + b"0N" * 4) + bytes(limit + (64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(DeserializationError, match=r"too long when decompressed.*128 MiB"):
            restricted_load(content(bomb), ALLOW, "joblib")
        assert tracemalloc.get_traced_memory()[1] < 3 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_a_compressed_file_that_is_cut_off_or_damaged_is_an_error_of_ours(name: str) -> None:
    data = BOMBS[name](joblib_bytes(np.random.default_rng(0).random(500)))
    for damaged in (
        data[:-20],
        data[: len(data) // 2],
        data[:40] + bytes(30) + data[70:],
        data[:5] + b"\xff" * 90,
        data[:4],
    ):
        with pytest.raises(ArtifactDBError):
            restricted_load(content(damaged), ALLOW, "joblib")
        assert scan(content(damaged), "joblib").problems


# -- dtypes that lie, which every format could hold

ITEM = called(DTYPE, text("V8"), b"\x89", b"\x88")
OBJECT = called(DTYPE, text("O"))


def described(
    fields: bytes, *, names: bytes = text("a") + b"\x85", size: bytes = b"K\x08", flags: bytes = b"K\x00"
) -> bytes:
    return b"(K\x03" + text("|") + b"N" + names + fields + size + b"K\x01" + flags + b"tb"


def fields(dtype: bytes, offset: bytes = b"K\x00", name: str = "a") -> bytes:
    return b"}" + text(name) + dtype + offset + b"\x86s"


LYING = {
    "that hides objects": ITEM + described(fields(OBJECT)),
    "with a field outside of an item": ITEM + described(fields(DOUBLE, b"M\xa0\x0f")),
    "with a field before its items": ITEM + described(fields(DOUBLE, b"J\xf8\xff\xff\xff")),
    "with a field that has no name": ITEM + described(fields(DOUBLE) + text("b") + DOUBLE + b"M\xa0\x0f\x86s"),
    "with a name that has no field": ITEM + described(fields(DOUBLE, name="b")),
    "whose field is none": ITEM + described(b"}" + text("a") + b"K\x05s"),
    "of negative size": called(DTYPE, text("S8"), b"\x89", b"\x88")
    + b"(K\x03" + text("|") + b"NNNJ\xf8\xff\xff\xffK\x01K\x00tb",
    "of doubles with fields": called(DTYPE, text("f8"), b"\x89", b"\x88") + described(fields(DOUBLE)),
    "of doubles that are objects": called(DTYPE, text("f8"), b"\x89", b"\x88") + described(fields(OBJECT)),
    "of arrays of objects": called(DTYPE, text("f8"), b"\x89", b"\x88")
    + b"(K\x03" + text("<") + OBJECT + b"K\x01\x85\x86NNK\x08K\x08K\x00tb",
}  # fmt: skip
READERS: dict[str, Callable[[bytes], Any]] = {
    "pickle5": lambda stream: restricted_load(contained(stream), ALLOW),
    "pickle": lambda stream: restricted_load(content(stream), ALLOW, "pickle"),
    "joblib": lambda stream: restricted_load(content(stream), ALLOW, "joblib"),
}


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("lie", LYING)
def test_a_dtype_that_lies_is_refused(lie: str, format: str) -> None:
    """numpy believes it, and would take bytes for pointers, or read what is not the array's."""
    assert isinstance(pickle.loads(pickled(LYING[lie])), np.dtype)
    with pytest.raises(UntrustedArtifactError, match="a dtype that is not what it says"):
        READERS[format](pickled(LYING[lie]))


@pytest.mark.parametrize("format", READERS)
def test_a_state_that_ends_the_process_in_numpy_is_refused(format: str) -> None:
    short = b"(K\x03" + text("<") + b"NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    with pytest.raises(UntrustedArtifactError, match="a dtype that is not what it says"):
        READERS[format](pickled(called(DTYPE, text("f8"), b"\x89", b"\x88") + short))


@pytest.mark.parametrize("format", READERS)
def test_a_dtype_does_not_change_once_an_array_has_it(format: str) -> None:
    """Neither by another state, nor through the dict of its fields, which numpy keeps as it was given."""
    array = called(found("numpy", "ndarray"), b"K\x01\x85", b"h\x00")
    swapped = b"(K\x03" + text(">") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    double = called(DTYPE, text("f8"), b"\x89", b"\x88")
    first = pickled(double + b"q\x00", array, b"q\x01", b"h\x00" + swapped, b"0h\x00h\x01\x86")
    dtype, made = READERS[format](first)
    assert made.dtype == np.dtype("<f8") and dtype == np.dtype(">f8")
    assert pickle.loads(first)[1].dtype == np.dtype(">f8")

    kept = fields(DOUBLE)[:-1] + b"s"
    second = pickled(ITEM, b"(K\x03", text("|"), b"N", text("a") + b"\x85", kept, b"q\x07", b"K\x08K\x01K\x00tb",
                     b"h\x07", text("a"), DOUBLE, b"M\xa0\x0f\x86s0")  # fmt: skip
    assert READERS[format](second).fields["a"] == (np.dtype("f8"), 0)
    assert pickle.loads(second).fields["a"] == (np.dtype("f8"), 4000)


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("codec", ["rot13", "utf-8", "zlib_codec"])
def test_text_is_encoded_as_pickles_write_bytes_and_not_by_any_other_codec(codec: str, format: str) -> None:
    encode = found("_codecs", "encode")
    assert READERS[format](pickled(called(encode, text("\xff"), text("latin1")))) == b"\xff"
    for arguments in ((text("a"), text(codec)), (text("a"),), (text("a"), text("latin1"), text("ignore"))):
        with pytest.raises(UntrustedArtifactError, match="codec"):
            READERS[format](pickled(called(encode, *arguments)))


# -- chance

HONEST = [
    ("joblib", joblib_bytes(Ridge().fit(np.eye(4), np.arange(4.0)))),
    ("joblib", joblib_bytes([np.asfortranarray(np.eye(3)), np.zeros(2, [("a", ">f8"), ("b", "S2")]), np.array(["x"])])),
    ("joblib", joblib_bytes(DecisionTreeRegressor(max_depth=2).fit(np.eye(4), np.arange(4.0)))),
    ("joblib", pickled(ahead(), b"0", ahead(shape=b"K\x01K\x02\x86"))),
    ("pickle", pickle.dumps(Ridge().fit(np.eye(4), np.arange(4.0)), 2)),
    ("pickle", pickle.dumps([np.zeros(2, [("a", ">f8"), ("b", "S2")]), {"x": 1j}, b"x", {1}], 2)),
    ("pickle", pickle.dumps(DecisionTreeRegressor(max_depth=2).fit(np.eye(4), np.arange(4.0)), 5)),
]  # fmt: skip


@given(st.sampled_from(HONEST), EDITS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_mutated_bytes_give_an_object_or_an_error_of_ours_in_bounded_memory(
    honest: tuple[str, bytes], edits: list[tuple[int, bytes]]
) -> None:
    format, data = honest
    tracemalloc.start()
    try:
        with contextlib.suppress(ArtifactDBError):
            restricted_load(content(mutated(data, edits)), ALLOW, format)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_one_stream_behind_the_other_does_not_take_for_ever() -> None:
    """Each is followed by a copy of the rest."""
    data = gzip.compress(b"") * 50_000 + gzip.compress(joblib_bytes([1]))
    with pytest.raises(DeserializationError, match="too many streams"):
        restricted_load(content(data), ALLOW, "joblib")
