"""Formats that hold data only: all comes back as it was, and a stranger's bytes are data or an error of ours."""

from __future__ import annotations

import collections
import json
import pickle
import re
import signal
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import artifactdb.formats as formats
from artifactdb import ArtifactRegistry, DeserializationError, SerializationError, Workspace
from artifactdb.content import StoredContent
from artifactdb.errors import ArtifactDBError, CorruptBlobError
from artifactdb.formats import dump, is_data_only, serializer
from artifactdb.formats.container import ArrayBuffer, pack
from artifactdb.formats.data import DataSerializer
from artifactdb.formats.data_text import MAX_DEPTH, from_text, to_text
from artifactdb.formats.data_writing import MAX_OTHER_KEYS
from artifactdb.trust.pickles.scan import scan

DATA = DataSerializer()


def stored(content: Any) -> StoredContent:
    parts = {part.digest: b"".join(bytes(segment.data) for segment in part.segments) for part in content.parts}
    data = bytearray(b"".join(bytes(segment.data) for segment in content.segments))

    def part(digest: bytes) -> bytearray:
        if digest not in parts:
            raise CorruptBlobError("there is no such blob.")
        return bytearray(parts[digest])

    return StoredContent(data, part)


def stream_of(obj: Any) -> bytes:
    data = stored(DATA.dump(obj).content).data
    count, parts = int.from_bytes(data[8:12], "little"), len(DATA.dump(obj).content.parts)
    start = 24 + 16 * count + 32 * parts
    return bytes(data[start : start + int.from_bytes(data[16:24], "little")])


def back(obj: Any) -> Any:
    return DATA.load(stored(DATA.dump(obj).content))


def read(stream: bytes | str, *buffers: bytes) -> Any:
    stream = stream.encode() if isinstance(stream, str) else stream
    return DATA.load(stored(pack(stream, [ArrayBuffer(buffer, 1) for buffer in buffers])))


