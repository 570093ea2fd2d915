"""The store of nirs4all 1.4 comes in: runs, pipelines, chains, artifacts, predictions and arrays."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifactdb import BusyError, InvalidValueError, NotAWorkspaceError, StorageError, Workspace, compute_chain_hash
from artifactdb.interop.chain_search import ChainSearch, Wanted
from artifactdb.interop.importing import import_folder
from artifactdb.interop.report import ImportReport

SCHEMA = """
CREATE TABLE runs (run_id TEXT PRIMARY KEY, name TEXT NOT NULL, config TEXT, datasets TEXT, status TEXT,
  created_at TIMESTAMP, completed_at TIMESTAMP, summary TEXT, error TEXT, project_id TEXT);
CREATE TABLE projects (project_id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE pipelines (pipeline_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, name TEXT NOT NULL, expanded_config TEXT,
  dataset_name TEXT NOT NULL, status TEXT, created_at TIMESTAMP, best_val REAL, metric TEXT, from_the_future TEXT);
CREATE TABLE chains (chain_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, steps TEXT NOT NULL,
  model_step_idx INTEGER NOT NULL, model_class TEXT NOT NULL, fold_artifacts TEXT, shared_artifacts TEXT,
  branch_path TEXT, model_name TEXT, metric TEXT, cv_val_score REAL, cv_scores TEXT);
CREATE TABLE predictions (prediction_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, chain_id TEXT,
  dataset_name TEXT NOT NULL, model_name TEXT NOT NULL, model_class TEXT NOT NULL, fold_id TEXT NOT NULL,
  partition TEXT NOT NULL, val_score REAL, metric TEXT NOT NULL, task_type TEXT NOT NULL, scores TEXT, best_params TEXT,
  refit_context TEXT, created_at TIMESTAMP);
CREATE TABLE artifacts (artifact_id TEXT PRIMARY KEY, artifact_path TEXT NOT NULL, content_hash TEXT NOT NULL,
  operator_class TEXT, artifact_type TEXT, format TEXT, size_bytes INTEGER, created_at TIMESTAMP);
CREATE TABLE logs (log_id TEXT PRIMARY KEY, pipeline_id TEXT NOT NULL, message TEXT);
"""
AT = "2026-11-23 21:35:36"
P = "1aa0d94a-df35-4e66-8785-026a774a70ac"
STEPS: list[Any] = ["sklearn.preprocessing.MinMaxScaler", {"y_processing": "sklearn.preprocessing.MinMaxScaler"},
         {"model": {"class": "sklearn.cross_decomposition.PLSRegression"}}, {"model": "sklearn.linear_model.Ridge"},
         {"model": {"class": "Meta", "params": {"model": "R", "source_models": ["R", "PLSRegression"]}}}]  # fmt: skip


def take(workspace: Workspace, path: Path, **options: Any) -> ImportReport:
    return import_folder(workspace.database, workspace.catalog, path, **{"trust": True, **options})


class Store:
    """A store as nirs4all 1.4 leaves it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "arrays").mkdir(parents=True)
        self.rows: list[dict[str, Any]] = []
        connection = self.open()
        connection.executescript(SCHEMA)
        connection.close()

    def open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path / "store.sqlite")

    def insert(self, table: str, **values: Any) -> None:
        plain = {name: json.dumps(v) if isinstance(v, dict | list) else v for name, v in values.items()}
        connection = self.open()
        with connection:
            marks = ", ".join("?" * len(plain))
            connection.execute(f"INSERT INTO {table} ({', '.join(plain)}) VALUES ({marks})", list(plain.values()))
        connection.close()

    def artifact(self, obj: Any, artifact_id: str, kind: str, class_name: str | None = None) -> str:
        held = io.BytesIO()
        joblib.dump(obj, held)
        digest = hashlib.sha256(held.getvalue()).hexdigest()
        name = f"{digest[:2]}/{kind}_{digest[:12]}.joblib"
        (self.path / "artifacts" / digest[:2]).mkdir(parents=True, exist_ok=True)
        (self.path / "artifacts" / name).write_bytes(held.getvalue())
        self.insert("artifacts", artifact_id=artifact_id, artifact_path=name, content_hash=f"sha256:{digest}",
                    operator_class=class_name or type(obj).__name__, artifact_type=kind, format="joblib",
                    size_bytes=len(held.getvalue()), created_at=AT)  # fmt: skip
        return artifact_id

    def prediction(self, prediction_id: str, chain: str, fold: str, arrays: dict[str, Any] | None, **more: Any) -> None:
        values = {
            "prediction_id": prediction_id, "pipeline_id": P, "chain_id": chain, "dataset_name": "wheat",
            "model_name": "PLSRegression", "model_class": "PLSRegression", "fold_id": fold, "partition": "val",
            "val_score": 0.5, "metric": "rmse", "task_type": "regression", "scores": {"val": {"rmse": 0.5}},
            "best_params": "{}", "created_at": AT, **more,
        }  # fmt: skip
        self.insert("predictions", **values)
        if arrays is not None:
            self.rows.append({"prediction_id": prediction_id, **arrays})

    def write_arrays(self) -> None:
        fields = [("prediction_id", pa.string())]
        fields += [(name, pa.list_(pa.float64())) for name in ("y_true", "y_pred", "y_proba", "X", "weights")]
        fields += [(name, pa.list_(pa.int32())) for name in ("y_proba_shape", "sample_indices")]
        fields += [(name, pa.string()) for name in ("y_true_labels", "y_pred_labels", "sample_metadata")]
        pq.write_table(pa.Table.from_pylist(self.rows, pa.schema(fields)), self.path / "arrays" / "wheat.parquet")


