"""The commands on runs, the library, and workspaces and folders as wholes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from artifactdb import ArtifactDBError, Workspace
from artifactdb.cli.app import app
from artifactdb.database.making import remove_if_empty


@pytest.fixture
def study(file: Path, fitted: dict[str, Any]) -> Path:
    workspace = Workspace(file)
    with workspace, pytest.raises(RuntimeError), workspace.run("wheat", name="first", tags=["nir"]) as run:
        with run.pipeline(["Ridge"], name="ridge") as pipeline:
            pipeline.registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
            pipeline.log_metrics({"val": {"rmse": 0.5}})
            workspace.catalog.add(
                dataset_name="wheat", model_name="ridge", pipeline_uid=pipeline.pipeline_id, partition="val"
            )
        raise RuntimeError("stopped")
    return file


def answered(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def said(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_runs_are_listed_with_their_pipelines_and_taken_back(study: Path) -> None:
    (run,) = answered("runs", study)
    assert (run["name"], run["status"], run["error"]) == ("first", "failed", "RuntimeError: stopped")
    assert answered("runs", study, "--status", "completed") == []
    (pipeline,) = answered("runs", study, run["run_id"])
    assert pipeline["metrics"] == {"val": {"all": {"rmse": 0.5}}}
    assert pipeline["pipeline_id"] in said("runs", study, "--pipelines")
    counted = {"artifacts": 1, "predictions": 1}
    assert answered("runs", study, run["run_id"], "--clean-up", "--dry-run") == counted
    assert len(answered("runs", study)) == 1
    assert answered("runs", study, run["run_id"], "--clean-up") == counted
    assert answered("runs", study) == []
    assert CliRunner().invoke(app, ["runs", str(study), "--clean-up"]).exit_code == 2
    with pytest.raises(ArtifactDBError, match="belongs to"):
        said("runs", study, "--dry-run")


def test_the_library(study: Path, tmp_path: Path) -> None:
    (pipeline,) = answered("runs", study, "--pipelines")
    template = tmp_path / "template.yaml"
    template.write_text("- class: MinMaxScaler\n- model: PLS\n")
    save = ("library", "save", study)
    assert answered(*save, "base", "--config", template, "--tag", "t")["config"] == [
        {"class": "MinMaxScaler"}, {"model": "PLS"},
    ]  # fmt: skip
    assert answered(*save, "v1", "--pipeline", pipeline["pipeline_id"], "--dry-run") == {
        "name": "v1", "type": "pipeline", "would_replace": False,
    }  # fmt: skip
    assert answered(*save, "v1", "--pipeline", pipeline["pipeline_id"])["artifacts"] == 1
    assert answered(*save, "numbers", "--pipeline", pipeline["pipeline_id"], "--filtered")["artifacts"] == 0
    assert answered(*save, "all", "--run", "wheat")["type"] == "fullrun"
    assert [entry["name"] for entry in answered("library", "ls", study)] == ["all", "base", "numbers", "v1"]
    assert [entry["name"] for entry in answered("library", "ls", study, "--tag", "t")] == ["base"]
    assert len(answered("library", "ls", study, "--metric", "rmse", "--at-most", "0.5")) == 3
    assert answered("library", "show", study, "v1")["records"][0]["class_name"] == "Ridge"
    assert "Ridge" in said("library", "show", study, "v1")
    made = answered("library", "export", study, "v1", tmp_path / "v1.sqlite")
    assert answered("stats", made["path"])["total_artifacts"] == 1
    assert answered("library", "rm", study, "v1", "--dry-run")["removed"] is False
    assert "removed pipeline v1" in said("library", "rm", study, "v1")
    assert len(answered("library", "ls", study)) == 3
    with pytest.raises(ArtifactDBError, match="what to save is one of"):
        said(*save, "v1")
    with pytest.raises(ArtifactDBError, match="is not there"):
        said(*save, "v1", "--config", tmp_path / "none.json")
    with pytest.raises(ArtifactDBError, match="no library entry 'v1'"):
        said("library", "show", study, "v1")
    for options in (["--run", "wheat"], ["--config", template]):
        with pytest.raises(ArtifactDBError, match="--filtered belongs to"):
            said(*save, "v1", *options, "--filtered")
    with pytest.raises(ArtifactDBError, match="kind is one of"):
        said("library", "show", study, "base", "--kind", "nothing")


def test_pack_and_merge(study: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.sqlite"
    assert "would write 1 artifacts" in said("pack", study, packed, "--dry-run")
    assert not packed.exists()
    assert answered("pack", study, packed)["size_bytes"] == packed.stat().st_size
    with pytest.raises(ArtifactDBError, match="is there already"):
        said("pack", study, packed)
    said("pack", study, packed, "--overwrite")
    other = tmp_path / "other.sqlite"
    said("init", other)
    assert "would add" in said("merge", other, packed, "--dry-run")
    assert answered("stats", other)["total_artifacts"] == 0
    merged = answered("merge", other, packed)
    assert (merged["added"]["artifacts"], merged["conflicts"]) == (1, [])
    assert "added nothing" in said("merge", other, packed)
    said("library", "save", other, "base", "--run", "wheat")
    said("library", "save", study, "base", "--run", "wheat", "--description", "other")
    assert "1 conflicts" in said("merge", other, study)
    with pytest.raises(ArtifactDBError, match="is not there"):
        said("merge", tmp_path / "none.sqlite", packed)
    assert not (tmp_path / "none.sqlite").exists()


def test_export_and_import(study: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
    folder = tmp_path / "folder"
    counted = answered("export", study, folder, "--dry-run")
    assert counted.pop("would_replace") is False
    assert not folder.exists()
    assert answered("export", study, folder) == counted
    with pytest.raises(ArtifactDBError, match="is not empty"):
        said("export", study, folder, "--dry-run")
    assert answered("export", study, folder, "--dry-run", "--overwrite")["would_replace"] is True
    with pytest.raises(ArtifactDBError, match="no dataset 'corn'"):
        said("export", study, tmp_path / "corn", "--dry-run", "--dataset", "corn")
    assert (folder / "runs" / "wheat").is_dir()
    other = tmp_path / "other.sqlite"
    assert answered("import", other, folder, "--dry-run")["artifacts"] == 1
    assert not other.exists()
    said("init", other)
    assert answered("import", other, folder, "--dry-run")["artifacts"] == 1
    assert answered("stats", other)["total_artifacts"] == 0
    assert "took in" in said("import", other, folder)
    assert "there already" in said("import", other, folder)
    files = tmp_path / "models"
    files.mkdir()
    joblib.dump(fitted["pls"], files / "pls_fold1.joblib")
    assert answered("import", other, files, "--dataset", "corn")["artifacts"] == 1
    assert answered("ls", other, "--dataset", "corn")[0]["fold_id"] == 1


def test_what_is_refused_leaves_no_empty_workspace(tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    joblib.dump(Ridge(), tmp_path / "unfitted.joblib")
    joblib.dump(Ridge().fit([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0]), tmp_path / "fitted.joblib")
    (tmp_path / "few.csv").write_text("a,y\n0,1\n1,0\n")
    (tmp_path / "empty").mkdir()
    for command, source, *options, reason in (
        ("import", "none", "is not there"), ("import", "few.csv", "nothing that can be imported"),
        ("import", "empty", "nothing that can be imported"), ("import", "fitted.joblib", "--dataset", "a/b", "name of"),
        ("log", "unfitted.joblib", "is not fitted"),
        ("log", "fitted.joblib", "--data", str(tmp_path / "few.csv"), "cannot be scored"),
    ):  # fmt: skip
        for new in (tmp_path / "new.sqlite", tmp_path / "new"):
            with pytest.raises(ArtifactDBError, match=reason):
                said(command, new, tmp_path / source, *options)
            assert not new.exists()
    new = tmp_path / "new.sqlite"
    assert answered("import", new, tmp_path / "fitted.joblib", "--dry-run")["artifacts"] == 1
    assert not new.exists()
    said("init", new)
    with pytest.raises(ArtifactDBError, match="nothing that can be imported"):
        said("import", new, tmp_path / "empty")
    assert new.exists(), "it was there before"


def test_a_new_workspace_that_another_has_open_or_filled_stays(tmp_path: Path, fitted: dict[str, Any]) -> None:
    file = tmp_path / "new.sqlite"
    with Workspace(file) as other:
        remove_if_empty(file)
        record = other.registry("wheat", "0001_a").register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
    remove_if_empty(file)
    with Workspace(file) as other:
        assert other.records() == [record]
        other.registry("wheat").purge_dataset_artifacts(confirm=True)
    remove_if_empty(file)
    assert file.exists(), "its history says what was there"


def test_an_import_that_is_not_whole_says_so(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    said("export", study, folder)
    for file in (folder / "binaries" / "wheat").iterdir():
        file.unlink()
    result = CliRunner().invoke(app, ["import", str(tmp_path / "other.sqlite"), str(folder)])
    assert result.exit_code == 7
    assert "refused" in result.output
    shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["{", "&a [*a, *a", "!!python/object/apply:os.system [echo]"])
def test_a_hostile_template_is_refused(study: Path, tmp_path: Path, text: str) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(text)
    with pytest.raises(ArtifactDBError):
        said("library", "save", study, "a", "--config", template)


def test_nothing_of_a_strangers_file_steers_the_terminal(tmp_path: Path) -> None:
    with Workspace(tmp_path / "w.sqlite") as workspace:
        workspace.library.save_template({"a": "\x1b[31m"}, "name", "red \x1b[31m")
    shown: Callable[..., str] = said
    assert "\x1b" not in shown("library", "show", tmp_path / "w.sqlite", "name")
    assert "\x1b" not in shown("library", "ls", tmp_path / "w.sqlite")