def order_of(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def bits_of(array: Any) -> list[bytes]:
    """The bytes of each field; what lies between fields is nothing."""
    if array.dtype.names:
        return [bits for name in array.dtype.names for bits in bits_of(array[name])]
    return [array.tobytes()]


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, in type and layout."""
    assert type(one) is type(other)
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, dict):
        assert_same(list(one), list(other))
        assert_same(list(one.values()), list(other.values()))
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, order_of(one)) == (other.dtype, other.shape, order_of(other))
        assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
        assert bits_of(one) == bits_of(other)
    elif isinstance(one, np.str_ | np.bytes_):
        assert str.__eq__(one, other) if isinstance(one, str) else bytes.__eq__(one, other)
        assert len(one) == len(other)
    elif isinstance(one, np.generic):
        assert one.dtype == other.dtype and bits_of(np.asarray(one)) == bits_of(np.asarray(other))
    elif isinstance(one, float):
        assert struct.pack("<d", one) == struct.pack("<d", other)
    elif isinstance(one, complex):
        assert_same([one.real, one.imag], [other.real, other.imag])
    else:
        assert one == other


# -- what is kept

SIMPLE = [
    "|b1", "|i1", "|u1", "<i2", ">i2", "<i8", ">i4", "<u2", ">u8", "<f2", ">f2", "<f4", "<f8", ">f8", "<c8", ">c16",
    "|S1", "|S7", "|V3", "<U1", ">U5", "<U300", "<M8[D]", ">M8[ns]", "<m8[25s]", "<M8", "<m8", "<M8[7fs]",
]  # fmt: skip
STRUCTURED = [
    np.dtype([("a", "<f8"), ("b", ">i4", (2, 3)), ("c", "U3"), ("d", [("e", "?"), ("f", "M8[s]")])]),
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
    np.dtype({"names": ["z", "a"], "formats": ["<f4", "|u1"], "offsets": [8, 2], "itemsize": 17}),
    np.dtype([("of arrays", np.dtype((np.dtype(("f8", (3,))), (2,))))]),
]
GAPS = {"fields": [["a", "|u1", 0], ["b", "<f8", 8]], "size": 16, "aligned": True}
DTYPES = st.sampled_from([*map(np.dtype, SIMPLE), *STRUCTURED])


def of_bytes(data: bytes, dtype: Any, shape: tuple[int, ...]) -> Any:
    """An array of any bits, but for characters and truth values, of which there are few."""
    size = int(np.prod(shape)) * dtype.itemsize
    data = (data * (size // max(len(data), 1) + 1))[:size].ljust(size, b"\0")
    if dtype.kind == "U":
        data = (np.frombuffer(data, "u4") % 0xD800).astype(f"{dtype.str[0]}u4").tobytes()
    if dtype.kind == "b":
        data = bytes(byte % 2 for byte in data)
    return np.ndarray(shape, dtype, bytearray(data))


@st.composite
def arrays(draw: Any) -> Any:
    dtype = draw(DTYPES)
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    if dtype.names:
        array = np.zeros(shape, dtype)
        array[dtype.names[0]] = 3
    else:
        array = of_bytes(draw(st.binary(max_size=40)), dtype, shape)
    how = draw(st.sampled_from(["C", "F", "strided", "backwards", "read-only"]))
    if how == "F":
        array = np.asfortranarray(array)
    elif how == "strided" and array.ndim:
        array = array[::2]
    elif how == "backwards" and array.ndim:
        array = array[..., ::-1]
    array.flags.writeable = how != "read-only"
    return array


@st.composite
def scalars(draw: Any) -> Any:
    dtype = draw(DTYPES)
    if dtype.str[0] == ">" and not dtype.names:
        dtype = dtype.newbyteorder("<")
    return np.zeros((), dtype)[()] if dtype.names else of_bytes(draw(st.binary(max_size=40)), dtype, ())[()]


ANY_FLOAT = st.floats() | st.binary(min_size=8, max_size=8).map(lambda bits: struct.unpack("<d", bits)[0])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | ANY_FLOAT
    | st.builds(complex, ANY_FLOAT, ANY_FLOAT)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.integers(500, 600).map(bytes)
    | arrays()
    | scalars()
)
KEYS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | ANY_FLOAT | st.text(max_size=4) | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["$", "$tuple", "$array"]), inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(st.floats(), max_size=4)
        | st.lists(st.integers(), max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_what_is_kept_comes_back_to_the_last_bit(value: Any) -> None:
    dumped, chosen = dump(value)
    assert chosen.name == "data"
    loaded = chosen.load(stored(dumped.content))
    assert_same(loaded, value)
    # The same bytes again, and the same object as out of a pickle of ours.
    assert dump(loaded)[0].content.digest == dumped.content.digest
    pickled, pickler = dump(value, "pickle5")
    assert_same(loaded, pickler.load(stored(pickled.content)))


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(hnp.array_dtypes(max_size=3) | hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_of_any_dtype_come_back_or_are_refused(array: Any) -> None:
    try:
        assert_same(back(array), array)
    except TypeError as error:
        assert re.search(r"[fc](16|32)|U0|S0|title", str(error)), (array.dtype, error)


def test_every_array_comes_back_writable() -> None:
    for array in [np.arange(5), np.arange(500.0), np.arange(50_000), np.zeros((3, 0)), np.array(1.5)]:
        array.flags.writeable = False
        assert back(array).flags.writeable


def test_bits_of_numbers_that_are_none_are_kept() -> None:
    quiet, signalling = (struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0xFFF8 << 48 | 7, 0x7FF4 << 48))
    for value in (quiet, signalling, -0.0, float("-inf"), complex(-0.0, quiet), np.float64(quiet), [-0.0, quiet]):
        assert_same(back(value), value)
    assert stream_of(-0.0) == b"-0.0" and stream_of(float("inf")) == b'{"$float":"000000000000f07f"}'


def test_what_lies_between_fields_is_not_stored() -> None:
    memory = np.arange(1, 16 * 200 + 1, dtype=np.uint32).view(np.uint8)
    array = memory[: 16 * 200].view(STRUCTURED[1])
    for obj in (array, array[:5], array[::3], np.array(array[:1]).reshape(())[()]):
        assert_same(back(obj), obj)
        digest = DATA.dump(obj).content.digest
        assert digest == DATA.dump(back(obj)).content.digest
    # In a pickle only where it is copied anyway.
    content = dump([array[::3], {1}])[0].content
    assert back(array[::3]).tobytes() in bytes(stored(content).data)
    with pytest.raises(DeserializationError, match="between"):
        read(to_text({"$array": [GAPS, [200], "C", 0]}), bytes(memory[: 16 * 200]))


def test_zeros_at_the_end_of_a_numpy_string_are_kept() -> None:
    for value in (np.str_("a\0"), np.str_(""), np.bytes_(b"a\0\0"), np.bytes_(b""), np.bytes_(b"x" * 600)):
        assert_same(back(value), value)


def test_the_order_of_dicts_and_keys_that_look_like_tags_are_kept() -> None:
    value = {"b": {"$tuple": [1]}, "a": {"$": None, "x": {}}, "": {1: "one", "1": True, None: -1, b"": 1.5}}
    assert_same(back(value), value)


def test_the_example_of_the_document_is_what_is_written() -> None:
    document = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
    section = document.partition("### Data\n")[2].partition("\n### ")[0]
    (source,), (stream,) = (re.findall(rf"```{kind}\n(.*?)\n```", section) for kind in ("python", "json"))
    assert stream_of(eval(source, {"np": np})) == stream.encode()


# -- what is refused


class Sub:
    """Subclasses of what is kept."""

    list = type("L", (list,), {})
    str = type("S", (str,), {})
    float = type("F", (float,), {})
    bytes = type("B", (bytes,), {})
    array = type("A", (np.ndarray,), {})
    float64 = type("F64", (np.float64,), {})


LIST: list[Any] = [1]
ARRAY = np.arange(3)
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
LARGE = b"x" * 512
REFUSED = {
    "ordered dict": collections.OrderedDict(a=1),
    "default dict": collections.defaultdict(list),
    "named tuple": collections.namedtuple("P", "x")(1),
    "enum": signal.SIGINT,
    "enum as a key": {signal.SIGINT: 1},
    "list": Sub.list(),
    "str": Sub.str("a"),
    "str as a key": {Sub.str("a"): 1},
    "float": Sub.float(1),
    "bytes": Sub.bytes(b"1"),
    "bytearray": bytearray(b"1"),
    "set": {1},
    "range": range(3),
    "type": int,
    "tuple as a key": {(0, 1): 1},
    "numpy key": {np.int64(1): 1},
    "great key": {2**63: 1},
    "matrix": np.zeros((1, 1)).view(np.matrix),
    "masked": np.ma.masked_array([1], [True]),
    "record array": np.rec.array([(1,)], dtype=[("a", "i4")]),
    "array of records": np.zeros(2, np.dtype((np.record, [("a", "i4")]))),
    "records in a field": np.zeros(2, [("inner", np.dtype((np.record, [("a", "i4")])))]),
    "record": np.rec.array([(1,)], dtype=[("a", "i4")])[0],
    "array subclass": np.zeros(2).view(Sub.array),
    "float64 subclass": Sub.float64(1),
    "objects": np.array([None]),
    "objects in a field": np.zeros(1, [("a", "O")]),
    "long doubles": np.zeros(2, np.longdouble),
    "long double": np.longdouble(1),
    "complex long doubles": np.zeros(2, np.clongdouble),
    "long long": np.longlong(1) if np.dtype("q") == np.dtype("l") else Sub.list(),
    "metadata": np.zeros(2, np.dtype("f8", metadata={"a": 1})),
    "metadata in a field": np.zeros(2, np.dtype({"names": ["a"], "formats": [np.dtype("f8", metadata={"a": 1})]})),
    "titles": np.zeros(2, [(("title", "a"), "f8")]),
    "overlapping fields": np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["f8", "f4"], "offsets": [0, 4]})),
    "no bytes": np.zeros(2, np.dtype([])),
    "truth that is two": np.array([2], "u1").view("?"),
    "no character": np.array([0x110000], "u4").view("U1"),
    "a list twice": [LIST, LIST],
    "a list in a tuple twice": [(LIST,), (LIST,)],
    "an array twice": {"a": ARRAY, "b": ARRAY},
    "a large bytes twice": [LARGE, LARGE],
    "a circle": CIRCLE,
    "half a surrogate pair": "\ud800",
    "half a pair as a key": {"\udfff": 1},
    "half a pair in a field": np.zeros(1, [("\ud800", "f8")]),
    "an estimator": [1, DATA],
}
if hasattr(np.dtypes, "StringDType"):
    REFUSED["variable strings"] = np.array(["a"], dtype=np.dtypes.StringDType())


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_come_back_different_is_refused(name: str) -> None:
    with pytest.raises(TypeError):
        DATA.dump(REFUSED[name])
    with pytest.raises(TypeError):
        DATA.dump({"deep": [1, ({"down": REFUSED[name]},)]})


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "half a pair in a field"])
def test_what_is_refused_is_pickled(name: str) -> None:
    dumped, chosen = dump([REFUSED[name]])
    assert chosen.name in ("pickle5", "dill")
    chosen.load(stored(dumped.content))


def test_a_hint_says_why_it_is_refused() -> None:
    with pytest.raises(SerializationError, match="OrderedDict is no plain value"):
        dump({"a": collections.OrderedDict()}, "data")
    with pytest.raises(SerializationError, match="twice, or within itself"):
        dump(CIRCLE, "data")
    with pytest.raises(SerializationError, match="carries metadata"):
        dump(REFUSED["metadata"], "data")


def test_a_memory_map_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5))
    assert dump(np.load(tmp_path / "x.npy", mmap_mode="r"))[1].name == "pickle5"


def nested(kind: Any, depth: int) -> Any:
    value: Any = kind()
    for _ in range(depth - 1):
        value = {"a": value} if kind is dict else kind((value,))
    return value


@pytest.mark.parametrize(("kind", "deepest"), [(list, MAX_DEPTH), (dict, MAX_DEPTH), (tuple, MAX_DEPTH // 2)])
def test_depth_is_bounded_as_the_document_says(kind: Any, deepest: int) -> None:
    assert_same(back(nested(kind, deepest)), nested(kind, deepest))
    for depth in (deepest + 1, 10 * deepest):
        with pytest.raises(TypeError):
            DATA.dump(nested(kind, depth))
    assert dump(nested(kind, deepest + 1))[1].name == "pickle5"


def test_integers_have_no_bound() -> None:
    for value in (2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**5000, -(16**40_000)):
        assert back(value) == value and back([value, 1]) == [value, 1]
    assert stream_of(2**64) == b'{"$int":"0x10000000000000000"}' and stream_of(-5) == b"-5"


def test_tuples_within_tuples_cost_no_more_than_their_text() -> None:
    value: Any = (1.5, "a")
    for _ in range(12):
        value = (value, value)
    assert_same(back(value), value)
    for _ in range(30):
        value = (value, value)
    began = time.monotonic()
    assert dump(value)[1].name == "pickle5"
    with_bytes: Any = (LARGE,)
    for _ in range(40):
        with_bytes = (with_bytes, with_bytes)
    assert dump(with_bytes)[1].name == "pickle5"
    assert time.monotonic() - began < 5


def test_a_long_string_in_many_places_is_left_to_a_pickle_which_holds_it_once() -> None:
    text = "x" * 1_000_000
    assert dump([text] * 100)[1].name == "pickle5"
    assert dump([text])[1].name == "data"


# -- bytes of strangers

ARRAY_OF_TWO = '{"$array":["<f8",[2],"C","AAAAAAAA4D8AAAAAAAAAwA=="]}'
HOSTILE: dict[str, Any] = {
    "nothing": "",
    "no json": "x",
    "no text": b'"\xff"',
    "a space": "[1, 2]",
    "two values": "1 2",
    "a line": "[1]\n",
    "an escape": '"\\u0041"',
    "half a pair": '"\\ud800"',
    "half a pair in bytes": b'"\xed\xa0\x80"',
    "a key twice": '{"a":1,"a":2}',
    "another way to write a number": "1.50",
    "an exponent": "1e5",
    "minus zero": "-0",
    "too great": "1e999",
    "not a number": "NaN",
    "infinity": "-Infinity",
    "many digits": "[" + "9" * 5000 + "]",
    "a great integer": str(2**63),
    "a great integer in a list": f"[1,{2**63}]",
    "a great integer in a mixed list": f'["a",{-(2**63) - 1}]',
    "deep": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "very deep": "[" * 500_000 + "]" * 500_000,
    "very deep objects": '{"a":' * 500_000 + "1" + "}" * 500_000,
    "deep and open": "[" * 5_000_000,
    "an unknown tag": '{"$object":1}',
    "an empty tag": '{"$":1}',
    "a tag among others": '{"$tuple":[],"a":1}',
    "others before a tag": '{"a":1,"$tuple":[]}',
    "int small": '{"$int":"0x5"}',
    "int zeros": '{"$int":"0x0010000000000000000"}',
    "int underscores": '{"$int":"0x1_0000_0000_0000_0000"}',
    "int decimal": '{"$int":"18446744073709551616"}',
    "int plus": '{"$int":"+0x10000000000000000"}',
    "int upper": '{"$int":"0XABCDEFABCDEFABCDEF"}',
    "int number": '{"$int":5}',
    "float finite": '{"$float":"000000000000f03f"}',
    "float short": '{"$float":"00f07f"}',
    "float upper": '{"$float":"000000000000F07F"}',
    "float spaces": '{"$float":"0000 000000 f07f"}',
    "float null": '{"$float":null}',
    "complex": '{"$complex":"00"}',
    "bytes of another alphabet": '{"$bytes":"_-=="}',
    "bytes with junk": '{"$bytes":"YQ==\\n"}',
    "bytes without padding": '{"$bytes":"YQ"}',
    "bytes with other bits": '{"$bytes":"YR=="}',
    "bytes too long": '{"$bytes":"' + "YWFh" * 200 + '"}',
    "bytes of a list": '{"$bytes":[]}',
    "tuple of an object": '{"$tuple":{}}',
    "tuple of a string": '{"$tuple":"abc"}',
    "dict of an object": '{"$dict":{}}',
    "dict that is plain": '{"$dict":[["a",1]]}',
    "dict that is empty": '{"$dict":[]}',
    "dict of a triple": '{"$dict":[[1,2,3]]}',
    "dict with equal keys": '{"$dict":[[1,2],[true,3]]}',
    "dict with a list as key": '{"$dict":[[[],2]]}',
    "dict with a tuple as key": '{"$dict":[[{"$tuple":[1]},2]]}',
    "dict with a great key": '{"$dict":[[{"$int":"0x10000000000000000"},2]]}',
    "dict with an array as key": '{"$dict":[[' + ARRAY_OF_TWO + ",1]]}",
    "array of three": '{"$array":["<f8",[0],"C"]}',
    "array of an object": '{"$array":{}}',
    "array of objects": ARRAY_OF_TWO.replace("<f8", "|O8"),
    "array of Python's name": ARRAY_OF_TWO.replace("<f8", "O"),
    "array of another name": ARRAY_OF_TWO.replace("<f8", "float64"),
    "array of a list": ARRAY_OF_TWO.replace("<f8", "f8,f8"),
    "array of long doubles": ARRAY_OF_TWO.replace("<f8", "<f16"),
    "array without order": ARRAY_OF_TWO.replace("<f8", "=f8"),
    "array of no bytes": '{"$array":["|S0",[5],"C",""]}',
    "array of great strings": '{"$array":["<U999999999",[0],"C",""]}',
    "array of many times": ARRAY_OF_TWO.replace("<f8", "<M8[1D]"),
    "array of great times": ARRAY_OF_TWO.replace("<f8", "<M8[9999999999D]"),
    "array of no dtype": '{"$array":[null,[2],"C",""]}',
    "array too long": ARRAY_OF_TWO.replace("[2]", "[3]"),
    "array too short": ARRAY_OF_TWO.replace("[2]", "[1]"),
    "array of a huge shape": ARRAY_OF_TWO.replace("[2]", f"[{2**62},{2**62}]"),
    "array of a huge empty shape": '{"$array":["<f8",[0,4611686018427387904],"C",""]}',
    "array of minus": ARRAY_OF_TWO.replace("[2]", "[-2]"),
    "array of two minus": ARRAY_OF_TWO.replace("[2]", "[-1,-2]"),
    "array of true": ARRAY_OF_TWO.replace("[2]", "[2,true]"),
    "array of a fraction": ARRAY_OF_TWO.replace("[2]", "[2.0]"),
    "array of a number": ARRAY_OF_TWO.replace("[2]", "2"),
    "array of many dimensions": ARRAY_OF_TWO.replace("[2]", str([2] + [1] * 64).replace(" ", "")),
    "array of another order": ARRAY_OF_TWO.replace('"C"', '"A"'),
    "array in no need of F": ARRAY_OF_TWO.replace('"C"', '"F"'),
    "array of null": ARRAY_OF_TWO.replace('"C"', "null"),
    "array of arrays": '{"$array":[{"item":"<f8","shape":[1]},[2],"C","AAAAAAAA4D8AAAAAAAAAwA=="]}',
    "array of bad truth": '{"$array":["|b1",[1],"C","Ag=="]}',
    "array of bad characters": '{"$array":["<U1",[1],"C","/////w=="]}',
    "array of bad truth in a field": '{"$array":[{"fields":[["a","|b1",0]],"size":1,"aligned":false},[1],"C","Ag=="]}',
    "buffer missing": '{"$array":["<f8",[64],"C",0]}',
    "buffer before the first": '{"$array":["<f8",[64],"C",-1]}',
    "buffer of true": '{"$bytes":false}',
    "scalar of two": '{"$scalar":["<f8","AAAAAAAA4D8AAAAAAAAAwA=="]}',
    "scalar of big end": '{"$scalar":[">f8","AAAAAAAA4D8="]}',
    "scalar of characters": '{"$scalar":["<U1","YQAAAA=="]}',
    "scalar of a number": '{"$scalar":["U",5]}',
    "scalar of bytes as text": '{"$scalar":["S","a"]}',
    "scalar of arrays": '{"$scalar":[{"item":"<f8","shape":[1]},"AAAAAAAA4D8="]}',
    "scalar of bad truth": '{"$scalar":["|b1","Ag=="]}',
    "scalar of objects": '{"$scalar":["|O8","AAAAAAAA4D8="]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_nobody_writes_is_an_error_of_ours(name: str) -> None:
    stream = HOSTILE[name].encode() if isinstance(HOSTILE[name], str) else HOSTILE[name]
    for text in (stream, b'{"deep":[' + (stream or b",") + b"]}"):
        with pytest.raises(DeserializationError):
            read(text)


FIELDS = {
    "no fields": {"fields": [], "size": 8, "aligned": False},
    "another order": {"size": 8, "fields": [["a", "<f8", 0]], "aligned": False},
    "one more": {"fields": [["a", "<f8", 0]], "size": 8, "aligned": False, "titles": []},
    "outside": {"fields": [["a", "<f8", 4]], "size": 8, "aligned": False},
    "before": {"fields": [["a", "<f8", -8]], "size": 8, "aligned": False},
    "over each other": {"fields": [["a", "<f4", 0], ["b", "<f4", 2]], "size": 8, "aligned": False},
    "the same name": {"fields": [["a", "<f4", 0], ["a", "<f4", 4]], "size": 8, "aligned": False},
    "objects": {"fields": [["a", "|O8", 0]], "size": 8, "aligned": False},
    "names that are none": {"fields": [[["t", "a"], "<f8", 0]], "size": 8, "aligned": False},
    "offset that is none": {"fields": [["a", "<f8", None]], "size": 8, "aligned": False},
    "alignment": {"fields": [["a", "|u1", 0], ["b", "<f4", 1]], "size": 8, "aligned": True},
    "alignment that is none": {"fields": [["a", "<f8", 0]], "size": 8, "aligned": 1},
    "size that is none": {"fields": [["a", "<f8", 0]], "size": 8.0, "aligned": False},
    "huge": {"fields": [["a", {"item": "<f8", "shape": [2**40]}, 0]], "size": 2**43, "aligned": False},
    "nothing within": {"fields": [["a", {"item": "<f8", "shape": [0]}, 0]], "size": 8, "aligned": False},
    "no shape within": {"fields": [["a", {"item": "<f8", "shape": 2}, 0]], "size": 16, "aligned": False},
    "empty shape within": {"fields": [["a", {"item": "<f8", "shape": []}, 0]], "size": 8, "aligned": False},
    "only an offset": {"fields": [["a", "<f8"]], "size": 8, "aligned": False},
}


@pytest.mark.parametrize("name", FIELDS)
def test_structured_dtypes_are_looked_at(name: str) -> None:
    with pytest.raises(DeserializationError):
        read(to_text({"$array": [FIELDS[name], [1], "C", "AAAAAAAAAAA="]}))


def test_buffers_are_asked_for_in_turn_once_and_all() -> None:
    array, other = bytes(512), bytes(range(256)) * 3
    one = '{"$array":["<f8",[64],"C",0]}'
    assert read(one, array).shape == (64,)
    assert read(f'[{one},{{"$bytes":1}}]', array, other)[1] == other
    for stream, buffers in [
        (one, (array, other)),
        (f"[{one},{one}]", (array,)),
        (f"[{one},{one}]", (array, array)),
        (one.replace(",0]", ",1]"), (array, array)),
        (f'[{{"$bytes":1}},{{"$bytes":0}}]', (array, other)),  # noqa: F541
        ('{"$array":["<f8",[4],"C",0]}', (bytes(32),)),
        ("1", (array,)),
    ]:
        with pytest.raises(DeserializationError):
            read(stream, *buffers)


def test_keys_whose_hashes_collide_are_bounded() -> None:
    assert back(dict.fromkeys(range(MAX_OTHER_KEYS)))
    with pytest.raises(TypeError):
        DATA.dump(dict.fromkeys(range(MAX_OTHER_KEYS + 1)))
    pairs = ",".join(f"[{key},null]" for key in range(MAX_OTHER_KEYS + 1))
    with pytest.raises(DeserializationError, match="keys"):
        read(f'{{"$dict":[{pairs}]}}')


def test_fields_cannot_make_a_few_bytes_cost_much_time() -> None:
    fields = [[str(number), "<U1", 0] for number in range(20_000)]
    began = time.monotonic()
    with pytest.raises(DeserializationError):
        read(to_text({"$array": [{"fields": fields, "size": 4, "aligned": False}, [200], "C", 0]}), bytes(800))
    assert time.monotonic() - began < 5


def test_a_parser_is_not_given_what_is_deep_or_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("it was"))
    for text in (b"[" * 101 + b"]" * 101, b"[" + b"1" * 10_000_000 + b"]", b'["\\"",' + b"{" * 101):
        with pytest.raises(ValueError, match="JSON"):
            from_text(text)
    monkeypatch.undo()
    assert from_text(b'["' + b"[" * 1000 + b"9" * 1000 + b'"]') == ["[" * 1000 + "9" * 1000]


SAMPLES: list[Any] = [
    {"a": [1, 2.5, "x", None, True], "b": (b"y", 2**70, float("nan")), 3: {"$": -0.0}},
    {"small": np.arange(6.0).reshape(2, 3), "large": np.asfortranarray(np.arange(200.0).reshape(10, 20))},
    [np.zeros(3, STRUCTURED[0]), np.zeros(300, STRUCTURED[1]), np.array(["ab", "c"]), np.datetime64("2026-01-01")],
    [np.float32(1.5), np.str_("é"), np.bytes_(b"q"), np.array([True, False]), bytes(700), 1j],
]
STREAMS = [stream_of(sample) for sample in SAMPLES]


def check(content: StoredContent) -> None:
    """Whatever is read is what would be written; anything else is an error of ours."""
    try:
        loaded = DATA.load(content)
    except ArtifactDBError:
        return
    again = stored(DATA.dump(loaded).content)
    assert_same(DATA.load(again), loaded)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3)), max_size=4))
def test_mutated_bytes_are_an_object_or_an_error_of_ours(sample: Any, edits: list[tuple[int, bytes]]) -> None:
    content = stored(DATA.dump(sample).content)
    for place, replacement in edits:
        place %= len(content.data) or 1
        content.data[place : place + 1] = replacement
    check(content)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.sampled_from([2**62, 2**63, 1.5])
    | st.sampled_from(["", "C", "F", "U", "S", "a", "AAAAAAAAAAA=", "AA==", "0x10000000000000000", "000000000000f87f"])
    | st.sampled_from(SIMPLE),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=1), inner, max_size=2)
        | st.builds(
            lambda tag, value: {tag: value},
            st.sampled_from(["$int", "$float", "$complex", "$bytes", "$tuple", "$dict", "$array", "$scalar", "$x"]),
            inner,
        )
        | st.builds(
            lambda dtype, shape, order, data: {"$array": [dtype, shape, order, data]},
            st.sampled_from(SIMPLE) | inner,
            st.lists(st.integers(0, 4), max_size=3) | inner,
            st.sampled_from("CF"),
            st.sampled_from(["", "AAAAAAAAAAA=", "AAAA", 0, 1]) | inner,
        )
        | st.builds(lambda dtype, data: {"$scalar": [dtype, data]}, st.sampled_from(SIMPLE) | inner, inner)
        | st.builds(lambda *pairs: {"$dict": [list(pair) for pair in pairs]}, st.tuples(inner, inner))
        | st.builds(
            lambda fields, size, aligned: {"fields": fields, "size": size, "aligned": aligned},
            st.lists(st.tuples(st.text(max_size=1), inner, st.integers(0, 8)).map(list), max_size=3),
            st.integers(0, 20),
            st.booleans(),
        )
        | st.builds(lambda item, shape: {"item": item, "shape": shape}, inner, st.lists(st.integers(0, 3)))
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.lists(st.integers(0, 600).map(bytes), max_size=2))
def test_any_tree_is_an_object_with_that_stream_or_an_error_of_ours(tree: Any, buffers: list[bytes]) -> None:
    stream = to_text(tree)
    try:
        loaded = read(stream, *buffers)
    except DeserializationError:
        return
    assert stream_of(loaded) == stream


@given(st.sampled_from(STREAMS), st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_and_any_end_are_refused(stream: bytes, end: bytes) -> None:
    for text in (end, stream + end, stream[: len(end)]):
        check(stored(pack(text, [])))
    check(StoredContent(bytearray(end), lambda digest: bytearray()))


# -- how it is chosen and stored


@pytest.mark.campaign
def test_bytes_are_the_same_in_every_process(in_new_process: Any) -> None:
    code = """
import numpy as np
from artifactdb.formats import dump
value = {"a": [1, (2.5, None)], 7: b"x", "names": np.array(["wheat", "barley"]), "rows": np.arange(9000.0),
         "best": np.float32(0.1), "table": np.zeros(3, [("a", "f8"), ("b", "U3")])}
dumped, chosen = dump(value)
print(chosen.name, dumped.content.digest.hex())
"""
    found = {in_new_process(code), in_new_process(code, PYTHONHASHSEED="4711")}
    assert len(found) == 1 and found.pop().startswith("data ")


def test_a_large_array_is_one_part_wherever_it_lies(workspace: Workspace, registry: ArtifactRegistry) -> None:
    array = np.random.default_rng(0).normal(size=(100, 60))
    assert dump([array])[0].content.parts[0].digest == dump([array, {1}])[0].content.parts[0].digest
    count = "SELECT count(*) FROM blobs"
    for step, obj in enumerate([{"kept as": "data", "x": array}, {"kept as": {"pickle"}, "x": array}], start=1):
        registry.register_with_chain(obj, f"s{step}.X", "model", step)
    assert [record.format for record in workspace.records()] == ["data", "pickle5"]
    assert workspace.database.value(count) == 3


def test_a_workspace_gives_an_equal_object(
    workspace: Workspace, registry: ArtifactRegistry, tmp_path: Path, xy: tuple[Any, Any]
) -> None:
    value = {"x": xy[0], "small": np.asfortranarray(np.arange(6).reshape(2, 3)), "folds": [(0, 1), (2,)], 1: np.nan}
    record = registry.register_with_chain(value, "s1.Folds", "splitter", 1)
    assert (record.format, record.class_name, record.path.rpartition(".")[2]) == ("data", "dict", "data")
    assert_same(registry.load_artifact(record), value)
    assert "numpy" in record.environment
    # Out into a folder, its array a file of its own, and into another workspace.
    workspace.export(tmp_path / "folder")
    with Workspace(tmp_path / "other.sqlite") as other:
        assert other.import_folder(tmp_path / "folder").ok
        (there,) = other.records()
        assert (there.format, there.content_hash) == ("data", record.content_hash)
        assert_same(other.load(there.artifact_id), value)


def test_a_lying_file_is_an_error_of_ours(workspace: Workspace, registry: ArtifactRegistry) -> None:
    registry.register_with_chain(pickle.dumps({1}), "s1.X", "model", 1, format_hint="pickle")
    for name in ("data", "arrow", "safetensors"):
        with workspace.transaction():
            workspace.database.rows("UPDATE records SET format = ?", (name,))
        with pytest.raises(DeserializationError):
            workspace.load(workspace.records()[0].artifact_id)


def test_plain_data_is_read_without_numpy_or_pyarrow(
    workspace: Workspace, registry: ArtifactRegistry, in_new_process: Any
) -> None:
    record = registry.register_with_chain({"folds": [(0, 1), (2,)]}, "s1.Folds", "splitter", 1)
    code = """
import sys
from artifactdb import Workspace
from artifactdb.formats import dump, is_data_only
with Workspace(sys.argv[1]) as workspace:
    assert is_data_only("data") and is_data_only("arrow") and is_data_only("safetensors")
    assert workspace.load(sys.argv[2]) == {"folds": [(0, 1), (2,)]}
    assert dump([1.5])[1].name == "data"
print([name for name in ("numpy", "pyarrow", "safetensors", "dill", "joblib") if name in sys.modules])
"""
    assert in_new_process(code, workspace.path, record.artifact_id, anew=True) == "[]"


def test_built_in_formats_answer_without_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "entry_points", lambda group: pytest.fail("asked"))
    formats.serializers.cache_clear()
    found = {name: is_data_only(name) for name in ("data", "json", "arrow", "safetensors", "pickle5", "cloudpickle")}
    assert found == {
        "data": True,
        "json": True,
        "arrow": True,
        "safetensors": True,
        "pickle5": False,
        "cloudpickle": False,
    }
    assert not any(is_data_only(name) for name in ("dill", "joblib", "pickle"))


def test_a_plugin_is_believed_only_when_it_says_that_it_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        def __init__(self, name: str, **said: Any) -> None:
            self.name = name
            self.__dict__.update(said)

        def load(self) -> Any:
            return self

    points = [Plugin("silent"), Plugin("harmless", executable=False), Plugin("falsy", executable=0), Plugin("data")]
    monkeypatch.setattr(formats, "entry_points", lambda group: points)
    formats.serializers.cache_clear()
    try:
        found = {name: is_data_only(name) for name in ("silent", "harmless", "falsy", "data", "nobody's")}
        assert found == {"silent": False, "harmless": True, "falsy": False, "data": True, "nobody's": False}
        assert not scan(StoredContent(bytearray(b"x"), lambda _: bytearray()), "harmless").problems
        assert scan(StoredContent(bytearray(b"x"), lambda _: bytearray()), "silent").problems
    finally:
        formats.serializers.cache_clear()


@pytest.mark.parametrize("name", ["data", "json", "arrow", "safetensors"])
def test_a_scan_has_nothing_to_say_of_data(name: str) -> None:
    report = scan(StoredContent(bytearray(b"cposix\nsystem\n(S'true'\ntR."), lambda _: bytearray()), name)
    assert (report.verdict, report.imports, report.problems) == ("known-safe", [], [])


def test_extensions_of_files_are_those_of_the_serializers() -> None:
    from artifactdb.artifacts.find import extension_of

    for name in ("data", "arrow", "safetensors", "json", "pickle5", "dill", "joblib", "pickle"):
        assert extension_of(name) == serializer(name).extension


def test_estimators_are_not_walked(fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataSerializer, "dump", lambda self, obj: pytest.fail("walked"))
    assert all(dump(model)[1].name == "pickle5" for model in fitted.values())
