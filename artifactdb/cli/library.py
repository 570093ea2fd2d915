"""Commands on the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactdb.cli import render
from artifactdb.cli.options import DryRunOption, JsonOption, PathArgument, require_file
from artifactdb.errors import InvalidValueError, WorkspaceNotFoundError
from artifactdb.library.entries import KINDS
from artifactdb.workspace import Workspace

NameArgument = Annotated[str, typer.Argument(help="Name of the entry.")]


def _known_kind(kind: str | None) -> str | None:
    if kind is not None and kind not in KINDS:
        raise InvalidValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}.")
    return kind


KindOption = Annotated[str | None, typer.Option(callback=_known_kind, help=", ".join(KINDS) + ".")]
_LISTED = ("name", "type", "description", "category", "tags", "artifacts", "saved_at")

library = typer.Typer(help="Configurations and trained pipelines that are used again.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.add_typer(library, name="library")


@library.command(epilog="Example: `artifactdb library ls wheat.sqlite --metric rmse --at-most 0.5`")
def ls(
    path: PathArgument,
    text: Annotated[str | None, typer.Argument(help="A part of name or description.")] = None,
    kind: KindOption = None,
    category: Annotated[str | None, typer.Option(help="Category.")] = None,
    tag: Annotated[str | None, typer.Option(help="A tag.")] = None,
    metric: Annotated[str | None, typer.Option(help="Entries that have it, lowest first.")] = None,
    partition: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    at_most: Annotated[float | None, typer.Option(help="Bound on the metric.")] = None,
    at_least: Annotated[float | None, typer.Option(help="Bound on the metric.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List entries; conditions narrow the list."""
    with Workspace(path, mode="ro") as workspace:
        found = workspace.library.search(
            text, kind=kind, category=category, tag=tag, metric=metric, partition=partition, at_most=at_most,
            at_least=at_least,
        )  # fmt: skip
    if as_json:
        render.as_json(found)
    else:
        render.table(_LISTED, [[entry[name] for name in _LISTED] for entry in found])


@library.command(epilog="Example: `artifactdb library show wheat.sqlite wheat_quality_v1`")
def show(path: PathArgument, name: NameArgument, kind: KindOption = None, as_json: JsonOption = False) -> None:
    """Show an entry and the artifacts that it keeps."""
    with Workspace(path, mode="ro") as workspace:
        entry = workspace.library.get(name, kind)
        records = workspace.library.records(name, kind)
    if as_json:
        render.as_json({**entry, "records": [record.to_dict() for record in records]})
        return
    render.fields(entry)
    if records:
        columns = ("artifact_id", "class_name", "fold_id", "size_bytes")
        render.table(columns, [[getattr(record, column) for column in columns] for record in records])


@library.command(epilog="Example: `artifactdb library save wheat.sqlite wheat_quality_v1 --pipeline 0042_pls_x9y8z7`")
def save(
    path: PathArgument,
    name: NameArgument,
    pipeline: Annotated[
        str | None, typer.Option(help="A trained pipeline, or with its dataset: wheat/0042_pls_x9y8z7.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Everything of a run, or of a dataset.")] = None,
    config: Annotated[Path | None, typer.Option(help="A template: a file of JSON or YAML.")] = None,
    filtered: Annotated[bool, typer.Option("--filtered", help="Configuration and metrics only.")] = False,
    description: Annotated[str, typer.Option(help="In your words.")] = "",
    category: Annotated[str, typer.Option(help="Category.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Save a template, a trained pipeline or a whole run under a name; one of its kind and name is replaced."""
    if sum(given is not None for given in (pipeline, run, config)) != 1:
        raise InvalidValueError("what to save is one of --pipeline, --run and --config.")
    if filtered and pipeline is None:
        raise InvalidValueError("--filtered belongs to --pipeline.")
    require_file(path)
    tags = tag or []
    with Workspace(path) as workspace, workspace.database.transaction(keep=not dry_run):
        manager = workspace.library
        kind = "template" if config else "fullrun" if run else "filtered" if filtered else "pipeline"
        there = dry_run and any(entry["name"] == name for entry in manager.search(kind=kind))
        if config is not None:
            answer = manager.save_template(_read(config), name, description, category=category, tags=tags)
        elif run is not None:
            answer = manager.save_fullrun(run, name, description, category=category, tags=tags)
        elif filtered:
            answer = manager.save_filtered(pipeline, name, description, category=category, tags=tags)
        else:
            answer = manager.save_pipeline_full(None, pipeline, name, description, category=category, tags=tags)
        if dry_run:
            answer = {"name": answer["name"], "type": kind, "would_replace": there}
    render.as_json(answer) if as_json else render.fields(answer)


@library.command(epilog="Example: `artifactdb library export wheat.sqlite wheat_quality_v1 quality.sqlite`")
def export(
    path: PathArgument,
    name: NameArgument,
    target: Annotated[Path, typer.Argument(help="A new file.")],
    kind: KindOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut an entry out into a workspace of its own."""
    with Workspace(path, mode="ro") as workspace, render.progress("export", in_bytes=True) as progress:
        made = workspace.library.export(name, target, kind, progress=progress)
    answer = {"path": str(made), "size_bytes": made.stat().st_size}
    render.as_json(answer) if as_json else print(f"{made}: {render.size(made.stat().st_size)}")


@library.command(epilog="Example: `artifactdb library rm wheat.sqlite baseline --dry-run`")
def rm(
    path: PathArgument,
    name: NameArgument,
    kind: KindOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove an entry; `artifactdb gc` deletes content that nobody else has."""
    require_file(path)
    with Workspace(path, mode="ro" if dry_run else "rw") as workspace:
        entry = workspace.library.get(name, kind)
        if not dry_run:
            workspace.library.delete(name, kind)
    answer = {"name": name, "type": entry["type"], "artifacts": entry["artifacts"], "removed": not dry_run}
    said = f"{'would remove' if dry_run else 'removed'} {entry['type']} {name} ({entry['artifacts']} artifacts)"
    render.as_json(answer) if as_json else print(said)


def _read(file: Path) -> object:
    """Read a configuration, JSON or YAML; nothing in it is run."""
    if not file.is_file():
        raise WorkspaceNotFoundError(f"{file} is not there.")
    from artifactdb.interop.texts import parse_configuration

    try:
        return parse_configuration(file.read_bytes(), file.name)
    except OSError as error:
        raise InvalidValueError(f"{file} cannot be read ({error.strerror}).") from None