def of(chain: str, fold: Any = "all", pipeline: str = P) -> str:
    return f"{pipeline}${compute_chain_hash(chain)}:{fold}"


@pytest.fixture
def store(tmp_path: Path, fitted: dict[str, Any]) -> Store:
    made = Store(tmp_path / "theirs")
    made.insert("projects", project_id="pr", name="flour")
    made.insert("runs", run_id="r1", name="first", config={"n": 1}, datasets=[{"name": "wheat"}, {"name": "rye"}],
                status="completed", created_at=AT, completed_at=AT, summary={"best": 0.5}, project_id="pr")  # fmt: skip
    made.insert("pipelines", pipeline_id=P, run_id="r1", name="pls_1", expanded_config=STEPS, dataset_name="wheat",
                status="completed", created_at=AT, best_val=0.5, metric="rmse", from_the_future="kept")  # fmt: skip
    scaler = made.artifact(fitted["minmax"], of("s1.MinMaxScaler[src=0,sub=0]"), "transformer")
    encoder = made.artifact(fitted["scaler"], of("s2.y_MinMaxScaler[sub=1]"), "encoder", "MinMaxScaler")
    for chain, name, step, kind, obj in (
        ("s3.PLSRegression[sub=0]", "PLSRegression", 3, "model", "pls"),
        ("s4.Ridge[sub=0]", "R", 4, "model", "ridge"),
        ("s5.Meta_Ridge", "Stack", 5, "meta_model", "svr"),
    ):
        class_name = chain.partition(".")[2].partition("[")[0].removeprefix("Meta_")
        folds = {f"fold_{fold}": made.artifact(fitted[obj], of(chain, fold), kind, class_name) for fold in (0, 1)}
        steps = [
            {"step_idx": 1, "operator_class": "MinMaxScaler", "params": {}, "artifact_ids": [scaler]},
            {
                "step_idx": step, "operator_class": class_name, "params": STEPS[step - 1],
                "artifact_ids": list(folds.values()),
            },
        ]  # fmt: skip
        made.insert("chains", chain_id=f"c{step}", pipeline_id=P, steps=steps, model_step_idx=step,
                    model_class=class_name, fold_artifacts=folds, shared_artifacts={"1": [scaler], "2": [encoder]},
                    model_name=name, metric="rmse", cv_val_score=step / 10,
                    cv_scores={"val": {"rmse": step / 10}})  # fmt: skip
    made.prediction("p0", "c3", "0", {"y_true": [1.0, 2.0], "y_pred": [1.5, 2.5], "sample_indices": [4, 5]})
    made.prediction("p1", "c3", "avg", None, refit_context="standalone")
    made.prediction("p2", "c3", "1", {"y_true": [1.0], "y_pred": [9.0], "X": [1.0, 2.0]})
    made.rows.append({"prediction_id": "p2", "y_true": [1.0], "y_pred": [2.0], "X": [1.0, 2.0]})  # written again
    made.rows.append({"prediction_id": "deleted", "y_true": [1.0], "y_pred": [2.0]})
    (made.path / "arrays" / "_tombstones.json").write_text(json.dumps({"p0": AT}))
    made.insert("logs", log_id="l1", pipeline_id=P, message="hello")
    made.write_arrays()
    return made


