"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactdb.database.opening import workspace_file
from artifactdb.errors import WorkspaceNotFoundError

PathArgument = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="A workspace file, or its directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DatasetOption = Annotated[str | None, typer.Option(help="Name of the dataset.")]


def require_file(path: Path) -> None:
    """See that the file is there, so that a mistyped path does not become a new workspace."""
    file = workspace_file(path)
    if not file.exists():
        raise WorkspaceNotFoundError(f"{file} is not there.", hint="`artifactdb init` makes a workspace.")
