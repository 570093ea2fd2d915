"""Tables as Arrow streams and arrays as safetensors: equal when they come back, and harmless whoever wrote them."""

from __future__ import annotations

import datetime
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactdb import ArtifactRegistry, DeserializationError, SerializationError, Workspace
from artifactdb.errors import ArtifactDBError
from artifactdb.formats import dump, serializer
from tests.test_data_formats import stored

ARROW = serializer("arrow")
TENSORS = serializer("safetensors")


def back(obj: Any) -> Any:
    dumped, chosen = dump(obj)
    assert chosen.name == "arrow"
    return chosen.load(stored(dumped.content))


def stream_of(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read(data: bytes) -> Any:
    from artifactdb.content import StoredContent

    return ARROW.load(StoredContent(bytearray(data), lambda digest: bytearray()))


WIDE = pa.table(
    {
        "band": pa.array([1, None, 3], pa.int16()),
        "value": pa.array([0.5, float("nan"), -0.0]),
        "name": pa.array(["é", None, ""]),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "rows": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        "at": pa.array([datetime.datetime(2026, 1, 1), None, None], pa.timestamp("us", "UTC")),
        "inner": pa.array([{"x": 1, "y": "z"}, None, {"x": None, "y": None}]),
        "price": pa.array([None, None, 1]).cast(pa.decimal128(30, 2)),
        "views": pa.array(["a string that is longer than twelve", "b", None], pa.string_view()),
        "id": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
        "json": pa.array(["{}", None, "[]"], pa.json_()),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12).reshape(3, 2, 2)),
        "nothing": pa.nulls(3),
    }
)
TABLES = {
    "wide": WIDE,
    "sliced": WIDE.slice(1, 1),
    "metadata": pa.table({"a": [1]}).replace_schema_metadata({"who": "me", "what": b"\xff"}),
    "field metadata": pa.table([[1]], pa.schema([pa.field("a", pa.int8(), nullable=False, metadata={"unit": "nm"})])),
    "chunks": pa.concat_tables([WIDE, WIDE.slice(0, 2)]),
    "uneven chunks": pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([[1.5, 2.5], [3.5]])}),
    "dictionaries that differ": pa.table(
        {"a": pa.chunked_array([WIDE["kind"].chunk(0), pa.array(["z"]).dictionary_encode()])}
    ),
    "no rows": WIDE.slice(0, 0),
    "no columns": pa.table({}),
    "rows without columns": WIDE.select([]),
    "the same name twice": pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_equal(name: str) -> None:
    table = TABLES[name]
    loaded = back(table)
    assert type(loaded) is pa.Table and loaded.num_rows == table.num_rows
    assert loaded.schema.equals(table.schema, check_metadata=True)
    for column, expected in zip(loaded.columns, table.columns, strict=True):
        # NaN is equal to nothing, and a tensor cannot be compared.
        values = [
            [item for chunk in data.chunks for item in getattr(chunk, "storage", chunk).to_pylist()]
            for data in (column, expected)
        ]
        assert repr(values[0]) == repr(values[1])
    assert dump(loaded)[0].content.digest == dump(table)[0].content.digest


def test_a_batch_comes_back_as_a_batch() -> None:
    for batch in (
        pa.record_batch({"a": [1, None]}, metadata={"who": "me"}),
        pa.record_batch({"a": pa.array([], pa.int8())}),
        WIDE.to_batches()[0].slice(1),
        pa.record_batch({"kind": pa.array(["a", "b"]).dictionary_encode()}),
    ):
        loaded = back(batch)
        assert type(loaded) is pa.RecordBatch and loaded.num_rows == batch.num_rows
        assert loaded.schema.equals(batch.schema, check_metadata=True)
        assert type(back(pa.Table.from_batches([batch]))) is pa.Table


def test_any_arrow_library_reads_the_stream(workspace: Workspace, registry: ArtifactRegistry) -> None:
    content = stored(dump(WIDE)[0].content)
    assert pa.ipc.open_stream(pa.py_buffer(content.data)).read_all().schema.equals(WIDE.schema)


