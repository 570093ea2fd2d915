"""Blocks of X and values of y: arrays, and frames of pandas or polars, which are kept as they are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from artifactdb.errors import InvalidValueError


def is_frame(value: Any) -> bool:
    """Tell whether a value is a DataFrame of pandas or polars; neither is imported for it.

    Examples
    --------
    >>> is_frame(np.zeros((2, 2)))
    False
    """
    kinds = (getattr(sys.modules.get(name), "DataFrame", ()) for name in ("pandas", "polars"))
    return any(isinstance(value, kind) for kind in kinds)


def names(frame: Any) -> list[str]:
    """Give the names of the columns of a frame as texts."""
    return [str(name) for name in frame.columns]


def text_columns(frame: Any) -> list[str]:
    """Give the names of the columns of a frame that hold texts, by their types."""
    return [name for name, column in _columns(frame) if _is_text(column.dtype)]


def take(block: Any, rows: Any) -> Any:
    """Give rows of an array or a frame: by their numbers, by a mask, or a slice.

    Examples
    --------
    >>> take(np.array([[1, 2], [3, 4], [5, 6]]), [2, 0])
    array([[5, 6],
           [1, 2]])
    """
    if not isinstance(rows, slice):
        rows = positions(rows)
    if hasattr(block, "tocsr"):  # sparse, as a transformer may give it
        return block.tocsr()[rows]
    if hasattr(block, "iloc"):  # a series too, which by [] gives rows of these labels
        return block.iloc[rows]
    if is_frame(block):
        return block[rows]
    return np.ascontiguousarray(block[rows])


def positions(rows: Any) -> Any:
    """Give the numbers of rows that a list, an array or a mask names.

    Examples
    --------
    >>> positions([True, False, True]), positions([2, 0])
    (array([0, 2]), array([2, 0]))
    """
    rows = np.asarray(rows)
    return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp)


def n_rows(block: Any) -> int:
    """Tell how many samples a block has."""
    return int(block.shape[0])


def n_columns(block: Any) -> int:
    """Tell how many features a block has."""
    return int(block.shape[1])


def read_blocks(given: Any, what: str) -> tuple[list[Any], list[list[str]] | None]:
    """Give the blocks of X, one for each source, and the names of their columns where all are frames.

    Parameters
    ----------
    given : array-like, frame, or list of them
    what : str
        What errors call it.

    Raises
    ------
    InvalidValueError
        For what has not two dimensions, for sparse matrices, and for anything but numbers and texts.

    Examples
    --------
    >>> [block.shape for block in read_blocks([np.zeros((3, 2)), [[1], [2], [3]]], "X")[0]]
    [(3, 2), (3, 1)]
    """
    several = isinstance(given, list | tuple) and len(given) > 0 and _is_block(given[0])
    blocks = [_block(one, what) for one in (given if several else [given])]
    named = all(is_frame(block) for block in blocks)
    return blocks, [names(block) for block in blocks] if named else None


def read_y(given: Any, what: str) -> tuple[Any, list[str] | None]:
    """Give y as an array of one dimension, or two for several targets, and its names where it has some.

    Raises
    ------
    InvalidValueError
        For missing values, with their number, and for anything but numbers and texts.

    Examples
    --------
    >>> read_y([[1], [2]], "y")
    (array([1, 2]), None)
    """
    y = as_array(given, what)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.ravel()
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise InvalidValueError(f"{what} has the shape {y.shape}; it needs one value for each sample.")
    missing = int(np.isnan(y).sum()) if y.dtype.kind == "f" else 0
    if missing:
        raise InvalidValueError(
            f"values of {what} are missing: {missing} of {y.size}.", hint="Leave out the samples without a value."
        )
    if is_frame(given):
        return y, names(given)
    name = getattr(given, "name", None) if hasattr(given, "to_numpy") else None
    return y, None if name in (None, "") else [str(name)]


def as_array(given: Any, what: str) -> Any:
    """Give a C-contiguous array of numbers or of texts in the machine's byte order.

    None among numbers becomes NaN, objects that are numbers become float64; other types stay what they are.

    Raises
    ------
    InvalidValueError
        For anything else.

    Examples
    --------
    >>> as_array([1, None], "y")
    array([ 1., nan])
    """
    if hasattr(given, "tocsr"):
        raise InvalidValueError(f"{what} is a sparse matrix.", hint=f"Give {what}.toarray().")
    try:
        if isinstance(given, np.ma.MaskedArray):
            given = np.where(np.ma.getmaskarray(given), np.nan, given.data)
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"{what} cannot be made an array: {error}") from None
    if array.dtype.kind in "OT":
        array = _of_objects(array, what)
    elif array.dtype.kind == "U" and not _all_text(given):
        raise _mixed(what)
    if array.dtype.kind not in "biufU":
        raise InvalidValueError(f"{what} is of the type {array.dtype}; it holds numbers or texts.")
    return np.asarray(array.astype(array.dtype.newbyteorder("="), copy=False), order="C")


def add_to_hash(digest: Any, block: Any) -> None:
    """Add shape, types and values of a block to a hash, the same in every process."""
    if not is_frame(block):
        digest.update(f"array {block.shape} {block.dtype.str}".encode())
        digest.update(block.tobytes() if block.dtype.kind == "U" else np.ascontiguousarray(block))
        return
    digest.update(f"frame {block.shape}".encode())
    for name, column in _columns(block):
        values = column.to_numpy()
        digest.update(f"{name!r} {column.dtype}".encode())
        if values.dtype.kind in "biufmM":
            digest.update(values.tobytes())
        else:
            digest.update("\n".join(map(repr, values.tolist())).encode("utf-8", "backslashreplace"))


def check(blocks: Sequence[Any], what: str) -> None:
    """See that blocks have samples and features, and all the same number of samples.

    Raises
    ------
    InvalidValueError
        For blocks that do not.
    """
    if not blocks:
        raise InvalidValueError(f"{what} has no block.")
    lengths = [n_rows(block) for block in blocks]
    if len(set(lengths)) > 1:
        raise InvalidValueError(f"the blocks of {what} have {', '.join(map(str, lengths))} samples.")
    if lengths[0] == 0:
        raise InvalidValueError(f"{what} has no samples.")
    if any(n_columns(block) == 0 for block in blocks):
        raise InvalidValueError(f"{what} has no features.")


def _columns(frame: Any) -> Iterator[tuple[str, Any]]:
    columns = frame.get_columns() if hasattr(frame, "get_columns") else (column for _, column in frame.items())
    return zip(names(frame), columns, strict=True)


def _is_text(kind: Any) -> bool:
    # Categories of pandas have a type of their own; polars' are texts.
    name = str(getattr(getattr(kind, "categories", None), "dtype", kind)).lower()
    return name in ("object", "str") or "string" in name or name.startswith("categorical")


def _is_block(value: Any) -> bool:
    # What stands in a list of rows has one dimension, a block has two.
    if isinstance(value, list | tuple):
        return len(value) > 0 and isinstance(value[0], list | tuple | np.ndarray)
    return is_frame(value) or hasattr(value, "tocsr") or getattr(value, "ndim", 0) > 1


def _block(given: Any, what: str) -> Any:
    if is_frame(given):
        return given
    block = as_array(given, what)
    if block.ndim == 2:
        return block
    hint = f"For one feature give {what}.reshape(-1, 1), for one sample {what}.reshape(1, -1)."
    if block.dtype.kind == "U":
        hint += " What takes texts by themselves, as a TfidfVectorizer, is kept by Workspace.log, and predicts by "
        hint += f"Workspace.load(id).predict({what})."
    raise InvalidValueError(
        f"{what} has the shape {block.shape}; it needs two dimensions, samples and features.",
        hint=hint if block.ndim == 1 and block.size else "",
    )


def _of_objects(array: Any, what: str) -> Any:
    items = [np.nan if _is_missing(item) else item for item in array.flat]
    texts = sum(isinstance(item, str) for item in items)
    if texts == 0:
        try:
            return np.array(items, dtype=np.float64).reshape(array.shape)
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"{what} holds what is no number: {error}") from None
    missing = sum(isinstance(item, float) and np.isnan(item) for item in items)
    if missing:
        raise InvalidValueError(
            f"values of {what} are missing: {missing} of {len(items)}.",
            hint="Leave out these samples, or give them a text of their own.",
        )
    if texts < len(items):
        raise _mixed(what)
    return np.array(items, dtype=np.str_).reshape(array.shape)


def _all_text(given: Any) -> bool:
    # numpy makes texts of numbers that stand beside texts.
    if isinstance(given, list | tuple):
        return all(_all_text(item) for item in given)
    return isinstance(given, str) or not isinstance(given, int | float | np.number)


def _is_missing(item: Any) -> bool:
    # NaN is unlike itself, and pandas.NA will not say.
    try:
        return item is None or bool(item != item)
    except (TypeError, ValueError):
        return type(item).__name__ == "NAType"


def _mixed(what: str) -> InvalidValueError:
    return InvalidValueError(
        f"{what} has numbers and texts together.", hint="Give a DataFrame: a type for each column."
    )


def places(values: Any, among: Any) -> Any:
    """Give where values stand among labels, which need not be sorted and hold each of them.

    Examples
    --------
    >>> places(["b", "a", "z"], np.array(["b", "z", "a"])).tolist()
    [0, 2, 1]
    """
    order = np.argsort(among)
    return order[np.searchsorted(among, values, sorter=order)]


def labels_behind(known: Any, predicted: Any) -> Any:
    """Give the labels that are known, and behind them what else is predicted, as for what is rejected.

    Examples
    --------
    >>> labels_behind(np.array(["b", "c"]), np.array(["c", "a"])).tolist()
    ['b', 'c', 'a']
    """
    return np.concatenate([known, np.setdiff1d(predicted, known)])
