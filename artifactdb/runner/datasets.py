"""What a runner is trained on: samples and what is to be predicted, read from whatever people have and checked."""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifactdb.errors import InvalidValueError, WorkspaceNotFoundError
from artifactdb.estimators import blocks
from artifactdb.estimators.blocks import n_columns, n_rows, take
from artifactdb.paths import local_path
from artifactdb.results import html_fields

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Dataset", "n_columns", "n_rows", "read_dataset", "read_features", "take"]

_KEYS = ("X", "y", "X_test", "y_test", "groups", "name")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples as blocks of features, what is to be predicted, and perhaps a test set of its own.

    Attributes
    ----------
    name : str
    sources : list
        Blocks of X: arrays of two dimensions, or frames of pandas or polars.
    y : numpy.ndarray
        Of one dimension, or two for several targets.
    test_sources, test_y : optional
        A test set of the same shape; both or neither.
    groups : numpy.ndarray, optional
        Which samples belong together, for splitters.
    features : list of list of str, optional
        Names of the columns of each source, where they are known.
    target : list of str, optional
        Names of what is predicted.

    Raises
    ------
    InvalidValueError
        For parts that do not fit together.

    Examples
    --------
    >>> Dataset("wheat", [np.zeros((3, 2))], np.array([1.0, 2.0, 3.0]))
    <Dataset wheat: 3 samples, 2 features>
    """

    name: str
    sources: list[Any]
    y: Any
    test_sources: list[Any] | None = None
    test_y: Any = None
    groups: Any = None
    features: list[list[str]] | None = None
    target: list[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidValueError(f"the name of a dataset is a text, not {self.name!r}.")
        blocks.check(self.sources, "X")
        _check_length(self.y, "y", self.sources, "X")
        _check_length(self.groups, "groups", self.sources, "X")
        if self.test_sources is None:
            if self.test_y is not None:
                raise InvalidValueError("y_test was given without X_test.")
            return
        blocks.check(self.test_sources, "X_test")
        _check_length(self.test_y, "y_test", self.test_sources, "X_test")
        widths = [n_columns(block) for block in self.test_sources]
        if widths != self.n_features:
            raise InvalidValueError(f"X has {_counted(self.n_features)} and X_test {_counted(widths)}.")
        if self.test_y is not None and self.test_y.shape[1:] != self.y.shape[1:]:
            raise InvalidValueError(f"y has the shape {self.y.shape} and y_test {self.test_y.shape}.")
        if self.test_y is None:
            raise InvalidValueError(
                "X_test was given without y_test.", hint="Samples whose y is not known are for predict, after training."
            )

    @property
    def n_samples(self) -> int:
        """How many samples there are to train on."""
        return n_rows(self.sources[0])

    @property
    def n_features(self) -> list[int]:
        """How many features each source has."""
        return [n_columns(block) for block in self.sources]

    @property
    def texts(self) -> list[str]:
        """Names of the columns of frames that hold texts: in another file they may all look like numbers."""
        return [name for block in self.sources if blocks.is_frame(block) for name in blocks.text_columns(block)]

    def fingerprint(self) -> str:
        """Give the SHA-256 of all values, with the columns' names of frames; the same in every process."""
        digest = hashlib.sha256()
        for part in (self.sources, [self.y], self.test_sources or [], [self.test_y], [self.groups]):
            digest.update(b"part")
            for block in part:
                if block is not None:
                    blocks.add_to_hash(digest, block)
        return digest.hexdigest()

    def __repr__(self) -> str:
        tested = "" if self.test_sources is None else f", {n_rows(self.test_sources[0])} test samples"
        return f"<Dataset {self.name}: {self.n_samples} samples, {_counted(self.n_features)}{tested}>"

    def _repr_html_(self) -> str:
        shown = {"dataset": self.name, "samples": self.n_samples, "features": _counted(self.n_features)}
        if self.test_sources is not None:
            shown["test samples"] = n_rows(self.test_sources[0])
        if self.target:
            shown["target"] = ", ".join(self.target)
        return html_fields(shown)


