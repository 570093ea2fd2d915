"""Studies over several processes: workers that die, clusters, interrupts, and what is found afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from artifactdb import InvalidValueError, PipelineRunner, Workspace
from tests.operators import Counted, Killer

FOLDS = KFold(3, shuffle=True, random_state=0)
GRID: list[Any] = [
    StandardScaler(), {"y_processing": MinMaxScaler()}, FOLDS,
    {"_or_": [Ridge(0.1), Ridge(1.0), Ridge(10.0), PLSRegression(2), PLSRegression(3)]},
]  # fmt: skip


def contents(workspace: Workspace, dataset: str) -> dict[str, str]:
    return {record.artifact_id: record.content_hash for record in workspace.records(dataset=dataset)}


@pytest.mark.parametrize(
    ("backend", "config"),
    [("loky", GRID), ("loky", [*GRID[:3], Ridge()]), ("threading", GRID), ("multiprocessing", [*GRID[:3], Ridge()])],
    ids=["loky-pipelines", "loky-folds", "threading-pipelines", "multiprocessing-folds"],
)
def test_workers_fit_and_this_process_writes(workspace: Workspace, xy: Any, backend: str, config: Any) -> None:
    runner = PipelineRunner(workspace)
    alone = runner.run(config, xy, dataset_name="alone", n_jobs=1)
    together = runner.run(config, xy, dataset_name="together", n_jobs=2, backend=backend)
    assert not together.failed
    assert contents(workspace, "alone") == contents(workspace, "together")
    assert alone.top()[0][5] == together.top()[0][5]
    assert [one.pipeline_id for one in alone.pipelines] == [one.pipeline_id for one in together.pipelines]
    for row in together.to_dicts():
        arrays = workspace.catalog.get(row["id"])
        predicted = runner.predict(row["id"], xy[0][arrays["sample_indices"].astype(int)])
        assert np.array_equal(predicted, arrays["y_pred"])


def test_a_backend_that_the_caller_configured_is_used(workspace: Workspace, xy: Any) -> None:
    with joblib.parallel_config("threading", n_jobs=2):
        assert not PipelineRunner(workspace).run(GRID, xy).failed
    with pytest.raises(InvalidValueError, match="no backend 'lokki'"):
        PipelineRunner(workspace, backend="lokki", n_jobs=2).run(GRID, xy)


@pytest.mark.campaign
@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("alphas", [[1.0], [1.0, 2.0, 3.0]], ids=["folds", "pipelines"])
def test_workers_have_the_settings_of_who_asks(workspace: Workspace, xy: Any, backend: str, alphas: Any) -> None:
    by_name = ColumnTransformer([("two", MinMaxScaler(), ["a", "b"])])
    config = [FOLDS, StandardScaler(), by_name, {"model": Ridge(), "params": {"alpha": alphas}}]
    frame = pd.DataFrame(xy[0], columns=list("abcdefghij"))
    with sklearn.config_context(transform_output="pandas"):
        predictions = PipelineRunner(workspace, n_jobs=2, backend=backend).run(config, (frame, xy[1]))
    assert not predictions.failed, predictions.failed[0].error


@pytest.mark.campaign
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_worker_that_is_killed_costs_a_second_fit_and_nothing_else(
    workspace: Workspace, xy: Any, tmp_path: Path, times: int
) -> None:
    (tmp_path / "kills").mkdir()
    config = [*GRID[:3], {"_or_": [Ridge(0.1), Killer(str(tmp_path / "kills"), times), Ridge(1.0), PLSRegression(2)]}]
    predictions = PipelineRunner(workspace, n_jobs=2, backend="loky").run(config, xy)
    assert len(list((tmp_path / "kills").iterdir())) == times
    assert [one.status for one in predictions.pipelines] == ["completed"] * 4
    assert len(predictions) == 4 * 3
    assert len(workspace.records()) == 4 * (2 + 2 * 3)  # scaler and splitter; encoder and model of each fold


@pytest.mark.campaign
def test_a_pipeline_that_always_kills_its_worker_fails_alone(workspace: Workspace, xy: Any, tmp_path: Path) -> None:
    (tmp_path / "kills").mkdir()
    killer = Killer(str(tmp_path / "kills"), 1000)
    config = [*GRID[:3], {"_or_": [Ridge(0.1), killer, Ridge(1.0), PLSRegression(2)]}]
    predictions = PipelineRunner(workspace, n_jobs=2, backend="loky").run(config, xy, verbose=0)
    (failed,) = predictions.failed
    assert "memory" in str(failed.error)
    assert "Killer" in str(failed.configuration)
    assert [one.status for one in predictions.pipelines].count("completed") == 3
    # A single pipeline spreads its folds over the workers.
    (failed,) = PipelineRunner(workspace, n_jobs=2).run([*GRID[:3], killer], xy, verbose=0).failed
    assert "memory" in str(failed.error)


@pytest.mark.campaign
def test_a_dask_cluster_trains_and_survives_a_killed_worker(workspace: Workspace, xy: Any, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    (tmp_path / "fits").mkdir()
    models = [Counted(str(tmp_path / "fits"), alpha, seconds=0.1) for alpha in range(1, 13)]
    config = [StandardScaler(), FOLDS, {"_or_": models}]
    runner = PipelineRunner(workspace, backend="dask")
    with (
        distributed.LocalCluster(
            n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(tmp_path)
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        started = client.run(os.getpid)
        killed = _kill_when_fits_go_on(list(started.values()), tmp_path / "fits")
        predictions = runner.run(config, xy, dataset_name="dask")
        killed.wait(timeout=10)
        assert set(started.values()) - set(client.run(os.getpid).values()), "no worker was killed"
    assert not predictions.failed
    assert len(predictions) == 12 * 3
    alone = PipelineRunner(workspace).run([StandardScaler(), FOLDS, {"_or_": models[:2]}], xy, dataset_name="alone")
    own = contents(workspace, "dask")
    assert contents(workspace, "alone").items() <= own.items()
    assert len(own) == 12 * (2 + 3)
    assert len(alone) == 6


_KILL = """
import os, signal, sys, time
from pathlib import Path
fits, pids = Path(sys.argv[1]), list(map(int, sys.argv[2:]))
while not (at_work := {int(file.name.rpartition("-")[2]) for file in fits.iterdir()} & set(pids)):
    time.sleep(0.01)
