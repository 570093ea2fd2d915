"""The allow-list for what other programs wrote: pickles and joblib files give what an unrestricted load gives."""

from __future__ import annotations

import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree._tree import NODE_DTYPE

from artifactdb import UntrustedArtifactError, Workspace
from artifactdb.errors import DeserializationError
from artifactdb.trust.pickles.restricted import restricted_load
from tests.pickle_attacks import content, joblib_bytes
from tests.users import as_

ALLOW = ["sklearn.*", "numpy.*", "scipy.*"]
PROTOCOLS = [2, 3, 4, 5]
COMPRESSORS = [None, "zlib", "gzip", "bz2", "lzma", "xz"] + (["lz4"] if importlib.util.find_spec("lz4") else [])

WRITERS = {
    f"joblib, {method or 'not compressed'}": ("joblib", {"compress": (method, 3)} if method else {})
    for method in COMPRESSORS
}
WRITERS |= {f"joblib, protocol {protocol}": ("joblib", {"protocol": protocol}) for protocol in PROTOCOLS}
WRITERS |= {f"pickle, protocol {protocol}": ("pkl", {"protocol": protocol}) for protocol in PROTOCOLS}


def write(obj: Any, path: Path, **how: Any) -> None:
    if path.suffix == ".joblib":
        joblib.dump(obj, path, **how)
    else:
        path.write_bytes(pickle.dumps(obj, **how))


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be Bob, who has a list."""
    home = as_("bob", tmp_path, monkeypatch)
    home.mkdir()
    (home / "config.toml").write_text(f"allow = {ALLOW}")
    return home


@pytest.mark.parametrize("writer", WRITERS)
def test_models_of_a_folder_that_somebody_sent_predict_the_same(
    writer: str, fitted: dict[str, Any], xy: tuple[Any, Any], bob: Path, tmp_path: Path
) -> None:
    x, y = xy
    models = {**fitted, "pipeline": make_pipeline(StandardScaler(), SVR()).fit(x, y)}
    extension, how = WRITERS[writer]
    (tmp_path / "sent").mkdir()
    for name, model in models.items():
        write(model, tmp_path / "sent" / f"{name}.{extension}", **how)
    with Workspace(tmp_path / "bobs.sqlite") as workspace:
        assert workspace.import_folder(tmp_path / "sent").artifacts == len(models)
        loaded = [(record, workspace.load(record.artifact_id)) for record in workspace.records()]
        assert {type(model) for _, model in loaded} == {type(model) for model in models.values()}
        for record, model in loaded:
            assert record.format == ("joblib" if extension == "joblib" else "pickle")
            (original,) = (one for one in models.values() if type(one) is type(model))
            for method in ("predict", "transform"):
                if hasattr(original, method):
                    assert np.array_equal(getattr(model, method)(x), getattr(original, method)(x)), record.class_name


@pytest.mark.parametrize("format", ["joblib", "pickle"])
def test_what_a_stranger_saved_so_in_a_workspace_loads_within_the_list(
    format: str, file: Path, ada: Path, fitted: dict[str, Any], xy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(file) as workspace:
        record = workspace.registry("wheat", "0001_pls").register(
            fitted["pls"], "0001_pls$aaaaaaaaaaaa:all", "model", format_hint=format
        )
    home = as_("bob", tmp_path, monkeypatch)
    with Workspace(file) as workspace:
        with pytest.raises(UntrustedArtifactError, match="is signed with the key"):
            workspace.load(record.artifact_id)
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text('allow = ["sklearn.*", "numpy.*"]')
        assert np.array_equal(workspace.load(record.artifact_id).predict(xy[0]), fitted["pls"].predict(xy[0]))
        (home / "config.toml").write_text('allow = ["numpy.*", "sklearn.linear_model.*"]')
        with pytest.raises(UntrustedArtifactError, match=r"does not take it: the object needs sklearn\.cross_decompos"):
            workspace.load(record.artifact_id)


@pytest.mark.parametrize("format", ["dill", "cloudpickle"])
def test_other_formats_stay_refused_and_the_error_says_so(format: str, file: Path, bob: Path) -> None:
    with Workspace(file) as workspace:
        record = workspace.registry("wheat", "0001_r").register(Ridge(), "0001_r$aaaaaaaaaaaa:all", "model")
        workspace.database.rows("UPDATE records SET format = ?", (format,))
        said = rf"the formats joblib, pickle, pickle5, not for {format}"
        with pytest.raises(UntrustedArtifactError, match=said):
            workspace.load(record.artifact_id)
    with pytest.raises(UntrustedArtifactError, match=said):
        restricted_load(content(b""), ALLOW, format)


# -- values

STRUCTURED = np.dtype([("band", "<i4"), ("at", ">f8", (2,)), ("name", "S3"), ("inner", [("day", "<M8[D]")])])
ARRAYS: dict[str, Any] = {
    "a scalar": np.array(2.5),
    "Fortran order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "three axes in Fortran order": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "a part": np.arange(20.0).reshape(4, 5)[::2, 1:],
    "big-endian": np.arange(5, dtype=">f8"),
    "big-endian in Fortran order": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "big-endian texts": np.array(["wheat", "äöü"], dtype=">U5"),
    "no items": np.zeros((0, 3)),
    "no items of many": np.zeros((3, 0, 2), order="F"),
    "texts": np.array(["red", "green"]),
    "bytes": np.array([b"red", b"green"]),
    "truth": np.array([True, False]),
    "days": np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    "long doubles": np.arange(3, dtype=np.longdouble),
    "complex": np.arange(3) * 1j,
    "half": np.arange(3, dtype=np.float16),
    "structured": np.zeros(3, STRUCTURED),
    "aligned": np.ones(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    "nodes of a tree": np.ones(2, NODE_DTYPE),
    "structured, all big-endian": np.array([(1, 2.0)], np.dtype([("a", ">i4"), ("b", ">f8")])),
    "structured, of both orders": np.array([(1, 2.0)], np.dtype([("a", "<i4"), ("b", ">f8")])),
    "records": np.array([(1, 2.0)], np.dtype((np.record, [("a", "<i4"), ("b", "<f8")]))),
    "large": np.arange(100_000.0),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_as_joblib_and_pickle_give_it(name: str, protocol: int) -> None:
    nested = {"first": [ARRAYS[name], {"again": (ARRAYS[name], 1)}], "then": np.arange(3), "last": "x"}
    by_joblib, by_pickle = dumped(nested, protocol=protocol), pickle.dumps(nested, protocol)
    same(restricted_load(content(by_joblib), ALLOW, "joblib"), joblib.load(io.BytesIO(by_joblib)))
    same(restricted_load(content(by_pickle), ALLOW, "pickle"), pickle.loads(by_pickle))


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.dtype.type, one.shape) == (other.dtype, other.dtype.type, other.shape)
        assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
        assert str(one.tolist()) == str(other.tolist())  # joblib leaves in the gaps between fields what was in memory
        assert [one.flags[flag] for flag in ("C", "F", "WRITEABLE", "ALIGNED")] == [
            other.flags[flag] for flag in ("C", "F", "WRITEABLE", "ALIGNED")
        ]
    elif isinstance(one, dict):
        same(list(one.items()), list(other.items()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for inner, expected in zip(one, other, strict=True):
            same(inner, expected)
    else:
        assert one == other


def dumped(obj: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(obj, file, **how)
    return file.getvalue()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value", [b"", b"spectra \xff", bytearray(b"x"), {1, 2}, frozenset("a"), 1j, slice(1, None)], ids=repr
)
def test_a_plain_value_that_protocol_2_names_as_python_2_did_loads(value: Any, protocol: int) -> None:
    same(restricted_load(content(pickle.dumps(value, protocol)), [], "pickle"), value)


def test_a_sparse_matrix_needs_scipy_on_the_list() -> None:
    matrix = sparse.random(20, 10, 0.2, format="csr", random_state=0)
    for format, data in (("joblib", dumped(matrix, compress=3)), ("pickle", pickle.dumps(matrix))):
        loaded = restricted_load(content(data), ["numpy.*", "scipy.*"], format)
        assert type(loaded) is type(matrix) and (loaded != matrix).nnz == 0
        with pytest.raises(UntrustedArtifactError, match=r"scipy\.sparse"):
            restricted_load(content(data), ["numpy.*"], format)


def test_a_mapped_array_that_was_dumped_comes_back_as_a_plain_one(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "spectra", np.float64, "w+", shape=(3, 2))
    mapped[:] = np.arange(6.0).reshape(3, 2)
    data = dumped([mapped])
    same(restricted_load(content(data), ALLOW, "joblib"), joblib.load(io.BytesIO(data)))


def test_a_file_of_joblib_before_1_2_which_aligned_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wrappers do not say how the bytes of an array are aligned, and they are not."""
    init = joblib.numpy_pickle.NumpyArrayWrapper.__init__

    def as_before(self: Any, *given: Any, **named: Any) -> None:
        init(self, *given, **named)
        del self.numpy_array_alignment_bytes

    monkeypatch.setattr(joblib.numpy_pickle.NumpyArrayWrapper, "__init__", as_before)
    data = dumped([np.arange(3.0), np.arange(4)])
    assert b"numpy_array_alignment_bytes" not in data
    same(restricted_load(content(data), ALLOW, "joblib"), [np.arange(3.0), np.arange(4)])