def read_dataset(
    given: Any,
    *,
    name: str | None = None,
    target: str | Sequence[str] | None = None,
    named: Collection[str | None] = (),
) -> Dataset:
    """Give a dataset, made of what people have and checked.

    Parameters
    ----------
    given : Dataset, (X, y), dict, DataFrame, or path
        X is of two dimensions, or a list of such blocks for several sources. A dict has X and y, and may have X_test
        with y_test, groups and name. A DataFrame, or a .csv, .tsv or .parquet file, holds X and y.
    name : str, optional
        By default the file's name without its ending, else "dataset".
    target : str or list of str, optional
        Which columns of a DataFrame or a file are y; by default the one called y or target, else the last.
    named : collection of str, optional
        Columns that operators choose by name, None for what a function chooses: a file that has one becomes a DataFrame
        of pandas even if all of it is numbers.

    Raises
    ------
    InvalidValueError
        For X and y that do not fit together, values that are missing in y, columns that are not there, and files that
        cannot be read.
    WorkspaceNotFoundError
        For a file that is not there.

    Examples
    --------
    >>> read_dataset(([[1, 2], [3, 4], [5, 6]], [1.0, 2.0, 3.0]), name="wheat")
    <Dataset wheat: 3 samples, 2 features>
    """
    if isinstance(given, str | PathLike):
        return _of_table(_read_file(given), name or Path(given).stem, target, named)
    if blocks.is_frame(given) or _is_arrow(given):
        return _of_table(given, name or "dataset", target, named)
    if target is not None:
        raise InvalidValueError("target names columns of a DataFrame or a file, and neither was given.")
    if isinstance(given, Dataset):
        return replace(given, name=name or given.name)
    if isinstance(given, Mapping):
        return _of_dict(given, name)
    if isinstance(given, tuple | list) and len(given) == 2:
        return _of_dict({"X": given[0], "y": given[1]}, name)
    found = f"{type(given).__name__}{f' of {len(given)}' if isinstance(given, tuple | list) else ''}"
    raise InvalidValueError(
        f"a dataset cannot be made of an object of type {found}.",
        hint="Give (X, y), a dict with X and y, a DataFrame, or the path of a .csv, .tsv or .parquet file.",
    )


def read_features(
    given: Any,
    features: Sequence[str] | Sequence[Sequence[str]] | None = None,
    target: Sequence[str] | None = None,
    as_frame: bool = False,
    texts: Sequence[str] = (),
) -> list[Any]:
    """Give the blocks of X to predict for, from the same that datasets are made of, without y.

    Parameters
    ----------
    given : array-like, list of blocks, Dataset, dict with X, DataFrame, table of Arrow, or path
    features : sequence of str, or one such sequence for each source, optional
        The columns of training: of a DataFrame or a file these are taken, in this order.
    target : sequence of str, optional
        What was predicted; where ``features`` is not known, these columns are left out if they are there.
    as_frame : bool, default False
        Whether a file becomes a DataFrame of pandas even if all of it is numbers, for operators that were fitted on
        one and choose columns by name. Frames and arrays stay what they are.
    texts : sequence of str, optional
        Columns of a .csv or .tsv file that are texts, whatever they look like.

    Raises
    ------
    InvalidValueError
        For columns that are missing, for what X cannot be made of, and for a file that needs pandas where it is not
        installed.
    WorkspaceNotFoundError
        For a file that is not there.

    Examples
    --------
    >>> read_features([[1, 2], [3, 4]])[0].shape
    (2, 2)
    """
    if isinstance(given, Dataset):
        return given.sources
    if isinstance(given, Mapping):
        if given.get("X") is None:
            raise InvalidValueError(f"the dict has no X; it has {', '.join(map(str, given)) or 'nothing'}.")
        given = given["X"]
    known = [features] if features and isinstance(features[0], str) else list(features or [])
    if isinstance(given, str | PathLike) or blocks.is_frame(given) or _is_arrow(given):
        table = _read_file(given, texts) if isinstance(given, str | PathLike) else given
        left = [name for name in _names(table) if name not in (target or ())]
        given = _features(_pick(table, known[0] if len(known) == 1 else left, "feature"), as_frame)
    found, _ = blocks.read_blocks(_without_arrow(given), "X")
    if known and len(found) == len(known):
        pairs = zip(found, known, strict=True)
        found = [_pick(block, names, "feature") if blocks.is_frame(block) else block for block, names in pairs]
    blocks.check(found, "X")
    return found


