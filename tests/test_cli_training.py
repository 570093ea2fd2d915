"""The commands that train, and predict with what they left."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from artifactdb import ArtifactDBError, PipelineRunner, Workspace
from artifactdb.cli.app import app

STEPS = [
    "sklearn.preprocessing.StandardScaler",
    {"class": "sklearn.model_selection.KFold", "params": {"n_splits": 3, "shuffle": True, "random_state": 0}},
    {"model": "sklearn.linear_model.Ridge", "name": "ridge", "params": {"alpha": [0.1, 1.0]}},
]


@pytest.fixture
def study(tmp_path: Path, xy: Any) -> Path:
    x, y = xy
    names = [f"nm{index}" for index in range(x.shape[1])]
    table = np.column_stack([y, x])
    np.savetxt(tmp_path / "wheat.csv", table, delimiter=",", header=",".join(["protein", *names]), comments="")
    (tmp_path / "steps.json").write_text(json.dumps(STEPS))
    return tmp_path


def answered(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == code, (result.output, result.exception)
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(result.exception, ArtifactDBError), result.output
    return str(result.exception)


def test_a_study_is_trained_and_predicts_files(study: Path, xy: Any) -> None:
    file = study / "wheat.sqlite"
    said = answered("run", study / "steps.json", study / "wheat.csv", "--target", "protein", "-w", file, "--name", "r")
    assert (said["dataset"], said["pipelines"], said["failed"]) == ("wheat", 2, [])
    best = said["best"][0]["pipeline_id"]
    with PipelineRunner(file) as runner:
        expected = runner.predict(best, study / "wheat.csv")
    # The columns are taken by name, whatever their order, and others are left aside.
    lines = [line.split(",") for line in (study / "wheat.csv").read_text().splitlines()]
    turned = "\n".join(",".join(reversed(line)) for line in lines)
    (study / "turned.csv").write_text(turned + "\n")
    for suffix in ("csv", "json", "parquet"):
        out = study / f"predictions.{suffix}"
        assert answered("predict", best, study / "turned.csv", "-w", file, "--out", out)["rows"] == len(xy[1])
    written = pyarrow.parquet.read_table(study / "predictions.parquet").to_pydict()
    assert written["y_pred"] == expected.tolist()
    assert [row["y_pred"] for row in json.loads((study / "predictions.json").read_text())] == expected.tolist()
    weighted = answered("predict", best, study / "turned.csv", "-w", file, "--weighted")
    assert np.allclose([row["y_pred"] for row in weighted], expected, rtol=0.05)
    assert [row["y_pred"] for row in weighted] != expected.tolist()


def test_steps_are_read_from_yaml_too(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study / "steps.yaml").write_text(
        "pipeline:\n- sklearn.preprocessing.MinMaxScaler\n- {class: sklearn.model_selection.KFold}\n"
        "- model: sklearn.linear_model.Ridge\n"
    )
    monkeypatch.setenv("ARTIFACTDB_WORKSPACE", str(study / "y.sqlite"))
    said = answered("run", study / "steps.yaml", study / "wheat.csv", "--target", "protein", "--metric", "r2", "-q")
    assert said["best"][0]["metric"] == "r2"
    assert 0.4 < said["best"][0]["score"] < 0.6


def test_a_configuration_says_each_thing_once_and_its_numbers_are_numbers(study: Path) -> None:
    file, text = study / "w.sqlite", "- model: sklearn.linear_model.Ridge\n  params: {alpha: [1e-3, 1.0]}\n"
    (study / "twice.yaml").write_text(text + "  params: {alpha: 10}\n")
    Workspace(file).close()
    for command in (
        ["run", study / "twice.yaml", study / "wheat.csv", "-w", file],
        ["library", "save", file, "t", "--config", study / "twice.yaml"],
    ):
        assert "'params' stands twice" in refused(*command)
    (study / "once.yaml").write_text(text)
    said = answered("run", study / "once.yaml", study / "wheat.csv", "--target", "protein", "-w", file)
    assert (said["pipelines"], said["failed"]) == (2, [])


def test_a_configuration_cannot_call_what_it_names(study: Path) -> None:
    (study / "evil.json").write_text(json.dumps([{"class": "os.system", "params": {"command": "touch hacked"}}]))
    said = refused("run", study / "evil.json", study / "wheat.csv", "-w", study / "evil.sqlite")
    assert "os.system" in said and "--allow" in said
    (study / "near.json").write_text(json.dumps(["sklearn.preprocessing.MinMaxScalar"]))
    assert "MinMaxScaler" in refused("run", study / "near.json", study / "wheat.csv", "-w", study / "evil.sqlite")


def test_what_is_not_there_is_said(study: Path) -> None:
    file = study / "wheat.sqlite"
    assert "is not there" in refused("run", study / "no.json", study / "wheat.csv", "-w", file)
    (study / "folder.yaml").mkdir()
    assert "is not there" in refused("run", study / "folder.yaml", study / "wheat.csv", "-w", file)
    assert "no.csv" in refused("run", study / "steps.json", study / "no.csv", "-w", file)
    assert "protein" in refused("run", study / "steps.json", study / "wheat.csv", "--target", "protien", "-w", file)
    assert "is not there" in refused("predict", "0001", study / "wheat.csv", "-w", study / "none.sqlite")
    assert not (study / "none.sqlite").exists()
    Workspace(file).close()
    assert "0001_x" in refused("predict", "0001_x", study / "wheat.csv", "-w", file)


def test_a_study_that_is_refused_leaves_no_empty_workspace(study: Path) -> None:
    new = study / "new.sqlite"
    assert "rmze" in refused("run", study / "steps.json", study / "wheat.csv", "-w", new, "--metric", "rmze")
    assert not new.exists()


def test_when_every_pipeline_failed_the_exit_code_says_so(study: Path) -> None:
    (study / "bad.json").write_text(
        json.dumps([STEPS[1], {"model": "sklearn.linear_model.Ridge", "params": {"alpha": -1}}])
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".* pipelines failed")  # the program lists them in its own words
        said = answered("run", study / "bad.json", study / "wheat.csv", "-w", study / "w.sqlite", code=1)
    assert said["best"] == []
    assert "alpha" in said["failed"][0]["error"]


def on_a_terminal(command: list[str]) -> str:
    """Run a command whose standard error is a terminal, and give what that showed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
        elif process.poll() is not None:
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown.decode()
    return shown.decode()


@pytest.mark.campaign
def test_a_terminal_shows_pipelines_folds_and_the_best_score_and_nothing_else_does(study: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("artifactdb")),
        "run",
        str(study / "steps.json"),
        str(study / "wheat.csv"),
        "--target",
        "protein",
    ]
    shown = on_a_terminal([*command, "-w", str(study / "a.sqlite")])
    assert "2/2" in shown and "6 folds" in shown and "best rmse 5" in shown
    assert on_a_terminal([*command, "-w", str(study / "b.sqlite"), "--quiet"]) == ""
    piped = subprocess.run([*command, "-w", str(study / "c.sqlite")], capture_output=True, text=True, timeout=60)
    assert (piped.returncode, piped.stderr) == (0, "")