def test_a_workspace_gives_an_equal_table(workspace: Workspace, registry: ArtifactRegistry) -> None:
    large = pa.table({"a": np.random.default_rng(0).normal(size=700_000)}, metadata={"who": "me"})
    record = registry.register_with_chain(large, "s1.Table", "model", 1)
    assert (record.format, record.class_name) == ("arrow", "Table") and record.path.endswith(".arrows")
    assert registry.load_artifact(record).equals(large, check_metadata=True)
    batch = registry.register_with_chain(WIDE.to_batches()[0], "s2.Batch", "model", 2)
    assert type(registry.load_artifact(batch)) is pa.RecordBatch


def test_the_same_table_has_the_same_bytes_in_every_process(in_new_process: Any) -> None:
    code = """
import pyarrow as pa
from artifactdb.formats import dump
table = pa.table({"a": [1, None], "b": pa.array(["x", "y"]).dictionary_encode()}, metadata={"k": "v", "a": "b"})
print(dump(table)[0].content.digest.hex())
"""
    assert in_new_process(code) == in_new_process(code, PYTHONHASHSEED="1")


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("exploded",))


class Reading(pa.ExtensionType):
    """A type as libraries register them; some load a pickle here, or when a value is asked for."""

    read = False

    def __init__(self) -> None:
        super().__init__(pa.binary(), "tests.reading")

    def __arrow_ext_serialize__(self) -> bytes:
        return pickle.dumps(Bomb())

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Any:
        cls.read = True
        pickle.loads(serialized)
        return cls()


