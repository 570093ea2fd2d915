"""Questions to the catalog, in Python and in SQL."""

# ruff: noqa: E501 - statements are kept as one would write them

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import confusion_matrix, mean_squared_error, r2_score
from sklearn.model_selection import KFold

from artifactdb import InvalidValueError, QueryError, Workspace

CHAIN = "s1.{}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two models of five folds on real data, a classifier, and a stack; half of it in Parquet, half staged."""
    x, y = load_diabetes(return_X_y=True)
    with Workspace(tmp_path_factory.mktemp("study") / "study.sqlite") as workspace:
        for number, (model, sites) in enumerate([(PLSRegression(4), "diabetes"), (Ridge(0.5), "diabetes")]):
            name = type(model).__name__
            registry = workspace.registry(sites, f"{number + 1:04}_{name.lower()}")
            for fold, (train, test) in enumerate(KFold(5, shuffle=True, random_state=0).split(x)):
                model.fit(x[train], y[train])
                record = registry.register_with_chain(model, CHAIN.format(name), "model", 1, fold_id=fold)
                workspace.catalog.add_many(
                    {
                        "dataset_name": sites,
                        "pipeline_uid": registry.pipeline_id,
                        "model_name": name,
                        "model_classname": name,
                        "model_artifact_id": record.artifact_id,
                        "fold_id": fold,
                        "partition": partition,
                        "metric": "rmse",
                        "task_type": "regression",
                        "val_score": mean_squared_error(y[test], model.predict(x[test]).ravel()) ** 0.5,
                        "scores": {"val": {"r2": r2_score(y[test], model.predict(x[test]).ravel())}},
                        "best_params": {"rank": number, "kind": "linear"},
                        "y_true": y[rows],
                        "y_pred": model.predict(x[rows]).ravel(),
                        "sample_indices": rows,
                    }
                    for partition, rows in (("train", train), ("val", test), ("test", np.arange(20)))
                )
            workspace.catalog.flush()
        x, classes = load_iris(return_X_y=True)
        classifier = LogisticRegression(max_iter=500).fit(x[::2], classes[::2])
        workspace.catalog.add(
            dataset_name="iris", model_name="logistic", partition="test", metric="accuracy", task_type="classification",
            test_score=classifier.score(x[1::2], classes[1::2]),
            y_true=classes[1::2], y_pred=classifier.predict(x[1::2]),
            y_proba=classifier.predict_proba(x[1::2]),
        )  # fmt: skip
        yield workspace