def test_an_array_of_objects_is_read_within_the_list_wherever_it_lies(xy: tuple[Any, Any]) -> None:
    """Joblib keeps one as a whole pickle between the opcodes; names of columns are one, too."""
    frame = pd.DataFrame(xy[0]).rename(columns=str)
    for model in (GradientBoostingRegressor(n_estimators=3).fit(frame, xy[1]), StandardScaler().fit(frame)):
        pair = [model, np.arange(9.0)]
        for format, data in (("joblib", joblib_bytes(pair)), ("pickle", pickle.dumps(pair))):
            first, behind = restricted_load(content(data), ALLOW, format)
            assert np.array_equal(behind, pair[1])
            assert list(first.feature_names_in_) == list(frame.columns)
            method = "predict" if hasattr(model, "predict") else "transform"
            assert np.array_equal(getattr(first, method)(frame), getattr(model, method)(frame))
            with pytest.raises(UntrustedArtifactError):
                restricted_load(content(data), ["numpy.*"], format)


def test_a_file_as_joblib_compressed_before_0_10_is_refused() -> None:
    with pytest.raises(DeserializationError, match=r"before 0\.10"):
        restricted_load(content(b"ZF0x19 nonsense"), ALLOW, "joblib")


def test_instances_as_python_2_wrote_them_are_refused_and_plain_objects_of_protocol_0_load() -> None:
    loaded = restricted_load(content(pickle.dumps(Ridge(alpha=0.25), 0)), ALLOW, "pickle")
    assert type(loaded) is Ridge and loaded.alpha == 0.25
    for stream in (b"(isklearn.linear_model._ridge\nRidge\n.", b"(csklearn.linear_model._ridge\nRidge\no."):
        assert type(pickle.loads(stream)) is Ridge
        with pytest.raises(UntrustedArtifactError, match="protocol 0 or 1"):
            restricted_load(content(stream), ALLOW, "pickle")