def test_a_store_comes_in_whole(workspace: Workspace, store: Store, fitted: Any, xy: Any) -> None:
    report = take(workspace, store.path)
    assert (report.runs, report.pipelines, report.artifacts, report.predictions) == (2, 1, 8, 3)
    assert report.ok
    assert {run.dataset for run in workspace.runs(run_id="r1")} == {"wheat", "rye"}
    run = workspace.runs("wheat")[0]
    assert (run.name, run.started_at, run.configuration) == ("first", "2026-11-23T21:35:36+00:00", {"n": 1})
    assert run.metadata["summary"] == {"best": 0.5}
    assert run.metadata["project"]["name"] == "flour"
    pipeline = workspace.pipeline(P)
    assert (pipeline.name, pipeline.run_id, pipeline.configuration) == ("pls_1", "r1", STEPS)
    assert pipeline.metadata["from_the_future"] == "kept"
    assert pipeline.metadata["logs"][0]["message"] == "hello"
    assert [chain["chain_id"] for chain in pipeline.metadata["chains"]] == ["c3", "c4", "c5"]
    assert pipeline.metrics == {"val": {"all": {"rmse": 0.3}}}
    pls = workspace.record(of("s3.PLSRegression[sub=0]", 1))
    assert (pls.chain_path, pls.step_index, pls.substep_index, pls.fold_id) == ("s3.PLSRegression[sub=0]", 3, 0, 1)
    assert pls.depends_on == [of("s1.MinMaxScaler[src=0,sub=0]"), of("s2.y_MinMaxScaler[sub=1]")]
    assert pls.custom_name == "PLSRegression"
    assert np.array_equal(workspace.load(pls.artifact_id).predict(xy[0]), fitted["pls"].predict(xy[0]))


def test_a_stack_is_fed_by_the_models_it_names_in_their_order(workspace: Workspace, store: Store) -> None:
    take(workspace, store.path)
    stack = workspace.record(of("s5.Meta_Ridge", 1))
    assert stack.depends_on == [of("s4.Ridge[sub=0]", 1), of("s3.PLSRegression[sub=0]", 1)]
    assert stack.meta_config is not None
    assert stack.meta_config.feature_columns == ["R_pred", "PLSRegression_pred"]


def test_predictions_have_their_arrays(workspace: Workspace, store: Store) -> None:
    report = take(workspace, store.path)
    first = workspace.catalog.get("p0")
    assert (first["config_name"], first["pipeline_uid"], first["trace_id"]) == ("pls_1", P, "c3")
    assert first["step_idx"] == 3
    assert first["model_artifact_id"] == of("s3.PLSRegression[sub=0]", 0)
    assert (first["y_pred"].tolist(), first["sample_indices"].dtype) == ([1.5, 2.5], np.int32)
    without = workspace.catalog.get("p1")
    assert (without["y_pred"], without["model_artifact_id"]) == (None, None)
    assert without["metadata"]["refit_context"] == "standalone"
    assert workspace.catalog.get("p2")["y_pred"].tolist() == [2.0]
    assert [what for what, _ in report.notes] == ["arrays X"]


def test_importing_twice_changes_nothing(workspace: Workspace, store: Store) -> None:
    take(workspace, store.path)
    again = take(workspace, store.path)
    assert (again.runs, again.pipelines, again.artifacts, again.predictions, again.ok) == (0, 0, 0, 0, True)


def test_labels_and_probabilities_of_classes(workspace: Workspace, store: Store) -> None:
    def labels(vocabulary: list[Any], indices: list[int], kind: str) -> str:
        return json.dumps({"schema_version": 1, "label_type": kind, "vocabulary": vocabulary, "indices": indices,
                           "shape": [len(indices)]})  # fmt: skip

    store.prediction("texts", "c3", "0", {"y_true_labels": labels(["a", "c"], [0, 1, 1], "str"),
                     "y_pred_labels": labels(["b", "c"], [0, 1, 1], "str"), "y_proba": [0.1] * 9,
                     "y_proba_shape": [3, 3]}, model_name="x")  # fmt: skip
    store.prediction("numbers", "c3", "0", {"y_true_labels": labels([5, 2**53 + 1], [1, 0], "int64")}, model_name="y")
    store.write_arrays()
    assert take(workspace, store.path).ok
    texts = workspace.catalog.get("texts")
    assert texts["metadata"]["labels"] == ["a", "b", "c"]
    assert (texts["y_true"].tolist(), texts["y_pred"].tolist()) == ([0, 2, 2], [1, 2, 2])
    assert texts["y_proba"].shape == (3, 3)
    assert workspace.catalog.get("numbers")["y_true"].tolist() == [2**53 + 1, 5]


