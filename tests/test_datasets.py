"""Datasets: what a runner is trained on, from arrays, frames and files, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from artifactdb.errors import InvalidValueError, WorkspaceNotFoundError
from artifactdb.runner.datasets import Dataset, n_columns, n_rows, read_dataset, read_features, take

X = np.arange(12.0).reshape(4, 3)
Y = np.array([1.5, 2.5, 3.5, 4.5])
FRAMES: list[Callable[[dict[str, Any]], Any]] = [pd.DataFrame, pl.DataFrame]
both = pytest.mark.parametrize("frame", FRAMES, ids=["pandas", "polars"])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


# Arrays


@pytest.mark.parametrize("given_", [(X, Y), [X, Y], {"X": X, "y": Y}, (X.tolist(), Y.tolist()), (X, Y.reshape(-1, 1))])
def test_x_and_y_are_taken_in_any_of_their_shapes(given_: Any) -> None:
    data = read_dataset(given_)
    assert (data.name, data.n_samples, data.n_features) == ("dataset", 4, [3])
    assert np.array_equal(data.sources[0], X) and np.array_equal(data.y, Y) and data.y.ndim == 1
    assert (data.features, data.target, data.groups, data.test_sources) == (None, None, None, None)


@given(
    arrays.arrays(st.sampled_from(["f4", "f8", ">f8", "i2", "i8", "u1", "?"]), (5, 3)),
    arrays.arrays(st.sampled_from(["f4", "i4", "?"]), 5, elements={"allow_nan": False}),
    st.booleans(),
)
def test_values_and_types_of_numbers_stay_what_they_are(x: Any, y: Any, fortran: bool) -> None:
    data = read_dataset((np.asfortranarray(x) if fortran else x, y))
    assert data.sources[0].dtype == x.dtype.newbyteorder("=") and data.y.dtype == y.dtype
    assert data.sources[0].flags.c_contiguous
    assert np.array_equal(data.sources[0], x, equal_nan=x.dtype.kind == "f") and np.array_equal(data.y, y)


def test_what_fits_already_is_not_copied() -> None:
    data = read_dataset((X, Y))
    assert data.sources[0] is X and data.y is Y


def test_objects_that_are_numbers_become_numbers_and_what_is_masked_is_missing() -> None:
    data = read_dataset((np.array([[1, None], [2.5, 4]], dtype=object), np.array([1, 2], dtype=object)))
    assert data.sources[0].dtype == data.y.dtype == np.float64
    assert np.array_equal(data.sources[0], [[1, np.nan], [2.5, 4]], equal_nan=True)
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])
    assert np.isnan(read_dataset((masked, [1, 2])).sources[0]).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize(
    "labels",
    [
        ["good", "bad", "good", "überreif"],
        np.array(["good", "bad", "good", "überreif"], dtype=object),
        pd.Series(["good", "bad", "good", "überreif"]),
        pd.Series(pd.Categorical(["good", "bad", "good", "überreif"])),
        pl.Series(["good", "bad", "good", "überreif"]),
        pd.DataFrame({"quality": ["good", "bad", "good", "überreif"]}),
    ],
)
def test_labels_may_be_texts(labels: Any) -> None:
    y = read_dataset((X, labels)).y
    assert y.dtype.kind == "U" and y.shape == (4,) and y.tolist() == ["good", "bad", "good", "überreif"]


def test_a_list_of_blocks_is_several_sources_and_a_list_of_rows_is_one() -> None:
    raman = np.ones((4, 2), dtype="f4")
    for blocks in ([X, raman], (X, raman), [X.tolist(), raman.tolist()], [X, pd.DataFrame(raman)]):
        data = read_dataset((blocks, Y))
        assert data.n_features == [3, 2] and repr(data) == "<Dataset dataset: 4 samples, 3 + 2 features>"
    assert read_dataset((list(X), Y)).n_features == [3]
    assert read_dataset(([X], Y)).n_features == [3]


def test_a_test_set_and_groups_come_in_a_dict() -> None:
    given_ = {"X": X, "y": Y, "X_test": X[:2], "y_test": Y[:2], "groups": ["a", "a", "b", "b"], "name": "wheat"}
    data = read_dataset(given_)
    assert repr(data) == "<Dataset wheat: 4 samples, 3 features, 2 test samples>"
    assert data.groups.tolist() == ["a", "a", "b", "b"] and np.array_equal(data.test_y, Y[:2])
    assert read_dataset(given_, name="other").name == "other"
    assert read_dataset(data) is not None and read_dataset(data, name="other").y is data.y
    assert "<td>wheat</td>" in data._repr_html_() and "test samples" in data._repr_html_()


def test_several_targets_keep_their_two_dimensions_and_names() -> None:
    data = read_dataset((X, pd.DataFrame({"fat": Y, "water": Y * 2})))
    assert (data.y.shape, data.target) == ((4, 2), ["fat", "water"])
    assert read_dataset((X, pd.Series(Y, name="fat"))).target == ["fat"]


# Frames


@both
def test_a_frame_keeps_its_columns_and_gives_its_target(frame: Any) -> None:
    table = frame({"w1": [1.0, 2.0], "Y": [5, 6], "kind": ["a", "b"]})
    data = read_dataset(table)
    assert (data.features, data.target, data.y.tolist()) == ([["w1", "kind"]], ["Y"], [5, 6])
    assert type(data.sources[0]) is type(table) and list(data.sources[0].columns) == ["w1", "kind"]
    assert read_dataset(table, target="kind").y.tolist() == ["a", "b"]
    assert read_dataset(table, target=["w1", "Y"]).y.tolist() == [[1.0, 5.0], [2.0, 6.0]]
    assert read_dataset(frame({"a": [1], "b": [2], "TARGET": [3], "c": [4]})).target == ["TARGET"]
    assert read_dataset(frame({"a": [1], "b": [2]})).target == ["b"], "the last, where none is called so"


@both
def test_x_and_y_may_be_frames(frame: Any) -> None:
    data = read_dataset((frame({"a": [1, 2], "b": ["u", "v"]}), frame({"fat": [1.0, 2.0]})))
    assert (data.features, data.target, data.n_features) == ([["a", "b"]], ["fat"], [2])


def test_columns_that_are_numbers_are_named_as_texts() -> None:
    data = read_dataset(pd.DataFrame(np.eye(3), columns=[1100, 1102, 1104]), target="1102")
    assert (data.features, data.y.tolist()) == ([["1100", "1104"]], [0.0, 1.0, 0.0])
    assert read_features(pd.DataFrame(np.eye(2), columns=[1104, 1100]), ["1100", "1104"])[0].to_numpy().tolist() == [
        [0.0, 1.0],
        [1.0, 0.0],
    ]


def test_columns_of_texts_are_told_by_their_types() -> None:
    """Whatever a frame calls them: in another file ``001`` would be a number."""
    zips = ["001", "002", "001"]
    given_ = pd.DataFrame({"w": [1.0, 2.0, 3.0], "n": pd.Categorical([3, 4, 3]), "when": pd.Timestamp(0)})
    arrow = [pd.ArrowDtype(kind) for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))]
    for kind in (object, str, "string", "category", *arrow):
        assert read_dataset((given_.assign(zip=pd.Series(zips, dtype=kind)), Y[:3])).texts == ["zip"], kind
    for kind in (pl.String, pl.Categorical, pl.Enum(["001", "002"])):
        table = pl.DataFrame({"w": [1.0, 2.0, 3.0], "zip": pl.Series(zips, dtype=kind), "ok": [True, False, True]})
        assert read_dataset(([table, X[:3], given_], Y[:3])).texts == ["zip"], kind
    assert read_dataset((X, Y)).texts == []


@both
def test_rows_are_taken_by_number_mask_and_slice(frame: Any) -> None:
    for block in (frame({"a": [10, 11, 12, 13], "b": list("wxyz")}), X, Y):
        assert n_rows(block) == 4

        def values(rows: Any, block: Any = block) -> Any:
            return np.asarray(take(block, rows)).tolist()

        assert values([2, 0]) == values(np.array([2, 0])) == [np.asarray(block).tolist()[number] for number in (2, 0)]
        assert values([True, False, True, False]) == values(slice(0, 4, 2)) == np.asarray(block).tolist()[::2]
        assert values([]) == []
        assert type(take(block, [1])) is type(block)
    assert n_columns(frame({"a": [1], "b": [2]})) == n_columns(X[:, :2]) == 2
    assert take(np.asfortranarray(X), slice(0, 3)).flags.c_contiguous


# Files


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_of_numbers_becomes_one_array(write: Any, separator: str) -> None:
    text = "1100.5,1102.5,protein\n1,2.5,11\n3,,12\n".replace(",", separator)
    data = read_dataset(write("wheat.csv", text))
    assert (data.name, data.features, data.target) == ("wheat", [["1100.5", "1102.5"]], ["protein"])
    assert data.sources[0].dtype == np.float64 and data.sources[0].flags.c_contiguous
    assert np.array_equal(data.sources[0], [[1, 2.5], [3, np.nan]], equal_nan=True)
    assert data.y.tolist() == [11, 12] and data.y.dtype == np.int64, "whole numbers may be classes"


def test_a_file_of_numbers_is_a_frame_where_operators_choose_a_column_of_it_by_name(write: Any) -> None:
    path = write("wheat.csv", "a,b,protein\n1,2.5,11\n3,4,12\n")
    cases = (({"b", "c"}, pd.DataFrame), ({None}, pd.DataFrame), ({"protein", "c"}, np.ndarray), ((), np.ndarray))
    for named, kind in cases:
        data = read_dataset(path, named=named)
        assert type(data.sources[0]) is kind and data.features == [["a", "b"]] and data.y.tolist() == [11, 12]


def test_a_csv_may_have_decimal_commas_a_mark_of_its_encoding_and_quoted_names(write: Any) -> None:
    data = read_dataset(write("a.csv", "\ufeff1100,5;1102,5;y\n1,5;2,5;3,5\n1;2;3\n"))
    assert (data.features, data.sources[0].tolist(), data.y.tolist()) == (
        [["1100,5", "1102,5"]], [[1.5, 2.5], [1, 2]], [3.5, 3.0],
    )  # fmt: skip
    assert read_dataset(write("b.csv", '"fat, dry",y\n1.5,2\n')).features == [["fat, dry"]]
    assert read_dataset(write("c.csv", '"fat, dry";y\n1.5;2\n')).features == [["fat, dry"]]
    assert read_dataset(write("d.tsv", "a\ty\n1,5\t2\n")).sources[0].tolist() == [[1.5]]


def test_columns_of_texts_make_a_frame_and_texts_may_be_the_target(write: Any) -> None:
    data = read_dataset(write("a.csv", "kind,w,y\nsoft,1,good\nhard,2,bad\n"))
    assert isinstance(data.sources[0], pd.DataFrame) and data.y.tolist() == ["good", "bad"]
    assert read_dataset(write("b.csv", "w,y\n1,true\n2,false\n")).y.tolist() == [True, False]


def test_a_target_may_be_of_any_type_that_files_have(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "w": [1.0, 2.0],
            "kind": ["u", "v"],
            "price": [Decimal("1.5"), Decimal(2)],
            "ok": [True, False],
            "none": [None, None],
            "some": [1, None],
        }
    )
    path = tmp_path / "a.parquet"
    table.with_columns(pl.col("kind").cast(pl.Categorical)).write_parquet(path)
    for target, values in [("kind", ["u", "v"]), ("price", [1.5, 2.0]), (["ok", "w"], [[1.0, 1.0], [0.0, 2.0]])]:
        assert read_dataset(path, target=target).y.tolist() == values
    for target, missing in [("none", "2 of 2"), ("some", "1 of 2"), (["w", "some"], "1 of 4")]:
        with pytest.raises(InvalidValueError, match=f"values of y are missing: {missing}"):
            read_dataset(path, target=target)


def test_a_parquet_file_is_read_without_the_index_of_pandas(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"w": np.array([1, 2], "f4"), "ok": [True, False], "y": [1, 2]}, index=pd.Index([7, 9], name="id")
    )
    table.to_parquet(tmp_path / "wheat.parquet")
    data = read_dataset(str(tmp_path / "wheat.parquet"))
    assert (data.name, data.features, data.sources[0].tolist()) == ("wheat", [["w", "ok"]], [[1, 1], [2, 0]])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "no names of columns"),
        ("a.csv", "a,a,y\n1,2,3\n", "two columns are called 'a'"),
        ("a.csv", ",a,y\n0,1,2\n", r"column 1 of a.csv has no name.*index=False"),
        ("a.csv", "\ufeff,a,y\n0,1,2\n", r"column 1 of a.csv has no name"),
        ("a.csv", "a,b\n1\n1,2,3\n", "a.csv cannot be read"),
        ("a.csv", "a,y\n", "no samples"),
        ("a.csv", "y\n1\n", "no column besides the target y"),
        ("a.csv", "a,y\n1,\n2,3\n", "values of y are missing: 1 of 2"),
        ("a.csv", "a,y\n1,NA\n2,good\n", "values of y are missing: 1 of 2"),
        ("a.parquet", "no parquet", "a.parquet cannot be read"),
        ("a.xlsx", "", r"no file of a known kind.*\.csv, \.tsv, \.parquet"),
    ],
)
def test_files_that_cannot_be_read_say_why(write: Any, name: str, text: str, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        read_dataset(write(name, text))


def test_a_file_of_another_encoding_and_one_that_is_not_there(write: Any, tmp_path: Path) -> None:
    for text in ("Größe;y\n1;2\n", "a;y\n1;größer\n"):
        with pytest.raises(InvalidValueError, match="UTF-8"):
            read_dataset(write("a.csv", text, "latin-1"))
    with pytest.raises(WorkspaceNotFoundError, match=r"nothing\.csv"):
        read_dataset(tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError):
        read_features("wheat")


def test_a_file_of_texts_needs_pandas_and_says_so(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", "kind,y\nsoft,1\nhard,2\n")
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InvalidValueError, match=r"need pandas.*artifactdb\[frames\]"):
        read_dataset(path)


# What is refused


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ((X, Y[:3]), "X has 4 samples and y has 3"),
        (([X, X[:3]], Y), "blocks of X have 4, 3 samples"),
        ((X[:0], Y[:0]), "no samples"),
        (([], []), r"the shape \(0,\)"),
        ((X[:, :0], Y), "no features"),
        ((Y, Y), r"X has the shape \(4,\).*X.reshape\(-1, 1\)"),
        ((X.reshape(4, 3, 1), Y), r"X has the shape \(4, 3, 1\)"),
        (([X, Y], Y), r"X has the shape \(4,\)"),
        (([[1, 2], [3]], [1, 2]), "X cannot be made an array"),
        ((X, [1, np.nan, np.nan, 4]), "values of y are missing: 2 of 4"),
        ((X, [1, None, 3, 4]), "values of y are missing: 1 of 4"),
        ((X, ["a", None, "b", "c"]), "values of y are missing: 1 of 4"),
        ((X, pd.Series([1, 2, 3, None], dtype="Int64")), "values of y are missing: 1 of 4"),
        ((X, pl.Series([1, 2, 3, None])), "values of y are missing: 1 of 4"),
        ((X, pd.Series(["a", "b", "c", None])), "values of y are missing: 1 of 4"),
        ((X, ["a", 1, "b", 2]), "numbers and texts together"),
        ((np.array([["a", 1]], dtype=object), [1]), r"numbers and texts together.*DataFrame"),
        (([["a", 1]], [1]), "numbers and texts together"),
        ((X.astype(complex), Y), "complex128"),
        ((X, np.array(["2020-01-01"] * 4, dtype="datetime64[D]")), "datetime64"),
        ((X, np.zeros((4, 2, 2))), r"y has the shape \(4, 2, 2\)"),
        ((X, 3), "y has the shape"),
        ((X, None), "no y"),
        ((None, Y), "no X"),
        ({"X": X}, "no y"),
        ({"X": X, "y": Y, "x_test": X}, "no 'x_test'. Did you mean 'X_test'"),
        ({"X": X, "y": Y, "groups": [1, 2]}, "X has 4 samples and groups has 2"),
        ({"X": X, "y": Y, "y_test": Y}, "y_test was given without X_test"),
        ({"X": X, "y": Y, "X_test": X}, "X_test was given without y_test.*predict"),
        ({"X": X, "y": Y, "X_test": X, "y_test": Y[:1]}, "X_test has 4 samples and y_test has 1"),
        ({"X": X, "y": Y, "X_test": X[:, :2], "y_test": Y}, "X has 3 features and X_test 2 features"),
        ({"X": X, "y": Y, "X_test": [X, X], "y_test": Y}, r"X has 3 features and X_test 3 \+ 3 features"),
        ({"X": X, "y": Y, "X_test": X, "y_test": np.zeros((4, 2))}, "y_test"),
        ({"X": X, "y": Y, "name": 3}, "name of a dataset"),
        ((X, Y, Y), "tuple of 3"),
        (X, "type ndarray"),
        (None, "type NoneType"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_was_found(given_: Any, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        read_dataset(given_)


def test_sparse_matrices_are_to_be_made_dense() -> None:
    from scipy import sparse

    with pytest.raises(InvalidValueError, match=r"sparse.*X.toarray\(\)"):
        read_dataset((sparse.csr_matrix(X), Y))


@both
def test_a_target_that_is_not_there_is_answered_with_the_nearest(frame: Any) -> None:
    table = frame({"w": [1], "protein": [2]})
    with pytest.raises(InvalidValueError, match=r"no target 'protien'. Did you mean 'protein'"):
        read_dataset(table, target="protien")
    with pytest.raises(InvalidValueError, match="no column besides the target"):
        read_dataset(table, target=["w", "protein"])
    with pytest.raises(InvalidValueError, match="target names columns"):
        read_dataset((X, Y), target="protein")


# Fingerprints


@pytest.mark.campaign
def test_a_fingerprint_is_the_same_in_every_process_and_tells_what_changed(in_new_process: Any) -> None:
    code = """
