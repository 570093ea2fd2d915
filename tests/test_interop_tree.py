"""Trees of manifests: what nirs4all 0.6 writes comes in, and what is exported comes back the same."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from artifactdb import (
    ArtifactType,
    InvalidIdError,
    InvalidValueError,
    MetaModelConfig,
    StorageFullError,
    Workspace,
    compute_chain_hash,
)
from artifactdb.artifacts.foreign import record_of
from artifactdb.interop import entering
from artifactdb.interop.exporting import export
from artifactdb.interop.importing import import_folder
from artifactdb.interop.report import ExportReport, ImportReport
from artifactdb.runs.manifests import enter_pipeline


def take(workspace: Workspace, path: Path, **options: Any) -> ImportReport:
    return import_folder(workspace.database, workspace.catalog, path, **{"trust": True, **options})


def write_out(workspace: Workspace, path: Path, **options: Any) -> ExportReport:
    return export(workspace.database, workspace.catalog, path, **options)


class Nirs4all:
    """A workspace as nirs4all 0.6 writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def item(self, obj: Any, chain: str, pipeline_id: str, fold: int | None = None, **more: Any) -> dict[str, Any]:
        held = io.BytesIO()
        joblib.dump(obj, held)
        digest = hashlib.sha256(held.getvalue()).hexdigest()
        kind = more.get("artifact_type", "model")
        name = f"{kind}_{type(obj).__name__}_{digest[:12]}.joblib"
        binaries = self.path / "binaries" / "wheat"
        binaries.mkdir(parents=True, exist_ok=True)
        (binaries / name).write_bytes(held.getvalue())
        return {
            "artifact_id": f"{pipeline_id}${compute_chain_hash(chain)}:{'all' if fold is None else fold}",
            "content_hash": f"sha256:{digest}", "path": name, "chain_path": chain, "source_index": None,
            "pipeline_id": pipeline_id, "branch_path": [], "step_index": 3, "substep_index": 0, "fold_id": fold,
            "artifact_type": kind, "class_name": type(obj).__name__, "custom_name": "", "depends_on": [],
            "format": "joblib", "format_version": "sklearn==1.9.1", "nirs4all_version": "0.6.2", "size_bytes": 1,
            "created_at": "2026-11-23T21:33:56.868349+00:00", "params": {"alpha": 0.5}, "version": 3, **more,
        }  # fmt: skip

    def manifest(self, pipeline_id: str, items: list[Any], **more: Any) -> Path:
        folder = self.path / "runs" / "wheat" / pipeline_id
        folder.mkdir(parents=True)
        manifest = {
            "schema_version": "2.0", "uid": "dc178a34", "pipeline_id": pipeline_id, "name": pipeline_id[5:],
            "dataset": "wheat", "created_at": "2026-11-23T21:33:56+00:00", "pipeline": {"steps": ["a.B", {"c": 1}]},
            "generator_choices": [], "metadata": {}, "artifacts": {"schema_version": "2.0", "items": items},
            "execution_traces": {"t": {"steps": [{"artifact_id": None}]}}, **more,
        }  # fmt: skip
        (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
        (folder / "pipeline.json").write_text(json.dumps(["a.B", {"c": 1}]))
        return folder / "manifest.yaml"

    def predictions(self, name: str, rows: list[dict[str, Any]]) -> None:
        arrays: dict[str, Any] = {}
        for row in rows:
            for role in ("y_true", "y_pred"):
                array = row.pop(role)
                row[f"{role}_id"] = f"array_{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"
                arrays[row[f"{role}_id"]] = {
                    "array_id": row[f"{role}_id"], "array_data": array.ravel(), "array_hash": "", "array_type": role,
                    "array_size": array.size, "array_shape": json.dumps(array.shape),
                }  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), self.path / f"{name}.meta.parquet")
        pq.write_table(pa.Table.from_pylist(list(arrays.values())), self.path / f"{name}.arrays.parquet")


