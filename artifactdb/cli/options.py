"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from artifactdb.database.making import remove_if_empty
from artifactdb.database.opening import workspace_file
from artifactdb.errors import WorkspaceNotFoundError
from artifactdb.workspace import Workspace

PathArgument = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="A workspace file, or its directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DatasetOption = Annotated[str | None, typer.Option(help="Name of the dataset.")]


@contextmanager
def opened(path: Path) -> Iterator[Workspace]:
    """Open a workspace to write; a new one goes again where a dry run, or what was refused, left nothing in it."""
    from artifactdb.catalog.files import catalog_folder  # with DuckDB and Arrow, which take a while

    file = workspace_file(path)
    made = [part for part in (file, catalog_folder(file), *file.parents) if not part.exists()]
    try:
        with Workspace(path) as workspace:
            yield workspace
    finally:
        if file in made:
            remove_if_empty(file)
        if not file.exists():
            for folder in made[1:]:
                with suppress(OSError):  # it holds something
                    folder.rmdir()


def require_file(path: Path) -> None:
    """See that the file is there, so that a mistyped path does not become a new workspace."""
    file = workspace_file(path)
    if not file.exists():
        raise WorkspaceNotFoundError(f"{file} is not there.", hint="`artifactdb init` makes a workspace.")