def _of_dict(given: Mapping[str, Any], name: str | None) -> Dataset:
    unknown = [str(key) for key in given if key not in _KEYS]
    if unknown:
        lower = {key.lower(): key for key in _KEYS}
        close = get_close_matches(unknown[0].lower(), lower, 1)
        raise InvalidValueError(
            f"a dataset as a dict has no {unknown[0]!r}.",
            hint=f"Did you mean {lower[close[0]]!r}?" if close else f"It may have {', '.join(_KEYS)}.",
        )
    for key in ("X", "y"):
        if given.get(key) is None:
            raise InvalidValueError(f"the dataset has no {key}.", hint="Give (X, y), or a dict with X and y.")
    sources, features = blocks.read_blocks(_without_arrow(given["X"]), "X")
    y, target = blocks.read_y(given["y"], "y")
    test, test_y, groups = (given.get(key) for key in ("X_test", "y_test", "groups"))
    test_sources = None if test is None else blocks.read_blocks(_without_arrow(test), "X_test")[0]
    if test_sources is not None and features is not None and len(test_sources) == len(features):
        pairs = zip(test_sources, features, strict=True)  # by name: several sources are put together without
        test_sources = [_pick(one, wanted, "feature") if blocks.is_frame(one) else one for one, wanted in pairs]
    return Dataset(
        name or given.get("name") or "dataset",
        sources,
        y,
        test_sources=test_sources,
        test_y=None if test_y is None else blocks.read_y(test_y, "y_test")[0],
        groups=None if groups is None else blocks.read_y(groups, "groups")[0],
        features=features,
        target=target,
    )


def _of_table(table: Any, name: str, target: str | Sequence[str] | None, named: Collection[str | None] = ()) -> Dataset:
    names = _names(table)
    if target is None:
        chosen = ([column for column in names if column.lower() in ("y", "target")] or names[-1:])[:1]
    else:
        chosen = [target] if isinstance(target, str) else list(target)
    measured = _pick(table, chosen, "target")
    rest = [column for column in names if column not in chosen]
    if not chosen or not rest:
        raise InvalidValueError(f"{name} has no column besides the target {', '.join(chosen) or '(none)'}.")
    y, _ = blocks.read_y(measured if blocks.is_frame(measured) else _values(measured), "y")
    sources, _ = blocks.read_blocks(
        _features(_pick(table, rest, "feature"), None in named or any(column in named for column in rest)), "X"
    )
    return Dataset(name, sources, y, features=[rest], target=chosen)


def _is_arrow(value: Any) -> bool:
    """Tell whether a value is a table of Arrow, which is not imported for it."""
    arrow = sys.modules.get("pyarrow")
    return arrow is not None and isinstance(value, arrow.Table)


def _without_arrow(given: Any) -> Any:
    """Give X, or blocks of it, with a frame in the place of each table of Arrow, so that columns keep their names."""
    if isinstance(given, list | tuple) and any(map(_is_arrow, given)):
        return [_without_arrow(one) for one in given]
    return _features(given, as_frame=True) if _is_arrow(given) else given


def _names(table: Any) -> list[str]:
    names = blocks.names(table) if blocks.is_frame(table) else list(table.column_names)
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise InvalidValueError(f"two columns are called {twice!r}.", hint="Give each column a name of its own.")
    return names


def _pick(table: Any, wanted: Sequence[Any], what: str) -> Any:
    names = _names(table)
    missing = [name for name in wanted if name not in names]
    if missing:
        close = get_close_matches(str(missing[0]), names, 3)
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InvalidValueError(
            f"there is no {what} {', '.join(map(repr, missing[:5]))}{more}.",
            hint=f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Columns: {', '.join(names[:10])}.",
        )
    # By place, because pandas may have names that are no texts.
    place = {name: number for number, name in enumerate(names)}
    places = [place[name] for name in wanted]
    if hasattr(table, "iloc"):
        return table.iloc[:, places]
    return table[:, places] if blocks.is_frame(table) else table.select(places)


