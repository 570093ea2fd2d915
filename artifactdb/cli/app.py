"""The commands. Each opens a workspace, asks it one thing and shows the answer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from artifactdb.cli import backups, library, predictions, render, training, trust, workspaces
from artifactdb.cli.options import DatasetOption, JsonOption, PathArgument, require_file
from artifactdb.errors import InvalidValueError
from artifactdb.formats import is_data_only
from artifactdb.version import __version__
from artifactdb.workspace import Workspace

app = typer.Typer(
    name="artifactdb",
    help="One SQLite file that keeps every fitted object of your pipelines, and gives it back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 refused, 5 cannot save or load, "
    "6 not trusted, 7 the file, 8 busy, 130 interrupted.",
)

_LISTED = ("artifact_id", "class_name", "fold_id", "size_bytes", "chain_path", "dataset")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"artifactdb {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep every fitted object of your pipelines in one SQLite file."""


@app.command(epilog="Example: `artifactdb demo`, then `artifactdb ls demo/fermentation.sqlite`")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; it must be empty or new.")] = Path("demo"),
    as_json: JsonOption = False,
) -> None:
    """Train pipelines on real near-infrared spectra, store them, and predict from the file in a second process."""
    from artifactdb.demo import run

    run(folder, as_json=as_json)


@app.command(epilog="Example: `artifactdb init wheat.sqlite`")
def init(path: PathArgument, as_json: JsonOption = False) -> None:
    """Make an empty workspace; one that is there already stays as it is."""
    with Workspace(path) as workspace:
        answer = {"path": str(workspace.path)}
    render.as_json(answer) if as_json else print(f"{answer['path']} is ready.")


