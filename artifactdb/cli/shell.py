"""A shell for SQL: history, completion of tables, columns and keywords, answers as tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from artifactdb.catalog.views import TABLES
from artifactdb.cli import render
from artifactdb.errors import ArtifactDBError
from artifactdb.results import QueryResult

_KEYWORDS = (
    "select", "from", "where", "group by", "order by", "limit", "join", "left join", "using", "and", "or", "not", "in",
    "is null", "distinct", "having", "with", "union all", "case", "when", "then", "else", "end", "count", "sum", "avg",
    "min", "max", "median", "stddev_samp", "quantile_cont", "list", "unnest", "describe", "summarize",
)  # fmt: skip
_HELP = """End a statement with ; and it runs. Tab completes, arrow keys recall, Ctrl-C drops a statement.
.tables      the tables and their columns
.export F    write the last answer to F: .csv, .json or .parquet
.quit        leave; so does Ctrl-D"""


def run(ask: Callable[[str], QueryResult], workspace: Path) -> None:
    """Ask for statements until there are no more; a statement ends with a semicolon.

    Raises
    ------
    Exit
        With the code of the first statement that failed, when nobody types them.
    """
    if sys.stdin.isatty():
        print(f"{workspace}: SQL of DuckDB, .help for more")
    last: QueryResult | None = None
    failed: ArtifactDBError | None = None
    for statement in _statements():
        try:
            if statement.startswith("."):
                if statement.split()[0] in (".quit", ".exit"):
                    break
                _command(statement, last)
            else:
                last = ask(statement)
                render.table(last.columns, last.rows)
                render.messages.print(
                    f"{len(last)} rows{', and there are more' if last.truncated else ''}", style="dim"
                )
        except ArtifactDBError as error:
            render.messages.print(str(error), style="red", markup=False, highlight=False)
            failed = failed or error
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            render.messages.print("interrupted", style="red")
    if failed is not None and not sys.stdin.isatty():
        raise typer.Exit(failed.exit_code)


def _statements() -> Iterator[str]:
    read = _prompt() if sys.stdin.isatty() else lambda _: input()
    lines: list[str] = []
    while True:
        try:
            line = read("  … " if lines else "sql> ")
        except KeyboardInterrupt:
            lines.clear()
            continue
        except EOFError:
            if "".join(lines).strip():
                yield "\n".join(lines)
            return
        if not lines and line.strip().startswith("."):
            yield line.strip()
            continue
        lines.append(line)
        text = "\n".join(lines).strip()
        if text.endswith(";"):
            lines.clear()
            if text.rstrip("; \n"):
                yield text.rstrip("; \n")


def _prompt() -> Callable[[str], str]:
    words = sorted({*_KEYWORDS, *TABLES, *(column for columns in TABLES.values() for column in columns)})
    session: PromptSession[str] = PromptSession(
        completer=WordCompleter(words, ignore_case=True), history=_history(), complete_while_typing=False
    )
    return session.prompt


def _history() -> History:
    try:
        folder = user_state_path("artifactdb", ensure_exists=True)
        return FileHistory(folder / "sql_history")
    except OSError:
        return InMemoryHistory()


def _command(text: str, last: QueryResult | None) -> None:
    name, _, argument = text.partition(" ")
    if name == ".tables":
        render.table(["table", "columns"], [[table, ", ".join(columns)] for table, columns in TABLES.items()])
    elif name == ".export" and argument and last is not None:
        print(last.write(argument.strip()))
    else:
        print(_HELP)