import numpy as np, pandas as pd, polars as pl
from artifactdb.runner.datasets import read_dataset
x = np.arange(6.0).reshape(2, 3)
columns = {"a": [1, None], "b": ["u", None], "c": [True, False]}
blocks = [x, pd.DataFrame(columns), pl.DataFrame(columns), pd.DataFrame({"k": pd.Categorical(["p", "q"])})]
print(read_dataset((blocks, ["good", "bad"])).fingerprint())
"""
    first, second = in_new_process(code), in_new_process(code, PYTHONHASHSEED="1")
    assert first == second and len(first) == 64


@both
def test_every_value_type_and_part_counts_in_a_fingerprint(frame: Any) -> None:
    columns = {"a": [1, 2, 3, 4], "b": ["u", "v", None, "x"]}
    variants: list[Any] = [
        (X, Y),
        (X.astype("f4"), Y),
        (X + np.eye(4, 3), Y),
        (X, Y + 1),
        ([X, X], Y),
        (X.reshape(4, 3)[:, ::-1], Y),
        {"X": X, "y": Y, "groups": [1, 1, 2, 2]},
        {"X": X, "y": Y, "X_test": X, "y_test": Y},
        {"X": X, "y": Y, "X_test": X + 1, "y_test": Y},
        {"X": X, "y": Y, "X_test": X, "y_test": Y + 1},
        (X, Y.astype(str)),
        (frame(columns), Y),
        (frame({**columns, "a": [1, 2, 3, 5]}), Y),
        (frame({**columns, "b": ["u", "v", "None", "x"]}), Y),
        (frame({"a": columns["a"], "c": columns["b"]}), Y),
    ]
    prints = [read_dataset(one).fingerprint() for one in variants]
    assert len(set(prints)) == len(prints)
    assert prints == [read_dataset(one, name="other").fingerprint() for one in variants]
    assert read_dataset((np.asfortranarray(X), list(Y))).fingerprint() == prints[0]
    assert Dataset("raw", [np.asfortranarray(X)], Y).fingerprint() == prints[0]
    texts = pd.DataFrame({"k": ["p", "q", "p", "q"]})
    assert read_dataset((texts, Y)).fingerprint() != read_dataset((texts.astype("category"), Y)).fingerprint()
    # The same blocks in other parts.
    parts = Dataset("a", [X, X, X], X), Dataset("a", [X], X, test_sources=[X], test_y=X)
    assert parts[0].fingerprint() != parts[1].fingerprint()
    with pytest.raises(InvalidValueError, match="X_test was given without y_test"):
        Dataset("a", [X], X, test_sources=[X])


# To predict for


@both
def test_features_are_picked_by_name_in_the_order_of_training(frame: Any) -> None:
    table = frame({"y": [0, 0], "b": [3, 4], "extra": ["u", "v"], "a": [1, 2]})
    (block,) = read_features(table, ["a", "b"], ["y"])
    assert list(block.columns) == ["a", "b"] and np.asarray(block).tolist() == [[1, 3], [2, 4]]
    assert list(read_features(table, [["a", "b"]])[0].columns) == ["a", "b"], "as a dataset of one source names them"
    assert list(read_features(table, None, ["y"])[0].columns) == ["b", "extra", "a"]
    assert list(read_features(table)[0].columns) == ["y", "b", "extra", "a"]
    for one in ([table], {"X": [table]}, {"X": table}):
        assert list(read_features(one, ["a", "b"])[0].columns) == ["a", "b"]
    two = read_features([table, table], [["a"], ["b", "y"]])
    assert [list(one.columns) for one in two] == [["a"], ["b", "y"]]
    with pytest.raises(InvalidValueError, match=r"no feature 'w1', 'w2', 'w3', 'w4', 'w5' and 2 more"):
        read_features(table, [f"w{number}" for number in range(1, 8)])


def test_a_table_of_arrow_is_taken_by_name(write: Any) -> None:
    table = pa.table({"protein": [9.5, 8.5], "b": [3, 4], "a": [1, 2]})
    data = read_dataset(table)
    assert (data.features, data.target, data.y.tolist()) == ([["protein", "b"]], ["a"], [1, 2])
    assert read_dataset(table, target="protein").features == [["b", "a"]]
    assert read_features(table, ["a", "b"])[0].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    for data in (read_dataset((table, [1, 2])), read_dataset({"X": [table], "y": [1, 2]})):
        assert data.features == [["protein", "b", "a"]]
    for new in ([table], {"X": table}):
        assert np.asarray(read_features(new, ["a", "b"])[0]).tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_features_of_a_file_need_no_target(write: Any) -> None:
    path = write("new.csv", "note,b,a\nx,3,1\ny,4,2\n")
    (block,) = read_features(path, ["a", "b"], ["protein"])
    assert isinstance(block, np.ndarray) and block.tolist() == [[1, 3], [2, 4]]
    assert read_features(write("both.csv", "a,protein\n1,2\n"), None, ["protein"])[0].tolist() == [[1]]


def test_a_file_of_numbers_keeps_its_columns_where_a_frame_is_asked_for(write: Any, tmp_path: Path) -> None:
    path = write("new.csv", "b,a,protein,c\n3,1,9,\n4,2.5,9,\n")
    (block,) = read_features(path, ["a", "b"], ["protein"], as_frame=True)
    assert isinstance(block, pd.DataFrame) and list(block.columns) == ["a", "b"]
    assert block.to_dict("list") == {"a": [1.0, 2.5], "b": [3, 4]}
    (block,) = read_features(path, None, ["protein"], as_frame=True)
    assert list(block.columns) == ["b", "a", "c"] and block["c"].dtype == np.float64, "an empty column is one of NaN"
    pl.DataFrame({"price": [Decimal("1.5"), None], "ok": [True, False]}).write_parquet(tmp_path / "a.parquet")
    (block,) = read_features(tmp_path / "a.parquet", as_frame=True)
    assert [str(kind) for kind in block.dtypes] == ["float64", "bool"] and block["price"][0] == 1.5
    table = pl.DataFrame({"a": [1]})
    assert type(read_features(table, ["a"], as_frame=True)[0]) is pl.DataFrame, "a frame stays what it is"
    assert isinstance(read_features(X, as_frame=True)[0], np.ndarray), "an array has no names"


def test_a_frame_of_a_file_needs_pandas_and_says_so(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.csv", "a,b\n1,2\n")
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InvalidValueError, match=r"data frame.* pandas.*artifactdb\[frames\]"):
        read_features(path, ["a"], as_frame=True)


def test_x_alone_is_taken_in_any_of_its_shapes() -> None:
    data = read_dataset((X, Y))
    for given_ in (X, X.tolist(), data, {"X": X}, {"X": X, "y": Y}, [X]):
        assert [block.tolist() for block in read_features(given_, ["a", "b", "c"])] == [X.tolist()]
    assert [n_columns(block) for block in read_features([X, X[:, :1]])] == [3, 1]
    for wrong, said in [(Y, "reshape"), ({"x": X}, "no X; it has x"), (X[:0], "no samples"), (None, "X has the shape")]:
        with pytest.raises(InvalidValueError, match=said):
            read_features(wrong)
