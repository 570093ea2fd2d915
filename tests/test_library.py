"""The library: configurations kept under a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from artifactdb import (
    InvalidValueError,
    LibraryEntryNotFoundError,
    LibraryManager,
    MetaModelConfig,
    RunNotFoundError,
    Workspace,
)

CONFIG = [{"class": "sklearn.preprocessing.MinMaxScaler"}, {"model": "PLS", "params": {"n_components": 10}}]


def test_a_template_comes_back_in_another_process(tmp_path: Path, in_new_process: Any) -> None:
    library = LibraryManager(tmp_path / "study" / "library")
    library.save_template(pipeline_config=CONFIG, name="baseline_pls", description="PLS with SNV")
    assert (tmp_path / "study" / "workspace.sqlite").exists()
    code = (
        "import json, sys; from artifactdb import LibraryManager; "
        "print(json.dumps(LibraryManager(sys.argv[1]).load_template('baseline_pls')))"
    )
    assert json.loads(in_new_process(code, tmp_path / "study" / "library")) == CONFIG
    library.close()
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["workspace.sqlite"]


def test_entries_are_listed_and_searched(workspace: Workspace) -> None:
    library = workspace.library
    first = library.save_template(CONFIG, "b", "second", category="calibration", tags=["nir", "pls"])
    library.save_template({}, "a", "first")
    library.close()  # which is the workspace's
    assert [entry["name"] for entry in library.list_templates()] == ["a", "b"]
    assert {"name", "description", "type", "created_at", "source", "n_features", "config"} <= first.keys()
    assert [entry["name"] for entry in library.list_templates(tag="nir")] == ["b"]
    assert [entry["name"] for entry in library.list_templates(category="")] == ["a"]
    found = workspace.sql("SELECT name FROM library WHERE tags LIKE '%pls%'")
    assert found.rows == [("b",)]


def test_saving_again_replaces_and_keeps_when_it_was_made(workspace: Workspace) -> None:
    first = workspace.library.save_template(CONFIG, "a")
    again = workspace.library.save_template({"other": 1}, "a")
    assert workspace.library.load_template("a") == {"other": 1}
    assert again["created_at"] == first["created_at"] <= again["saved_at"]
    assert len(workspace.library.list_templates()) == 1


def test_bad_input_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidValueError, match="that JSON cannot hold"):
        workspace.library.save_template({"model": object()}, "a")
    with pytest.raises(InvalidValueError, match="name"):
        workspace.library.save_template({}, " ")
    with pytest.raises(LibraryEntryNotFoundError, match="none yet"):
        workspace.library.load_template("a")
    workspace.library.save_template({}, "a")
    nothing = cast("Any", None)
    for ask in (workspace.library.get, workspace.library.load_template, workspace.library.delete):
        with pytest.raises(InvalidValueError, match="name of an entry"):
            ask(nothing)
    with pytest.raises(FileNotFoundError, match="It has a"):
        workspace.library.delete_template("b")
    workspace.library.delete_template("a")
    assert workspace.library.list_templates() == []


class TestTrained:
    """Pipelines that are kept as they were."""

    @pytest.fixture
    def pipeline_id(self, workspace: Workspace, fitted: dict[str, Any], xy: tuple[Any, Any]) -> str:
        """A pipeline whose models depend on a scaler of another pipeline, with metrics and predictions."""
        x, y = xy
        shared = workspace.registry("wheat", "0000_shared").register_with_chain(
            fitted["scaler"], "s1.StandardScaler", "transformer", 1
        )
        with workspace.run("wheat", name="first") as run, run.pipeline(CONFIG, name="stack") as pipeline:
            registry = pipeline.registry
            models = [
                registry.register_with_chain(
                    fitted[name], f"s2.{name}", "model", 2, fold_id=0, depends_on=[shared.artifact_id]
                ).artifact_id
                for name in ("pls", "forest")
            ]
            registry.register_with_chain(
                fitted["ridge"], "s3.Ridge", "meta_model", 3, meta_config=MetaModelConfig.of_sources(models, ["a", "b"])
            )
            workspace.catalog.add(
                dataset_name="wheat", model_name="stack", pipeline_uid=pipeline.pipeline_id, partition="val", fold_id=0,
                metric="rmse", val_score=0.5, n_features=x.shape[1], y_true=y[:20], y_pred=y[:20] + 1,
            )  # fmt: skip
            workspace.catalog.add(dataset_name="wheat", model_name="other", pipeline_uid="0000", partition="val")
            pipeline.log_metrics({"val": {"rmse": 0.25}})
        return str(pipeline.pipeline_id)

    def test_words_are_found_whatever_their_case(self, workspace: Workspace) -> None:
        workspace.library.save_template([1], "Äpfel", "Straße")
        for word in ("äpfel", "ÄPFEL", "STRASSE", "pfel"):
            assert [entry["name"] for entry in workspace.library.search(word)] == ["Äpfel"]
        assert workspace.library.search("birnen") == []

    def test_each_kind_keeps_what_it_says(self, workspace: Workspace, pipeline_id: str) -> None:
        library = workspace.library
        filtered = library.save_filtered(
            f"runs/wheat/{pipeline_id}", "f", "config and metrics", category="c", tags=["t"]
        )
        full = library.save_pipeline_full("runs/wheat", Path("runs/wheat") / pipeline_id, "p")
        run = library.save_fullrun("wheat", "r", data={"X": np.eye(3), "y": np.arange(3)})
        assert [entry["artifacts"] for entry in (filtered, full, run)] == [0, 4, 4]
        assert filtered["config"] == full["config"] == CONFIG
        assert filtered["metrics"] == {"val": {"rmse": 0.25}}
        assert (filtered["n_features"], filtered["source"]) == (10, f"wheat/{pipeline_id}")
        assert [e["name"] for e in library.list_filtered()] == ["f"]
        assert [e["name"] for e in library.list_pipelines()] == ["p"]
        assert [e["name"] for e in library.list_fullruns()] == ["r"]
        assert np.array_equal(library.load_data("r")["X"], np.eye(3))
        assert library.records("p")[0].class_name == "StandardScaler"

    def test_metrics_can_be_given(self, workspace: Workspace, pipeline_id: str) -> None:
        library = workspace.library
        given = {"val": {"rpd": 2.5}, "test": {"rmse": np.float32(0.5)}}
        assert library.save_template(CONFIG, "t", metrics={"val": {"rmse": 0.75}})["metrics"] == {"val": {"rmse": 0.75}}
        for entry in (
            library.save_filtered(pipeline_id, "f", metrics=given),
            library.save_pipeline_full("wheat", pipeline_id, "p", metrics=given),
        ):
            assert entry["metrics"] == {"val": {"rmse": 0.25, "rpd": 2.5}, "test": {"rmse": 0.5}}
        # Of a run they are measured by its predictions; what is given takes the place of one of the same name.
        run = library.save_fullrun("wheat", "r", metrics={"val": {"rmse": float("inf")}})
        assert run["metrics"] == {"val": {"rmse": float("inf")}}
        assert [entry["name"] for entry in library.search(metric="rmse", at_most=1)] == ["f", "p", "t"]
        assert library.search(metric="rpd", kind="template") == []
        for wrong in ({"rmse": 0.5}, {"val": {"rmse": "low"}}, [("val", 1)]):
            with pytest.raises(InvalidValueError, match="metric"):
                library.save_template(CONFIG, "t", metrics=wrong)  # type: ignore[arg-type]

    def test_search(self, workspace: Workspace, pipeline_id: str) -> None:
        library = workspace.library
        library.save_filtered(pipeline_id, "Wheat quality", "for the lab", category="c", tags=["t"])
        library.save_template(CONFIG, "wheat template", tags=["t"])
        names = lambda **criteria: [entry["name"] for entry in library.search(**criteria)]  # noqa: E731
        assert names(text="WHEAT") == ["Wheat quality", "wheat template"]
        assert names(text="lab") == names(category="c") == names(kind="filtered") == ["Wheat quality"]
        assert names(tag="t", kind="template") == ["wheat template"]
        assert names(metric="rmse", at_most=0.3) == ["Wheat quality"]
        assert names(metric="rmse", at_least=0.3) == names(metric="r2") == []
        with pytest.raises(InvalidValueError, match="kind is one of"):
            library.search(kind="other")
        with pytest.raises(InvalidValueError, match="need a metric"):
            library.search(at_most=1)

    def test_an_entry_outlives_its_pipeline_and_is_not_changed_by_training_again(
        self, workspace: Workspace, pipeline_id: str, fitted: dict[str, Any], xy: tuple[Any, Any]
    ) -> None:
        x, _ = xy
        workspace.library.save_pipeline_full("wheat", pipeline_id, "kept")
        registry = workspace.registry("wheat", pipeline_id)
        registry.register_with_chain(fitted["svr"], "s2.forest", "model", 2, fold_id=0)
        registry.delete_pipeline_artifacts(pipeline_id, delete_files=True)
        registry.delete_pipeline_artifacts("0000_shared", delete_files=True)
        assert [orphan.content_hash for orphan in workspace.gc()] == []
        objects = workspace.library.load("kept")
        (forest,) = [model for name, model in objects.items() if type(model).__name__ == "RandomForestRegressor"]
        assert np.array_equal(forest.predict(x), fitted["forest"].predict(x))
        workspace.library.delete("kept")
        assert workspace.gc()
        assert workspace.query("SELECT count(*) FROM blobs")[0] == (0,)

    @pytest.mark.parametrize("kind", ["pipeline", "fullrun"])
    def test_an_entry_is_cut_out_into_a_file_that_predicts_elsewhere(
        self, workspace: Workspace, pipeline_id: str, fitted: dict[str, Any], xy: tuple[Any, Any], tmp_path: Path,
        kind: str, in_new_process: Any,
    ) -> None:  # fmt: skip
        x, _ = xy
        if kind == "pipeline":
            workspace.library.save_pipeline_full("wheat", pipeline_id, "v1", "for the mail")
        else:
            workspace.library.save_fullrun("wheat", "v1", "for the mail", data={"X": x})
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        target = workspace.library.export("v1", elsewhere / "v1.sqlite")
        assert [path.name for path in elsewhere.iterdir()] == ["v1.sqlite"]
        code = (
            "import sys, numpy as np; from artifactdb import Workspace; from sklearn.datasets import load_diabetes\n"
            "with Workspace(sys.argv[1], mode='ro') as w:\n"
            "    x = load_diabetes().data\n"
            "    (stack,) = w.records(artifact_type='meta_model')\n"
            "    meta, sources, columns = w.loader('wheat').load_meta_model_with_sources(stack.artifact_id)\n"
            "    print(sources[1][1].predict(x).tobytes().hex(), columns, w.verify().ok)\n"
        )
        assert in_new_process(code, target) == f"{fitted['forest'].predict(x).tobytes().hex()} ['a', 'b'] True"
        with Workspace(target) as cut:
            pipeline = cut.pipeline(pipeline_id)
            assert (pipeline.configuration, pipeline.metrics) == (CONFIG, {"val": {"all": {"rmse": 0.25}}})
            assert [run.name for run in cut.runs()] == ["first"]
            assert cut.library.get("v1")["description"] == "for the mail"
            assert {r.artifact_id for r in cut.records()} == {r.artifact_id for r in workspace.records()}
            assert cut.orphans() == []
            if kind == "fullrun":
                (row,) = cut.catalog.filter(pipeline_uid=pipeline_id).to_dicts()
                assert len(cut.catalog.get(row["id"])["y_pred"]) == 20
                assert np.array_equal(cut.library.load_data("v1")["X"], x)
                cut.catalog.add(dataset_name="wheat", model_name="new", partition="test")
                assert len(cut.catalog) == len(workspace.catalog.filter(dataset_name="wheat")) + 1
            with pytest.raises(InvalidValueError, match="is there already"):
                workspace.library.export("v1", target)
            assert cut.verify().ok

    def test_the_library_goes_out_as_folders_and_comes_back(
        self, workspace: Workspace, pipeline_id: str, tmp_path: Path
    ) -> None:
        from artifactdb.artifacts.folder import Folder
        from artifactdb.library.folders import export_entries, import_entries

        workspace.registry("wheat", pipeline_id).register_with_chain(
            {"big": np.arange(30_000.0)}, "s4.Big", "model", 4, fold_id=1
        )
        library = workspace.library
        library.save_template(CONFIG, "../up", "name of no file")
        library.save_template(CONFIG, "Base", tags=["t"])
        library.save_template({"other": 1}, "base")
        library.save_filtered(pipeline_id, "f", category="c")
        library.save_pipeline_full("wheat", pipeline_id, "p")
        library.save_fullrun("wheat", "r", data={"X": np.eye(3)})
        folder = tmp_path / "library"
        assert export_entries(workspace.database, folder) == 6
        assert {path.name for path in folder.iterdir()} == {"templates", "trained"}
        assert len(list((folder / "templates").iterdir())) == 3
        with Workspace(tmp_path / "other.sqlite") as other:
            assert import_entries(other.database, Folder(tmp_path)) == ([True] * 6, [])
            assert import_entries(other.database, Folder(tmp_path)) == ([False] * 6, [])
            assert other.library.search() == library.search()
            assert other.library.records("p") == library.records("p")
            assert np.array_equal(other.library.load_data("r")["X"], np.eye(3))
            (big,) = [obj for obj in other.library.load("p").values() if isinstance(obj, dict)]
            assert np.array_equal(big["big"], np.arange(30_000.0))
            assert other.gc() == []
            assert other.verify().ok
            with Workspace(other.library.export("r", tmp_path / "cut.sqlite")) as cut:
                assert len(cut.catalog) == 2

    def test_what_came_in_from_a_folder_is_what_went_out(self, workspace: Workspace, tmp_path: Path) -> None:
        """Branches are numbered in the order that they are written in, and the id of a pipeline tells it."""
        config = [{"branch": {"snv": ["StandardScaler"], "msc": ["MinMaxScaler"]}}, {"model": "Ridge", "alpha": 1}]
        metrics = {"val": {"rmse": 0.4, "odd": float("nan")}}
        with workspace.run("wheat", configuration={"b": 1, "a": 2}) as run, run.pipeline(config) as pipeline:
            pipeline.registry.register_with_chain({"w": 1.0}, "s1.PLS", "model", 1)
            pipeline.end(metadata={"z": 1, "b": {"y": 2, "a": 3}})
        library = workspace.library
        library.save_template(config, "base", metrics=metrics)
        library.save_pipeline_full("wheat", pipeline.pipeline_id, "p")
        workspace.export(tmp_path / "out")
        with (
            Workspace(tmp_path / "other.sqlite") as other,
            Workspace(library.export("base", tmp_path / "base.sqlite")) as base,
            Workspace(library.export("p", tmp_path / "p.sqlite")) as cut,
        ):
            other.import_folder(tmp_path / "out", trust=True)
            assert [entry["name"] for entry in other.library.search(metric="rmse")] == ["base"]
            for each in (other, base):
                assert json.dumps(each.library.load_template("base")) == json.dumps(config)
            for each in (other, base, cut):
                merged = workspace.merge(each)
                assert (merged.added, merged.conflicts) == ({}, [])

    def test_what_is_wrong_in_a_library_folder_is_refused_and_the_rest_comes(
        self, workspace: Workspace, pipeline_id: str, tmp_path: Path
    ) -> None:
        from artifactdb.artifacts.folder import Folder
        from artifactdb.library.folders import export_entries, import_entries

        workspace.library.save_pipeline_full("wheat", pipeline_id, "p")
        workspace.library.save_template(CONFIG, "t")
        export_entries(workspace.database, tmp_path / "library")
        binaries = tmp_path / "library" / "trained" / "pipeline" / "p" / "_binaries"
        next(iter(sorted(binaries.iterdir()))).write_bytes(b"other")
        (tmp_path / "library" / "templates" / "broken.json").write_text("{")
        with Workspace(tmp_path / "other.sqlite") as other:
            taken, refused = import_entries(other.database, Folder(tmp_path))
            assert taken == [True]
            assert [what for what, _ in refused] == ["library/templates/broken.json", "library/trained/pipeline/p"]
            assert "has the hash" in refused[1][1]
            assert other.query("SELECT count(*) FROM blobs")[0] == (0,)

    def test_what_is_not_there_is_said(self, workspace: Workspace, pipeline_id: str) -> None:
        with pytest.raises(RunNotFoundError):
            workspace.library.save_filtered("0099_none", "f")
        with pytest.raises(RunNotFoundError, match="no run or dataset"):
            workspace.library.save_fullrun("corn", "f")
        with pytest.raises(InvalidValueError, match="plain name"):
            workspace.library.save_fullrun("wheat", "f", data={"X": np.array([object()])})
        with pytest.raises(LibraryEntryNotFoundError):
            workspace.library.export("f", "f.sqlite")
        assert workspace.library.search() == []
