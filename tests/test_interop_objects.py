"""Plain folders of files of fitted objects come in, one artifact a file, and are not executed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from artifactdb import InvalidValueError, Workspace
from artifactdb.chain import OperatorChain
from artifactdb.interop.classes import class_of
from artifactdb.interop.importing import import_folder
from artifactdb.interop.objects import name_of
from artifactdb.interop.report import ImportReport


def take(workspace: Workspace, path: Path, **options: Any) -> ImportReport:
    return import_folder(workspace.database, workspace.catalog, path, **{"trust": True, **options})


@pytest.fixture
def models(tmp_path: Path, fitted: dict[str, Any], fold_models: list[Any]) -> Path:
    folder = tmp_path / "my models"
    (folder / "study" / "pls").mkdir(parents=True)
    for fold, model in enumerate(fold_models):
        joblib.dump(model, folder / "study" / "pls" / f"fold_{fold}.joblib", compress=("gzip", 3) if fold % 2 else 0)
    joblib.dump(fitted["scaler"], folder / "study" / "scaler.joblib")
    (folder / "ridge-fold3.pkl").write_bytes(pickle.dumps(fitted["ridge"], 2))
    (folder / "forest.pickle").write_bytes(pickle.dumps(fitted["forest"], 5))
    joblib.dump(fitted["svr"], folder / "svr (best)>1.pkl", compress=("xz", 3))
    return folder


def test_a_folder_comes_in_with_chains_and_folds(
    workspace: Workspace, models: Path, fold_models: list[Any], xy: tuple[Any, Any]
) -> None:
    report = take(workspace, models)
    assert report.ok
    assert report.artifacts == 9
    assert workspace.datasets() == ["my models"]
    records = workspace.records(class_name="PLSRegression")
    assert {(record.chain_path, record.pipeline_id) for record in records} == {("s1.study>s2.pls", "study_pls")}
    for record in workspace.records():
        assert OperatorChain.from_path(record.chain_path).to_path() == record.chain_path
        if record.class_name == "PLSRegression":
            expected = fold_models[record.fold_id].predict(xy[0])  # type: ignore[index]
            assert np.array_equal(workspace.load(record.artifact_id).predict(xy[0]), expected)
    by_class = {record.class_name: record for record in workspace.records()}
    ridge = by_class["Ridge"]
    assert (ridge.fold_id, ridge.format, ridge.pipeline_id) == (3, "pickle", "ridge")
    assert by_class["StandardScaler"].artifact_type == "transformer"
    assert by_class["SVR"].format == "joblib"
    workspace.load(by_class["SVR"].artifact_id).predict(xy[0])


def test_importing_twice_changes_nothing(workspace: Workspace, models: Path) -> None:
    take(workspace, models)
    again = take(workspace, models)
    assert (again.artifacts, again.present["artifacts"], again.ok) == (0, 9, True)


def test_a_dry_run_writes_nothing(workspace: Workspace, models: Path) -> None:
    report = take(workspace, models, dry_run=True)
    assert (report.artifacts, report.dry_run) == (9, True)
    assert workspace.datasets() == []


def test_one_file_comes_in_under_a_given_dataset(workspace: Workspace, models: Path) -> None:
    report = take(workspace, models / "forest.pickle", dataset="wheat")
    assert report.artifacts == 1
    assert workspace.records()[0].dataset == "wheat"


def test_another_content_under_the_same_name_is_refused(workspace: Workspace, models: Path, fitted: Any) -> None:
    take(workspace, models)
    joblib.dump(fitted["minmax"], models / "study" / "scaler.joblib")
    report = take(workspace, models)
    assert [what.partition("$")[0] for what, _ in report.refused] == ["study"]
    assert workspace.records(class_name="StandardScaler")


class _Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_nothing_is_executed(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "bomb.pkl").write_bytes(pickle.dumps(_Bomb()))
    (folder / "noise.joblib").write_bytes(b"\x80\x05no pickle at all")
    assert take(workspace, folder).artifacts == 2
    assert not (tmp_path / "exploded").exists()
    assert {record.class_name for record in workspace.records()} >= {"Unknown"}


def test_links_that_lead_outside_are_refused(workspace: Workspace, models: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.pkl").write_bytes(pickle.dumps({"a": 1}))
    (models / "link.pkl").symlink_to(tmp_path / "secret.pkl")
    report = take(workspace, models)
    assert [what for what, _ in report.refused] == ["link.pkl"]
    assert report.artifacts == 9


def test_files_of_one_stem_stay_apart(workspace: Workspace, tmp_path: Path, fitted: Any) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    joblib.dump(fitted["ridge"], folder / "a.joblib")
    (folder / "a.pkl").write_bytes(pickle.dumps(fitted["pls"]))
    assert take(workspace, folder).artifacts == 2


LONG = "x" * 100


@pytest.mark.parametrize(
    "names",
    [
        ("alpha 0.1", "alpha=0.1", "alpha_0.1"),
        (f"{LONG}1", f"{LONG}2", f"{LONG}3"),
        (f"a/{LONG}1", f"a/{LONG}2", f"a/{LONG}3"),
        ("a/b", "a_b", "a b"),
    ],
)
def test_folders_of_like_names_are_pipelines_of_their_own(
    workspace: Workspace, tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = tmp_path / "models"
    for name in names:
        (folder / name).mkdir(parents=True)
        for fold in range(2):
            joblib.dump((name, fold), folder / name / f"fold_{fold}.joblib")
    report = take(workspace, folder)
    assert (report.ok, report.pipelines, report.artifacts) == (True, 3, 6)
    folds: dict[str, set[Any]] = {}
    for record in workspace.records():
        name, fold = workspace.load(record.artifact_id)
        folds.setdefault(record.pipeline_id, set()).add((name, fold, record.fold_id))
    assert sorted(map(sorted, folds.values())) == sorted([(name, 0, 0), (name, 1, 1)] for name in names)
    assert take(workspace, folder).present == {"pipelines": 3, "artifacts": 6}


def test_files_of_like_names_stay_apart(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    names = [f"{text}.{suffix}" for text in ("alpha 0.1", "alpha=0.1", "alpha_0.1") for suffix in ("joblib", "pkl")]
    names += ["fold_0/of fold.pkl", "Fold 0/of=fold.pkl", "fold-0/of_fold.pkl", "fold.0/of_fold.pkl"]
    for name in names:
        (folder / "grid" / name).parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(name, folder / "grid" / name)
    report = take(workspace, folder)
    assert (report.ok, report.pipelines, report.artifacts) == (True, 1, len(names))
    assert sorted(workspace.load(record.artifact_id) for record in workspace.records()) == sorted(names)
    assert take(workspace, folder).present == {"pipelines": 1, "artifacts": len(names)}


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are Unicode there")
def test_a_folder_whose_name_is_no_utf8_comes_in_and_is_written_down(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "m\udcff"
    folder.mkdir()
    joblib.dump({"a": 1}, folder / "a.joblib")
    assert workspace.import_folder(folder, dataset="wheat").artifacts == 1
    (event,) = (event for event in workspace.history() if event.act == "imported" and not event.artifact_id)
    assert event.details == {"from": "m\\udcff", "artifacts": 1}


def test_other_folders_say_what_was_looked_for(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InvalidValueError, match=r"store\.sqlite"):
        take(workspace, tmp_path)


@pytest.mark.parametrize(
    ("path", "pipeline", "parts", "fold"),
    [
        ("pls.joblib", ("pls",), ("pls",), None),
        ("fold_3.pkl", ("root",), ("root",), 3),
        ("fold_0/model.pkl", ("model",), ("model",), 0),
        ("a/fold-12/b.pkl", ("a",), ("a", "b"), 12),
        ("a/b_fold7.pkl", ("a",), ("a", "b"), 7),
        ("scaffold3.pkl", ("scaffold3",), ("scaffold3",), None),
        ("a b/c[0]=d.pkl", ("a_b",), ("a_b", "c_0_d"), None),
    ],
)
def test_paths_are_read(path: str, pipeline: tuple[str, ...], parts: tuple[str, ...], fold: int | None) -> None:
    named = name_of(Path(path), "root")
    assert (named.pipeline, named.parts, named.fold_id) == (pipeline, parts, fold)


@pytest.mark.parametrize("protocol", range(6))
def test_classes_are_found_without_loading(fitted: dict[str, Any], protocol: int, tmp_path: Path) -> None:
    for obj in fitted.values():
        assert class_of(pickle.dumps(obj, protocol))[1] == type(obj).__name__
        for compress in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)):
            joblib.dump(obj, tmp_path / "x", compress=compress, protocol=protocol)
            assert class_of((tmp_path / "x").read_bytes())[1] == type(obj).__name__
    joblib.dump(np.arange(100.0), tmp_path / "x", protocol=protocol)
    assert class_of((tmp_path / "x").read_bytes())[1] == "ndarray"