class TestInPython:
    def test_top_knows_which_metrics_are_better_when_lower(self, study: Workspace) -> None:
        rmse = [row["score"] for row in study.catalog.top(4, "rmse").to_dicts()]
        assert rmse == sorted(rmse) and len(rmse) == 4
        r2 = [row["score"] for row in study.catalog.top(4, "r2").to_dicts()]
        assert r2 == sorted(r2, reverse=True) and 0 < r2[0] < 1, "found in the scores of each row"
        worst = study.catalog.top(1, "rmse", ascending=False)
        assert worst.to_dicts()[0]["score"] > rmse[-1]
        with pytest.raises(InvalidValueError, match="ascending=True"):
            study.catalog.top(1, "shininess")

    def test_top_of_each_group(self, study: Workspace) -> None:
        rows = study.catalog.top(2, "rmse", group_by="model_name").to_dicts()
        assert [row["model_name"] for row in rows] == ["PLSRegression"] * 2 + ["Ridge"] * 2
        assert rows[0]["score"] <= rows[1]["score"]

    def test_best_and_filters(self, study: Workspace) -> None:
        best = study.catalog.best("rmse", model_name="Ridge", fold_id=[1, 2])
        assert best is not None and best["model_name"] == "Ridge" and best["fold_id"] in ("1", "2")
        assert study.catalog.best("rmse", model_name="nothing") is None
        assert len(study.catalog.filter(partition="test", dataset_name="diabetes")) == 10
        assert len(study.catalog.filter(fold_id=None)) == 1

    def test_the_metric_may_be_left_out_where_there_is_one(self, study: Workspace) -> None:
        assert study.catalog.best(dataset_name="diabetes") == study.catalog.best("rmse")
        with pytest.raises(InvalidValueError, match="accuracy, rmse"):
            study.catalog.top(1, partition="test")

    def test_the_scores_of_folds_side_by_side(self, study: Workspace) -> None:
        rows = study.catalog.fold_scores("rmse").to_dicts()
        assert [row["model_name"] for row in rows] == ["PLSRegression", "Ridge"]
        own = {row["fold_id"]: row["score"] for row in study.catalog.top(99, "rmse", model_name="Ridge").to_dicts()}
        assert [rows[1][f"fold_{fold}"] for fold in range(5)] == [own[str(fold)] for fold in range(5)]
        summary = study.catalog.fold_summary("rmse").to_dicts()
        ridge = next(row for row in summary if row["model_name"] == "Ridge")
        assert ridge["folds"] == 5
        assert ridge["mean"] == pytest.approx(np.mean(list(own.values())))
        assert ridge["std"] == pytest.approx(np.std(list(own.values()), ddof=1))
        assert [row["mean"] for row in summary] == sorted(row["mean"] for row in summary)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_predictions_averaged_over_folds(self, study: Workspace, weighted: bool) -> None:
        rows = study.catalog.filter(model_name="Ridge", partition="test").to_dicts()
        predicted = np.array([study.catalog.get(row["id"])["y_pred"] for row in rows])
        weights = np.array([1 / row["val_score"] if weighted else 1.0 for row in rows])
        found = study.catalog.averaged("rmse", "test", weighted, model_name="Ridge").to_dicts()
        np.testing.assert_allclose([row["y_pred"] for row in found], np.average(predicted, 0, weights), rtol=1e-12)
        np.testing.assert_allclose([row["std"] for row in found], predicted.std(0, ddof=1), rtol=1e-9)
        assert {row["folds"] for row in found} == {5}

    def test_folds_vote_for_classes(self, workspace: Workspace) -> None:
        for fold, (predicted, score) in enumerate(
            [([0, 2, 1], 0.5), ([2, 2, 0], 0.5), ([2, 0, 2], 0.25), ([0, 0, 2], 1.0)]
        ):
            workspace.catalog.add(
                dataset_name="d", model_name="m", partition="test", fold_id=fold, metric="accuracy", val_score=score,
                task_type="multiclass_classification", y_true=[0, 2, 2], y_pred=predicted,
            )  # fmt: skip
        for weighted in (False, True):
            found = workspace.catalog.averaged("accuracy", weighted=weighted).to_dicts()
            assert [(row["y_pred"], row["folds"], row["std"]) for row in found] == [
                (0, 4, None),
                (0, 4, None),
                (2, 4, None),
            ]
        workspace.catalog.add(
            dataset_name="d", model_name="m", partition="test", fold_id=4, metric="accuracy", val_score=9.0,
            task_type="multiclass_classification", y_true=[0, 2, 2], y_pred=[1, 1, 1],
        )  # fmt: skip
        assert [row["y_pred"] for row in workspace.catalog.averaged("accuracy", weighted=True).to_dicts()] == [1, 1, 1]

    def test_out_of_fold_predictions_cover_each_sample_once(self, study: Workspace) -> None:
        x, y = load_diabetes(return_X_y=True)
        found = study.catalog.averaged("rmse", "val", model_name="Ridge").to_dicts()
        assert [row["sample_index"] for row in found] == list(range(len(x)))
        np.testing.assert_array_equal([row["y_true"] for row in found], y)

    def test_without_a_metric_the_order_must_be_said(self, workspace: Workspace) -> None:
        for number, score in enumerate((0.3, 0.1, 0.2)):
            workspace.catalog.add(dataset_name="d", model_name="m", partition="val", op_counter=number, val_score=score)
        with pytest.raises(InvalidValueError, match="name no metric"):
            workspace.catalog.best()
        assert [row["score"] for row in workspace.catalog.top(2, ascending=False).to_dicts()] == [0.3, 0.2]
        with pytest.raises(InvalidValueError, match="name no metric"):
            workspace.catalog.fold_summary()
        assert len(workspace.catalog.fold_summary(ascending=True)) == 0, "none of them is of a fold"
        assert workspace.catalog.fold_scores().to_dicts()[0]["dataset_name"] == "d"

    def test_of_nothing_nothing_is_the_best(self, workspace: Workspace) -> None:
        assert len(workspace.catalog.top()) == len(workspace.catalog.fold_summary()) == 0
        assert workspace.catalog.best() is None

    def test_a_metric_that_is_not_known_is_ranked_as_is_said(self, workspace: Workspace) -> None:
        for model, score in (("a", 0.25), ("b", 0.5)):
            for fold in range(2):
                workspace.catalog.add(
                    dataset_name="d", model_name=model, partition="val", fold_id=fold, metric="taste", val_score=score,
                    y_pred=[float(fold)],
                )  # fmt: skip
        with pytest.raises(InvalidValueError, match="ascending"):
            workspace.catalog.fold_summary("taste")
        for ascending, first in ((True, "a"), (False, "b")):
            assert workspace.catalog.fold_summary("taste", ascending=ascending).to_dicts()[0]["model_name"] == first
        averaged = workspace.catalog.averaged("taste", "val", weighted=True, ascending=False)
        assert [row["y_pred"] for row in averaged.to_dicts()] == [0.5, 0.5]

    def test_a_fold_without_a_score_weighs_nothing(self, workspace: Workspace) -> None:
        for fold, (score, predicted) in enumerate([(0.5, 10.0), (0.5, 12.0), (None, 999.0), (float("nan"), 99.0)]):
            workspace.catalog.add(
                dataset_name="d", model_name="m", partition="test", fold_id=fold, metric="rmse", val_score=score,
                y_pred=[predicted],
            )  # fmt: skip
        assert workspace.catalog.averaged("rmse", weighted=True).to_dicts()[0]["y_pred"] == 11.0

    def test_a_metric_of_any_name_is_found_in_the_scores(self, workspace: Workspace) -> None:
        for name in ("p.95", "top_k[3]", "a*"):
            workspace.catalog.add(
                dataset_name="d", model_name=name, partition="val", metric="rmse", val_score=1.0,
                scores={"val": {name: 0.5}},
            )  # fmt: skip
            best = workspace.catalog.best(name, ascending=False)
            assert best is not None and best["score"] == 0.5 and best["model_name"] == name

    def test_samples_are_laid_out_by_the_shape_of_what_was_predicted(self, workspace: Workspace) -> None:
        given = {"dataset_name": "d", "model_name": "m", "partition": "val"}
        several = workspace.catalog.add(
            **given, n_samples=100, y_true=[[1, 2], [3, 4], [5, 6]], y_pred=[[1.5, 2], [3, 4], [5, 6.5]]
        )
        rows = workspace.catalog.residuals(several).to_dicts()
        assert [(row["sample_index"], row["output"]) for row in rows] == [
            (0, 0),
            (0, 1),
            (1, 0),
            (1, 1),
            (2, 0),
            (2, 1),
        ]
        assert [row["residual"] for row in rows] == [0.5, 0, 0, 0, 0, 0.5]
        other = workspace.catalog.add(**given, op_counter=1, y_true=[10, 20], y_pred=[[1.0, 2.0], [3.0, 4.0]])
        assert {row["y_true"] for row in workspace.catalog.residuals(other).to_dicts()} == {None}

    def test_a_perfect_fold_weighs_most(self, workspace: Workspace) -> None:
        for fold, (score, predicted) in enumerate(((0.0, 1.0), (0.5, 2.0))):
            workspace.catalog.add(
                dataset_name="d", model_name="m", partition="test", fold_id=fold, metric="rmse", val_score=score,
                test_score=1.0, y_pred=[predicted],
            )  # fmt: skip
        (row,) = workspace.catalog.averaged("rmse", weighted=True).to_dicts()
        assert row["y_pred"] == pytest.approx(1.0) and row["folds"] == 2

    def test_a_confusion_matrix(self, study: Workspace) -> None:
        (row,) = study.catalog.filter(dataset_name="iris").to_dicts()
        arrays = study.catalog.arrays([row["id"]])[row["id"]]
        assert arrays["y_proba"].shape == (75, 3)
        expected = confusion_matrix(arrays["y_true"], arrays["y_pred"])
        for cell in study.catalog.confusion_matrix(row["id"]).to_dicts():
            assert expected[int(cell["y_true"]), int(cell["y_pred"])] == cell["count"]
        with pytest.raises(InvalidValueError, match="residuals"):
            study.catalog.confusion_matrix(model_name="Ridge")

    def test_residuals(self, study: Workspace) -> None:
        best = study.catalog.best("rmse")
        assert best is not None
        found = study.catalog.residuals(best["id"]).to_dicts()
        arrays = study.catalog.get(best["id"])
        np.testing.assert_array_equal([row["y_pred"] for row in found], arrays["y_pred"])
        np.testing.assert_array_equal([row["sample_index"] for row in found], arrays["sample_indices"])
        np.testing.assert_array_equal([row["residual"] for row in found], arrays["y_pred"] - arrays["y_true"])

    def test_answers_turn_into_what_people_use(self, study: Workspace, tmp_path: Path) -> None:
        found = study.catalog.top(3, "rmse")
        assert (
            len(found.to_pandas()) == len(found.to_polars()) == found.to_arrow().num_rows == len(found.to_dicts()) == 3
        )
        assert "Ridge" in found._repr_html_() or "PLS" in found._repr_html_()
        for suffix in (".parquet", ".json", ".csv"):
            path = found.write(tmp_path / f"best{suffix}")
            assert path.stat().st_size > 100
        assert [row["id"] for row in json.loads((tmp_path / "best.json").read_text())] == [row[0] for row in found]
        again = study.catalog.sql("SELECT 1 AS n, 'NaN'::DOUBLE AS score")
        assert json.loads(again.write(tmp_path / "nan.json").read_text()) == [{"n": 1, "score": "NaN"}]
        with pytest.raises(InvalidValueError, match=r"neither \.csv, \.json nor \.parquet"):
            found.write(tmp_path / "best.xlsx")