def test_artifacts_without_a_pipeline_in_their_id_follow_their_chain(
    workspace: Workspace, store: Store, fitted: Any
) -> None:
    store.artifact(fitted["forest"], "b7a3", "model")
    store.artifact(fitted["ridge"], "nobody", "model")
    store.insert("chains", chain_id="c9", pipeline_id=P, steps=[], model_step_idx=3, model_class="Forest",
                 fold_artifacts={"fold_final": "b7a3"}, shared_artifacts={}, model_name="forest")  # fmt: skip
    report = take(workspace, store.path)
    assert [what for what, _ in report.refused] == ["nobody"]
    record = workspace.record("b7a3")
    assert (record.pipeline_id, record.step_index, record.chain_path) == (P, 3, "")


def test_a_chain_that_is_not_found_stays_unknown(workspace: Workspace, store: Store, fitted: Any) -> None:
    store.artifact(fitted["forest"], f"{P}$0123456789ab:0", "model")
    report = take(workspace, store.path)
    assert report.ok
    assert [what for what, _ in report.notes] == [f"{P}$0123456789ab:0", "arrays X"]
    assert workspace.record(f"{P}$0123456789ab:0").chain_path == ""


@pytest.mark.parametrize("how", ["missing", "changed", "outside"])
def test_files_that_are_wrong_are_listed(workspace: Workspace, store: Store, tmp_path: Path, how: str) -> None:
    connection = store.open()
    with connection:
        sql = "SELECT artifact_path FROM artifacts WHERE operator_class = 'PLSRegression'"
        (name,) = connection.execute(sql).fetchone()
        if how == "outside":
            (tmp_path / "secret").write_bytes((store.path / "artifacts" / name).read_bytes())
            sql = "UPDATE artifacts SET artifact_path = '../../secret' WHERE operator_class = 'PLSRegression'"
            connection.execute(sql)
    connection.close()
    if how == "missing":
        (store.path / "artifacts" / name).unlink()
    elif how == "changed":
        (store.path / "artifacts" / name).write_bytes(b"other")
    report = take(workspace, store.path)
    # The two folds of PLS, and the stack that each feeds.
    assert len(report.refused) == 4
    assert (report.artifacts, report.predictions) == (4, 3)


def test_missing_tables_and_files_that_may_be_missing(workspace: Workspace, store: Store) -> None:
    connection = store.open()
    with connection:
        for table in ("chains", "projects", "logs"):
            connection.execute(f"DROP TABLE {table}")
    connection.close()
    (store.path / "arrays" / "wheat.parquet").write_bytes(b"no parquet")
    report = take(workspace, store.path)
    assert [what for what, _ in report.refused] == ["arrays/wheat.parquet"]
    assert (report.pipelines, report.artifacts, report.predictions) == (1, 8, 3)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE artifacts",
        "ALTER TABLE pipelines DROP COLUMN dataset_name",
        "ALTER TABLE runs RENAME TO other; CREATE VIEW runs AS SELECT * FROM other",
    ],
)
def test_what_is_no_store_is_refused(workspace: Workspace, store: Store, statement: str) -> None:
    connection = store.open()
    connection.executescript(statement)
    connection.close()
    with pytest.raises(NotAWorkspaceError, match="nirs4all"):
        take(workspace, store.path)
    assert workspace.datasets() == []


def test_what_is_no_database_is_refused(workspace: Workspace, store: Store) -> None:
    (store.path / "store.sqlite").write_bytes(b"text, and nothing else" * 1000)
    with pytest.raises(NotAWorkspaceError):
        take(workspace, store.path)
    (store.path / "store.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(StorageError):
        take(workspace, store.path)


def test_nothing_is_written_beside_a_store(workspace: Workspace, store: Store) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in store.path.rglob("*")}

    before = state()
    take(workspace, store.path)
    assert state() == before


def test_a_store_that_this_process_has_open_is_left_alone(workspace: Workspace, store: Store) -> None:
    held = store.open()
    held.execute("SELECT * FROM runs").fetchall()
    with pytest.raises(BusyError, match="open in this process"):
        take(workspace, store.path)
    held.close()
    assert take(workspace, store.path).ok


def test_what_a_crash_left_in_the_log_is_read(workspace: Workspace, store: Store, in_new_process: Any) -> None:
    code = (
        "import sqlite3, sys, os\nc = sqlite3.connect(sys.argv[1])\nc.execute('PRAGMA journal_mode=WAL')\n"
        "c.execute(\"UPDATE runs SET name = 'second'\")\nc.commit()\nprint('done', flush=True)\nos._exit(0)"
    )
    in_new_process(code, store.path / "store.sqlite")
    assert (store.path / "store.sqlite-wal").stat().st_size
    (store.path / "store.sqlite-shm").unlink()
    take(workspace, store.path)
    assert workspace.runs("wheat")[0].name == "second"
    assert not (store.path / "store.sqlite-shm").exists()


