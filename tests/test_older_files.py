"""Files that earlier versions wrote: each schema's is kept in ``golden/`` and must open, load and verify for ever."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifactdb import CorruptWorkspaceError, UntrustedArtifactError, Workspace, recover
from artifactdb.database.migrations import latest_version
from tests.campaigns.studies import copied
from tests.golden.make import CHAIN, CONFIGURATION, fold_model, prediction, scaler

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("schema_*.sqlite"))
DRAFTS = sorted(GOLDEN.glob("draft_*.tar.gz"))
"""Of schemas 1 and 2 before they were settled, with predictions beside them from the second on."""


def test_each_schema_left_a_file() -> None:
    assert [file.name for file in FILES] == [f"schema_{number}.sqlite" for number in range(1, latest_version() + 1)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_of_an_earlier_version_gives_everything_back(file: Path, tmp_path: Path) -> None:
    copy = copied(file, tmp_path / "study.sqlite")
    with Workspace(copy) as workspace:
        assert workspace.database.value("PRAGMA user_version") == latest_version()
        assert not workspace.verify().problems
        assert_all_loads(workspace)


def assert_all_loads(workspace: Workspace) -> None:
    workspace.trust()  # what was written before there were signatures is nobody's
    loader = workspace.loader("wheat")
    assert_equal(loader.load_by_chain("s1.MinMaxScaler"), scaler())
    for fold in range(3):
        assert_equal(loader.load_by_chain(CHAIN, fold), fold_model(fold))
    (stack,) = workspace.query("SELECT artifact_id FROM artifacts WHERE artifact_type = 'meta_model'")
    _, sources, columns = loader.load_meta_model_with_sources(stack[0])
    assert [model["rows"][0] for _, model in sources] == [0, 1, 2]
    assert columns == ["a", "b", "c"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_same_objects_still_have_the_same_content_hashes(file: Path, tmp_path: Path) -> None:
    with Workspace(copied(file, tmp_path / "study.sqlite")) as workspace:
        blobs = "SELECT count(*) FROM blobs"
        before = workspace.database.value(blobs)
        registry = workspace.registry("wheat", "0002_again")
        formats = dict(workspace.query("SELECT chain_path, format FROM artifacts WHERE pipeline_id = '0001_pls'").rows)
        for fold in range(3):
            registry.register_with_chain(fold_model(fold), CHAIN, "model", 3, fold_id=fold, format_hint=formats[CHAIN])
        registry.register_with_chain(
            scaler(), "s1.MinMaxScaler", "transformer", 1, format_hint=formats["s1.MinMaxScaler"]
        )
        assert workspace.database.value(blobs) == before


@pytest.mark.parametrize("file", FILES[1:], ids=lambda file: file.stem)
def test_predictions_of_an_earlier_version_are_all_there(file: Path, tmp_path: Path) -> None:
    with Workspace(copied(file, tmp_path / "study.sqlite")) as workspace:
        (chain,) = {row[0] for row in workspace.query("SELECT chain_hash FROM chains WHERE chain_path = ?", [CHAIN])}
        assert len(workspace.catalog) == 3
        for fold in range(3):
            expected = prediction(fold, f"0001_pls${chain}:{fold}")
            (row,) = workspace.catalog.filter(fold_id=fold).to_dicts()
            found = workspace.catalog.get(row["id"])
            for name, value in expected.items():
                if isinstance(value, np.ndarray):
                    assert found[name].dtype == value.dtype
                    assert np.array_equal(found[name], value)
                else:
                    assert found[name] == (str(value) if name == "fold_id" else value) or value != value
        # The same prediction is still known as the same.
        workspace.catalog.add_many(prediction(fold, f"0001_pls${chain}:{fold}") for fold in range(3))
        assert len(workspace.catalog) == 3
        assert workspace.catalog.compact()
        assert len(workspace.catalog) == 3


@pytest.mark.parametrize("file", FILES[2:], ids=lambda file: file.stem)
def test_runs_and_library_of_an_earlier_version_are_all_there(file: Path, tmp_path: Path) -> None:
    with Workspace(copied(file, tmp_path / "study.sqlite")) as workspace:
        workspace.trust()
        (run,) = workspace.runs("wheat")
        assert (run.name, run.status, run.tags, run.notes) == ("first", "completed", ["nir"], "by hand")
        assert run.configuration == {"folds": 3}
        (pipeline,) = workspace.pipelines(run_id=run.run_id)
        assert pipeline.configuration == CONFIGURATION
        assert pipeline.metrics["val"]["0"] == {"rmse": 0.25}
        library = workspace.library
        assert library.load_template("baseline") == CONFIGURATION
        assert library.get("numbers")["metrics"]["val"]["rmse"] == 0.5
        assert len(library.load("quality_v1")) == 5
        assert np.array_equal(library.load_data("everything")["X"], np.eye(3))
        with Workspace(library.export("everything", tmp_path / "cut.sqlite")) as cut:
            assert len(cut.catalog) == 3


def test_runs_and_templates_are_taken_over_from_the_tables_of_schema_2(tmp_path: Path) -> None:
    # Written at the last commit of schema 2, which had tables of their own for both.
    path = tmp_path / "study.sqlite"
    path.write_bytes(gzip.decompress((GOLDEN / "runs_of_schema_2.sqlite.gz").read_bytes()))
    with Workspace(path) as workspace:
        assert workspace.library.load_template("baseline") == [{"class": "MinMaxScaler"}]
        (template,) = workspace.library.list_templates()
        assert (template["description"], template["category"], template["tags"]) == ("as in the lab", "nir", ["pls"])
        assert sorted(run.status for run in workspace.runs("wheat")) == ["completed", "interrupted"]
        died = workspace.registry("wheat", "0002_died")
        assert died.cleanup_failed_run() == 1, "what a process that died left is still known to be its"
        assert [record.pipeline_id for record in workspace.records()] == ["0001_done"]


@pytest.mark.parametrize("file", FILES[3:], ids=lambda file: file.stem)
def test_history_of_an_earlier_version_is_there_and_its_signatures_are_somebody_else_s(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home"))
    with Workspace(copied(file, tmp_path / "study.sqlite")) as workspace:
        added = [event for event in workspace.history() if event.act == "added"]
        assert {event.artifact_id for event in added} == {record.artifact_id for record in workspace.records()}
        pickled = next(record for record in workspace.records() if record.format == "pickle5")
        with pytest.raises(UntrustedArtifactError, match=r"signed with the key [0-9a-f]{16}, which is not yours"):
            workspace.load(pickled.artifact_id)
        workspace.trust()
        workspace.load(pickled.artifact_id)


def assert_equal(found: Any, expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype
            assert found[name].flags.f_contiguous == value.flags.f_contiguous
            assert np.array_equal(found[name], value)
        else:
            assert found[name] == value


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda file: file.name.partition(".")[0])
def test_all_is_taken_out_of_a_file_that_an_early_draft_wrote(draft: Path, tmp_path: Path) -> None:
    with tarfile.open(draft) as packed:
        packed.extractall(tmp_path, filter="data")
    (old,) = tmp_path.glob("*.sqlite")
    with pytest.raises(CorruptWorkspaceError, match=r"early draft .* `artifactdb recover"):
        Workspace(old)
    recovery = recover(old, tmp_path / "new.sqlite")
    assert recovery.ok, str(recovery)
    with Workspace(tmp_path / "new.sqlite") as workspace:
        assert workspace.verify().ok
        assert len(workspace.records()) == 5
        assert_all_loads(workspace)
        if "draft_2" in draft.name:
            found = [workspace.catalog.get(row["id"]) for row in workspace.catalog.filter().to_dicts()]
            for row in found:
                assert np.array_equal(row["y_pred"], prediction(int(row["fold_id"]), "")["y_pred"])
            assert len(found) == 3