def with_extension(name: str, inside: bool) -> Any:
    metadata = {"ARROW:extension:name": name, "ARROW:extension:metadata": pickle.dumps(Bomb())}
    field = pa.field("a", pa.binary(), metadata=metadata)
    if inside:
        field = pa.field("outer", pa.struct([pa.field("list", pa.list_(field))]))
        return pa.table(
            [pa.array([{"list": [b"x"]}], pa.struct([pa.field("list", pa.list_(field.type[0].type.value_field))]))],
            pa.schema([field]),
        )
    return pa.table([pa.array([b"x"])], pa.schema([field]))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "name", ["arrow.py_extension_type", "tests.reading", "ray.data.arrow_pickled_object", "pandas.period"]
)
def test_no_class_is_asked_to_read_a_strangers_extension(
    name: str, inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stream = stream_of(with_extension(name, inside))
    if name == "tests.reading":
        pa.register_extension_type(Reading())
    try:
        with pytest.raises(DeserializationError, match="extension types"):
            read(stream)
    finally:
        if name == "tests.reading":
            pa.unregister_extension_type(name)
    assert not Reading.read and not (tmp_path / "exploded").exists()
    with pytest.raises(SerializationError, match="extension types"):
        dump(with_extension(name, inside), "arrow")


def test_a_table_that_only_a_class_reads_is_pickled() -> None:
    assert dump(with_extension("tests.unknown", False))[1].name == "pickle5"
    with pytest.raises(SerializationError, match=r"no pyarrow\.Table"):
        dump([1], "arrow")


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_not_unpacked(codec: str) -> None:
    table = pa.table({"a": np.zeros(10_000)})
    assert read(stream_of(table)).equals(table)
    with pytest.raises(DeserializationError, match="compressed"):
        read(stream_of(table, compression=codec))
    # Only the dictionary, not the rows that refer to it.
    words = pa.table({"a": pa.array([str(number) for number in range(1000)]).dictionary_encode()})
    plain, packed = (list(pa.ipc.MessageReader.open_stream(stream_of(words, compression=of))) for of in (None, codec))
    mixed = b"".join(bytes(message.serialize()) for message in (plain[0], packed[1], plain[2]))
    with pytest.raises(DeserializationError, match="compressed"):
        read(mixed)


def test_offsets_that_lead_out_of_a_buffer_are_refused() -> None:
    stream = stream_of(pa.table({"a": ["abc", "de"]}))
    offsets = struct.pack("<3i", 0, 3, 5)
    assert stream.count(offsets) == 1
    for lie in ((0, 3, 2**30), (0, -5, 5), (0, 9, 5)):
        with pytest.raises(DeserializationError):
            read(stream.replace(offsets, struct.pack("<3i", *lie)))


STREAMS = [stream_of(table) for table in (WIDE.drop_columns(["tensor"]), TABLES["chunks"], TABLES["metadata"])]


@given(st.sampled_from(STREAMS), st.lists(st.tuples(st.integers(0, 20_000), st.binary(max_size=4)), max_size=4))
@settings(max_examples=200, deadline=None)
def test_mutated_streams_are_a_table_or_an_error_of_ours(stream: bytes, edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(stream)
    for place, replacement in edits:
        place %= len(data)
        data[place : place + len(replacement)] = replacement
    try:
        table = read(bytes(data))
    except ArtifactDBError:
        return
    assert str(table.slice(0, 3))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_table_or_an_error_of_ours(data: bytes) -> None:
    for reader in (ARROW, TENSORS):
        try:
            reader.load(stored_bytes(data))
        except ArtifactDBError:
            continue


def stored_bytes(data: bytes) -> Any:
    from artifactdb.content import StoredContent

    return StoredContent(bytearray(data), lambda digest: bytearray())


# -- safetensors

ARRAYS = {
    name: np.arange(6).reshape(2, 3).astype(name) for name in [*"bBhHiIqQ", "?", "float16", "float32", "float64"]
} | {"scalar": np.array(1.5), "empty": np.zeros((0, 3)), "strided": np.arange(20.0)[::3], "": np.zeros(2)}


def tensors_back(arrays: Any) -> Any:
    dumped, chosen = dump(arrays, "safetensors")
    return chosen.load(stored(dumped.content))


def test_arrays_come_back_by_name() -> None:
    loaded = tensors_back(ARRAYS)
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes() and loaded[name].flags.writeable
    assert tensors_back({}) == {}
    assert dump(ARRAYS)[1].name == "data"


def test_they_are_chosen_by_a_hint_and_read_by_others(registry: ArtifactRegistry) -> None:
    record = registry.register_with_chain(ARRAYS, "s1.Weights", "model", 1, format_hint="safetensors")
    assert record.format == "safetensors" and "safetensors" in record.environment
    assert registry.load_artifact(record).keys() == ARRAYS.keys()
    data = bytes(stored(dump(ARRAYS, "safetensors")[0].content).data)
    assert safetensors.numpy.load(data).keys() == ARRAYS.keys()


ONE = np.zeros(2)


@pytest.mark.parametrize(
    "obj",
    [
        [np.zeros(2)],
        {"a": 1.5},
        {1: np.zeros(2)},
        {"__metadata__": np.zeros(2)},
        {"a": np.zeros(2, complex)},
        {"a": np.zeros(2, ">f8")},
        {"a": np.zeros(2, np.longdouble)},
        {"a": np.zeros(2, [("x", "f8")])},
        {"a": np.zeros(2, "U3")},
        {"a": np.zeros(2, "M8[s]")},
        {"a": np.array([None])},
        {"a": np.zeros(2, np.dtype("f8", metadata={"a": 1}))},
        {"a": np.asfortranarray(np.zeros((2, 3)))},
        {"a": np.ma.masked_array([1.0])},
        {"a": ONE, "b": ONE},
        {"a": np.array([2], "u1").view("?")},
        {"\ud800": np.zeros(2)},
    ],
    ids=repr,
)
def test_what_the_file_cannot_hold_is_refused(obj: Any) -> None:
    with pytest.raises(SerializationError, match="safetensors"):
        dump(obj, "safetensors")


def tensor_file(header: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**60),
        tensor_file('{"a":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}', bytes(8)),
        tensor_file('{"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        tensor_file('{"a":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}}', bytes(8)),
        tensor_file('{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}', bytes(4)),
        tensor_file('{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}', b"\x02"),
        tensor_file("[" * 100_000),
    ],
)
def test_a_lying_tensor_file_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(DeserializationError):
        TENSORS.load(stored_bytes(data))


TENSOR_FILE = safetensors.numpy.save({"a": np.arange(4.0), "b": np.array([True, False])})


@given(st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=2)), max_size=4))
@settings(max_examples=150, deadline=None)
def test_mutated_tensor_files_are_arrays_or_an_error_of_ours(edits: list[tuple[int, bytes]]) -> None:
    data = bytearray(TENSOR_FILE)
    for place, replacement in edits:
        place %= len(data) or 1
        data[place : place + 1] = replacement
    try:
        loaded = TENSORS.load(stored_bytes(bytes(data)))
    except ArtifactDBError:
        return
    assert all(isinstance(array, np.ndarray) for array in loaded.values())
