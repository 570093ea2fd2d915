"""Commands that ask the catalog of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from artifactdb.cli import render
from artifactdb.cli.options import DatasetOption, JsonOption, PathArgument, require_file
from artifactdb.errors import InvalidValueError
from artifactdb.results import QueryResult
from artifactdb.workspace import Workspace

WhereOption = Annotated[
    list[str] | None, typer.Option("--where", "-w", help="A condition on a column, e.g. fold_id=0; may be repeated.")
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Write to a file: .csv, .json or .parquet.")]
DamagedOption = Annotated[bool, typer.Option("--skip-damaged", help="Answer without damaged Parquet files.")]

_LISTED = (
    "id",
    "dataset_name",
    "model_name",
    "fold_id",
    "partition",
    "metric",
    "val_score",
    "test_score",
    "pipeline_uid",
)
_RANKED = ("id", "score", "dataset_name", "model_name", "fold_id", "pipeline_uid", "model_artifact_id")

catalog = typer.Typer(help="Take care of the Parquet files that hold the predictions.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: `artifactdb top wheat.sqlite rmse -n 5 --partition test --group-by model_name`")(top)
    app.command(epilog="Example: `artifactdb predictions wheat.sqlite --where model_name=PLS --csv`")(predictions)
    app.command(
        epilog='Example: `artifactdb sql wheat.sqlite "SELECT model_name, min(val_score) FROM predictions GROUP BY 1"`'
    )(sql)
    app.add_typer(catalog, name="catalog")


def top(
    path: PathArgument,
    metric: Annotated[
        str | None, typer.Argument(help="rmse, r2, accuracy, …; may be left out where there is one.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many; of each group with --group-by.")] = 10,
    partition: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    ascending: Annotated[
        bool | None,
        typer.Option("--ascending/--descending", help="Lower or higher is better; known for usual metrics."),
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option(help="A column whose values make groups; may be repeated.")
    ] = None,
    dataset: DatasetOption = None,
    where: WhereOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show the best predictions."""
    _require_one(out, as_json, as_csv)
    with Workspace(path, mode="ro") as workspace:
        found = workspace.catalog.top(
            n,
            metric,
            ascending,
            partition,
            group_by,
            **_conditions(where, dataset, taken=("n", "metric", "ascending", "partition", "group_by")),
        )
    _show(found, _RANKED, out, as_json, as_csv)


def predictions(
    path: PathArgument,
    dataset: DatasetOption = None,
    where: WhereOption = None,
    limit: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    skip_damaged: DamagedOption = False,
) -> None:
    """List predictions; conditions narrow the list."""
    _require_one(out, as_json, as_csv)
    from artifactdb.catalog.questions import where as condition_of

    condition, parameters = condition_of(_conditions(where, dataset))
    with Workspace(path, mode="ro") as workspace:
        found = workspace.sql(
            f"SELECT * FROM predictions WHERE {condition} ORDER BY ALL",
            parameters,
            max_rows=limit,
            skip_damaged=skip_damaged,
        )
    _show(found, _LISTED, out, as_json, as_csv)


def sql(
    path: PathArgument,
    statement: Annotated[str | None, typer.Argument(help="DuckDB's SQL; without it, a shell starts.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to stop.")] = None,
    limit: Annotated[int | None, typer.Option(help="Stop after so many rows.")] = None,
    memory: Annotated[str | None, typer.Option(help="What DuckDB may take, e.g. 2GB.")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    skip_damaged: DamagedOption = False,
) -> None:
    """Ask in SQL over predictions and records together; nothing can be written."""
    if statement is None and (out is not None or as_json or as_csv):
        raise InvalidValueError("--json, --csv and --out belong to a statement.", hint="The shell has .export.")
    _require_one(out, as_json, as_csv)
    with Workspace(path, mode="ro") as workspace:

        def ask(text: str) -> QueryResult:
            return workspace.sql(
                text, timeout_s=timeout, max_rows=limit, memory_limit=memory, skip_damaged=skip_damaged
            )

        if statement is not None:
            _show(ask(statement), None, out, as_json, as_csv)
            return
        from artifactdb.cli.shell import run

        run(ask, workspace.path)


@catalog.command(epilog="Example: `artifactdb catalog flush wheat.sqlite`")
def flush(path: PathArgument, as_json: JsonOption = False) -> None:
    """Move staged predictions into Parquet files."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("flush") as progress:
        moved = workspace.catalog.flush(progress)
        _show_files(workspace, {"moved": moved}, as_json)


@catalog.command(epilog="Example: `artifactdb catalog compact wheat.sqlite`")
def compact(
    path: PathArgument,
    as_json: JsonOption = False,
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Give up what lies in damaged files.")] = False,
) -> None:
    """Make one file of predictions and one of arrays, and give the space of deleted ones back."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("compact") as progress:
        changed = workspace.catalog.compact(progress, skip_damaged=skip_damaged)
        _show_files(workspace, {"changed": changed}, as_json)


@catalog.command(epilog="Example: `artifactdb catalog verify wheat.sqlite`")
def verify(path: PathArgument, as_json: JsonOption = False) -> None:
    """Read every Parquet file back and compare it with its hash; exit code 7 when something is wrong."""
    with Workspace(path, mode="ro") as workspace, render.progress("verify") as progress:
        problems = workspace.catalog.verify(progress)
    if as_json:
        render.as_json({"ok": not problems, "problems": [{"where": one.where, "what": one.what} for one in problems]})
    else:
        for problem in problems:
            print(f"{problem.where}: {problem.what}")
        print(f"{len(problems)} problems" if problems else "all is well")
    if problems:
        raise typer.Exit(7)


def _show_files(workspace: Workspace, answer: dict[str, Any], as_json: bool) -> None:
    files = workspace.query("SELECT name, rows, size_bytes FROM catalog_files ORDER BY file_key")
    if as_json:
        render.as_json(answer | {"files": files.to_dicts()})
    else:
        render.table(files.columns, files.rows)


def _require_one(out: Path | None, as_json: bool, as_csv: bool) -> None:
    if as_csv and (as_json or out is not None):
        raise InvalidValueError("--csv prints CSV, and nothing else can be printed.", hint="Give one of them.")


def _show(found: QueryResult, listed: tuple[str, ...] | None, out: Path | None, as_json: bool, as_csv: bool) -> None:
    if out is not None:
        written = found.write(out)
        answer = {"path": str(written), "rows": len(found)}
        render.as_json(answer) if as_json else print(f"{written}: {len(found)} rows")
    elif as_json:
        render.as_json(found.to_dicts())
    elif as_csv:
        print(found.to_csv(), end="")
    else:
        columns = list(listed or found.columns)
        positions = [found.columns.index(name) for name in columns]
        render.table(columns, [[row[position] for position in positions] for row in found])


def _conditions(where: list[str] | None, dataset: str | None, taken: Sequence[str] = ()) -> dict[str, Any]:
    conditions: dict[str, list[str]] = {} if dataset is None else {"dataset_name": [dataset]}
    for text in where or ():
        column, equals, value = text.partition("=")
        column = column.strip()
        if not equals:
            raise InvalidValueError(f"a condition looks like fold_id=0, not {text!r}.")
        if column in taken:
            raise InvalidValueError(f"{column} is chosen in its own way.", hint="`artifactdb top --help` says how.")
        if column == "dataset_name" and dataset is not None:
            raise InvalidValueError("--dataset says which dataset_name is meant.", hint="Give one of the two.")
        conditions.setdefault(column, []).append(value)
    return {column: values[0] if len(values) == 1 else values for column, values in conditions.items()}