def test_only_one_dataset_comes_in_when_it_is_named(workspace: Workspace, store: Store) -> None:
    assert take(workspace, store.path, dataset="wheat").runs == 1
    with pytest.raises(InvalidValueError, match="wheat"):
        take(workspace, store.path, dataset="oats")


# -- chains -----------------------------------------------------------------------------------------

SNV, SG, MSC, FD, PCA = (
    "nirs4all.StandardNormalVariate", "nirs4all.SavitzkyGolay", "nirs4all.MultiplicativeScatterCorrection",
    "nirs4all.FirstDerivative", {"class": "sklearn.decomposition._pca.PCA", "params": {"n_components": 4}},
)  # fmt: skip
BRANCHES = [[SNV, {"branch": [[PCA], [FD]]}], [SG], [MSC, FD, PCA]]
NESTED = ["MinMaxScaler", {"class": "KFold"}, {"branch": BRANCHES}, "S", "P"]
BY_SOURCE = [{"branch": {"by_source": True, "steps": {"a": [SNV], "b": [FD]}}}, "P"]
MERGED = ["KFold", {"branch": [[SNV, "P"], [SG, "R"]]}, {"merge": "predictions"}, "R"]
INNER = "s3.{snv}[br=0,sub=0]>s3.PCA, FirstDerivative[br=0,sub=1]>s3."
SEQUENCE = ["KFold", {"branch": [[SNV], [SG]]}, {"branch": {"a": [PCA], "b": [FD]}}, {"model": "P"}]
NAMES = {"snv": "StandardNormalVariate", "sg": "SavitzkyGolay", "msc": "MultiplicativeScatterCorrection"}
REAL = [
    # Paths that nirs4all made; the ids of its artifacts hold their hashes.
    (NESTED, "{snv}", "s3.{snv}[br=0,sub=0]>s3.{snv}[br=0,src=0,sub=0]", 3),
    (NESTED, "PCA", INNER + "PCA[br=0.0,sub=0]>s3.PCA[br=0.0,src=0,sub=1]", 3),
    (NESTED, "P", INNER + "FirstDerivative[br=0.1,sub=0]>s5.P[br=0,sub=0]", 5),
    (
        NESTED,
        "PCA",
        "s3.{msc}[br=2,sub=0]>s3.FirstDerivative[br=2,sub=1]>s3.PCA[br=2,sub=2]>s3.PCA[br=2,src=0,sub=6]",
        3,
    ),
    (NESTED, "S", "s3.{sg}[br=1,sub=0]>s4.S[br=1,src=0,sub=0]", 4),
    (SEQUENCE, "P", "s2.{sg}[br=1,sub=0]>s3.FirstDerivative[br=1,sub=0]>s4.P[br=0.1,sub=0]", 4),
    (SEQUENCE, "P", "s2.{snv}[br=0,sub=0]>s3.PCA[br=0,sub=0]>s4.P[br=1.0,sub=0]", 4),
    (SEQUENCE, "{sg}", "s2.{sg}[br=1,sub=0]>s2.{sg}[br=1,src=0,sub=1]", 2),
    (["A", {"feature_augmentation": [SNV, SG]}, "S"], "S", "s3.S[src=1,sub=23]", 3),
    (BY_SOURCE, "FirstDerivative", "s1.FirstDerivative[br=1,src=1,sub=1]", 1),
    (MERGED, "R", "s2.{sg}[br=1,sub=0]>s2.R[br=1,sub=1]>s4.R[sub=0]", 4),
]


@pytest.mark.parametrize(("configuration", "class_name", "path", "step"), REAL)
@pytest.mark.parametrize("known", [True, False])
def test_paths_are_found_again(configuration: Any, class_name: str, path: str, step: int, known: bool) -> None:
    path, class_name = path.format(**NAMES), class_name.format(**NAMES)
    wanted = Wanted(compute_chain_hash(path), class_name, "model", (step,) if known else ())
    found = ChainSearch().find([wanted], configuration)
    assert found[wanted.chain_hash].path == path


@pytest.mark.campaign
def test_the_search_ends() -> None:
    many = {"branch": [[{"branch": [[SNV, SG, MSC]] * 60}, SNV, SG]] * 60}
    wanted = [Wanted(f"{number:012x}", "PCA", "model", ()) for number in range(50)]
    search = ChainSearch()
    assert search.find(wanted, [many, many, many]) == {}
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    assert search.find(wanted[:1], [{"branch": [{"branch": deep}]}]) == {}
