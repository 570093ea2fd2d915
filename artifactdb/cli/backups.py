"""Commands for copies: one file, or a series that shares what did not change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactdb.cli import render
from artifactdb.cli.options import JsonOption, PathArgument
from artifactdb.errors import InvalidValueError
from artifactdb.workspace import Workspace

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `backup --to` filled.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Examples: `artifactdb backup wheat.sqlite monday.sqlite`, "
                "`artifactdb backup wheat.sqlite --to backups --keep 10`")(backup)  # fmt: skip
    app.command(epilog="Example: `artifactdb backups backups`")(backups)
    app.command(epilog="Example: `artifactdb restore backups wheat.sqlite --at 2026-11-27`")(restore)


def backup(
    path: PathArgument,
    target: Annotated[Path | None, typer.Argument(help="A new file.")] = None,
    to: Annotated[
        Path | None, typer.Option(help="A folder for a series of copies, which share what did not change.")
    ] = None,
    keep: Annotated[int | None, typer.Option(help="With --to: how many copies of it stay; default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the workspace, consistent even while others write."""
    if (target is None) == (to is None) or (keep is not None and to is None):
        raise InvalidValueError("a backup goes to a new file, or with --to into a folder.", hint="Give one of them.")
    with Workspace(path, mode="ro") as workspace, render.progress("backup") as progress:
        if to is not None:
            copy = workspace.backup_to(to, keep=keep, progress=progress)
            answer = copy.to_dict()
            text = f"{copy.name}: {render.size(copy.size_bytes)}, of which {render.size(copy.new_bytes)} are new"
        else:
            assert target is not None
            made = workspace.backup(target, progress=progress)
            answer = {"path": str(made), "size_bytes": made.stat().st_size}
            text = f"{made}: {render.size(answer['size_bytes'])}"
    render.as_json(answer) if as_json else print(text)


def backups(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """List the copies of a series, oldest first."""
    found = [copy.to_dict() for copy in Workspace.backups(folder)]
    if as_json:
        render.as_json(found)
    else:
        columns = ("taken_at", "workspace", "size_bytes", "new_bytes")
        render.table(columns, [[copy[name] for name in columns] for copy in found])


def restore(
    folder: FolderArgument,
    target: Annotated[Path, typer.Argument(help="A new file.")],
    at: Annotated[
        str | None, typer.Option(help="The last copy taken by then: a day or a time, e.g. 2026-11-27T18:30.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a copy of a series together again as a new workspace; every byte is compared with its hash."""
    with render.progress("restore") as progress:
        made = Workspace.restore(folder, target, at=at, progress=progress)
    answer = {"path": str(made), "size_bytes": made.stat().st_size}
    render.as_json(answer) if as_json else print(f"{made}: {render.size(made.stat().st_size)}")