os.kill(at_work.pop(), signal.SIGKILL)
"""


def _kill_when_fits_go_on(pids: list[int], fits: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _KILL, str(fits), *map(str, pids)])


# -- interrupts -------------------------------------------------------------------------------------

_STUDY = """
import sys
from pathlib import Path
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold
from artifactdb import PipelineRunner
from tests.operators import Counted
file, fits, resume, jobs = sys.argv[1], sys.argv[2], sys.argv[3] == "resume", int(sys.argv[4])
config = [KFold(3), {"_or_": [Counted(fits, alpha, seconds=0.05) for alpha in range(1, 21)]}]
with PipelineRunner(file, n_jobs=jobs) as runner:
    predictions = runner.run(config, load_diabetes(return_X_y=True), name="long", resume=resume)
    print(len(predictions), len(predictions.pipelines))
"""


def study(file: Path, fits: Path, resume: str, jobs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _STUDY, str(file), str(fits), resume, str(jobs)]
    # Not a pipe: workers of a killed process keep its end open until they notice.
    said = (fits.parent / f"{resume}.out").open("w")
    return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("how", "jobs"),
    [
        (signal.SIGINT, 1),
        pytest.param(signal.SIGKILL, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_study_keeps_what_was_committed_and_is_resumed(
    file: Path, tmp_path: Path, how: signal.Signals, jobs: int
) -> None:
    fits = tmp_path / "fits"
    fits.mkdir()
    process = study(file, fits, "new", jobs)
    try:
        wait_until(lambda: len(list(fits.iterdir())) >= 15)
        os.kill(process.pid, how)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
    with Workspace(file) as workspace:
        (run,) = workspace.runs()
        done = workspace.pipelines(status="completed")
        assert run.status == "interrupted"
        assert 1 <= len(done) < 20
        assert {one.status for one in workspace.pipelines()} == {"completed", "interrupted"}
        assert len(workspace.records()) == len(done) * (1 + 3)
        assert len(workspace.catalog) == len(done) * 3
        before = contents(workspace, "dataset")
        assert workspace.verify().ok
    fitted_before = {file.name.partition("-")[0] for file in fits.iterdir()}
    wait_until(lambda: _quiet(fits))
    for file_ in list(fits.iterdir()):
        file_.unlink()
    again = study(file, fits, "resume", jobs)
    again.wait(timeout=100)
    assert (tmp_path / "resume.out").read_text().split() == ["60", "20"]
    assert len(list(fits.iterdir())) == (20 - len(done)) * 3
    assert fitted_before
    with Workspace(file) as workspace:
        assert [run.status for run in workspace.runs()] == ["completed"]
        assert before.items() <= contents(workspace, "dataset").items()
        assert len(workspace.records()) == 20 * 4


def test_a_study_is_resumed_with_the_same_data_only(workspace: Workspace, xy: Any) -> None:
    runner = PipelineRunner(workspace)
    first = runner.run(GRID, xy, dataset_name="wheat", name="study")
    before = contents(workspace, "wheat")
    again = runner.run(GRID, xy, dataset_name="wheat", name="study", resume=first.run_id)
    assert (again.run_id, len(again)) == (first.run_id, len(first))
    assert contents(workspace, "wheat") == before
    with pytest.raises(InvalidValueError, match="other data"):
        runner.run(GRID, (xy[0] * 2, xy[1]), dataset_name="wheat", name="study", resume=first.run_id)
    assert workspace.runs()[0].run_id == first.run_id
    assert len(workspace.runs()) == 1


def _quiet(folder: Path) -> bool:
    """Tell whether workers that lost their driver have stopped."""
    before = len(list(folder.iterdir()))
    time.sleep(0.7)
    return len(list(folder.iterdir())) == before


def wait_until(true: Any, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
