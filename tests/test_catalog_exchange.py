"""Predictions come from nirs4all 0.6.2 and go back to it; CSV for everybody else."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from artifactdb import CatalogFileError, InvalidValueError, Workspace, WorkspaceNotFoundError
from artifactdb.catalog.columns import ARRAYS, VALUES

WRITTEN = Path(__file__).parent / "data" / "nirs4all-0.6.2"  # by nirs4all itself, on fermentation spectra

THEIRS = """
import contextlib, io, json, sys
import numpy as np
from nirs4all.data.predictions import Predictions
folder, write = sys.argv[1], sys.argv[2] == "write"
with contextlib.redirect_stdout(io.StringIO()):
    if write:
        theirs = Predictions()
        for number in range(40):
            theirs.add_prediction(
                dataset_name="corn", config_name=f"{number // 5:04}_pls", pipeline_uid=f"{number // 5:04}_pls",
                step_idx=3, model_name="PLS", model_classname="PLSRegression", fold_id=number % 5, partition="val",
                sample_indices=list(range(6)), weights=[0.5, 0.5], metadata={"operator": "ann"}, y_true=np.arange(6.0),
                y_pred=np.arange(6.0)[:, None] + 0.1 * number, y_proba=np.full((6, 2), number / 40.0),
                val_score=number / 7, best_params={"n_components": 3}, scores={"val": {"rmse": number / 7}},
                metric="rmse", n_samples=6,
            )
        theirs.save_to_parquet(folder)
    loaded = Predictions.load_from_parquet(folder)
    rows = loaded.to_dicts(load_arrays=True)
print(json.dumps([{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()} for row in rows]))
"""


def test_the_pair_that_nirs4all_wrote_comes_in_whole(workspace: Workspace) -> None:
    catalog = workspace.catalog
    ids = catalog.import_parquet(WRITTEN)
    theirs = pq.read_table(WRITTEN / "fermentation.meta.parquet").to_pylist()
    arrays = {
        row["array_id"]: np.array(row["array_data"], float).reshape(json.loads(row["array_shape"]))
        for row in pq.read_table(WRITTEN / "fermentation.arrays.parquet").to_pylist()
    }
    assert ids == [row["id"] for row in theirs] and len(ids) == 120
    for step in (lambda: None, catalog.compact):
        step()
        held = catalog.arrays(ids)
        ours = {row["id"]: row for row in catalog.filter().to_dicts()}
        for row in theirs:
            for name in VALUES:
                assert plain(ours[row["id"]][name]) == plain(row[name]), (row["id"], name)
            for name in ARRAYS:
                found, expected = held[row["id"]][name], arrays[row[f"{name}_id"]]
                assert found.dtype == expected.dtype and found.shape == expected.shape
                assert np.array_equal(found, expected)
    assert catalog.import_parquet(WRITTEN) == ids and len(catalog) == 120, "a second time changes nothing"


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestWithNirs4allItself:
    @pytest.fixture
    def theirs(self) -> Any:
        from benchmarks.peer_environment import DEFAULT_FOLDER, NIRS4ALL, peer_python

        python = peer_python(NIRS4ALL, DEFAULT_FOLDER)

        def run(folder: Path, what: str) -> list[dict[str, Any]]:
            done = subprocess.run(
                [python, "-c", THEIRS, str(folder), what], capture_output=True, text=True, check=False, cwd=folder
            )
            assert done.returncode == 0, done.stderr
            rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return rows

        return run

    def test_it_reads_what_we_wrote(self, workspace: Workspace, theirs: Any) -> None:
        catalog = workspace.catalog
        catalog.import_parquet(WRITTEN)
        catalog.add_many(
            {
                "dataset_name": "corn", "model_name": "PLS", "partition": "val", "fold_id": fold, "metric": "rmse",
                "val_score": fold / 3, "best_params": {"n_components": fold}, "y_true": np.arange(5, dtype=np.int32),
                "y_pred": np.arange(5, dtype=np.float32) / 3, "y_proba": np.eye(5), "sample_indices": np.arange(5),
            }
            for fold in range(4)
        )  # fmt: skip
        catalog.compact()
        read = {row["id"]: row for row in theirs(catalog.folder, "read")}
        ours = catalog.filter().to_dicts()
        assert len(read) == len(ours) == 124
        held = catalog.arrays(list(read))
        for row in ours:
            for name in VALUES:
                assert plain(read[row["id"]][name]) == plain(row[name]), name
            for name in ARRAYS:
                mine = held[row["id"]][name]
                if mine is not None:
                    assert np.array_equal(
                        np.array(read[row["id"]][name], float).reshape(mine.shape), mine.astype(float)
                    )

    def test_we_read_what_it_writes(self, workspace: Workspace, theirs: Any, tmp_path: Path) -> None:
        folder = tmp_path / "theirs"
        folder.mkdir()
        expected = theirs(folder, "write")
        ids = workspace.catalog.import_parquet(folder)
        assert len(set(ids)) == len(expected) == 40
        for row in expected:
            found = workspace.catalog.get(row["id"])
            for name in VALUES:
                assert found[name] == plain(row[name]), name
            for name in ARRAYS:
                assert found[name].tolist() == row[name]


def plain(value: Any) -> Any:
    """Give what a column holds, read where it is JSON."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


