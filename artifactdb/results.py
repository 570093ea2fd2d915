"""Rows that answer a question, and the shapes and files people want them in. No SQL here."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifactdb.errors import InvalidValueError, ReadOnlyError, StorageFullError, WorkspaceNotFoundError
from artifactdb.paths import local_path

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_SHOWN_ROWS = 20
_SHOWN_CHARACTERS = 200


def html_fields(values: Mapping[str, Any]) -> str:
    """Give names and values as an HTML table, for notebooks."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f"<table>{rows}</table>"


def to_json(value: Any) -> str:
    r"""Give JSON that every program reads: bytes as hex, numbers that JSON does not know as strings.

    Examples
    --------
    >>> print(to_json({"score": float("nan"), "hash": b"\x01"}))
    {
      "score": "NaN",
      "hash": "01"
    }
    """
    return json.dumps(_finite(value), default=_plain, ensure_ascii=False, indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else str(value)


def told_apart(names: Sequence[str]) -> list[str]:
    """Give names that differ, so that no column of an answer hides another.

    Examples
    --------
    >>> told_apart(["fold_id", "rmse", "fold_id"])
    ['fold_id', 'rmse', 'fold_id_1']
    """
    told: list[str] = []
    for name in names:
        other, count = name, 0
        while other in told:
            count += 1
            other = f"{name}_{count}"
        told.append(other)
    return told


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} …"


class QueryResult(Sequence[tuple[Any, ...]]):
    """The rows of a query: a sequence of tuples that turns into dicts or data frames.

    Parameters
    ----------
    columns : list of str
        Names in the order of the values.
    rows : list of tuple
        May be left out where an Arrow table is given.
    truncated : bool, default False
        Whether more rows were there than ``max_rows`` allowed.
    table : pyarrow.Table, optional
        The rows as DuckDB gave them; data frames are then made of it, and tuples only when asked for.

    Examples
    --------
    >>> result = QueryResult(["fold", "rmse"], [(0, 1.5), (1, 1.25)])
    >>> result.to_dicts()
    [{'fold': 0, 'rmse': 1.5}, {'fold': 1, 'rmse': 1.25}]
    >>> len(result), result[0]
    (2, (0, 1.5))
    """

    def __init__(
        self,
        columns: list[str],
        rows: list[tuple[Any, ...]] | None = None,
        *,
        truncated: bool = False,
        table: pyarrow.Table | None = None,
    ) -> None:
        self.columns = columns
        self.truncated = truncated
        self._rows = rows
        self._table = table

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples."""
        if self._rows is None:
            values = [column.to_pylist() for column in self._table.columns] if self._table is not None else []
            self._rows = list(zip(*values, strict=True))
        return self._rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows) if self._table is None else int(self._table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __repr__(self) -> str:
        more = ", truncated" if self.truncated else ""
        return f"<QueryResult: {len(self)} rows x {len(self.columns)} columns{more}: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_shortened(value))}</td>' for value in row)}</tr>"
            for row in self.rows[:_SHOWN_ROWS]
        )
        hidden = len(self) - _SHOWN_ROWS
        tail = f"<p>and {hidden} more rows</p>" if hidden > 0 else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{tail}"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give one dict for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the rows to a file, as its name ends: .csv, .json (a list of objects) or .parquet.

        JSON knows no NaN and no infinity: they are written as the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.

        Raises
        ------
        InvalidValueError
            For another ending.
        WorkspaceNotFoundError, ReadOnlyError, StorageFullError
            When the folder is not there, or cannot be written.
        """
        target = local_path(path)
        try:
            return self._write(target)
        except FileNotFoundError as error:
            raise WorkspaceNotFoundError(f"the folder {target.parent} is not there.", hint="Make it first.") from error
        except PermissionError as error:
            raise ReadOnlyError(f"{target} cannot be written ({error.strerror or error}).") from error
        except OSError as error:
            raise StorageFullError(f"{target} cannot be written ({error.strerror or error}).") from error

    def _write(self, target: Path) -> Path:
        ending = target.suffix.lower()
        if ending == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(self.to_arrow(), target, compression="zstd")
        elif ending == ".json":
            target.write_text(to_json(self.to_dicts()) + "\n", encoding="utf-8")
        elif ending == ".csv":
            target.write_text(self.to_csv(), encoding="utf-8", newline="")
        else:
            raise InvalidValueError(
                f"{target} ends in neither .csv, .json nor .parquet.", hint="The ending says how to write it."
            )
        return target

    def to_csv(self) -> str:
        """Give the rows as CSV, the names of the columns first; what is missing is empty."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()

    def to_pandas(self) -> pandas.DataFrame:
        """Give a pandas data frame (``pip install artifactdb[frames]``)."""
        import pandas

        if self._table is not None:
            return self._table.to_pandas()
        return pandas.DataFrame(self.rows, columns=self.columns)

    def to_polars(self) -> polars.DataFrame:
        """Give a polars data frame (``pip install artifactdb[frames]``)."""
        import polars

        return polars.DataFrame(polars.from_arrow(self.to_arrow()))

    def to_arrow(self) -> pyarrow.Table:
        """Give an Arrow table (``pip install artifactdb[frames]``); a column of several types is text."""
        import pyarrow

        if self._table is not None:
            return self._table
        values = list(zip(*self.rows, strict=True)) if self.rows else [()] * len(self.columns)
        return pyarrow.table([_arrow_column(column) for column in values], names=self.columns)


def _arrow_column(values: Sequence[Any]) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # a column of SQLite may hold any
        return pyarrow.array([None if value is None else str(_plain(value)) for value in values])
