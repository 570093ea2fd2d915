"""How answers look: a table or plain lines for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from artifactdb.results import to_json

console = Console()
messages = Console(stderr=True)

_NARROWEST = 5
"""Below so many characters a column that is folded cannot be read."""
_SPELLED = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def as_json(answer: Any) -> None:
    """Print one JSON document; bytes as hex, everything else unknown as text."""
    in_full = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    for line in to_json(answer).split("\n"):
        # What is no character to be seen, or the terminal lacks, is spelled out, which JSON lets be the same text.
        print("".join(c if c.isprintable() and (in_full or c.isascii()) else json.dumps(c)[1:-1] for c in line))


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table, or one below the other where it is too wide; piped, as lines with tabs, which none is."""
    if not console.is_terminal:
        print("\t".join(map(plain, columns)))
        for row in rows:
            print("\t".join(cell(value) for value in row))
        return
    shown = [[Text(cell(value)) for value in row] for row in rows]
    names = [Text(plain(column)) for column in columns]
    widths = [max(text.cell_len for text in column) for column in zip(names, *shown, strict=True)]
    # What names a row stays whole; an id that is cut short is of no use.
    least = sum([*widths[:1], *(min(width, _NARROWEST) for width in widths[1:])]) + 3 * len(widths) + 1
    if rows and least > console.width:
        for row in rows:
            fields(dict(zip(columns, row, strict=True)))
            print()
        return
    drawn = Table(header_style="bold")
    for position, name in enumerate(names):
        drawn.add_column(name, overflow="fold", no_wrap=position == 0)
    for row_shown in shown:
        drawn.add_row(*row_shown)
    console.print(drawn)


def fields(values: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        print(f"{plain(name):<{width}}  {cell(value)}")


def cell(value: Any) -> str:
    """Give a value as one line of text that cannot steer a terminal; numbers in full where a program may read them."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return f"{value:.6g}" if console.is_terminal else repr(float(value)).removesuffix(".0")
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return plain(text.translate(_SPELLED))


def plain(text: str) -> str:
    """Give a text that cannot steer the terminal: a file from a stranger might try."""
    return "".join(char if char.isprintable() else "�" for char in text)


def size(count: float) -> str:
    """Give bytes as people read them.

    Examples
    --------
    >>> size(512), size(2_500_000)
    ('512 B', '2.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def progress(what: str, *, in_bytes: bool = False) -> Iterator[Any]:
    """Give a callable for (done, total), counts or bytes, that draws a bar on a terminal, and nothing elsewhere."""
    bar = Progress(
        TextColumn(what),
        BarColumn(),
        DownloadColumn() if in_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=messages,
        disable=not messages.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
