"""Formats: every array, closure and class comes back, elsewhere too, and the same object has the same bytes."""

from __future__ import annotations

import collections
import pickle
import random
import re
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import FunctionTransformer

from artifactdb import ArtifactRegistry, DeserializationError, SerializationError, Workspace
from artifactdb.content import StoredContent
from artifactdb.formats import container, dump, serializer
from artifactdb.formats.canonical import _forms as canonical_forms
from artifactdb.formats.canonical import canonical
from artifactdb.trust.pickles.restricted import restricted_load

OFFSET = 3.0


class CenterOfThisModule(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """A transformer that no other process can import."""

    def fit(self, x: Any, y: Any = None) -> CenterOfThisModule:
        self.mean_ = np.asarray(x).mean()
        return self

    def transform(self, x: Any) -> Any:
        return np.asarray(x) - self.mean_ + OFFSET


def back(obj: Any, format_hint: str | None = None) -> Any:
    dumped, chosen = dump(obj, format_hint)
    return chosen.load(stored(dumped.content))


def stored(content: Any) -> StoredContent:
    parts = {part.digest: b"".join(bytes(segment.data) for segment in part.segments) for part in content.parts}
    data = bytearray(b"".join(bytes(segment.data) for segment in content.segments))
    return StoredContent(data, lambda digest: bytearray(parts[digest]))


def digest(obj: Any) -> bytes:
    return dump(obj)[0].content.digest


ARRAYS = {
    "fortran": np.asfortranarray(np.arange(20_000.0).reshape(100, 200)),
    "strided": np.arange(40_000)[::2],
    "scalar": np.array(5.0),
    "empty": np.zeros((0, 3)),
    "small": np.arange(5),
    "strings": np.array(["wheat", "barley"] * 200),
    "bytes": np.array([b"a", b"bc"] * 400),
    "dates": np.array(["2026-01-01"] * 400, dtype="M8[D]"),
    "big endian": np.arange(1000, dtype=">f8"),
    "structured": np.zeros(100, dtype=[("a", "f8"), ("b", "i4", (2,)), ("c", "U3")]),
    "complex": np.arange(1000) * 1j,
    "booleans": np.arange(1000) % 2 == 0,
    "objects": np.array([None, "x", 1.5], dtype=object),
    "long doubles": np.arange(100, dtype=np.longdouble),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_it_was_and_writable(name: str) -> None:
    array = ARRAYS[name]
    array.flags.writeable = False
    loaded = back(array)
    np.testing.assert_array_equal(loaded, array)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous
    assert loaded.flags.writeable
    assert digest(loaded) == digest(array)


FIELDS = [("a", "u1"), ("b", "f8")]
RECORD = np.dtype((np.record, FIELDS))
MEASURED = np.dtype([("x", np.dtype("f8", metadata={"unit": "nm"}))])
NUMPY_VALUES = {
    "record array": np.rec.array([(1, 2.5)], dtype=FIELDS),
    "array of records": np.zeros(2, RECORD),
    "records in a field": np.zeros(2, [("inner", RECORD, (2,))]),
    "record": np.rec.array([(1, 2.5)], dtype=FIELDS)[0],
    "dtype of records": RECORD,
    "records beside the like": [np.zeros(2, FIELDS), np.zeros(2, RECORD)],
    "metadata beside the like": [np.zeros(1, [("x", "f8")]), np.zeros(1, MEASURED), np.zeros(1, [("y", MEASURED)])],
    "aligned beside the like": [np.zeros(1, "u1,u1"), np.zeros(1, np.dtype("u1,u1", align=True))],
    "zeros at the end": [np.str_("A7\0\0"), np.bytes_(b"A7\0"), np.str_("\0"), np.bytes_(b"\0"), np.str_("")],
}


def described(value: Any) -> Any:
    """Give what ``==`` of numpy leaves out."""
    if isinstance(value, list):
        return [described(item) for item in value]
    if isinstance(value, np.dtype):
        inner = {name: described(value[name]) for name in value.names or ()}
        item = value.subdtype and (described(value.subdtype[0]), value.subdtype[1])
        return value.str, value.type, value.isalignedstruct, value.metadata and dict(value.metadata), inner, item
    plain = value[:] if isinstance(value, str | bytes) else value.tobytes()
    return type(value), plain, None if isinstance(value, str | bytes) else described(value.dtype)


@pytest.mark.parametrize("name", NUMPY_VALUES)
def test_a_value_of_numpy_comes_back_as_what_it_was(name: str) -> None:
    values = [{"no data"}, NUMPY_VALUES[name]]
    content = dump(values)[0].content
    loaded = serializer("pickle5").load(stored(content))
    assert described(loaded[1]) == described(values[1])
    assert digest(loaded) == content.digest
    assert described(restricted_load(stored(content), ["numpy.*"])[1]) == described(values[1])


def test_equal_dtypes_are_one_object() -> None:
    arrays = [np.zeros(1, np.dtype(FIELDS)), np.zeros(1, np.dtype(FIELDS)), {"no data"}]
    loaded = back(arrays)
    assert loaded[0].dtype is loaded[1].dtype


def test_a_shared_array_stays_one_and_a_circle_stays_a_circle() -> None:
    array = np.arange(10_000.0)
    circle: dict[str, Any] = {"one": array, "other": array}
    circle["self"] = circle
    loaded = back(circle)
    assert loaded["one"] is loaded["other"] and loaded["self"] is loaded


@pytest.mark.parametrize("name", ["scaler", "minmax", "pls", "ridge", "forest", "svr"])
def test_a_fitted_object_has_the_same_bytes_after_a_load(fitted: dict[str, Any], name: str) -> None:
    assert digest(back(fitted[name])) == digest(fitted[name])
    assert digest(back(back(fitted[name]))) == digest(fitted[name])


def test_an_object_fitted_on_memory_maps_has_the_same_bytes(tmp_path: Any) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    x = np.random.default_rng(0).normal(size=(100, 60))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    models = [KNeighborsRegressor(algorithm="brute").fit(data, x[:, 0]) for data in (x, mapped)]
    assert digest(models[0]) == digest(models[1])
    assert type(back(mapped)) is np.ndarray


DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.sets(st.text(max_size=4) | st.integers(), max_size=8)
        | st.frozensets(st.text(max_size=4) | st.integers() | st.binary(max_size=3), max_size=8)
    ),
    max_leaves=25,
)