@app.command(epilog="Example: `artifactdb ls wheat.sqlite --class PLSRegression --param n_components=10 --fold 0`")
def ls(
    path: PathArgument,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline id, or its number: 0001.")] = None,
    dataset: DatasetOption = None,
    step: Annotated[int | None, typer.Option(help="Step index.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch path: 0.1")] = None,
    fold: Annotated[int | None, typer.Option(help="Fold.")] = None,
    artifact_type: Annotated[str | None, typer.Option("--type", help="model, transformer, ...")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Class name.")] = None,
    param: Annotated[str | None, typer.Option(help="A parameter's value: n_components=10")] = None,
    chain: Annotated[str | None, typer.Option(help="The operators that the chain begins with.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="At most so many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List artifacts; conditions narrow the list."""
    with Workspace(path, mode="ro") as workspace:
        records = workspace.records(
            dataset=dataset,
            pipeline_id=pipeline,
            step_index=step,
            branch_path=_branch(branch),
            fold_id=fold,
            artifact_type=artifact_type,
            class_name=class_name,
            parameter=_parameter(param),
            chain_prefix=chain,
            limit=limit,
        )
    if as_json:
        render.as_json([record.to_dict() for record in records])
    else:
        render.table(_LISTED, [[getattr(record, name) for name in _LISTED] for record in records])


@app.command(epilog="Example: `artifactdb show wheat.sqlite '0001_pls$7f8e9d0c1b2a:0'`")
def show(path: PathArgument, artifact_id: str, dataset: DatasetOption = None, as_json: JsonOption = False) -> None:
    """Show everything that is known of an artifact, without loading it."""
    with Workspace(path, mode="ro") as workspace:
        found = workspace.record(artifact_id, dataset)
        record = {**found.to_dict(), "data_only": is_data_only(found.format)}
    render.as_json(record) if as_json else render.fields(record)


@app.command(epilog="Example: `artifactdb stats wheat.sqlite --json`")
def stats(path: PathArgument, as_json: JsonOption = False) -> None:
    """Count artifacts, distinct contents and bytes."""
    with Workspace(path, mode="ro") as workspace:
        counted = workspace.stats()
    render.as_json(counted) if as_json else render.fields(counted)


@app.command(epilog='Example: `artifactdb query wheat.sqlite "SELECT class_name, count(*) FROM artifacts GROUP BY 1"`')
def query(
    path: PathArgument,
    sql: str,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to stop.")] = None,
    limit: Annotated[int | None, typer.Option(help="Stop after so many rows.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask in SQL; nothing can be written."""
    with Workspace(path, mode="ro") as workspace:
        result = workspace.query(sql, timeout_s=timeout, max_rows=limit)
    render.as_json(result.to_dicts()) if as_json else render.table(result.columns, result.rows)


@app.command(epilog="Example: `artifactdb orphans wheat.sqlite`")
def orphans(path: PathArgument, as_json: JsonOption = False) -> None:
    """List content that no record and no entry of the library reaches."""
    with Workspace(path, mode="ro") as workspace:
        found = workspace.orphans()
    _show_orphans(found, as_json)


@app.command(epilog="Example: `artifactdb gc wheat.sqlite --dry-run`")
def gc(
    path: PathArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete content that no record and no entry of the library reaches, and give its space back to the file system."""
    require_file(path)
    with Workspace(path) as workspace:
        deleted = workspace.gc(dry_run=dry_run)
    _show_orphans(deleted, as_json)
    if not as_json:
        freed = render.size(sum(orphan.stored_bytes for orphan in deleted))
        print(f"{'would delete' if dry_run else 'deleted'} {len(deleted)} blobs, {freed}")


@app.command(epilog="Example: `artifactdb optimize wheat.sqlite`")
def optimize(
    path: PathArgument,
    level: Annotated[int, typer.Option(min=1, max=19, help="Effort of Zstandard.")] = 19,
    as_json: JsonOption = False,
) -> None:
    """Compress all content anew with more effort, where that makes it smaller; no id and no hash changes."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("optimize") as progress:
        found = workspace.optimize(level, progress=progress)
    if as_json:
        render.as_json(asdict(found))
        return
    for digest in found.damaged:
        print(f"damaged, left as it is: {digest}")
    saved = render.size(found.before_bytes - found.after_bytes)
    print(f"{found.smaller} of {found.blobs} blobs are smaller: {saved} less, {render.size(found.after_bytes)} now")


@app.command(epilog="Example: `artifactdb verify wheat.sqlite --signatures`")
def verify(
    path: PathArgument,
    signatures: Annotated[
        bool, typer.Option("--signatures", help="Say who signed it, and what was changed since.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make whole what can be without a loss; a copy of the file is kept.")
    ] = False,
    as_protected: Annotated[
        bool,
        typer.Option("--as-protected", help="With --repair: all as `protect` saw it, though SQLite finds it sound."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the whole file back and compare every blob with its hash; exit code 7 when something is wrong.

    With --signatures exit code 6, unless somebody whom you trust signed exactly what is there, or each record is your
    own and nobody signed the file as a whole.
    """
    if repair:
        workspaces.repair(path, as_json, as_protected=as_protected)
        return
    if as_protected:
        raise InvalidValueError("--as-protected belongs to --repair.")
    with Workspace(path, mode="ro") as workspace, render.progress("verify") as progress:
        found = workspace.verify(progress)
        signed = workspace.signatures() if signatures else None
    if as_json:
        render.as_json(found.to_dict() if signed is None else {**found.to_dict(), "signatures": signed.to_dict()})
    else:
        for problem in found.problems:
            users = f" (used by {', '.join(problem.artifact_ids)})" if problem.artifact_ids else ""
            print(render.plain(f"{problem.where}: {problem.what}{users}"))
        for note in found.notes:
            print(render.plain(f"note: {note}"))
        verdict = "all is well" if found.ok else f"{len(found.problems)} problems"
        print(f"{found.records} records, {found.blobs} blobs, {render.size(found.bytes_read)} read: {verdict}")
        if signed is not None:
            trust.show_signatures(signed)
    if not found.ok:
        raise typer.Exit(7)
    if signed is not None and not signed.ok and not signed.own_alone:
        raise typer.Exit(6)


predictions.register(app)
workspaces.register(app)
backups.register(app)
library.register(app)
training.register(app)
trust.register(app)


def _show_orphans(found: list[Any], as_json: bool) -> None:
    rows = [[orphan.content_hash, orphan.size_bytes, orphan.stored_bytes] for orphan in found]
    columns = ["content_hash", "size_bytes", "stored_bytes"]
    if as_json:
        render.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        render.table(columns, rows)
    else:
        print("no orphans")


def _branch(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = text.replace(":", ".").split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidValueError(f"a branch looks like 0.1, not {text!r}.")
    return [int(part) for part in parts]


def _parameter(text: str | None) -> tuple[str, Any] | None:
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidValueError(f"a parameter looks like n_components=10, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
