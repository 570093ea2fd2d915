"""The catalog: predictions added in transactions, moved to Parquet, deleted, and what bad input gets."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artifactdb import (
    ArtifactDBError,
    ArtifactRegistry,
    Catalog,
    CatalogFileError,
    DuplicateError,
    InvalidValueError,
    PredictionNotFoundError,
    RunNotFoundError,
    Workspace,
)
from artifactdb.catalog.columns import COLUMNS


@pytest.fixture
def catalog(workspace: Workspace) -> Catalog:
    return workspace.catalog


def prediction(number: int = 0, **changes: Any) -> dict[str, Any]:
    fold, pipeline = number % 5, number // 5
    return {
        "dataset_name": "wheat",
        "config_name": f"{pipeline:04}_pls",
        "pipeline_uid": f"{pipeline:04}_pls",
        "step_idx": 3,
        "model_name": "PLS",
        "fold_id": fold,
        "partition": "val",
        "metric": "rmse",
        "val_score": 0.1 * (number + 1),
        "y_true": np.arange(4.0),
        "y_pred": np.arange(4.0) + 0.1 * number,
    } | changes


def files(catalog: Catalog) -> list[str]:
    return sorted(path.name for path in catalog.folder.iterdir()) if catalog.folder.exists() else []


TWO_FILES = ["predictions_data.parquet", "predictions_meta.parquet"]


class TestAdding:
    def test_what_was_added_comes_back(self, catalog: Catalog) -> None:
        given = prediction(3, best_params={"n_components": np.int64(4)}, scores={"val": {"r2": 0.9}}, branch_id=1)
        found = catalog.get(catalog.add(**given))
        for name in ("dataset_name", "pipeline_uid", "step_idx", "val_score", "branch_id"):
            assert found[name] == given[name]
        assert found["fold_id"] == "3"
        assert found["best_params"] == {"n_components": 4}
        assert found["scores"] == {"val": {"r2": 0.9}}
        assert found["n_samples"] == 4
        assert found["test_score"] is None and found["y_proba"] is None
        np.testing.assert_array_equal(found["y_pred"], given["y_pred"])

    def test_the_same_prediction_has_the_same_id_in_every_process(self, catalog: Catalog, in_new_process: Any) -> None:
        code = (
            "import sys; from artifactdb.catalog.rows import to_columns; "
            "print(to_columns([dict(dataset_name='wheat', model_name='PLS', partition='val', fold_id=2)])[0][0][0])"
        )
        own = catalog.add(dataset_name="wheat", model_name="PLS", partition="val", fold_id=2)
        assert in_new_process(code, PYTHONHASHSEED="7") == own

    def test_adding_again_changes_nothing_wherever_the_row_lies(self, catalog: Catalog) -> None:
        rows = [prediction(number, val_score=[1.0, math.nan, math.inf][number % 3]) for number in range(6)]
        ids = catalog.add_many(rows)
        assert catalog.add_many(rows) == ids and len(catalog) == 6
        catalog.flush()
        assert catalog.add_many(rows + rows[:2]) == ids + ids[:2] and len(catalog) == 6
        catalog.compact()
        assert catalog.add_many(rows) == ids and len(catalog) == 6

    def test_the_same_id_with_other_content_is_refused_and_named(self, catalog: Catalog) -> None:
        catalog.add(**prediction(1))
        for _ in range(2):
            with pytest.raises(DuplicateError, match=r"other content \(val_score, y_pred_id\)"):
                catalog.add_many([prediction(2), prediction(1, val_score=9.0, y_pred=np.ones(4))])
            assert len(catalog) == 1
            catalog.flush()

    def test_each_array_is_stored_once_in_the_whole_catalog(self, catalog: Catalog) -> None:
        for start in (0, 3, 6):
            catalog.add_many(prediction(number) for number in range(start, start + 3))
            catalog.flush()
        assert catalog.sql("SELECT count(*) FROM arrays WHERE array_type = 'y_true'")[0] == (1,)
        # y_pred of the first one equals y_true.
        assert catalog.sql("SELECT count(*), count(DISTINCT array_id) FROM arrays")[0] == (9, 9)

    def test_a_transaction_takes_predictions_along_with_artifacts(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        with pytest.raises(RuntimeError), workspace.transaction():
            record = registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            workspace.catalog.add(**prediction(model_artifact_id=record.artifact_id))
            joined = workspace.sql(
                "SELECT class_name FROM predictions JOIN artifacts ON artifact_id = model_artifact_id"
            )
            assert joined.rows == [("PLSRegression",)], "the transaction sees its own rows"
            raise RuntimeError
        assert len(workspace.catalog) == 0 and registry.get_all_records() == []
        with workspace.transaction():
            record = registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            workspace.catalog.add(**prediction(model_artifact_id=record.artifact_id))
        assert len(workspace.catalog) == 1

    def test_an_iterable_that_raises_half_way_leaves_nothing(self, catalog: Catalog) -> None:
        def rows() -> Iterator[dict[str, Any]]:
            yield prediction(0)
            raise RuntimeError

        with pytest.raises(RuntimeError):
            catalog.add_many(rows())
        assert len(catalog) == 0

    @pytest.mark.campaign
    def test_very_many_go_straight_to_files_all_or_none(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("artifactdb.catalog.catalog._STAGED_AT_MOST", 10)
        monkeypatch.setattr("artifactdb.catalog.bulk._AT_ONCE", 20)
        rows = [prediction(number, val_score=[0.5, math.nan, math.inf][number % 3]) for number in range(50)]
        staged = catalog.add_many(rows[:5])
        with pytest.raises(DuplicateError):
            catalog.add_many([*rows[:40], prediction(3, val_score=9.0)])
        assert len(catalog) == 5 and files(catalog) == []
        # The numbers of the files that were taken back go to others: nothing may be remembered of the first.
        more = [prediction(number) for number in range(100, 130)]
        with Workspace(catalog.database.path) as other:
            others = other.catalog.add_many(more)
        assert catalog.add_many(more) == others and len(catalog) == 35
        assert not catalog.verify()
        catalog.delete(others)
        ids = catalog.add_many(rows)
        assert ids[:5] == staged and len(catalog) == 50 and len(set(ids)) == 50
        assert catalog.database.value("SELECT count(*) FROM staged_predictions") == 5
        assert catalog.add_many(iter(rows)) == ids and len(catalog) == 50
        for row, prediction_id in zip(rows, ids, strict=True):
            np.testing.assert_array_equal(catalog.get(prediction_id)["y_pred"], row["y_pred"])
        assert not catalog.verify()
        catalog.compact()
        assert len(catalog) == 50 and not catalog.verify()

    @settings(max_examples=15, deadline=None)
    @given(
        array=hnp.arrays(
            dtype=st.one_of(
                hnp.integer_dtypes(endianness="?"),
                hnp.unsigned_integer_dtypes(endianness="?"),
                hnp.floating_dtypes(endianness="?"),
                hnp.complex_number_dtypes(endianness="?"),
                hnp.boolean_dtypes(),
            ),
            shape=hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=6),
        )
    )
    def test_an_array_of_any_numeric_dtype_and_shape_comes_back(
        self, tmp_path_factory: pytest.TempPathFactory, array: Any
    ) -> None:
        with Workspace(tmp_path_factory.mktemp("any") / "study.sqlite") as workspace:
            added = workspace.catalog.add(dataset_name="d", model_name="m", partition="val", weights=array)
            for step in (lambda: None, workspace.catalog.flush, workspace.catalog.compact):
                step()
                found = workspace.catalog.get(added)["weights"]
                assert found.shape == array.shape
                assert found.dtype == array.dtype.newbyteorder("<")
                assert found.tobytes() == array.astype(found.dtype).tobytes(), "to the last bit, NaNs included"


class TestFiles:
    def test_flushing_moves_rows_and_compacting_leaves_two_files(self, catalog: Catalog) -> None:
        for start in range(0, 40, 10):
            catalog.add_many(prediction(number) for number in range(start, start + 10))
            before = catalog.filter().to_dicts()
            assert catalog.flush() == 10
            assert sorted_rows(before) == sorted_rows(catalog.filter().to_dicts())
        assert catalog.flush() == 0
        assert catalog.compact()
        assert files(catalog) == TWO_FILES
        assert sorted_rows(before) == sorted_rows(catalog.filter().to_dicts())
        assert not catalog.compact(), "nothing is left to do"

    @pytest.mark.campaign
    def test_many_small_flushes_do_not_leave_many_files(self, catalog: Catalog) -> None:
        for number in range(40):
            catalog.add(**prediction(number))
            catalog.flush()
        assert len(files(catalog)) <= 14
        assert len(catalog) == 40

    def test_staged_rows_move_when_the_workspace_closes(self, tmp_path: Path) -> None:
        with Workspace(tmp_path / "study") as workspace:
            workspace.catalog.add(**prediction())
            assert not (tmp_path / "study" / "catalog").exists()
        assert len(list((tmp_path / "study" / "catalog").iterdir())) == 2
        with Workspace(tmp_path / "study", mode="ro") as workspace:
            assert workspace.database.value("SELECT count(*) FROM staged_predictions") == 0
            assert len(workspace.catalog) == 1

    def test_staged_rows_move_by_themselves_when_they_are_many(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("artifactdb.catalog.catalog._FLUSH_ROWS", 10)
        catalog.add_many(prediction(number) for number in range(9))
        assert files(catalog) == []
        catalog.add(**prediction(9))
        assert len(files(catalog)) == 2

    def test_a_staged_row_is_seen_at_once_by_another_process(
        self, workspace: Workspace, catalog: Catalog, in_new_process: Any
    ) -> None:
        count = (
            "import sys; from artifactdb import Workspace; "
            "print(Workspace(sys.argv[1], mode='ro').sql('SELECT count(*) FROM predictions')[0][0])"
        )
        catalog.add(**prediction(0))
        assert in_new_process(count, workspace.path) == "1"
        catalog.flush()
        catalog.add(**prediction(1))
        assert in_new_process(count, workspace.path) == "2"

    def test_a_reader_in_the_middle_keeps_its_files(self, catalog: Catalog) -> None:
        from artifactdb.catalog.files import remove_unread

        catalog.add_many(prediction(number) for number in range(5))
        catalog.compact()
        with_reader = catalog.folder / TWO_FILES[1]
        started, done = threading.Event(), threading.Event()

        def read() -> None:
            from artifactdb.catalog.views import state_of

            with state_of(catalog.database, catalog._store.inspector):
                started.set()
                done.wait(20)

        reader = threading.Thread(target=read)
        reader.start()
        started.wait(20)
        assert not remove_unread(with_reader)
        done.set()
        reader.join()
        assert len(catalog) == 5

    def test_row_groups_are_skipped_by_what_people_filter_on(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import pyarrow.parquet as pq

        monkeypatch.setattr("artifactdb.catalog.parquet.META_ROWS_A_GROUP", 1)
        monkeypatch.setattr("artifactdb.catalog.parquet.ROWS_A_BATCH", 250)
        catalog.add_many(
            prediction(number, dataset_name=f"site_{number % 4}", partition=("train", "val", "test")[number % 3])
            for number in range(3000)
        )
        catalog.compact()
        footer = pq.ParquetFile(catalog.folder / TWO_FILES[1]).metadata
        column = footer.schema.names.index("dataset_name")
        ranges = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
        assert footer.num_row_groups >= 10
        assert sum(one.min <= "site_2" <= one.max for one in ranges) <= footer.num_row_groups / 4 + 2

    def test_the_catalog_goes_through_a_pickle(self, catalog: Catalog) -> None:
        catalog.add(**prediction())
        copy = pickle.loads(pickle.dumps(catalog))
        assert len(copy) == 1
        copy.database.close()

    def test_a_backup_takes_the_files_along(self, workspace: Workspace, catalog: Catalog, tmp_path: Path) -> None:
        catalog.add_many(prediction(number) for number in range(3))
        catalog.flush()
        catalog.add(**prediction(3))
        workspace.backup(tmp_path / "copy.sqlite")
        with Workspace(tmp_path / "copy.sqlite") as copy:
            assert len(copy.catalog) == 4
            assert copy.verify().ok
        with pytest.raises(InvalidValueError, match="is there already"):
            workspace.backup(tmp_path / "copy.sqlite")
        assert (tmp_path / "copy.sqlite").exists(), "what was there stays"


def sorted_rows(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((repr(tuple(row[name] for name in COLUMNS)),) for row in rows)


def test_what_each_adding_asks_is_answered_by_an_index(workspace: Workspace) -> None:
    from artifactdb.catalog.catalog import STAGED_ROWS
    from artifactdb.catalog.files import LIVE
    from artifactdb.catalog.staging import STAGED_BY_ID
    from artifactdb.catalog.views import DELETED_IN

    for sql, values in ((STAGED_ROWS, ()), (STAGED_BY_ID, ("[]",)), (LIVE, ()), (DELETED_IN, ())):
        plan = [row[3] for row in workspace.database.rows(f"EXPLAIN QUERY PLAN {sql}", values)]
        harmless = ("json_each", "CONSTANT", "subquery")
        scans = [step for step in plan if step.startswith("SCAN") and not any(word in step for word in harmless)]
        # The files are few, and the whole list is wanted.
        assert all("catalog_files" in step or step == "SCAN f" for step in scans), plan
    assert "SEARCH" in str(workspace.database.rows(f"EXPLAIN QUERY PLAN {STAGED_ROWS}"))


class TestDeleting:
    def test_by_id_by_filter_and_by_pipeline(self, catalog: Catalog) -> None:
        ids = catalog.add_many(prediction(number) for number in range(20))
        catalog.flush()
        ids += catalog.add_many(prediction(number) for number in range(20, 30))
        assert catalog.delete(ids[0]) == 1
        assert catalog.delete([ids[1], ids[25], "unknown"]) == 2
        assert catalog.delete(pipeline_uid="0003_pls") == 5
        assert catalog.delete(fold_id=[3, 4], pipeline_uid="0005_pls") == 2
        assert len(catalog) == 20
        assert catalog.delete(pipeline_uid="0003_pls") == 0
        assert not catalog.verify()

    def test_space_comes_back_when_compacting(self, catalog: Catalog) -> None:
        rng = np.random.default_rng(0)
        catalog.add_many(prediction(number, y_pred=rng.normal(size=4)) for number in range(2000))
        catalog.compact()
        before = sum(path.stat().st_size for path in catalog.folder.iterdir())
        assert catalog.delete(fold_id=[0, 1, 2, 3]) == 1600
        assert catalog.compact()
        assert files(catalog) == TWO_FILES
        after = sum(path.stat().st_size for path in catalog.folder.iterdir())
        assert after < before / 2
        assert len(catalog) == 400
        assert catalog.sql("SELECT count(*) FROM arrays")[0] == (401,)

    def test_long_arrays_are_sorted_a_part_at_a_time(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("artifactdb.catalog.merging._SORTED_BYTES", 100_000)
        rng = np.random.default_rng(0)
        expected = {}
        for _ in range(3):
            rows = [prediction(number, y_pred=rng.normal(size=400), y_true=None) for number in range(60)]
            for number, row in enumerate(rows):
                row["model_name"] = f"m{len(expected) + number}"
            expected |= dict(zip(catalog.add_many(rows), (row["y_pred"] for row in rows), strict=True))
            catalog.flush()
        catalog.compact()
        found = catalog.arrays(list(expected))
        assert all(np.array_equal(found[key]["y_pred"], values) for key, values in expected.items())
        ids = pq.read_table(catalog.folder / "predictions_data.parquet", columns=["array_id"]).column(0).to_pylist()
        assert ids == sorted(set(ids))
        assert len(ids) == 180

    def test_by_run(self, workspace: Workspace, catalog: Catalog, fitted: dict[str, Any]) -> None:
        registry = workspace.registry("wheat", "0000_pls")
        registry.start_run()
        registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        registry.end_run()
        catalog.add_many(prediction(number) for number in range(10))
        ((run_id,),) = workspace.sql("SELECT run_id FROM runs")
        assert catalog.delete(run_id=run_id) == 5
        assert {row["pipeline_uid"] for row in catalog.filter().to_dicts()} == {"0001_pls"}
        with pytest.raises(RunNotFoundError, match="no run"):
            catalog.delete(run_id="99")

    def test_a_deletion_is_taken_back_with_its_transaction(self, workspace: Workspace, catalog: Catalog) -> None:
        catalog.add_many(prediction(number) for number in range(4))
        catalog.flush()
        catalog.add_many(prediction(number) for number in range(4, 8))
        with pytest.raises(RuntimeError), workspace.transaction():
            assert catalog.delete(model_name="PLS") == 8
            assert len(catalog) == 0
            raise RuntimeError
        assert len(catalog) == 8

    def test_what_was_deleted_can_be_added_again(self, catalog: Catalog) -> None:
        (first,) = catalog.add_many([prediction(1)])
        catalog.flush()
        catalog.delete(first)
        assert catalog.add(**prediction(1, val_score=7.0)) == first
        for step in (lambda: None, catalog.flush, catalog.compact):
            step()
            assert catalog.filter(id=first).to_dicts()[0]["val_score"] == 7.0
            assert len(catalog) == 1

    def test_everything_can_be_deleted(self, catalog: Catalog) -> None:
        catalog.add_many(prediction(number) for number in range(4))
        catalog.compact()
        assert catalog.delete(dataset_name="wheat") == 4
        catalog.compact()
        assert files(catalog) == TWO_FILES and len(catalog) == 0
        catalog.add(**prediction(1))
        assert len(catalog) == 1

    def test_deleting_needs_to_be_told_what(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidValueError, match="not said"):
            catalog.delete()


class TestWhileAMergeIsUnderWay:
    """Others go on between the moment a merge reads its state and the moment it commits."""

    @pytest.mark.parametrize("merge", ["flush", "compact"])
    def test_what_is_deleted_meanwhile_stays_deleted(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, merge: str
    ) -> None:
        ids = catalog.add_many(prediction(number) for number in range(6))
        catalog.flush()
        ids += catalog.add_many(prediction(number) for number in range(6, 12))

        def meanwhile() -> None:
            catalog.delete([ids[0], ids[6]])
            catalog.delete(ids[7])
            assert catalog.add(**prediction(7, val_score=5.0)) == ids[7]
            catalog.add(**prediction(12))

        in_between(monkeypatch, meanwhile)
        getattr(catalog, merge)()
        assert len(catalog) == 11
        assert catalog.filter(id=ids[7]).to_dicts()[0]["val_score"] == 5.0
        catalog.compact()
        assert len(catalog) == 11
        assert catalog.filter(id=ids[7]).to_dicts()[0]["val_score"] == 5.0
        assert not catalog.verify()

    def test_an_array_that_finds_a_new_prediction_meanwhile_is_kept(
        self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = catalog.add_many(prediction(number) for number in range(3))
        catalog.compact()
        catalog.delete(ids[2])
        wanted = prediction(2)["y_pred"]
        in_between(monkeypatch, lambda: catalog.add(**prediction(40, y_pred=wanted)))
        catalog.compact()
        (row,) = catalog.filter(pipeline_uid="0008_pls").to_dicts()
        np.testing.assert_array_equal(catalog.get(row["id"])["y_pred"], wanted)
        assert not catalog.verify()


def in_between(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    from artifactdb.catalog import merging

    publish = merging._publish

    def delayed(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(merging, "_publish", publish)
        action()
        publish(*arguments, **options)

    monkeypatch.setattr(merging, "_publish", delayed)


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"y_pred": np.arange(3.0)}, "y_true has 4 samples and y_pred has 3"),
            ({"sample_indices": [1]}, "sample_indices has 1 samples and y_pred has 4"),
            ({"sample_indices": np.arange(8).reshape(4, 2)}, "one for each sample"),
            ({"sample_indices": [0, 1, 2, 3.5]}, "sample_indices are whole numbers"),
            ({"sample_indices": [0, 1, 2, math.nan]}, "sample_indices are whole numbers"),
            ({"y_pred": np.array(["a", None], object)}, "dtype object"),
            ({"y_pred": ["a", "b", "c", "d"]}, "the catalog keeps numbers"),
            ({"y_pred": [[1.0], [2.0, 3.0]]}, "is not an array"),
            ({"y_pred": np.zeros((2, 2, 2))}, "3 dimensions"),
            ({"val_score": "good"}, "val_score is a number"),
            ({"step_idx": 1.5}, "step_idx is a whole number"),
            ({"step_idx": 2**70}, "does not fit 64 bits"),
            ({"model_name": 7}, "model_name is text"),
            ({"model_name": ""}, "needs model_name"),
            ({"dataset_name": None}, "needs dataset_name"),
            ({"best_params": {"a": object()}}, "cannot be written as JSON"),
            ({"best_params": "{"}, "cannot be written as JSON"),
            ({"metadata": {"file": "\udcff"}}, "metadata cannot be written as JSON"),
            ({"val_scores": 1.0}, "Did you mean val_score"),
        ],
    )
    def test_is_refused_with_a_reason_and_leaves_nothing(
        self, catalog: Catalog, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidValueError, match=message):
            catalog.add_many([prediction(1), prediction(2, **changes)])
        assert len(catalog) == 0

    def test_scores_that_are_no_numbers_are_told_apart_from_missing_ones(self, catalog: Catalog) -> None:
        scores = [1.5, math.nan, math.inf, -math.inf, None]
        ids = catalog.add_many(prediction(number, val_score=score) for number, score in enumerate(scores))
        for step in (lambda: None, catalog.flush, catalog.compact):
            step()
            found = {row["id"]: row["val_score"] for row in catalog.filter().to_dicts()}
            assert [repr(found[prediction_id]) for prediction_id in ids] == [
                repr(float(score)) if score is not None else "None" for score in scores
            ]
            assert [row["val_score"] for row in catalog.top(9, "rmse").to_dicts()] == [-math.inf, 1.5, math.inf]

    def test_the_best_score_is_a_number_where_one_is(self, workspace: Workspace, catalog: Catalog) -> None:
        for scores, best in ([0.5, 0.9], 0.9), ([0.5, math.nan], math.nan):
            catalog.add_many(prediction(number, val_score=score) for number, score in enumerate(scores))
            for step in (lambda: None, catalog.flush, catalog.compact):
                step()
                ((found, least),) = workspace.sql("SELECT max(val_score), min(val_score) FROM predictions").rows
                assert (repr(found), least) == (repr(best), 0.5)
                assert len(workspace.sql("SELECT id FROM predictions WHERE val_score > 0.7")) == 1, "NaN is above all"
            catalog.delete(partition="val")
            catalog.compact()

    def test_what_is_rounded_is_not_computed_with(self, catalog: Catalog) -> None:
        far = np.arange(4) + 202403150001234567
        row = catalog.add(**{**prediction(1, partition="test", sample_indices=far), "fold_id": 0})
        for ask in (lambda: catalog.averaged("rmse"), lambda: catalog.residuals(row)):
            with pytest.raises(InvalidValueError, match=r"an array indices holds whole numbers beyond 2\*\*53"):
                ask()
        np.testing.assert_array_equal(catalog.get(row)["sample_indices"], far)

    def test_an_id_is_a_text(self, catalog: Catalog) -> None:
        catalog.add(**prediction(1, id="05"))
        for ask in (catalog.get, lambda one: catalog.arrays([one]), lambda one: catalog.delete([one])):
            with pytest.raises(InvalidValueError, match="an id is a text, not a int"):
                ask(5)  # type: ignore[arg-type]
        assert len(catalog) == 1

    def test_an_empty_array_is_as_one_left_out(self, catalog: Catalog) -> None:
        row = catalog.add(**prediction(1, y_pred=[], y_true=[1.0, 2.0]))
        assert catalog.get(row)["y_true"].tolist() == [1.0, 2.0]

    def test_a_number_is_compared_with_text_as_the_text_that_it_is(self, catalog: Catalog) -> None:
        catalog.add_many({**prediction(number), "pipeline_uid": uid} for number, uid in enumerate(["1", "01", "0001"]))
        assert catalog.delete(pipeline_uid=1, dry_run=True) == 1
        rows = catalog.filter(pipeline_uid=[np.int64(1), "0001"]).to_dicts()
        assert sorted(row["pipeline_uid"] for row in rows) == ["0001", "1"]

    def test_a_filter_on_an_unknown_column_says_which_there_are(self, catalog: Catalog) -> None:
        with pytest.raises(InvalidValueError, match=r"no column 'modelname'.*Did you mean model_name\?.*dataset_name"):
            catalog.filter(modelname="PLS")
        with pytest.raises(InvalidValueError, match="no column"):
            catalog.top(3, "rmse", group_by="fold")

    def test_an_unknown_id_is_named(self, catalog: Catalog) -> None:
        with pytest.raises(PredictionNotFoundError, match="abc"):
            catalog.get("abc")
        with pytest.raises(KeyError):
            catalog.arrays(["abc"])

    def test_a_merge_inside_a_transaction_is_refused(self, workspace: Workspace, catalog: Catalog) -> None:
        with pytest.raises(InvalidValueError, match="inside a transaction"), workspace.transaction():
            catalog.flush()


class TestDamage:
    """A file that was deleted, truncated or swapped is named; the rest still answers."""

    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Iterator[Workspace]:
        with Workspace(tmp_path / "study.sqlite") as workspace:
            workspace.catalog.add_many(prediction(number) for number in range(10))
            workspace.catalog.flush()
            workspace.database.rows("UPDATE catalog_files SET rows = 200000")  # too large for a flush to take along
            workspace.catalog.add_many(prediction(number) for number in range(10, 13))
            workspace.catalog.flush()
            workspace.catalog.add(**prediction(13))
            yield workspace

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda path: path.unlink(), "is not there"),
            (lambda path: path.write_bytes(path.read_bytes()[:-100]), "bytes where"),
            (lambda path: path.write_bytes(path.read_bytes()[:-20] + b"x" * 20), "other content than was written"),
            (lambda path: path.chmod(0), None),
        ],
        ids=["deleted", "truncated", "swapped", "unreadable"],
    )
    def test_is_named_and_the_rest_answers(self, damaged: Workspace, damage: Any, message: str | None) -> None:
        catalog = damaged.catalog
        (name,) = catalog.database.row("SELECT name FROM catalog_files WHERE kind = 'meta' ORDER BY file_key") or ()
        path = catalog.folder / name
        damage(path)
        if message is None:
            return  # root reads everything; tests/test_permissions.py runs as somebody else
        with pytest.raises(CatalogFileError, match=message) as caught:
            len(catalog)
        assert caught.value.file == str(path) and name in str(caught.value)
        # Arrays and records do not need that file; staged rows and the other file answer when asked so.
        assert damaged.sql("SELECT count(*) FROM arrays")[0][0] > 10
        assert damaged.sql("SELECT count(*) FROM artifacts")[0] == (0,)
        assert damaged.sql("SELECT count(*) FROM predictions", skip_damaged=True)[0] == (4,)
        # New predictions can still be added, and a merge loses nothing of what was damaged.
        with pytest.raises(CatalogFileError):
            catalog.compact()
        problems = damaged.verify().problems
        assert [problem.where for problem in problems] == [str(path)]

    def test_a_lost_file_can_be_given_up(self, damaged: Workspace) -> None:
        catalog = damaged.catalog
        (name,) = catalog.database.row("SELECT name FROM catalog_files WHERE kind = 'meta' ORDER BY file_key") or ()
        (catalog.folder / name).unlink()
        with pytest.raises(CatalogFileError):
            catalog.compact()
        assert catalog.compact(skip_damaged=True)
        assert len(catalog) == 4 and not catalog.verify()
        catalog.add(**prediction(0))
        assert len(catalog) == 5

    @pytest.mark.parametrize("kind", ["meta", "data"])
    def test_a_wrong_bit_is_never_written_again_as_if_it_were_right(
        self, damaged: Workspace, tmp_path: Path, kind: str
    ) -> None:
        catalog = damaged.catalog
        (name,) = catalog.database.row(f"SELECT name FROM catalog_files WHERE kind = '{kind}' ORDER BY rows") or ()
        path = catalog.folder / name
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 4
        path.write_bytes(content)
        catalog.add(**prediction(14))
        catalog.flush()
        assert path.exists(), "the flush did not take it along"
        for write in (
            catalog.compact,
            lambda: damaged.pack(tmp_path / "packed.sqlite"),
            lambda: damaged.export(tmp_path / "exported", layout="v3"),
        ):
            with pytest.raises(CatalogFileError, match="other content than was written"):
                write()
        with Workspace(tmp_path / "other.sqlite") as other, pytest.raises(CatalogFileError):
            other.merge(damaged)
        assert [problem.where for problem in damaged.verify().problems] == [str(path)]
        assert catalog.compact(skip_damaged=True)
        assert damaged.verify().ok
        for row in catalog.filter().to_dicts():  # of a lost array the prediction is left, with its scores
            arrays = catalog.arrays(row["id"])[row["id"]]
            assert row["val_score"] is not None and (arrays["y_pred"] is None) <= (kind == "data")

    def test_an_array_that_is_not_as_it_was_written_is_not_given(self, tmp_path: Path) -> None:
        with Workspace(tmp_path / "study.sqlite") as workspace:
            catalog = workspace.catalog
            (given,) = catalog.add_many([prediction(0)])
            catalog.flush()
            (path,) = catalog.folder.glob("*data*")
            whole = path.read_bytes()
            found = 0
            for place in range(4, len(whole) - 2000, 37):  # within the pages
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
                try:
                    arrays = catalog.arrays([given])[given]
                except ArtifactDBError:
                    found += 1
                else:
                    assert np.array_equal(arrays["y_pred"], prediction(0)["y_pred"])
            assert found
            path.write_bytes(whole)
            workspace.database.rows("DELETE FROM catalog_files WHERE kind = 'data'")
            with pytest.raises(CatalogFileError, match="is not there as it was written"):
                catalog.get(given)

    def test_a_changed_byte_in_the_middle_is_found_by_verify(self, damaged: Workspace) -> None:
        path = min(damaged.catalog.folder.glob("*data*"))
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)
        assert [problem.where for problem in damaged.catalog.verify()] == [str(path)]

    def test_a_folder_that_stayed_behind_is_looked_for_by_name(self, damaged: Workspace, tmp_path: Path) -> None:
        folder = damaged.catalog.folder
        damaged.catalog.flush()
        damaged.close()
        moved = tmp_path / "elsewhere" / "study.sqlite"
        moved.parent.mkdir()
        damaged.path.rename(moved)
        with Workspace(moved) as workspace:
            expected = tmp_path / "elsewhere" / "study.catalog"
            with pytest.raises(CatalogFileError, match=f"The folder {expected} is not there: it belongs beside"):
                len(workspace.catalog)
            folder.rename(expected)
            assert len(workspace.catalog) == 14
