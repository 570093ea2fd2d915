"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactdb.workspace import Workspace

PathArgument = Annotated[Path, typer.Argument(metavar="WORKSPACE", help="A workspace file, or its directory.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
DatasetOption = Annotated[str | None, typer.Option(help="Name of the dataset.")]


def require_file(path: Path) -> None:
    """Open for reading once, so that a mistyped path does not become a new workspace."""
    Workspace(path, mode="ro").close()