class TestBadPairs:
    def test_a_missing_half_is_named(self, workspace: Workspace, tmp_path: Path) -> None:
        with pytest.raises(WorkspaceNotFoundError, match=r"predictions_meta\.parquet is not there"):
            workspace.catalog.import_parquet(tmp_path)
        (tmp_path / "a.meta.parquet").write_bytes((WRITTEN / "fermentation.meta.parquet").read_bytes())
        with pytest.raises(WorkspaceNotFoundError, match=r"a\.arrays\.parquet is not there"):
            workspace.catalog.import_parquet(tmp_path)
        with pytest.raises(InvalidValueError, match="data_path"):
            workspace.catalog.import_parquet(tmp_path / "other.parquet")

    def test_what_is_no_parquet_leaves_nothing(self, workspace: Workspace, tmp_path: Path) -> None:
        (tmp_path / "a.meta.parquet").write_bytes((WRITTEN / "fermentation.meta.parquet").read_bytes())
        (tmp_path / "a.arrays.parquet").write_bytes(b"PAR1 and nothing else")
        with pytest.raises(CatalogFileError, match="no Parquet file"):
            workspace.catalog.import_parquet(tmp_path)
        assert len(workspace.catalog) == 0

    def test_rows_that_name_absent_arrays_leave_nothing(self, workspace: Workspace, tmp_path: Path) -> None:
        (tmp_path / "a.meta.parquet").write_bytes((WRITTEN / "fermentation.meta.parquet").read_bytes())
        arrays = pq.read_table(WRITTEN / "fermentation.arrays.parquet")
        pq.write_table(arrays.slice(0, 50), tmp_path / "a.arrays.parquet")
        with pytest.raises(CatalogFileError, match="does not hold"):
            workspace.catalog.import_parquet(tmp_path)
        assert len(workspace.catalog) == 0


def test_a_prediction_as_csv(workspace: Workspace, tmp_path: Path) -> None:
    catalog = workspace.catalog
    ids = catalog.import_parquet(WRITTEN)
    path = catalog.export_csv(ids[0])
    assert path.parent == workspace.path.with_suffix(".exports") / "best_predictions"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    given = catalog.get(ids[0])
    assert list(rows[0]) == ["y_true", "y_pred", "sample_index", "fold", "partition"]
    assert [float(row["y_pred"]) for row in rows] == given["y_pred"].ravel().tolist()
    assert [int(row["sample_index"]) for row in rows] == given["sample_indices"].astype(int).tolist()
    assert {(row["fold"], row["partition"]) for row in rows} == {("0", "train")}
    assert catalog.export_csv(ids[1], tmp_path / "one.csv") == tmp_path / "one.csv"
    assert catalog.export_csv(ids[1], tmp_path).parent == tmp_path