def _features(table: Any, as_frame: bool = False) -> Any:
    """Give features as a block: a frame as it is, the columns of a file as an array if all are numbers."""
    if blocks.is_frame(table):
        return table
    numbers = all(_is_number(column.type) for column in table.columns)
    if numbers and not as_frame:
        block = np.empty((table.num_rows, table.num_columns), dtype=np.float64)
        for number, column in enumerate(table.columns):
            block[:, number] = column.cast("float64").to_numpy()
        return block
    try:
        return _with_floats(table).to_pandas()
    except ImportError:
        why = "its operators know columns by name" if numbers else "it has columns that are no numbers"
        raise InvalidValueError(
            f"the file has to become a data frame, as {why}, and these need pandas.",
            hint='pip install "artifactdb[frames]"',
        ) from None


def _with_floats(table: pyarrow.Table) -> pyarrow.Table:
    """Give a table whose decimals and empty columns, which pandas would make objects of, are floats."""
    from pyarrow import types

    for number, column in enumerate(table.columns):
        if types.is_decimal(column.type) or types.is_null(column.type):
            table = table.set_column(number, table.column_names[number], column.cast("float64"))
    return table


def _values(table: pyarrow.Table) -> Any:
    """Give the columns of a file that are y; whole numbers stay whole."""
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _is_number(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return any(
        (
            types.is_integer(kind),
            types.is_floating(kind),
            types.is_boolean(kind),
            types.is_decimal(kind),
            types.is_null(kind),
        )
    )


def _read_file(given: str | PathLike[str], texts: Sequence[str] = ()) -> pyarrow.Table:
    import pyarrow

    path = local_path(given, to_read=True)
    if not path.is_file():
        raise WorkspaceNotFoundError(f"there is no file {path}.")
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise InvalidValueError(
            f"{path.name} is no file of a known kind.", hint=f"Datasets are read from {', '.join(readers)}."
        )
    try:
        return readers[path.suffix.lower()](path, texts)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InvalidValueError):
            raise
        hint = "Save it as UTF-8." if isinstance(error, UnicodeError) or "UTF8" in str(error) else ""
        raise InvalidValueError(f"{path.name} cannot be read: {error}", hint=hint) from None


def _read_parquet(path: Path, _: Sequence[str]) -> pyarrow.Table:
    from pyarrow import parquet

    table = parquet.ParquetFile(path).read()
    # The index of a DataFrame is a column in the file, and no feature.
    index = (table.schema.pandas_metadata or {}).get("index_columns", [])
    return table.drop_columns([name for name in index if name in table.column_names])


def _read_csv(path: Path, texts: Sequence[str]) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv as arrow_csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    if not header.strip():
        raise InvalidValueError(f"{path.name} has no names of columns in its first line.")
    # Commas may be those of decimals where there is another separator.
    fields = {separator: next(csv.reader([header], delimiter=separator)) for separator in "\t;,"}
    separator = next((one for one, found in fields.items() if len(found) > 1), ",")
    if "" in fields[separator]:
        raise InvalidValueError(
            f"column {fields[separator].index('') + 1} of {path.name} has no name.",
            hint="If pandas wrote its index there: to_csv(..., index=False).",
        )

    def read(decimal: str) -> pyarrow.Table:
        return arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                decimal_point=decimal, strings_can_be_null=True, column_types=dict.fromkeys(texts, pyarrow.string())
            ),
        )

    table = read(".")
    if separator == "," or all(_is_number(column.type) for column in table.columns):
        return table
    other = read(",")
    numbers = [sum(_is_number(column.type) for column in one.columns) for one in (table, other)]
    return other if numbers[1] > numbers[0] else table


def _check_length(values: Any, name: str, sources: Sequence[Any], what: str) -> None:
    if values is not None and len(values) != n_rows(sources[0]):
        raise InvalidValueError(f"{what} has {n_rows(sources[0])} samples and {name} has {len(values)}.")


def _counted(widths: Sequence[int]) -> str:
    return f"{' + '.join(map(str, widths))} feature{'' if list(widths) == [1] else 's'}"