@pytest.fixture
def theirs(tmp_path: Path, fitted: dict[str, Any]) -> Nirs4all:
    made = Nirs4all(tmp_path / "theirs")
    scaler = made.item(fitted["minmax"], "s1.MinMaxScaler[src=0,sub=0]", "0001_a", artifact_type="transformer")
    models = [made.item(fitted["ridge"], "s3.Ridge[sub=0]", "0001_a", fold) for fold in (0, 1)]
    models[1]["depends_on"] = [models[0]["artifact_id"], scaler["artifact_id"]]
    made.manifest("0001_a", [models[1], *models[:1], scaler])
    odd = "s3.SNV[br=0,sub=0]>s3.PCA, FirstDerivative[br=0,sub=1]>s5.PLSRegression[br=0,sub=0]"
    made.manifest("0002_b", [made.item(fitted["pls"], odd, "0002_b", 0, custom_name="mine")])
    made.predictions(
        "wheat",
        [
            {
                "id": f"{number:016x}", "dataset_name": "wheat", "model_name": "Ridge", "fold_id": str(number),
                "partition": "val", "pipeline_uid": "0001_a", "metric": "rmse", "val_score": 0.5, "scores": "{}",
                "y_true": np.arange(6.0).reshape(6, 1), "y_pred": np.arange(6.0).reshape(6, 1) + number,
            }
            for number in range(3)
        ],
    )  # fmt: skip
    return made


# -- import -----------------------------------------------------------------------------------------


def test_a_workspace_of_nirs4all_comes_in_whole(workspace: Workspace, theirs: Nirs4all, xy: Any, fitted: Any) -> None:
    report = take(workspace, theirs.path)
    assert (report.pipelines, report.artifacts, report.predictions, report.refused) == (2, 4, 3, [])
    stack = next(record for record in workspace.records(pipeline_id="0001_a") if record.fold_id == 1)
    assert [source.partition(":")[2] for source in stack.depends_on] == ["0", "all"]
    file = next((theirs.path / "binaries" / "wheat").glob(f"*{stack.short_hash}*"))
    assert stack.content_hash == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert (stack.created_at, stack.format_version, stack.params) == (
        "2026-11-23T21:33:56.868349+00:00", "sklearn==1.9.1", {"alpha": 0.5},
    )  # fmt: skip
    assert np.array_equal(workspace.load(stack.artifact_id).predict(xy[0]), fitted["ridge"].predict(xy[0]))
    odd = workspace.records(pipeline_id="0002_b")[0]
    assert "PCA, FirstDerivative" in odd.chain_path
    pipeline = workspace.pipeline("0001_a")
    assert pipeline.configuration == ["a.B", {"c": 1}]
    assert pipeline.metadata["uid"] == "dc178a34"
    assert workspace.catalog.get(f"{1:016x}")["y_pred"].shape == (6, 1)


def test_importing_twice_changes_nothing(workspace: Workspace, theirs: Nirs4all) -> None:
    take(workspace, theirs.path)
    before = [record.to_dict() for record in workspace.records()]
    again = take(workspace, theirs.path)
    assert (again.pipelines, again.artifacts, again.predictions, again.ok) == (0, 0, 0, True)
    assert again.present == {"pipelines": 2, "artifacts": 4, "predictions": 3}
    assert [record.to_dict() for record in workspace.records()] == before


def test_a_dry_run_says_the_same_and_writes_nothing(workspace: Workspace, theirs: Nirs4all) -> None:
    tried = take(workspace, theirs.path, dry_run=True)
    assert workspace.datasets() == []
    assert len(workspace.catalog) == 0
    done = take(workspace, theirs.path)
    assert tried.to_dict() | {"dry_run": False} == done.to_dict()


def spoil(theirs: Nirs4all, how: str, tmp_path: Path) -> None:
    manifest = theirs.path / "runs" / "wheat" / "0002_b" / "manifest.yaml"
    said = yaml.safe_load(manifest.read_text())
    item = said["artifacts"]["items"][0]
    binaries = theirs.path / "binaries" / "wheat"
    if how == "missing":
        (binaries / item["path"]).unlink()
    elif how == "changed":
        (binaries / item["path"]).write_bytes(b"other")
    elif how == "outside":
        (tmp_path / "secret.joblib").write_bytes((binaries / item["path"]).read_bytes())
        item["path"] = "../../../secret.joblib"
    elif how == "absolute":
        (tmp_path / "secret.joblib").write_bytes((binaries / item["path"]).read_bytes())
        item["path"] = str(tmp_path / "secret.joblib")
    elif how == "link":
        target = tmp_path / "secret.joblib"
        (binaries / item["path"]).rename(target)
        (binaries / item["path"]).symlink_to(target)
    elif how == "no id":
        del item["artifact_id"]
    elif how == "bad step":
        item["step_index"] = "three"
    elif how == "bad hash":
        item["content_hash"] = "sha256:12"
    elif how == "absent source":
        item["depends_on"] = ["0002_b$000000000000:0"]
    elif how == "itself":
        item["depends_on"] = [item["artifact_id"]]
    elif how == "no mapping":
        said["artifacts"]["items"] = ["text"]
    elif how == "no list":
        said["artifacts"] = {"items": "text"}
    elif how == "dataset":
        said["dataset"] = "../wheat"
    elif how == "long dataset":
        said["dataset"] = "w" * 300
    manifest.write_text(yaml.safe_dump(said))
    if how == "yaml":
        manifest.write_text("a: b: c")
    elif how == "code":
        manifest.write_text("dataset: !!python/object/apply:os.system ['touch ran']")