class TestInSql:
    def test_scores_with_a_parameter_and_the_size_of_each_fold_model(self, study: Workspace) -> None:
        found = study.sql("""
            SELECT p.val_score, a.parameters ->> 'n_components' AS n_components, a.stored_bytes
            FROM predictions AS p JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id
            WHERE p.partition = 'val' ORDER BY p.val_score LIMIT 10
        """)
        assert len(found) == 10
        assert {row["n_components"] for row in found.to_dicts()} == {"4", None}
        assert all(row["stored_bytes"] > 0 for row in found.to_dicts())

    def test_artifacts_that_no_prediction_uses(self, study: Workspace) -> None:
        sql = "SELECT artifact_id FROM artifacts ANTI JOIN predictions ON model_artifact_id = artifact_id"
        assert study.sql(sql).rows == []
        registry = study.registry("diabetes", "0009_unused")
        unused = registry.register_with_chain(Ridge(), "s1.Ridge", "model", 1)
        assert study.sql(sql).rows == [(unused.artifact_id,)]
        registry.delete_pipeline_artifacts("0009_unused")

    def test_datasets_where_stacking_beat_its_best_source(self, workspace: Workspace) -> None:
        scores = {"corn": (1.0, 2.0, 0.5), "wheat": (1.0, 2.0, 1.5)}
        for dataset, (first, second, stacked) in scores.items():
            registry = workspace.registry(dataset, "0001_stack")
            sources = [
                registry.register_with_chain(Ridge(alpha), "s1.Ridge", "model", 1, fold_id=fold).artifact_id
                for fold, alpha in enumerate((0.1, 0.2))
            ]
            stack = registry.register_meta_model(Ridge(), "0001_stack$aaaaaaaaaaaa:all", sources)
            for artifact_id, score in zip([*sources, stack.artifact_id], (first, second, stacked), strict=True):
                workspace.catalog.add(
                    dataset_name=dataset, model_name=artifact_id, model_artifact_id=artifact_id, partition="val",
                    metric="rmse", val_score=score,
                )  # fmt: skip
        found = workspace.sql("""
            SELECT stack.dataset_name FROM predictions AS stack
            JOIN artifacts AS a ON a.artifact_id = stack.model_artifact_id AND a.dataset = stack.dataset_name
            WHERE a.artifact_type = 'meta_model' AND stack.val_score < (
              SELECT min(source.val_score) FROM dependencies AS d
              JOIN predictions AS source ON source.model_artifact_id = d.depends_on AND source.dataset_name = d.dataset
              WHERE d.artifact_id = a.artifact_id AND d.dataset = a.dataset)
        """)
        assert found.rows == [("corn",)]

    @pytest.mark.parametrize("table", ["artifacts", "chains", "folds", "dependencies", "pipelines", "runs", "library"])
    def test_every_table_of_the_file_can_be_asked(self, study: Workspace, table: str) -> None:
        from artifactdb.catalog.views import TABLES

        found = study.sql(f"SELECT * FROM {table}")
        assert tuple(found.columns) == tuple(TABLES[table])
        (count,) = study.query(f"SELECT count(*) FROM {table}")[0]
        assert len(found) == count

    def test_parameters_by_position_and_by_name(self, study: Workspace) -> None:
        assert study.sql("SELECT count(*) FROM predictions WHERE fold_id = ? AND partition = ?", ["0", "val"])[0] == (
            2,
        )
        assert study.sql("SELECT count(*) FROM predictions WHERE fold_id = $fold", {"fold": "0"})[0] == (6,)

    def test_sums_and_counts_are_plain_numbers(self, study: Workspace) -> None:
        assert study.sql("SELECT sum(n_samples), count(*) FROM predictions WHERE fold_id = '0'").rows == [
            (2 * (353 + 89 + 20), 6)
        ]

    def test_one_statement_sees_one_state(self, study: Workspace) -> None:
        sql = "SELECT (SELECT count(*) FROM predictions) = (SELECT count(DISTINCT id) FROM predictions)"
        assert study.sql(sql)[0] == (True,)

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM predictions",
            "INSERT INTO predictions SELECT * FROM predictions",
            "CREATE TABLE mine AS SELECT 1",
            "DROP VIEW predictions",
            "COPY (SELECT 1) TO 'mine.csv'",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO 'mine.csv'",
            "WITH x AS (COPY (SELECT 1) TO '{folder}/predictions_meta.parquet') SELECT * FROM x",
            "WITH x AS (INSERT INTO t VALUES (1)) SELECT * FROM x",
            "EXPLAIN(ANALYZE) COPY (SELECT 1) TO '{folder}/mine.csv'",
            "EXPLAIN /**/ ANALYZE COPY (SELECT 1) TO '{folder}/mine.csv'",
            "/* a b */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/mine.csv'",
            "EXPLAIN (FORMAT json) COPY (SELECT 1) TO '{folder}/mine.csv'",
            "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/mine.csv'",
            "ATTACH 'other.db'",
            "SET memory_limit = '1TB'",
            "INSTALL sqlite",
            "LOAD sqlite",
            "PRAGMA database_list",
            "CALL pragma_version()",
            "SELECT 1; SELECT 2",
            "",
        ],
    )
    def test_what_does_not_read_is_refused(self, study: Workspace, sql: str) -> None:
        before = sorted(path.name for path in study.catalog.folder.iterdir())
        with pytest.raises(QueryError):
            study.sql(sql.format(folder=study.catalog.folder))
        assert sorted(path.name for path in study.catalog.folder.iterdir()) == before
        assert not study.catalog.verify()

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM glob('/etc/*')",
            "SELECT * FROM read_blob('{path}')",
            "SELECT * FROM read_blob('{folder}/../study.sqlite')",
            "SELECT * FROM read_text('/tmp/*')",
            "SELECT * FROM study",
        ],
    )
    def test_nothing_outside_the_catalog_is_read(self, study: Workspace, sql: str) -> None:
        with pytest.raises(QueryError):
            study.sql(sql.format(path=study.path, folder=study.catalog.folder))

    def test_no_variable_of_python_is_read(self, study: Workspace) -> None:
        frame = study.catalog.top(1, "rmse").to_pandas()
        with pytest.raises(QueryError, match="frame"):
            study.sql("SELECT * FROM frame")
        assert len(frame) == 1

    def test_limits(self, study: Workspace) -> None:
        endless = "SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b WHERE a.range + b.range = 3"
        with pytest.raises(QueryError, match="longer than it was given"):
            study.sql(endless, timeout_s=0.3)
        found = study.sql("SELECT id FROM predictions", max_rows=3)
        assert len(found) == 3 and found.truncated
        assert study.sql("SELECT current_setting('memory_limit')", memory_limit="100MB")[0][0].startswith("95.3")
        with pytest.raises(InvalidValueError, match="memory_limit"):
            study.sql("SELECT 1", memory_limit="plenty")

    def test_what_reads_may_be_asked(self, study: Workspace) -> None:
        for sql in ("EXPLAIN SELECT 1", "DESCRIBE predictions", "SUMMARIZE chains", "VALUES (1)", "FROM chains",
                    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) FROM n",
                    "SELECT 1 UNION SELECT 2", "PIVOT chains ON chain_hash IN ('a') USING count(*)"):  # fmt: skip
            assert len(study.sql(sql)) >= 1

    def test_columns_of_the_same_name_are_told_apart(self, study: Workspace) -> None:
        sql = "SELECT * FROM predictions AS p JOIN artifacts AS a ON a.artifact_id = p.model_artifact_id"
        found = study.sql(sql)
        assert "fold_id_1" in found.columns and len(set(found.columns)) == len(found.columns)
        assert len(found.to_dicts()[0]) == len(found.columns) == found.to_polars().width
        assert study.sql(sql, max_rows=1).columns == found.columns

    def test_numbers_of_numpy_are_parameters_too(self, study: Workspace) -> None:
        assert study.sql("SELECT ? + 1", [np.int64(3)])[0] == (4,)
        with pytest.raises(InvalidValueError, match="a list or a dict"):
            study.sql("SELECT ?", 5)  # type: ignore[arg-type]

    def test_what_is_wrong_is_said(self, study: Workspace) -> None:
        with pytest.raises(QueryError, match="val_scor"):
            study.sql("SELECT val_scor FROM predictions")
        with pytest.raises(QueryError, match="no_table"):
            study.sql("SELECT * FROM no_table")