@settings(max_examples=100)
@given(DATA)
def test_the_canonical_stream_means_the_same_and_is_stable(data: Any) -> None:
    stream, _ = canonical(pickle.dumps(data, 5))
    loaded = pickle.loads(stream)
    assert loaded == data and type(loaded) is type(data)
    assert canonical(pickle.dumps(loaded, 5))[0] == stream
    assert canonical(stream)[0] == stream


@settings(max_examples=100)
@given(DATA, st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.text(min_size=1, max_size=4), st.randoms())
def test_a_stream_that_differs_in_its_arrays_alone_becomes_what_it_would_on_its_own(
    data: Any, arrays: list[bytes], text: str, chance: random.Random
) -> None:
    def alike(seen: str) -> list[Any]:
        others = [bytearray(chance.randbytes(len(array))) for array in arrays]
        return [data, others[:1], {"rest": (others[1:], data, seen)}]

    for one in (alike(text), alike(text), alike(text[::-1])):
        stream = pickle.dumps(one, 5)
        known = canonical(stream)
        canonical_forms.clear()
        assert known == canonical(stream)
        assert pickle.loads(known[0]) == one


def test_sets_have_the_same_bytes_in_any_order() -> None:
    words = [f"word{number}" for number in range(3500)]
    backwards: set[str] = set()
    for word in reversed(words):
        backwards.add(word)
    assert digest(set(words)) == digest(backwards)
    assert back(set(words)) == set(words)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 511, 512, 32_767, 32_768, 40_000]), st.sampled_from([1, 2, 8, 64]))))
def test_buffers_of_any_size_come_back_in_order(sizes: list[tuple[int, int]]) -> None:
    buffers = [container.ArrayBuffer(bytes([n % 251]) * size, item) for n, (size, item) in enumerate(sizes)]
    content = container.pack(b"stream", buffers)
    stream, loaded = container.unpack(stored(content))
    assert bytes(stream) == b"stream"
    assert [bytes(buffer) for buffer in loaded] == [buffer.data for buffer in buffers]
    assert len(content.parts) == sum(size >= 32_768 for size, _ in sizes)


@pytest.mark.parametrize("cut", [0, 3, 20, 30, -1])
def test_a_container_that_is_cut_short_is_refused(cut: int) -> None:
    content = stored(container.pack(b"stream", [container.ArrayBuffer(b"x" * 600, 8)]))
    with pytest.raises(DeserializationError):
        container.unpack(StoredContent(content.data[:cut], content.part))
    with pytest.raises(DeserializationError):
        container.unpack(StoredContent(bytearray(b"x" + content.data), content.part))