SPOILED = (
    "missing", "changed", "outside", "absolute", "link", "no id", "bad step", "bad hash", "absent source", "itself",
    "no mapping", "no list", "dataset", "long dataset", "yaml", "code",
)  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_wrong_is_listed_and_the_rest_comes_in(
    workspace: Workspace, theirs: Nirs4all, tmp_path: Path, how: str
) -> None:
    spoil(theirs, how, tmp_path)
    report = take(workspace, theirs.path)
    assert not report.ok
    assert all(what and reason for what, reason in report.refused)
    assert (report.artifacts, report.predictions) == (3, 3)
    assert len(workspace.records(pipeline_id="0001_a")) == 3
    assert not workspace.records(pipeline_id="0002_b")
    json.dumps(report.to_dict())
    assert "refused" in repr(report)


def test_other_content_never_replaces_what_is_there(workspace: Workspace, theirs: Nirs4all, fitted: Any) -> None:
    take(workspace, theirs.path)
    before = workspace.records(pipeline_id="0002_b")[0]
    manifest = theirs.path / "runs" / "wheat" / "0002_b" / "manifest.yaml"
    said = yaml.safe_load(manifest.read_text())
    old = said["artifacts"]["items"][0]
    new = theirs.item(fitted["svr"], old["chain_path"], "0002_b", 0)
    said["artifacts"]["items"] = [new]
    manifest.write_text(yaml.safe_dump(said))
    report = take(workspace, theirs.path)
    assert [what for what, _ in report.refused] == [before.artifact_id]
    assert workspace.record(before.artifact_id).content_hash == before.content_hash
    said["pipeline"] = {"steps": ["other"]}
    manifest.write_text(yaml.safe_dump(said))
    report = take(workspace, theirs.path)
    assert "wheat/0002_b" in [what for what, _ in report.refused]


def test_a_chain_that_its_id_was_not_made_of_is_left_out(workspace: Workspace, theirs: Nirs4all) -> None:
    manifest = theirs.path / "runs" / "wheat" / "0002_b" / "manifest.yaml"
    said = yaml.safe_load(manifest.read_text())
    said["artifacts"]["items"][0]["chain_path"] = "s1.Other"
    manifest.write_text(yaml.safe_dump(said))
    report = take(workspace, theirs.path)
    assert report.ok
    assert len(report.notes) == 1
    assert workspace.records(pipeline_id="0002_b")[0].chain_path == ""


def test_sources_of_a_later_pipeline_are_waited_for(workspace: Workspace, theirs: Nirs4all) -> None:
    folder = theirs.path / "runs" / "wheat"
    said = yaml.safe_load((folder / "0001_a" / "manifest.yaml").read_text())
    later = yaml.safe_load((folder / "0002_b" / "manifest.yaml").read_text())["artifacts"]["items"][0]["artifact_id"]
    said["artifacts"]["items"][2]["depends_on"] = [later]
    (folder / "0001_a" / "manifest.yaml").write_text(yaml.safe_dump(said))
    report = take(workspace, theirs.path)
    assert (report.artifacts, report.refused) == (4, [])
    assert later in [source for record in workspace.records() for source in record.depends_on]


def test_files_of_older_layouts_are_found(workspace: Workspace, theirs: Nirs4all) -> None:
    (theirs.path / "binaries" / "wheat").rename(theirs.path / "runs" / "wheat" / "_binaries")
    assert take(workspace, theirs.path).artifacts == 4


def test_items_of_older_manifests_get_an_id_of_that_time(workspace: Workspace, theirs: Nirs4all) -> None:
    manifest = theirs.path / "runs" / "wheat" / "0002_b" / "manifest.yaml"
    said = yaml.safe_load(manifest.read_text())
    item = said["artifacts"]["items"][0]
    old = {"hash": item["content_hash"], "name": "pls", "path": item["path"], "format": "joblib", "step": 2}
    said["artifacts"]["items"] = [old]
    manifest.write_text(yaml.safe_dump(said))
    assert take(workspace, theirs.path).ok
    record = workspace.records(pipeline_id="0002_b")[0]
    assert (record.artifact_id, record.class_name, record.step_index) == ("0002_b:2.0:all", "PLSRegression", 2)