class TestOnlyWhatIsNeededCrossesOver:
    @pytest.fixture
    def fetched(
        self, study: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[list[tuple[str, tuple[str, ...], int]]]:
        """What was fetched from the file: table, columns, rows."""
        from artifactdb.catalog import semijoin
        from artifactdb.catalog.tables import SqliteDataset

        seen: list[tuple[str, tuple[str, ...], int]] = []
        fetch = SqliteDataset.fetch

        def counted(dataset: SqliteDataset, names: Any, filter: Any = None) -> Any:
            table = fetch(dataset, names, filter)
            seen.append((dataset._table.source, tuple(names), table.num_rows))
            return table

        monkeypatch.setattr(SqliteDataset, "fetch", counted)
        monkeypatch.setattr(semijoin, "_WORTH_IT", 0)
        yield seen

    @pytest.mark.parametrize(
        ("sql", "parameters", "rows"),
        [
            ("SELECT class_name FROM artifacts WHERE fold_id = 3", (), 2),
            ("SELECT class_name FROM artifacts WHERE fold_id IN (1, 2) AND class_name = ?", ("Ridge",), 2),
            ("SELECT class_name FROM artifacts WHERE class_name > 'Q' AND (fold_id = 1 OR fold_id = 2)", (), 2),
            ("SELECT class_name FROM artifacts WHERE chain_path = 's1.Ridge' AND substep_index IS NULL", (), 5),
            (
                "SELECT class_name, val_score FROM predictions AS p JOIN artifacts AS a "
                "ON a.artifact_id = p.model_artifact_id WHERE p.fold_id = '2' AND p.partition = 'val'",
                (),
                2,
            ),
            (
                "SELECT class_name FROM predictions AS p LEFT JOIN artifacts AS a "
                "ON a.artifact_id = p.model_artifact_id WHERE p.fold_id = ? AND p.partition = ?",
                ("2", "val"),
                2,
            ),
            (
                "WITH best AS (SELECT * FROM predictions WHERE partition = $p ORDER BY val_score LIMIT 3) "
                "SELECT class_name FROM best JOIN artifacts ON artifact_id = best.model_artifact_id",
                {"p": "val"},
                3,
            ),
            (
                "WITH best AS (SELECT * FROM predictions WHERE partition = 'val' ORDER BY val_score LIMIT 3) "
                "SELECT class_name FROM best JOIN artifacts AS a ON a.artifact_id = best.model_artifact_id",
                (),
                3,
            ),
            (
                "SELECT class_name FROM artifacts WHERE artifact_id IN "
                "(SELECT model_artifact_id FROM predictions WHERE fold_id = '1')",
                (),
                2,
            ),
            (
                "SELECT 'été', class_name FROM artifacts, predictions "
                "WHERE artifact_id = model_artifact_id AND partition = 'val' AND predictions.fold_id = '1'",
                (),
                2,
            ),
        ],
    )
    def test_rows(
        self,
        study: Workspace,
        fetched: list[Any],
        monkeypatch: pytest.MonkeyPatch,
        sql: str,
        parameters: Any,
        rows: int,
    ) -> None:
        from artifactdb.catalog import semijoin

        found = study.sql(sql, parameters)
        assert [count for source, _, count in fetched if source == "artifacts"] == [rows]
        # The answer is the one that fetching everything gives.
        monkeypatch.setattr(semijoin, "_WORTH_IT", 10**9)
        assert sorted(study.sql(sql, parameters).rows) == sorted(found.rows)

    @pytest.mark.parametrize(
        ("sql", "parameters"),
        [
            # Ties: which of them is taken may differ from one time to the next.
            (
                "WITH p AS (SELECT * FROM predictions QUALIFY row_number() OVER (PARTITION BY model_name ORDER BY partition)"
                " = 1) SELECT count(*), count(a.artifact_id) FROM p LEFT JOIN artifacts a ON a.artifact_id = "
                "p.model_artifact_id WHERE p.model_name IN ('Ridge', 'PLSRegression')",
                (),
            ),
            (
                "WITH p AS (SELECT * FROM predictions WHERE dataset_name = 'diabetes' ORDER BY partition LIMIT 4) "
                "SELECT count(*), count(a.artifact_id) FROM p LEFT JOIN artifacts a ON a.artifact_id = p.model_artifact_id",
                (),
            ),
            # Placeholders are numbered as they are written, not as the parser lists them.
            (
                "WITH p AS (SELECT * FROM predictions WHERE fold_id = ? ORDER BY id LIMIT ?) "
                "SELECT p.id, a.class_name FROM p JOIN artifacts a ON a.artifact_id = p.model_artifact_id ORDER BY 1",
                ("1", 50),
            ),
            (
                "SELECT a.artifact_id FROM artifacts a WHERE a.artifact_id IN (SELECT model_artifact_id FROM predictions "
                "WHERE step_idx = ? AND fold_id >= ? ORDER BY id LIMIT ?) ORDER BY 1",
                (0, "1", 50),
            ),
            # Names are those of the place where they stand.
            (
                "SELECT * FROM (WITH predictions AS (SELECT artifact_id AS model_artifact_id FROM folds) SELECT a.artifact_id "
                "FROM artifacts a JOIN predictions p ON a.artifact_id = p.model_artifact_id) ORDER BY 1",
                (),
            ),
            (
                "WITH predictions AS (SELECT p.id, upper(p.model_artifact_id) AS model_artifact_id, a.class_name "
                "FROM predictions p LEFT JOIN artifacts a ON a.artifact_id = p.model_artifact_id) "
                "SELECT * FROM predictions ORDER BY id",
                (),
            ),
            (
                "WITH c AS (SELECT 'zzzz' AS t, min(artifact_id) AS k FROM folds) SELECT a.artifact_id FROM c "
                "ASOF JOIN artifacts a ON c.t >= a.artifact_id WHERE a.artifact_id = c.k",
                (),
            ),
            (
                "SELECT count(*) FROM artifacts AS a(dataset, artifact_id) JOIN predictions p ON a.artifact_id = p.dataset_name",
                (),
            ),
            (
                "WITH p AS (SELECT upper(model_artifact_id) AS model_artifact_id FROM predictions) SELECT count(*) "
                "FROM p JOIN artifacts a ON upper(a.artifact_id) = p.model_artifact_id",
                (),
            ),
            (
                "WITH p AS (SELECT * REPLACE (upper(model_artifact_id) AS model_artifact_id) FROM predictions) "
                "SELECT count(*) FROM artifacts a LEFT JOIN p ON a.artifact_id = p.model_artifact_id",
                (),
            ),
            (
                "WITH p AS (SELECT * RENAME (y_true_id AS model_artifact_id, model_artifact_id AS y_true_id) FROM predictions) "
                "SELECT count(*) FROM p LEFT JOIN artifacts a ON a.artifact_id = p.y_true_id WHERE a.artifact_id IS NOT NULL",
                (),
            ),
        ],
    )
    def test_a_narrowed_answer_is_the_answer(
        self, study: Workspace, fetched: list[Any], monkeypatch: pytest.MonkeyPatch, sql: str, parameters: Any
    ) -> None:
        from artifactdb.catalog import semijoin

        narrowed = study.sql(sql, parameters).rows
        monkeypatch.setattr(semijoin, "_WORTH_IT", 10**9)
        assert study.sql(sql, parameters).rows == narrowed

    def test_columns(self, study: Workspace, fetched: list[Any]) -> None:
        study.sql("SELECT max(stored_bytes) FROM artifacts WHERE class_name = 'Ridge'")
        ((_, columns, count),) = fetched
        assert set(columns) == {"stored_bytes", "class_name"} and count == 5

    @pytest.mark.parametrize(
        "sql",
        [
            "FROM artifacts AS a LEFT JOIN predictions AS p ON a.artifact_id = p.model_artifact_id AND p.fold_id = '1'",
            "FROM artifacts AS a ANTI JOIN predictions AS p ON a.artifact_id = p.model_artifact_id AND p.fold_id = '1'",
            "FROM artifacts WHERE artifact_id NOT IN (SELECT model_artifact_id FROM predictions WHERE fold_id = '1')",
            "FROM artifacts AS a JOIN predictions AS p ON a.artifact_id = p.model_artifact_id OR a.fold_id = 1",
            "FROM artifacts AS a FULL JOIN predictions AS p ON a.artifact_id = p.model_artifact_id",
            "FROM artifacts JOIN artifacts b USING (artifact_id) JOIN predictions ON model_artifact_id = artifact_id",
            "FROM artifacts WHERE artifact_id = (SELECT min(artifact_id) FROM artifacts)",
            "FROM artifacts WHERE EXISTS (FROM predictions WHERE model_artifact_id = artifact_id AND step_idx = 0)",
            "FROM (SELECT artifact_id FROM artifacts UNION ALL SELECT artifact_id FROM folds)",
        ],
    )
    def test_a_statement_that_needs_everything_gets_it(
        self, study: Workspace, fetched: list[Any], monkeypatch: pytest.MonkeyPatch, sql: str
    ) -> None:
        from artifactdb.catalog import semijoin

        sql = f"SELECT count(*) {sql}"
        narrowed = study.sql(sql).rows
        monkeypatch.setattr(semijoin, "_WORTH_IT", 10**9)
        assert study.sql(sql).rows == narrowed


@pytest.mark.parametrize("table", ["artifacts", "chains", "folds", "dependencies", "runs", "metrics", "library"])
def test_both_engines_know_the_same_columns(workspace: Workspace, table: str) -> None:
    ours = workspace.query(f"SELECT * FROM {table} LIMIT 0").columns
    duckdbs = workspace.sql(f"SELECT * FROM {table} LIMIT 0").columns
    assert set(duckdbs) >= set(ours) - INTERNAL, set(ours) - set(duckdbs)


INTERNAL = {"chain_key", "row_check"}