def test_what_another_process_cannot_import_travels_by_value(
    workspace: Workspace, registry: ArtifactRegistry, in_new_process: Any
) -> None:
    factor = 2.0
    x = np.arange(6.0).reshape(2, 3)
    for step, obj in enumerate(
        [
            CenterOfThisModule().fit(x),
            FunctionTransformer(lambda data: data * factor + OFFSET).fit(x),
        ]
    ):
        record = registry.register_with_chain(obj, f"s{step}.X", "transformer", step)
        assert record.format == "dill"
    code = """
import sys, numpy as np
from artifactdb import Workspace
workspace = Workspace(sys.argv[1])
x = np.arange(6.0).reshape(2, 3)
print([workspace.load(record.artifact_id).transform(x).tolist() for record in workspace.records()])
"""
    expected = [(x - x.mean() + OFFSET).tolist(), (x * factor + OFFSET).tolist()]
    assert in_new_process(code, workspace.path) == str(expected)


def test_what_a_script_defines_travels_by_value(file: Any, in_new_process: Any) -> None:
    script = """
import sys
import numpy as np
from artifactdb import ArtifactRegistry
SHIFT = 4.0
class Shift:
    def __init__(self): self.table = np.arange(1000.0)
    def transform(self, x): return x + SHIFT + self.table[1]
registry = ArtifactRegistry(sys.argv[1], "wheat", pipeline_id="0001")
print(registry.register_with_chain(Shift(), "s1.S", "model", 1).format)
"""
    assert in_new_process(script, file) == "dill"
    with Workspace(file) as workspace:
        assert workspace.load(workspace.records()[0].artifact_id).transform(1.0) == 6.0


def test_a_hint_chooses_the_serializer(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    for number, name in enumerate(["joblib", "pickle", "dill"]):
        record = registry.register_with_chain(fitted["pls"], f"s{number}.P", "model", number, format_hint=name)
        assert record.format == name
        assert registry.load_artifact(record).n_components == 4
    record = registry.register_with_chain({"folds": [[0, 1], [2]]}, "s9.Split", "splitter", 9, format_hint="json")
    assert registry.load_artifact(record) == {"folds": [[0, 1], [2]]}


class Name(str):
    __slots__ = ()


ROWS = [1, 2]
NOT_JSON = {
    "a sparse matrix that keeps its items in a dict": scipy.sparse.dok_matrix(np.eye(3)),
    "a sparse array that keeps its items in a dict": scipy.sparse.dok_array(np.eye(3)),
    "an ordered dict": collections.OrderedDict(a=1),
    "a counter": {"deep": [collections.Counter("a")]},
    "an enum": re.IGNORECASE,
    "a number of numpy": [np.float64(1)],
    "a str of a class of its own": Name("a"),
    "a key of a class of its own": {Name("a"): 1},
    "a key that is no str": {1: 1, "1": 2},
    "a tuple": [(0, 1)],
    "a list twice": {"train": ROWS, "test": ROWS},
    "not a number": [float("nan")],
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_json_takes_what_comes_back_as_it_was_and_nothing_else(name: str) -> None:
    with pytest.raises(SerializationError, match="cannot be serialized"):
        dump(NOT_JSON[name], "json")


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_gives_plain_values_back(value: Any) -> None:
    assert repr(back(value, "json")) == repr(value)


def test_a_serializer_of_the_users_is_found_by_its_entry_point(
    registry: ArtifactRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import artifactdb.formats as formats

    class Reversed:
        name, extension, executable = "reversed", "rev", False

        def dump(self, obj: Any) -> Any:
            return dump(str(obj)[::-1], "json")[0]

        def load(self, content: StoredContent) -> Any:
            return serializer("json").load(content)[::-1]

    class Point:
        name = "reversed"

        def load(self) -> type:
            return Reversed

    monkeypatch.setattr(formats, "entry_points", lambda group: [Point()] if group == "artifactdb.serializers" else [])
    formats.serializers.cache_clear()
    record = registry.register_with_chain("wheat", "s1.X", "model", 1, format_hint="reversed")
    assert registry.load_artifact(record) == "wheat"
    formats.serializers.cache_clear()


def test_records_name_the_versions_that_wrote_them(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    import sklearn

    record = registry.register_with_chain(fitted["pls"], "s1.P", "model", 1)
    assert record.environment["sklearn"] == sklearn.__version__
    assert record.environment["numpy"] == np.__version__
    assert record.format_version == f"sklearn=={sklearn.__version__}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load_artifact(record)
