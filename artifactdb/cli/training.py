"""Commands that train, take in what was trained elsewhere, and predict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from artifactdb.cli import render
from artifactdb.cli.options import DatasetOption, JsonOption, PathArgument, opened
from artifactdb.database.opening import workspace_file
from artifactdb.errors import DeserializationError, InvalidValueError, WorkspaceNotFoundError
from artifactdb.interop.texts import parse_configuration
from artifactdb.results import QueryResult
from artifactdb.workspace import Workspace

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="ARTIFACTDB_WORKSPACE", help="A workspace file, or its directory."),
]
DataArgument = Annotated[Path, typer.Argument(help="A CSV or Parquet file, one sample a row.")]
_WORKSPACE = Path("workspace")
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: `artifactdb run config.json wheat.csv --target protein -w wheat.sqlite`")(run)
    app.command(epilog="Example: `artifactdb predict 0042_pls_4f53cd new.csv --out predictions.csv -w wheat.sqlite`")(
        predict
    )
    app.command(epilog="Example: `artifactdb log wheat.sqlite search.joblib --dataset wheat --data wheat.csv`")(log)


def run(
    config: Annotated[Path, typer.Argument(help="Steps as JSON or YAML.")],
    data: DataArgument,
    workspace: WorkspaceOption = _WORKSPACE,
    target: Annotated[
        list[str] | None, typer.Option(help="Column to predict; else the one called y or target, else the last.")
    ] = None,
    dataset: DatasetOption = None,
    name: Annotated[str, typer.Option(help="Name of the run, and a part of its pipelines' ids.")] = "",
    metric: Annotated[str | None, typer.Option(help="What models are compared by: rmse, r2, accuracy, ...")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Fits at once; -1 for one a core.")] = None,
    backend: Annotated[str | None, typer.Option(help="Of joblib: loky, threading, dask, ray.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="A package whose classes the steps may name.")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Carry on with the last run of that dataset and name that did not complete."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train every pipeline of a configuration, keep all of it, and show the best; exit code 1 when every one failed.

    When only some of them failed, they are listed, and the exit code is 0.
    """
    from artifactdb.runner.runner import PipelineRunner

    steps = _steps(config)
    with (
        warnings.catch_warnings(),
        opened(workspace) as study,
        PipelineRunner(study, n_jobs=jobs, backend=backend, allow=allow or [], verbose=0 if quiet else 1) as runner,
    ):
        warnings.filterwarnings("ignore", ".* pipelines failed", UserWarning)  # they are listed below
        predictions = runner.run(
            steps, data, target=target or None, dataset_name=dataset, name=name, metric=metric, resume=resume
        )  # fmt: skip
        best = predictions.top(_SHOWN) if len(predictions.failed) < len(predictions.pipelines) else None
        failed = [{"pipeline_id": one.pipeline_id, "error": one.error} for one in predictions.failed]
        answer = {
            "run_id": predictions.run_id,
            "dataset": predictions.dataset,
            "pipelines": len(predictions.pipelines),
            "failed": failed,
            "best": best.to_dicts() if best else [],
        }
    if as_json:
        render.as_json(answer)
    else:
        if best is not None:
            render.table(best.columns, best.rows)
        for one in failed:
            render.messages.print(render.plain(f"{one['pipeline_id']} failed: {one['error']}"), markup=False)
        file = workspace_file(workspace)
        print(f"{len(predictions.pipelines) - len(failed)} pipelines of {predictions.dataset} are in {file}")
    if best is None:
        raise typer.Exit(1)


def predict(
    source: Annotated[str, typer.Argument(help="A pipeline, prediction or artifact id, or a name of the library.")],
    data: DataArgument,
    workspace: WorkspaceOption = _WORKSPACE,
    out: Annotated[Path | None, typer.Option(help="A .csv, .json or .parquet file; else print.")] = None,
    weighted: Annotated[bool, typer.Option("--weighted", help="Weigh folds by their scores.")] = False,
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict each row of a file with a stored pipeline; loading its objects runs the code of who made them."""
    from artifactdb.runner.runner import PipelineRunner

    if not workspace_file(workspace).exists():
        raise WorkspaceNotFoundError(f"{workspace_file(workspace)} is not there.", hint="Name it with --workspace.")
    with Workspace(workspace, mode="ro") as opened:
        values = PipelineRunner(opened).predict(source, data, weighted=weighted, dataset=dataset)
    result = _as_rows(values)
    if out is not None:
        made = result.write(out)
        render.as_json({"path": str(made), "rows": len(result)}) if as_json else print(f"{made}: {len(result)} rows")
    elif as_json:
        render.as_json(result.to_dicts())
    else:
        render.table(result.columns, result.rows)


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
    from artifactdb.fitted.log import estimators_of

    fitted = _fitted(file)
    estimators_of(fitted)  # before it is asked for its columns
    pairs = _pairs(fitted, data, target)
    with opened(path) as workspace:
        logged = workspace.log(fitted, *pairs, dataset=dataset, name=name)
    if as_json:
        render.as_json(logged.to_dict())
    else:
        counted = f"{len(logged.artifact_ids)} artifacts, {len(logged.prediction_ids)} predictions"
        print(f"{logged.artifact_id}: {counted}")


def _steps(config: Path) -> Any:
    if not config.is_file():
        raise WorkspaceNotFoundError(f"{config} is not there.", hint="Name a JSON or YAML file with the steps.")
    if config.suffix in (".json", ".yaml", ".yml"):
        return parse_configuration(config.read_bytes(), config.name)
    raise InvalidValueError(f"{config} ends in neither .json, .yaml nor .yml.")


def _as_rows(values: Any) -> QueryResult:
    several = values.reshape(len(values), -1)
    names = ["y_pred"] if values.ndim == 1 else [f"y_pred_{index}" for index in range(several.shape[1])]
    return QueryResult(["sample", *names], [(index, *row) for index, row in enumerate(several.tolist())])


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