def test_a_prediction_that_conflicts_is_listed_and_the_others_come(workspace: Workspace, theirs: Nirs4all) -> None:
    workspace.catalog.add(id=f"{1:016x}", dataset_name="wheat", model_name="other", partition="val")
    report = take(workspace, theirs.path)
    assert report.predictions == 2
    assert [what for what, _ in report.refused] == [f"prediction {1:016x}"]


def test_a_broken_pair_is_listed(workspace: Workspace, theirs: Nirs4all) -> None:
    (theirs.path / "rye.meta.parquet").write_bytes(b"no parquet")
    (theirs.path / "rye.arrays.parquet").write_bytes(b"no parquet")
    report = take(workspace, theirs.path)
    assert [what for what, _ in report.refused] == ["rye.meta.parquet"]
    assert report.predictions == 3


def test_only_one_dataset_comes_in_when_it_is_named(workspace: Workspace, theirs: Nirs4all) -> None:
    assert take(workspace, theirs.path, dataset="wheat").artifacts == 4
    with pytest.raises(InvalidValueError, match="wheat"):
        take(workspace, theirs.path, dataset="rye")


def test_whole_pipelines_stay_when_something_breaks(
    workspace: Workspace, theirs: Nirs4all, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = entering.save_content

    def breaks(database: Any, payload: Any, place: Any, *rest: Any, **more: Any) -> Any:
        if place.pipeline_id == "0002_b":
            raise KeyboardInterrupt
        return saved(database, payload, place, *rest, **more)

    monkeypatch.setattr(entering, "save_content", breaks)
    with pytest.raises(KeyboardInterrupt):
        take(workspace, theirs.path)
    assert [pipeline.pipeline_id for pipeline in workspace.pipelines()] == ["0001_a"]
    assert len(workspace.records()) == 3


# -- there and back ---------------------------------------------------------------------------------


@pytest.fixture
def study(workspace: Workspace, xy: Any, fitted: Any, fold_models: list[Any]) -> Workspace:
    """Real fitted objects with everything that a workspace can say of them."""
    y = xy[1]
    for dataset in ("wheat", "Wheat", "rye"):
        with (
            workspace.run(dataset, name="baseline", tags=["nir"], configuration={"n": 1}) as run,
            run.pipeline(["MinMaxScaler", {"model": "PLS"}], name="pls") as pipeline,
        ):
            registry = pipeline.registry
            scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
            ids = [
                registry.register_with_chain(
                    model, "s1.MinMaxScaler>s2.PLSRegression", "model", 2, fold_id=fold,
                    depends_on=[scaler.artifact_id], custom_name="mine",
                ).artifact_id
                for fold, model in enumerate(fold_models)
            ]  # fmt: skip
            registry.register_with_chain(
                fitted["ridge"], "s3.Meta_Ridge", ArtifactType.META_MODEL, 3,
                meta_config=MetaModelConfig.of_sources(ids[::-1], [f"c{i}" for i in range(5)]),
            )  # fmt: skip
            big = {"a": np.arange(50_000.0), "b": np.asfortranarray(np.arange(90_000.0).reshape(300, 300))}
            registry.register_with_chain(big, "s4.Big", "model", 4, params={"alpha": float("nan"), "deep": {"x": [1]}})
            registry.register_with_chain({"again": big["a"]}, "s5.Again", "model", 5)
            registry.register_with_chain(lambda v: v + 1, "s6.Lambda", "model", 6)
            pipeline.log_metrics({"val": {"rmse": 0.5, "odd": float("nan")}})
        for fold in range(3):
            workspace.catalog.add(
                dataset_name=dataset, model_name="PLS", fold_id=fold, partition="val", metric="rmse",
                val_score=0.1 * fold, pipeline_uid=pipeline.pipeline_id,
                y_true=y[:9].astype(np.float32), y_pred=y[:9].reshape(9, 1) + fold,
                sample_indices=np.arange(9, dtype=np.int16), metadata={"n": [1, 2]},
            )  # fmt: skip
    return workspace


def everything(workspace: Workspace) -> dict[str, Any]:
    rows = sorted(workspace.sql("SELECT * FROM predictions").to_dicts(), key=lambda row: row["id"])
    arrays = workspace.catalog.arrays([row["id"] for row in rows])
    return {
        "records": {(record.dataset, record.artifact_id): record.to_dict() for record in workspace.records()},
        "runs": sorted((run.to_dict() for run in workspace.runs()), key=lambda run: run["dataset"]),
        "pipelines": repr(sorted((p.to_dict() for p in workspace.pipelines()), key=lambda p: p["dataset"])),
        "predictions": rows,
        "arrays": {
            key: {name: a if a is None else (a.dtype.str, a.shape, a.tobytes()) for name, a in named.items()}
            for key, named in arrays.items()
        },
        "blobs": workspace.query("SELECT hex(content_hash), size_bytes FROM blobs ORDER BY 1").to_dicts(),
    }


def test_there_and_back_everything_is_the_same(study: Workspace, tmp_path: Path, xy: Any, fold_models: Any) -> None:
    report = write_out(study, tmp_path / "out")
    assert (report.pipelines, report.artifacts, report.predictions) == (3, 30, 9)
    with Workspace(tmp_path / "back.sqlite") as back:
        taken = take(back, tmp_path / "out", trust=False)
        assert taken.ok
        assert (taken.runs, taken.pipelines, taken.artifacts, taken.predictions) == (3, 3, 30, 9)
        assert everything(back) == everything(study)
        assert back.verify().ok
        for fold, model in enumerate(fold_models):
            record = back.records(dataset="rye", class_name="PLSRegression", fold_id=fold)[0]
            assert np.array_equal(back.load(record.artifact_id, "rye").predict(xy[0]), model.predict(xy[0]))
        big = back.records(dataset="rye", step_index=4)[0]
        assert back.load(big.artifact_id, "rye")["b"].flags.f_contiguous
        again = take(back, tmp_path / "out")
        assert (again.artifacts, again.predictions, again.ok) == (0, 0, True)


def test_what_is_here_with_other_metrics_or_entries_stays_and_is_listed(workspace: Workspace, tmp_path: Path) -> None:
    with Workspace(tmp_path / "theirs.sqlite") as theirs:
        for each, value in ((workspace, 1.0), (theirs, 2.0)):
            with each.run("wheat") as run, run.pipeline([1], name="pls") as pipeline:
                pipeline.registry.register_with_chain({"w": value}, "s1.PLS", "model", 1)
                pipeline.log_metrics({"val": {"rmse": value, "odd": float("nan")}})
            each.library.save_pipeline_full("wheat", pipeline.pipeline_id, "best")
            each.library.save_template([value], "base")
            each.library.save_template(["alike"], "alike")
        write_out(theirs, tmp_path / "out")
        again = take(theirs, tmp_path / "out")
        assert again.ok and again.present["pipelines"] == 1 and again.present["entries"] == 3
    report = take(workspace, tmp_path / "out", trust=True)
    refused = dict(report.refused)
    assert "metrics" in refused[f"wheat/{pipeline.pipeline_id}"]
    assert "with other config" in refused["library/templates/base.json"]
    assert "artifacts" in refused["library/trained/pipeline/best"]
    assert (report.entries, report.present) == (0, {"entries": 1})
    assert workspace.pipelines()[0].metrics["val"]["all"]["rmse"] == 1.0
    assert workspace.library.load_template("base") == [1.0]


def test_every_id_that_register_takes_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    registry = workspace.registry("wheat")
    ids = [
        "0001_pls$00000000000f:all", "0001:3:0", "a weird id", "$x$00000000000f:all", "a$b$00000000000f:0", "$000:all",
        "p$zz:all", "p$00000000000f:01", "x$00000000000f", "..", "a/../b", f"{'p' * 600}$00000000000f:all", "p" * 4096,
    ]  # fmt: skip
    for number, artifact_id in enumerate(ids):
        registry.register({"number": number}, artifact_id, "model")
    workspace.library.save_pipeline_full("runs/wheat", "a$b$00000000000f:0", "odd")
    workspace.export(tmp_path / "tree")
    with Workspace(tmp_path / "again.sqlite") as again:
        report = again.import_folder(tmp_path / "tree")
        assert report.ok and report.artifacts == len(ids) and report.entries == 1
        assert [again.load(artifact_id) for artifact_id in ids] == [{"number": number} for number in range(len(ids))]
        assert {record.artifact_id: record.to_dict() for record in again.records()} == {
            record.artifact_id: record.to_dict() for record in workspace.records()
        }


@pytest.mark.parametrize("pipeline_id", ["", "a\nb", "a\x00b", "\ud800", "p" * 5000, 7])
def test_what_can_be_no_pipeline_is_refused(workspace: Workspace, pipeline_id: Any) -> None:
    with pytest.raises(InvalidIdError, match="cannot be a pipeline id"):
        record_of({"artifact_id": "0001:3:0", "pipeline_id": pipeline_id or "\t"}, "wheat", "0001")
    with pytest.raises(InvalidIdError, match="cannot be a pipeline id"):
        enter_pipeline(workspace.database, {"dataset": "wheat", "pipeline_id": pipeline_id})


def test_files_are_the_bytes_and_names_that_differ_in_case_stay_apart(study: Workspace, tmp_path: Path) -> None:
    write_out(study, tmp_path / "out")
    folders = sorted(path.name for path in (tmp_path / "out" / "binaries").iterdir())
    assert len({name.casefold() for name in folders}) == 3
    for manifest in (tmp_path / "out" / "runs").glob("*/*/manifest.yaml"):
        said = yaml.safe_load(manifest.read_text())
        assert said["schema_version"] == "3.0"
        for item in said["artifacts"]["items"]:
            for file in (item, *item.get("parts", [])):
                data = (tmp_path / "out" / "binaries" / manifest.parts[-3] / file["path"]).read_bytes()
                assert f"sha256:{hashlib.sha256(data).hexdigest()}" == file["content_hash"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"runs", "binaries", "exports", "catalog"}
    assert len(list((tmp_path / "out" / "exports" / "best_predictions").glob("*.csv"))) == 3


def test_a_missing_part_is_refused(study: Workspace, tmp_path: Path) -> None:
    write_out(study, tmp_path / "out", dataset="rye")
    for file in (tmp_path / "out" / "binaries" / "rye").glob("array_*.bin"):
        file.unlink()
    with Workspace(tmp_path / "back.sqlite") as back:
        report = take(back, tmp_path / "out")
        assert len(report.refused) == 2
        assert all("array" in reason for _, reason in report.refused)
        assert back.verify().ok


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "mine", "notes": "n", "dataset": "other", "metrics": {"a": 1}, "extra": 1},
        {"metadata": {"author": "ann"}},
        {"metadata": {"name": "mine"}},
        {"metadata": {"name": "mine"}, "status": 5},
        {"metadata": {}},
    ],
)
def test_metadata_come_back_whatever_their_names(workspace: Workspace, tmp_path: Path, metadata: Any) -> None:
    with workspace.run("wheat") as run:
        pipeline = run.pipeline({"k": 1}, name="pls")
        pipeline.end(metadata=metadata)
    workspace.export(tmp_path / "tree")
    with Workspace(tmp_path / "again.sqlite") as again:
        again.import_folder(tmp_path / "tree")
        found = again.pipeline(pipeline.pipeline_id)
        assert (found.name, found.status, found.metadata) == ("pls", "completed", metadata)


