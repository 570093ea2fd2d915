"""The functions that a query may use, and those of SQLite's whose time can grow with the square of what they are given.

SQLite asks whether it should stop between two steps of a statement, and never within a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import apsw

Value = Any  # of SQLite: text, bytes, number or None

ALLOWED = frozenset(
    """
    -> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling changes char coalesce concat concat_ws cos
    cosh count cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp
    first_value floor format glob group_concat hex if ifnull iif instr json json_array json_array_length
    json_error_position json_extract json_group_array json_group_object json_insert json_object json_pretty
    json_quote json_remove json_replace json_set json_type json_valid jsonb jsonb_array jsonb_extract
    jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_remove jsonb_replace jsonb_set julianday
    lag last_value lead length like likelihood likely ln log log10 log2 lower ltrim max median min mod nth_value
    ntile nullif octet_length percent_rank percentile percentile_cont percentile_disc pi pow power printf quote
    radians random randomblob rank replace round row_number rtrim sign sin sinh sqlite_source_id sqlite_version sqrt
    strftime string_agg substr substring sum tan tanh time timediff total trim trunc typeof unhex unicode unixepoch
    unlikely upper zeroblob
    """.split()  # noqa: SIM905 - as a list it would be a page and a half
)
"""Not json_patch, whose time grows with the square of its keys; nothing of extensions, nothing that writes a log."""

_MOST_TRIMMED = 100


def bound_functions(connection: apsw.Connection) -> None:
    """Put functions in the place of SQLite's own that take time in proportion to what they are given."""
    connection.create_scalar_function("instr", _instr, 2, deterministic=True)
    connection.create_scalar_function("replace", _replace, 3, deterministic=True)
    for name, method in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
        connection.create_scalar_function(name, _trimming(method), 2, deterministic=True)


def _instr(*arguments: Value) -> int | None:
    text, part = arguments
    if text is None or part is None:
        return None
    if isinstance(text, bytes) and isinstance(part, bytes):
        return text.find(part) + 1
    return _text(text).find(_text(part)) + 1


def _replace(*arguments: Value) -> str | None:
    text, old, new = arguments
    if text is None or old is None or new is None:
        return None
    return _text(text).replace(_text(old), _text(new)) if old else _text(text)


def _trimming(method: Callable[[str, str], str]) -> Callable[..., str | None]:
    def trim(*arguments: Value) -> str | None:
        text, characters = arguments
        if text is None or characters is None:
            return None
        if len(_text(characters)) > _MOST_TRIMMED:
            raise apsw.TooBigError(f"trim takes at most {_MOST_TRIMMED} characters")
        return method(_text(text), _text(characters))

    return trim


def _text(value: Value) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
