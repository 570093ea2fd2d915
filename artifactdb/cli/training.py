"""Commands that bring trained objects into a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from artifactdb.cli import render
from artifactdb.cli.options import JsonOption, PathArgument
from artifactdb.errors import DeserializationError, InvalidValueError, WorkspaceNotFoundError
from artifactdb.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: `artifactdb log wheat.sqlite search.joblib --dataset wheat --data wheat.csv`")(log)


def log(
    path: PathArgument,
    file: Annotated[Path, typer.Argument(help="A fitted object of yours, written by joblib or pickle.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset that it was trained on.")] = "dataset",
    name: Annotated[str, typer.Option(help="What it is to be called.")] = "",
    data: Annotated[Path | None, typer.Option(help="A .csv, .tsv or .parquet file to score it on.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of y; else y, target, or the last.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a fitted scikit-learn object with all that is in it; loading FILE runs its code, so let it be your own."""
    fitted = _fitted(file)
    pairs = _pairs(fitted, data, target)
    with Workspace(path) as workspace:
        logged = workspace.log(fitted, *pairs, dataset=dataset, name=name)
    if as_json:
        render.as_json(logged.to_dict())
    else:
        counted = f"{len(logged.artifact_ids)} artifacts, {len(logged.prediction_ids)} predictions"
        print(f"{logged.artifact_id}: {counted}")


def _fitted(file: Path) -> Any:
    if not file.is_file():
        raise WorkspaceNotFoundError(f"{file} is not there.")
    try:
        import joblib
    except ImportError:
        raise InvalidValueError("joblib is not installed.", hint="pip install joblib") from None
    try:
        return joblib.load(file)
    except Exception as error:
        raise DeserializationError(
            f"{file} cannot be loaded here: {type(error).__name__}: {error}.",
            hint="It must be a file of joblib or pickle, and what it needs must be installed.",
        ) from error


def _pairs(fitted: Any, data: Path | None, target: str | None) -> tuple[Any, Any]:
    """Give X, with the columns that it was trained on where these have names, and y."""
    if data is None:
        if target is not None:
            raise InvalidValueError("--target names a column of --data, which was not given.")
        return None, None
    from artifactdb.runner.datasets import read_dataset

    read = read_dataset(data, target=target)
    block = read.sources[0]
    trained = getattr(fitted["estimator"][0] if isinstance(fitted, Mapping) else fitted, "feature_names_in_", None)
    if trained is None or not read.features:
        return block, read.y
    missing = [str(name) for name in trained if name not in read.features[0]]
    if missing:
        raise InvalidValueError(
            f"{data} has no column {', '.join(missing[:5])}, which it was trained on.",
            hint=f"It has {', '.join(read.features[0][:20])}.",
        )
    import pandas as pd

    return pd.DataFrame(block, columns=read.features[0])[list(trained)], read.y