def test_a_target_that_is_there_is_refused_unless_it_is_an_export(study: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    write_out(study, target)  # empty
    with pytest.raises(InvalidValueError, match="overwrite"):
        write_out(study, target)
    write_out(study, target, dataset="rye", overwrite=True)
    assert [path.name for path in (target / "runs").iterdir()] == ["rye"]
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidValueError, match=r"thesis\.txt"):
        write_out(study, target, overwrite=True)
    with pytest.raises(InvalidValueError):
        write_out(study, tmp_path, overwrite=True)
    with pytest.raises(InvalidValueError, match="oats"):
        write_out(study, tmp_path / "new", dataset="oats")
    assert not list(tmp_path.glob("*.unfinished"))


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size_bytes", [100, 2_000, 20_000, 200_000])
def test_a_full_disk_leaves_nothing_behind(study: Workspace, tmp_path: Path, size_bytes: int) -> None:
    study.catalog.flush()
    with disk_of(size_bytes), pytest.raises(StorageFullError):
        write_out(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("out*"))


def test_a_full_disk_while_overwriting_keeps_the_old_export(study: Workspace, tmp_path: Path) -> None:
    write_out(study, tmp_path / "out")
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / "out").rglob("*"))
    with disk_of(2_000), pytest.raises(StorageFullError):
        write_out(study, tmp_path / "out", overwrite=True)
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "out").rglob("*")) == files


def test_an_export_of_nothing_is_a_whole_tree(workspace: Workspace, tmp_path: Path) -> None:
    report = write_out(workspace, tmp_path / "out")
    assert (report.artifacts, report.predictions) == (0, 0)
    assert (tmp_path / "out" / "catalog").is_dir()
