"""The runner: studies trained, kept and replayed; every number that it gives again is the same to the last bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneOut,
    LeavePGroupsOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC

from artifactdb import (
    ArtifactNotFoundError,
    InvalidValueError,
    MissingDependencyError,
    OperatorChain,
    PipelineRunner,
    Workspace,
)
from artifactdb.errors import ArtifactDBError
from tests import fresh
from tests.campaigns.studies import copied
from tests.operators import Centring, Leaving, Memorizing, NeedsY, Neither

FOLDS = KFold(4, shuffle=True, random_state=0)

EVERYTHING: list[Any] = [
    StandardScaler(),
    {"y_processing": MinMaxScaler()},
    FOLDS,
    {"branch": [[PCA(4)], [MinMaxScaler(), {"branch": {"squares": [PolynomialFeatures(2)], "plain": []}}]]},
    {"preprocessing": SelectKBest(f_regression, k=3), "name": "best three"},
    [PLSRegression(2), Ridge(0.1)],
    {"model": RandomForestRegressor(5, random_state=0), "name": "forest"},
    {"meta_model": Ridge(positive=True), "name": "stack"},
]
"""Sources, encoder, nested and named branches, a selection that learns from y, substeps, names and a stack."""


@pytest.fixture
def runner(workspace: Workspace) -> PipelineRunner:
    return PipelineRunner(workspace)


@pytest.fixture(scope="module")
def blocks(xy: tuple[Any, Any]) -> tuple[list[Any], Any]:
    return [xy[0][:, :6], xy[0][:, 4:]], xy[1]


@pytest.fixture(scope="module")
def trained(blocks: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """A file in which everything was trained, the predictions, and the best of them."""
    file = tmp_path_factory.mktemp("trained") / "study.sqlite"
    with PipelineRunner(file) as runner:
        predictions = runner.run(EVERYTHING, blocks, dataset_name="diabetes")
        assert not predictions.failed
        return file, predictions.rows(), predictions.best()


def held_out(workspace: Workspace, rows: Any) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    for row in rows.to_dicts():
        arrays = workspace.catalog.get(row["id"])
        yield row, arrays["sample_indices"].astype(int), arrays["y_pred"]


# -- replay -----------------------------------------------------------------------------------------


def test_every_fold_model_gives_again_what_the_catalog_holds(trained: Any, blocks: Any) -> None:
    file, predictions, _ = trained
    seen = 0
    with PipelineRunner(file) as runner:
        for row, rows, y_pred in held_out(runner.workspace, predictions):
            own = [block[rows] for block in blocks[0]]
            for source in (row["id"], row["model_artifact_id"]):
                assert np.array_equal(runner.predict(source, own), y_pred), row
            seen += 1
    assert seen == 4 * (3 * 3 + 1)  # folds, branches with three models each, and the stack


_REPLAY = """
import json, sys
import numpy as np
from artifactdb import PipelineRunner
given = np.load(sys.argv[2], allow_pickle=False)
with PipelineRunner(sys.argv[1]) as runner:
    sources = json.loads(sys.argv[3])
    np.savez(sys.argv[4], *[runner.predict(s, [given["a"][given[r]], given["b"][given[r]]]) for s, r in sources])
"""


def test_a_fresh_process_gives_the_same_bits(trained: Any, blocks: Any, tmp_path: Path) -> None:
    (file, predictions, best), (x, _) = trained, blocks
    given, sources, expected = {"a": x[0], "b": x[1]}, [], []
    with PipelineRunner(file) as runner:
        for number, (row, rows, y_pred) in enumerate(held_out(runner.workspace, predictions)):
            given[f"rows_{number}"] = rows
            sources.append((row["model_artifact_id"], f"rows_{number}"))
            expected.append(y_pred)
        given["rows"] = np.arange(7)
        sources.append((best["pipeline_id"], "rows"))
        expected.append(runner.predict(best, [block[:7] for block in x]))
    np.savez(tmp_path / "given.npz", **given)
    done = fresh.run(_REPLAY, file, tmp_path / "given.npz", json.dumps(sources), tmp_path / "got.npz")
    assert done.returncode == 0, done.stderr
    got = np.load(tmp_path / "got.npz")
    assert len(got.files) == len(expected) == 41
    assert all(np.array_equal(got[name], values) for name, values in zip(got.files, expected, strict=True))


def test_folds_are_averaged_plainly_or_by_their_scores(runner: PipelineRunner, xy: Any) -> None:
    x, _ = xy
    predictions = runner.run([StandardScaler(), FOLDS, Ridge()], xy)
    (pipeline,) = predictions.pipelines
    each = [runner.predict(row["id"], x) for row in sorted(predictions.to_dicts(), key=lambda row: row["fold_id"])]
    scores = [pipeline.metrics["val"][str(fold)]["rmse"] for fold in range(4)]
    assert np.allclose(runner.predict(pipeline.pipeline_id, x), np.mean(each, axis=0), rtol=1e-12)
    weighted = runner.predict(pipeline.pipeline_id, x, weighted=True)
    assert np.allclose(weighted, np.average(each, axis=0, weights=1 / np.array(scores)), rtol=1e-12)
    assert not np.array_equal(weighted, np.mean(each, axis=0))


def test_a_pipeline_with_several_models_predicts_with_its_best(runner: PipelineRunner, xy: Any) -> None:
    x, _ = xy
    predictions = runner.run([FOLDS, [SVR(C=0.001), Ridge(0.1)]], xy)
    best, worst = predictions.top().to_dicts()
    assert (best["model_name"], worst["model_name"]) == ("Ridge", "SVR")
    assert np.array_equal(runner.predict(best["pipeline_id"], x), runner.predict(best, x))
    assert not np.array_equal(runner.predict(worst, x), runner.predict(best, x))


def test_an_entry_of_the_library_predicts_what_it_was_saved_with(
    trained: Any, blocks: Any, file: Path, tmp_path: Path
) -> None:
    given, pipeline_id = [block[:9] for block in blocks[0]], trained[2]["pipeline_id"]
    with PipelineRunner(copied(trained[0], file)) as runner:
        expected = runner.predict(pipeline_id, given)
        runner.workspace.library.save_pipeline_full("diabetes", pipeline_id, "v1")
        runner.workspace.library.export("v1", tmp_path / "v1.sqlite")
        (run,) = runner.workspace.runs()
        runner.workspace.clean_up_run(run.run_id)
        with pytest.raises(ArtifactNotFoundError):
            runner.predict(pipeline_id, given)
        assert np.array_equal(runner.predict("v1", given), expected)
    with PipelineRunner(tmp_path / "v1.sqlite") as elsewhere:
        assert np.array_equal(elsewhere.predict("v1", given), expected)
        assert np.array_equal(elsewhere.predict(pipeline_id, given), expected)


def test_of_a_whole_run_the_best_by_what_folds_held_out_predicts(runner: PipelineRunner, xy: Any) -> None:
    x, _ = xy
    best = runner.run([{"_or_": [FOLDS, None]}, RandomForestRegressor(5, random_state=0)], xy).best()
    runner.workspace.library.save_fullrun("dataset", "run")
    assert best["partition"] == "val"
    assert np.array_equal(runner.predict("run", x), runner.predict(best, x))


def test_models_that_are_scored_by_several_metrics_are_not_compared(runner: PipelineRunner) -> None:
    x, y = load_iris(return_X_y=True)
    (mixed,) = runner.run([StratifiedKFold(3), [Ridge(), NearestCentroid()]], (x, y), dataset_name="mixed").pipelines
    for metric in ("rmse", "r2"):
        runner.run([FOLDS, Ridge(1.0 if metric == "r2" else 9.0)], (x, y), dataset_name="two", metric=metric)
    runner.workspace.library.save_fullrun("two", "two")
    for source, metrics in ((mixed.pipeline_id, "accuracy and by rmse"), ("two", "r2 and by rmse")):
        with pytest.raises(InvalidValueError, match=rf"{metrics}: .*s2.Ridge.* \(rmse\)"):
            runner.predict(source, x, dataset="mixed")
    first, *_ = runner.workspace.records(pipeline_id=mixed.pipeline_id, class_name="NearestCentroid")
    assert runner.predict(first.artifact_id, x).shape == y.shape


def test_packed_and_read_only_it_predicts_the_same(file: Path, xy: Any, tmp_path: Path) -> None:
    x, _ = xy
    with PipelineRunner(file) as runner:
        best = runner.run([StandardScaler(), FOLDS, PLSRegression(3)], xy).best()
        expected = runner.predict(best, x[:5])
        runner.workspace.pack(tmp_path / "packed.sqlite")
    with Workspace(tmp_path / "packed.sqlite", mode="ro") as packed:
        assert np.array_equal(PipelineRunner(packed).predict(best["pipeline_id"], x[:5]), expected)


def test_what_was_logged_predicts_by_the_id_of_its_pipeline(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    columns = ColumnTransformer(
        [("first", make_pipeline(MinMaxScaler(), PCA(2)), [0, 1, 2]), ("rest", "passthrough", [5])]
    )
    stack = StackingRegressor([("ridge", Ridge()), ("pls", PLSRegression(2))], final_estimator=Ridge(0.5))
    for model in (Ridge(), stack, TransformedTargetRegressor(Ridge(), transformer=StandardScaler())):
        fitted = make_pipeline(StandardScaler(), columns, model).fit(x, y)
        logged = runner.workspace.log(fitted, x, y, dataset="diabetes")
        for source in (logged.pipeline_id, logged.artifact_id, logged.prediction_ids[0]):
            assert np.array_equal(runner.predict(source, x), fitted.predict(x))
    ridge = runner.workspace.records(pipeline_id="0001", class_name="Ridge")[0]
    assert np.array_equal(runner.predict(ridge.artifact_id, x), runner.predict("0001_" + ridge.pipeline_id[5:], x))
    runner.workspace.library.save_pipeline_full("diabetes", logged.pipeline_id, "logged")
    assert np.array_equal(runner.predict("logged", x), fitted.predict(x))


def test_what_takes_texts_by_themselves_predicts_when_it_is_loaded_and_the_hint_says_so(runner: PipelineRunner) -> None:
    texts, y = ["red wine", "white wine", "beer", "stout"] * 3, [1.0, 2.0, 3.0, 4.0] * 3
    fitted = make_pipeline(TfidfVectorizer(), Ridge()).fit(texts, y)
    logged = runner.workspace.log(fitted, texts, y)
    with pytest.raises(InvalidValueError, match=r"shape \(12,\).*load\(id\).predict"):
        runner.predict(logged.pipeline_id, texts)
    with pytest.raises(InvalidValueError, match=r"cannot predict this X \(AttributeError: .*lower"):
        runner.predict(logged.pipeline_id, np.array(texts).reshape(-1, 1))
    assert np.array_equal(runner.workspace.load(logged.artifact_id).predict(texts), fitted.predict(texts))


def replays(runner: PipelineRunner, predictions: Any, x: Any) -> bool:
    assert not predictions.failed, predictions.failed[0].error
    found = list(held_out(runner.workspace, predictions.rows()))
    return len(found) > 0 and all(
        np.array_equal(runner.predict(row["id"], x.iloc[rows] if hasattr(x, "iloc") else x[rows]), y_pred)
        for row, rows, y_pred in found
    )


def test_arrays_that_lie_oddly_in_memory_give_the_same_bits(runner: PipelineRunner) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 700))
    y = x[:, :5].sum(axis=1)
    # A randomized PCA leaves components that lie neither by rows nor by columns; pickling does not keep that.
    for config in ([PCA(5), FOLDS, Ridge()], [FOLDS, PCA(5), Ridge()]):
        assert replays(runner, runner.run(config, (x, y)), x)


@pytest.mark.campaign
def test_workers_with_one_thread_and_a_replay_with_several_agree(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 300))
    y = x[:, :5].sum(axis=1)
    config = [StandardScaler(), KFold(2), {"_or_": [KernelRidge(kernel="rbf"), KernelRidge(kernel="linear")]}]
    runner = PipelineRunner(workspace, n_jobs=2, backend="loky")
    assert replays(runner, runner.run(config, (x, y)), x)


def test_a_meta_model_may_stack_meta_models(runner: PipelineRunner, xy: Any) -> None:
    config = [
        FOLDS, Ridge(), PLSRegression(2), {"meta_model": Ridge(), "name": "first"},
        {"meta_model": Ridge(0.5), "name": "second", "source_models": ["first", "PLSRegression"]},
    ]  # fmt: skip
    assert replays(runner, runner.run(config, xy), xy[0])


def test_operators_that_work_in_place_change_nobody_elses_data(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy[0].copy(), xy[1]
    for config in ([StandardScaler(copy=False), FOLDS, Ridge()], [FOLDS, MinMaxScaler(copy=False), Ridge()]):
        usual = [type(step)() if isinstance(step, StandardScaler | MinMaxScaler) else step for step in config]
        predictions = runner.run(config, (x, y))
        assert np.array_equal(x, xy[0])
        assert predictions.score() == runner.run(usual, (x, y)).score()
        assert replays(runner, predictions, x)
        each = [runner.predict(row["id"], x) for row in predictions.to_dicts()]
        assert np.allclose(runner.predict(predictions.best(), x), np.mean(each, axis=0), rtol=1e-12)
        assert np.array_equal(x, xy[0])


@pytest.mark.parametrize(
    "in_place",
    [
        PLSRegression(2, copy=False),
        TransformedTargetRegressor(Ridge(), transformer=StandardScaler(copy=False)),
        Centring(),
        make_pipeline(StandardScaler(), Centring()),
    ],
)
def test_a_model_that_writes_into_y_spoils_no_model_behind_it(runner: PipelineRunner, xy: Any, in_place: Any) -> None:
    plain = runner.run([FOLDS, Ridge()], xy).score()
    config = [FOLDS, {"branch": {"in place": [{"model": in_place}], "plain": [Ridge()]}}]
    predictions = runner.run(config, xy)
    assert replays(runner, predictions, xy[0])
    assert {row["branch_name"]: row["score"] for row in predictions.top().to_dicts()}["plain"] == plain


def test_a_transformer_that_writes_into_y_spoils_no_model_behind_it(runner: PipelineRunner, xy: Any) -> None:
    plain = runner.run([FOLDS, StandardScaler(), Ridge()], xy).score()
    assert runner.run([FOLDS, Centring(), StandardScaler(), Ridge()], xy).score() == plain


def test_classes_stay_though_an_encoder_goes_back_in_place(runner: PipelineRunner) -> None:
    x, y = load_iris(return_X_y=True)
    encoder = {"y_processing": MinMaxScaler(copy=False)}
    predictions = runner.run([FOLDS, encoder, LogisticRegression(max_iter=500)], (x[:100], y[:100] * 4.0 + 1))
    assert predictions.score() == 1
    assert replays(runner, predictions, x)
    assert set(runner.predict(predictions.best(), x[:100])) == {1, 5}


def clipped(x: Any) -> Any:
    x[x < 0] = 0
    return x


class Clipping(BaseEstimator):  # type: ignore[misc]
    """Says nothing of working in place."""

    def fit(self, x: Any, y: Any = None) -> Clipping:
        return self

    def transform(self, x: Any) -> Any:
        return clipped(x)


@pytest.mark.parametrize("clip", [FunctionTransformer(clipped), Clipping(), make_pipeline(Clipping(), PCA(4))])
def test_an_operator_that_writes_into_what_it_is_given_changes_nobody_elses_data(
    runner: PipelineRunner, xy: Any, clip: Any
) -> None:
    x, y = xy[0].copy(), xy[1]
    plain = runner.run([FOLDS, Ridge()], xy).score()
    for config in ([clip, FOLDS, Ridge()], [FOLDS, {"branch": {"clipped": [clip], "plain": []}}, Ridge()]):
        predictions = runner.run(config, (x, y))
        assert replays(runner, predictions, x)
        runner.predict(predictions.best(), x)
        assert np.array_equal(x, xy[0])
    assert {row["branch_name"]: row["score"] for row in predictions.top().to_dicts()}["plain"] == plain


def test_frames_with_texts_become_sparse_and_are_replayed(runner: PipelineRunner, xy: Any) -> None:
    frame = pd.DataFrame(xy[0][:, :3], columns=["a", "b", "c"]).assign(kind=np.where(xy[0][:, 1] > 0, "x", "y"))
    columns = ColumnTransformer([("numbers", StandardScaler(), ["a", "b", "c"]), ("texts", OneHotEncoder(), ["kind"])])
    texts = ColumnTransformer([("texts", OneHotEncoder(), ["kind"]), ("more", OneHotEncoder(), ["kind"])])
    for operator in (columns, texts, clone(columns).set_params(sparse_threshold=1.0)):
        assert replays(runner, runner.run([operator, FOLDS, Ridge()], (frame, xy[1])), frame)
    fitted = make_pipeline(columns, Ridge()).fit(frame, xy[1])
    logged = runner.workspace.log(fitted, frame, xy[1], dataset="logged")
    assert np.array_equal(runner.predict(logged.pipeline_id, frame), fitted.predict(frame))
    ridge = next(record for record in runner.workspace.records(dataset="logged") if record.class_name == "Ridge")
    assert np.array_equal(runner.predict(ridge.artifact_id, frame), fitted.predict(frame))


def test_classifiers_without_probabilities_are_stacked_though_a_fold_lacks_a_class(runner: PipelineRunner) -> None:
    x, y = load_iris(return_X_y=True)
    y = np.where(np.arange(150) == 149, 3, y)
    config = [FOLDS, LinearSVC(), RidgeClassifier(), NearestCentroid(), {"meta_model": LogisticRegression()}]
    assert replays(runner, runner.run(config, (x, y)), x)


@pytest.mark.parametrize("n_classes", [3, 4])
def test_decisions_between_pairs_are_stacked_by_number_where_each_fold_has_all_classes(
    runner: PipelineRunner, n_classes: int
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(80) % n_classes
    x = rng.normal(size=(80, 3)) + y[:, None]
    steps = [make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")), {"meta_model": LogisticRegression()}]
    assert replays(runner, runner.run([StratifiedKFold(4), {"model": steps[0], "name": "svc"}, steps[1]], (x, y)), x)
    for record in runner.workspace.records(artifact_type="meta_model"):
        names = runner.workspace.loader("dataset").load_meta_model_with_sources(record.artifact_id)[-1]
        assert list(names) == [f"svc_decision_{pair}" for pair in range(n_classes * (n_classes - 1) // 2)]
    (failed,) = runner.run([KFold(5), *steps], (x[np.argsort(y)], np.sort(y))).failed
    assert "SVC decides between pairs of classes" in str(failed.error)
    assert "decision_function_shape='ovr'" in str(failed.error)


def test_a_score_that_is_no_number_costs_no_pipeline(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy[0][:12], xy[1][:12]
    predictions = runner.run([LeaveOneOut(), Ridge()], (x, y), metric="r2")
    assert [pipeline.status for pipeline in predictions.pipelines] == ["completed"]
    with pytest.raises(ArtifactDBError):
        predictions.best()
    assert np.isnan(predictions.pipelines[0].metrics["val"]["0"]["r2"])
    assert runner.predict(predictions.pipelines[0].pipeline_id, x).shape == (12,)


def test_pipelines_of_a_run_are_scored_on_the_same_folds_and_the_splitter_tells_which(
    runner: PipelineRunner, xy: Any
) -> None:
    x, y = xy
    steps = [KFold(3, shuffle=True), {"model": Ridge(), "params": {"alpha": [1.0, 1.0 + 1e-12]}}]
    scored = [runner.run(steps, (x, y), dataset_name=name) for name in ("one", "another")]
    first, second = ([row["score"] for row in predictions.top().to_dicts()] for predictions in scored)
    assert first[0] == pytest.approx(first[1]) and second[0] == pytest.approx(second[1])
    assert first[0] != pytest.approx(second[0]), "another run draws anew"
    catalog, workspace = runner.workspace.catalog, runner.workspace
    for record in workspace.records(artifact_type="splitter", dataset="one"):
        folds = [held_out for _, held_out in workspace.loader("one").load_by_id(record.artifact_id).split(x)]
        rows = catalog.filter(dataset_name="one", pipeline_uid=record.pipeline_id, partition="val").to_dicts()
        arrays = catalog.arrays([row["id"] for row in rows])
        for row in rows:
            assert np.array_equal(arrays[row["id"]]["sample_indices"], folds[int(row["fold_id"])])


def test_training_scores_are_not_ranked_among_validation_scores(runner: PipelineRunner, xy: Any) -> None:
    forest = RandomForestRegressor(5, random_state=0)
    predictions = runner.run([{"_or_": [FOLDS, None]}, forest], xy)
    assert [row["partition"] for row in predictions.top().to_dicts()] == ["val"]
    assert len(predictions.top(partition="train")) == 1


def test_a_fit_that_ends_the_program_ends_its_pipeline_only(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([FOLDS, {"_or_": [Leaving(), Ridge()]}], xy, verbose=0)
    assert [pipeline.status for pipeline in predictions.pipelines] == ["failed", "completed"]
    with pytest.raises(ArtifactNotFoundError, match="SystemExit"):
        runner.predict(predictions.pipelines[0].pipeline_id, xy[0])


# -- what is kept -----------------------------------------------------------------------------------


def test_each_operator_gets_its_chain_step_branch_source_substep_and_fold(trained: Any) -> None:
    with Workspace(trained[0]) as workspace:
        every, records = workspace.records(), workspace.records(dataset="diabetes", fold_id=2)
    shown = {record.chain_path: record for record in records if record.class_name in ("PLSRegression", "SelectKBest")}
    selected = (
        "s1.StandardScaler[src=1]>s4.MinMaxScaler[br=1,src=1,sub=0]>s4.PolynomialFeatures[br=1.0,src=1,sub=1]"
        ">s5.SelectKBest[br=1.0,src=1]"
    )
    record = shown[selected]
    assert (record.step_index, record.branch_path, record.source_index, record.fold_id) == (5, [1, 0], 1, 2)
    assert (record.artifact_type, record.custom_name) == ("transformer", "best three")
    (pls,) = [record for path, record in shown.items() if path.endswith(">s6.PLSRegression[br=0,sub=0]")]
    assert (pls.step_index, pls.branch_path, pls.substep_index, pls.source_index) == (6, [0], 0, None)
    by_id = {record.artifact_id: record for record in every}
    assert [by_id[source].class_name for source in pls.depends_on] == ["SelectKBest", "SelectKBest", "MinMaxScaler"]
    (stack,) = [record for record in records if record.artifact_type == "meta_model"]
    assert stack.meta_config is not None
    sources = [by_id[source["artifact_id"]] for source in stack.meta_config.source_models]
    assert {source.fold_id for source in sources} == {2}
    assert stack.meta_config.feature_columns[:3] == [
        "0/PLSRegression_pred", "1.squares/PLSRegression_pred", "1.plain/PLSRegression_pred"
    ]  # fmt: skip
    assert all(OperatorChain.from_path(record.chain_path).to_path() == record.chain_path for record in by_id.values())


def test_what_all_folds_share_is_fitted_and_stored_once(runner: PipelineRunner, xy: Any) -> None:
    runner.run([MinMaxScaler(), {"y_processing": StandardScaler()}, FOLDS, StandardScaler(), Ridge()], xy)
    kinds = [(record.artifact_type, record.class_name, record.fold_id) for record in runner.workspace.records()]
    shared = [kind for kind in kinds if kind[2] is None]
    assert shared == [("transformer", "MinMaxScaler", None), ("splitter", "KFold", None)]
    assert kinds.count(("encoder", "StandardScaler", 3)) == 1  # within folds: it learns from y
    assert kinds.count(("transformer", "StandardScaler", 3)) == 1


def test_parameter_grids_become_pipelines_with_metrics(runner: PipelineRunner, xy: Any) -> None:
    grid = {"model": Ridge(), "name": "ridge", "params": {"alpha": [0.01, 1000.0], "fit_intercept": True}}
    predictions = runner.run([{"_or_": [StandardScaler(), MinMaxScaler()]}, FOLDS, grid], xy, name="grid")
    assert [one.pipeline_id[:9] for one in predictions.pipelines] == [f"{n:04}_grid" for n in (1, 2, 3, 4)]
    rows = runner.workspace.query(
        "SELECT m.value, a.parameters ->> 'alpha' FROM metrics AS m JOIN artifacts AS a USING (pipeline_id, dataset) "
        "WHERE m.metric = 'rmse' AND m.fold_id = '' AND a.artifact_type = 'model' AND a.fold_id = 0 ORDER BY 1"
    ).rows
    assert [alpha for _, alpha in rows] == [0.01, 0.01, 1000.0, 1000.0]
    assert predictions.score() == pytest.approx(rows[0][0])
    assert predictions.score("r2") == pytest.approx(predictions.top(metric="r2")[0][5])
    assert len(predictions) == len(predictions.to_pandas()) == 16


def test_a_template_of_objects_runs_again_and_predicts_the_same(trained: Any, blocks: Any, file: Path) -> None:
    _, _, best = trained
    with PipelineRunner(copied(trained[0], file)) as runner:
        library = runner.workspace.library
        first = runner.workspace.pipeline(best["pipeline_id"], "diabetes")
        library.save_template(first.configuration, "everything")
        again = runner.run(library.load_template("everything"), blocks, dataset_name="again")
        assert again.pipelines[0].pipeline_id == first.pipeline_id
        assert again.best()["score"] == best["score"]
        hashes = [
            {record.artifact_id: record.content_hash for record in runner.workspace.records(dataset=name)}
            for name in ("diabetes", "again")
        ]
    assert hashes[0] == hashes[1]


def test_classes_that_are_texts_come_back_as_texts(runner: PipelineRunner) -> None:
    x, numbers = load_iris(return_X_y=True)
    y = np.array(["setosa", "versicolor", "virginica"])[numbers]
    config = [
        StandardScaler(), StratifiedKFold(3, shuffle=True, random_state=0), LogisticRegression(), SVC(),
        {"model": RandomForestClassifier(5, random_state=0), "name": "forest"},
        {"meta_model": LogisticRegression(), "name": "stack"},
    ]  # fmt: skip
    predictions = runner.run(config, (x, y), dataset_name="iris")
    assert not predictions.failed
    best = predictions.best()
    assert best["metric"] == "accuracy"
    assert best["score"] > 0.9
    assert set(runner.predict(best, x)) == {"setosa", "versicolor", "virginica"}
    for row, rows, y_pred in held_out(runner.workspace, predictions.rows()):
        names = np.array(json.loads(row["metadata"])["classes"])
        assert np.array_equal(runner.predict(row["id"], x[rows]), names[y_pred.astype(int)])
    matrix = runner.workspace.catalog.confusion_matrix(model_name="stack").to_dicts()
    assert sum(cell["count"] for cell in matrix) == 150


def test_a_test_set_is_scored_and_kept(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    data = {"X": x[:300], "y": y[:300], "X_test": x[300:], "y_test": y[300:], "name": "split"}
    predictions = runner.run([StandardScaler(), FOLDS, Ridge()], data, train_scores=True)
    rows = predictions.to_dicts()
    assert sorted({row["partition"] for row in rows}) == ["test", "train", "val"]
    (fold,) = [row for row in rows if row["partition"] == "test" and row["fold_id"] == "1"]
    arrays = runner.workspace.catalog.get(fold["id"])
    assert np.array_equal(arrays["y_true"], y[300:])
    assert fold["test_score"] == pytest.approx(np.sqrt(np.mean((arrays["y_pred"] - y[300:]) ** 2)))
    assert predictions.score(partition="test") != predictions.score()


def test_without_a_splitter_one_model_is_fitted_on_all_rows(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([StandardScaler(), Ridge()], xy)
    (row,) = predictions.to_dicts()
    assert (row["partition"], row["fold_id"]) == ("train", None)
    expected = Ridge().fit(StandardScaler().fit_transform(xy[0]), xy[1]).predict(StandardScaler().fit_transform(xy[0]))
    assert np.array_equal(runner.predict(predictions.best(), xy[0]), expected)


def test_groups_keep_together_what_belongs_together(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    groups = np.arange(len(y)) // 10
    predictions = runner.run([GroupKFold(3), Ridge()], {"X": x, "y": y, "groups": groups})
    for _, rows, _ in held_out(runner.workspace, predictions.rows()):
        assert not set(groups[rows]) & set(np.delete(groups, rows))


# -- nothing leaks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("splitter", [FOLDS, KFold(2), ShuffleSplit(3, test_size=0.3, random_state=1)])
def test_no_y_of_a_held_out_row_reaches_the_stack_that_is_tested_on_it(
    workspace: Workspace, xy: Any, splitter: Any
) -> None:
    x, y = xy
    config = [
        {"y_processing": StandardScaler()}, splitter, Memorizing(), Ridge(), {"meta_model": Ridge(), "name": "stack"}
    ]  # fmt: skip
    rows = next(iter(splitter.split(x)))[1]
    other = y.copy()
    other[rows] = np.random.default_rng(0).normal(1000, 100, len(rows))
    found = []
    for name, target in (("as it is", y), ("changed", other)):
        PipelineRunner(workspace).run(config, (x, target), dataset_name=name)
        (row,) = workspace.catalog.filter(dataset_name=name, model_name="stack", fold_id=0).to_dicts()
        found.append(workspace.catalog.get(row["id"])["y_pred"])
    assert np.array_equal(*found)


def test_folds_that_are_given_are_the_folds_within_folds_too(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy[0][:120], xy[1][:120]
    fold_of = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 40))
    steps = [PredefinedSplit(fold_of), Ridge(), {"meta_model": Ridge(), "name": "stack"}]
    assert not runner.run(steps, (x, y)).failed
    for row in runner.workspace.catalog.filter(model_name="stack").to_dicts():
        of_fold = fold_of == int(row["fold_id"])
        shown = np.zeros((120, 1))
        for other in set(fold_of[~of_fold]):
            within = fold_of == other
            shown[within, 0] = Ridge().fit(x[~of_fold & ~within], y[~of_fold & ~within]).predict(x[within])
        meta = Ridge().fit(shown[~of_fold], y[~of_fold])
        expected = meta.predict(Ridge().fit(x[~of_fold], y[~of_fold]).predict(x[of_fold])[:, None])
        assert np.allclose(runner.workspace.catalog.get(row["id"])["y_pred"], expected)


@pytest.mark.parametrize("n_labels", [80, 160])
def test_folds_that_are_given_for_other_data_are_refused(runner: PipelineRunner, xy: Any, n_labels: int) -> None:
    x, y = xy[0][:120], xy[1][:120]
    (failed,) = runner.run([PredefinedSplit(np.arange(n_labels) % 4), Ridge()], (x, y)).failed
    assert f"PredefinedSplit has {n_labels} labels for 120 samples" in str(failed.error)


@dataclass(frozen=True)
class Halves:
    """Has a state that cannot be set."""

    random_state: int | None = None

    def split(self, x: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Any, Any]]:
        return ShuffleSplit(2, test_size=0.5, random_state=self.random_state).split(x)

    def get_n_splits(self, *given: Any) -> int:
        return 2


def test_a_splitter_whose_state_cannot_be_set_splits_as_it_does(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([Halves(), Ridge()], xy)
    assert replays(runner, predictions, xy[0]) and len(predictions.to_dicts()) == 2


@pytest.mark.parametrize(
    "splitter", [GroupKFold(4), LeavePGroupsOut(3), PredefinedSplit(np.repeat([0, 1], 60)), StratifiedKFold(30)]
)
def test_a_splitter_that_cannot_split_within_a_fold_is_named(runner: PipelineRunner, xy: Any, splitter: Any) -> None:
    data = {"X": xy[0][:120], "y": np.arange(120) % 4, "groups": np.arange(120) % 4}
    (failed,) = runner.run([splitter, Ridge(), {"meta_model": Ridge()}], data, verbose=0).failed
    assert f"{type(splitter).__name__} cannot split the" in str(failed.error)
    assert "of fold 0 again" in str(failed.error) and "another splitter" in str(failed.error)


def test_a_stack_is_not_taken_in_by_a_model_that_knows_its_rows_by_heart(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    noise = np.random.default_rng(1).permutation(y)
    config = [FOLDS, Memorizing(), Ridge(), {"meta_model": Ridge(), "name": "stack"}]
    predictions = runner.run(config, (x, noise), metric="r2")
    (stack,) = [row for row in predictions.top().to_dicts() if row["model_name"] == "stack"]
    assert stack["score"] < 0.1


def test_a_transformer_before_the_splitter_never_sees_y(runner: PipelineRunner, xy: Any) -> None:
    for operator in (SelectKBest(f_regression, k=2), NeedsY()):
        (failed,) = runner.run([operator, FOLDS, Ridge()], xy, verbose=0).failed
        assert "behind the splitter" in str(failed.error)
        assert not runner.run([FOLDS, operator, Ridge()], xy).failed


# -- bad input --------------------------------------------------------------------------------------


def test_a_pipeline_that_cannot_take_nan_fails_and_the_run_goes_on(runner: PipelineRunner, xy: Any) -> None:
    x = xy[0].copy()
    x[3, 1] = np.nan
    forest = RandomForestRegressor(3, random_state=0)
    with pytest.warns(UserWarning, match="1 of 2 pipelines failed"):
        predictions = runner.run([FOLDS, {"_or_": [Ridge(), forest]}], (x, xy[1]))
    (failed,) = predictions.failed
    assert "NaN" in str(failed.error)
    assert runner.workspace.records(pipeline_id=failed.pipeline_id) == []
    assert predictions.best()["model_name"] == "RandomForestRegressor"
    assert runner.workspace.runs()[0].status == "completed"


def test_when_everything_failed_the_answer_says_why(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([FOLDS, PLSRegression(99)], xy, verbose=0)
    with pytest.raises(ArtifactDBError, match="n_components"):
        predictions.best()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([FOLDS, {"model": "sklearn.linear_model.Ridge", "params": {"alpha": {"class": "os.system"}}}], "os.system"),
        ([FOLDS, Neither()], "neither a transformer, a model, nor a splitter"),
        ([FOLDS, {"modle": Ridge()}], "Did you mean 'model'"),
        ([FOLDS, "sklearn.linear_model.Rigde"], "sklearn.linear_model.Ridge"),
        ([FOLDS, "os.system"], "os.system"),
        ([FOLDS, {"model": Ridge(), "params": {"alhpa": 1}}], "alhpa"),
        ([FOLDS], "has no model"),
        ([Ridge(), FOLDS], "before the splitter"),
        ([FOLDS, KFold(2), Ridge()], "one splitter"),
        ([{"branch": [[FOLDS], []]}, Ridge()], "splitter"),
        ([FOLDS, Ridge(), {"meta_model": Ridge(), "source_models": ["Rigde"]}], "Did you mean 'Ridge'"),
        ([FOLDS, {"meta_model": Ridge()}], "no model stands before it"),
        ([Ridge(), {"meta_model": Ridge()}], "no splitter"),
        ([FOLDS, {"branch": []}, Ridge()], "list of lists"),
        ([FOLDS, {"y_processing": PCA(2), "name": "x"}, Ridge(), []], "empty"),
        ("Ridge", "Ridge"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_before_anything_is_trained(
    runner: PipelineRunner, xy: Any, config: Any, said: str
) -> None:
    with pytest.raises(InvalidValueError) as caught:
        runner.run(config, xy)
    assert said in str(caught.value)
    assert runner.workspace.runs() == []


def test_a_metric_of_another_task_is_refused(runner: PipelineRunner, xy: Any) -> None:
    with pytest.raises(InvalidValueError, match="accuracy is a metric of classification"):
        runner.run([FOLDS, Ridge()], xy, metric="accuracy")
    with pytest.raises(InvalidValueError, match="Did you mean rmse"):
        runner.run([FOLDS, Ridge()], xy, metric="rsme")


def test_other_features_than_in_training_are_refused_with_both_numbers(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    best = runner.run([FOLDS, Ridge()], xy).best()
    with pytest.raises(InvalidValueError, match="trained on 10 features, X has 7"):
        runner.predict(best, x[:, :7])
    two = runner.run([FOLDS, Ridge()], ([x, x], y)).best()
    with pytest.raises(InvalidValueError, match="2 sources, X has 1"):
        runner.predict(two, x)


def test_what_cannot_predict_x_is_named_by_its_id(runner: PipelineRunner, xy: Any) -> None:
    best = runner.run([FOLDS, Ridge()], xy).best()
    for source in (best, best["pipeline_id"]):
        with pytest.raises(
            InvalidValueError, match=rf"^'?{best['pipeline_id']}'? cannot predict this X \(ValueError: .*NaN"
        ):
            runner.predict(source, xy[0] * np.nan)


def test_a_chain_that_cannot_be_replayed_says_what_is_missing(runner: PipelineRunner, xy: Any) -> None:
    model = Ridge().fit(*xy)
    registry = runner.workspace.registry("hand", "0001_ridge")
    record = registry.register_with_chain(model, "s1.MinMaxScaler>s2.Ridge", "model", 2, fold_id=0)
    wanted = registry.generate_id("s1.MinMaxScaler", 0)
    with pytest.raises(MissingDependencyError) as caught:
        runner.predict(record.artifact_id, xy[0])
    assert "s1.MinMaxScaler" in str(caught.value)
    assert wanted in caught.value.missing
    registry.register_with_chain(MinMaxScaler().fit(xy[0]), "s1.MinMaxScaler", "transformer", 1)
    expected = model.predict(MinMaxScaler().fit_transform(xy[0]))
    assert np.array_equal(runner.predict(record.artifact_id, xy[0]), expected)


def test_of_two_transformers_the_one_that_the_model_depends_on_is_taken(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    shared, of_fold = MinMaxScaler().fit(x), MinMaxScaler().fit(x[:50])
    registry = runner.workspace.registry("hand", "0001_ridge")
    registry.register_with_chain(of_fold, "s1.MinMaxScaler", "transformer", 1, fold_id=0)
    source = registry.register_with_chain(shared, "s1.MinMaxScaler", "transformer", 1)
    for depends_on, scaler in (([source.artifact_id], shared), ([], of_fold)):
        model = Ridge().fit(scaler.transform(x), y)
        record = registry.register_with_chain(
            model, "s1.MinMaxScaler>s2.Ridge", "model", 2, fold_id=0, depends_on=depends_on
        )
        assert np.array_equal(runner.predict(record.artifact_id, x), model.predict(scaler.transform(x)))


def test_a_source_that_is_not_there_is_not_found(runner: PipelineRunner, xy: Any) -> None:
    runner.run([FOLDS, Ridge()], xy)
    for source in ("0009_nothing", "0001_x$abcdefabcdef:0", "0123456789abcdef"):
        with pytest.raises(ArtifactNotFoundError, match=r"artifactdb"):
            runner.predict(source, xy[0])


def test_a_study_does_not_run_inside_a_transaction(runner: PipelineRunner, xy: Any) -> None:
    with runner.workspace.transaction(), pytest.raises(InvalidValueError, match="outside"):
        runner.run([FOLDS, Ridge()], xy)


def test_a_pipeline_is_named_by_the_beginning_of_its_id_too(runner: PipelineRunner, xy: Any) -> None:
    x, _ = xy
    predictions = runner.run([FOLDS, {"_or_": [Ridge(), Ridge(2.0)]}], xy, name="ridge")
    first = predictions.pipelines[0].pipeline_id
    assert np.array_equal(runner.predict("0001", x), runner.predict(first, x))
    assert np.array_equal(runner.predict("0001_ridge", x), runner.predict(first, x))
    runner.run([FOLDS, Ridge(3.0)], xy, dataset_name="other", name="ridge")
    with pytest.raises(InvalidValueError, match="2 pipelines begin with '0001'"):
        runner.predict("0001", x)


def test_a_model_whose_chain_leaves_out_its_transformers_is_not_guessed_at(runner: PipelineRunner, xy: Any) -> None:
    x, _ = xy
    registry = runner.workspace.registry("nirs", "0001_pls_abcdef")
    registry.register_with_chain(MinMaxScaler().fit(x), "s1.MinMaxScaler[src=0,sub=0]", "transformer", 1)
    model = registry.register_with_chain(Ridge().fit(*xy), "s4.Ridge[sub=0]", "model", 4, fold_id=0)
    with pytest.raises(InvalidValueError, match="does not say so"):
        runner.predict(model.artifact_id, x)


def test_a_list_as_one_value_of_a_parameter_stays_one_value(runner: PipelineRunner, xy: Any) -> None:
    grid = {"model": MLPRegressor(max_iter=5, random_state=0), "params": {"hidden_layer_sizes": [[2, 3], [4]]}}
    first = runner.run([FOLDS, grid], xy, dataset_name="one", verbose=0)
    for pipeline in first.pipelines:
        again = runner.run(pipeline.configuration, xy, dataset_name="two", verbose=0)
        assert [one.configuration for one in again.pipelines] == [pipeline.configuration]
        assert again.score() in [row[5] for row in first.top()]


def test_labels_that_only_the_test_set_has_keep_their_place(runner: PipelineRunner) -> None:
    x, numbers = load_iris(return_X_y=True)
    y = np.array(["b", "c", "a"])[numbers]
    known = y != "a"
    data = {"X": x[known], "y": y[known], "X_test": x[::10], "y_test": y[::10]}
    runner.run([StratifiedKFold(3), LogisticRegression()], data)
    row = runner.workspace.catalog.filter(partition="test", fold_id=0).to_dicts()[0]
    names = np.array(json.loads(row["metadata"])["classes"])
    assert np.array_equal(names[runner.workspace.catalog.get(row["id"])["y_true"].astype(int)], y[::10])


def test_a_study_on_a_frame_predicts_a_file(runner: PipelineRunner, xy: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame(xy[0], columns=[f"nm{index}" for index in range(10)])
    columns = ColumnTransformer([("some", StandardScaler(), ["nm0", "nm3"])])
    best = runner.run([columns, FOLDS, Ridge()], (frame, xy[1])).best()
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert np.allclose(runner.predict(best, tmp_path / "new.csv"), runner.predict(best, frame), rtol=1e-9)


@pytest.mark.parametrize("made", [pd.DataFrame, lambda frame: frame.astype({"zip": "category"}), pl.from_pandas])
def test_texts_that_look_like_numbers_in_a_file_are_texts_as_in_training(
    runner: PipelineRunner, tmp_path: Path, made: Any
) -> None:
    x = np.arange(12.0)
    frame = pd.DataFrame({"x": x, "zip": ["001", "002", "010"] * 4})
    frame.to_csv(tmp_path / "new.csv", index=False)
    encoder = ColumnTransformer([("zip", OneHotEncoder(), ["zip"])], remainder="passthrough")
    best = runner.run([encoder, KFold(2), Ridge()], (made(frame), x + 50 * (frame["zip"] == "010"))).best()
    assert np.array_equal(runner.predict(best, tmp_path / "new.csv"), runner.predict(best, made(frame)))


@pytest.mark.parametrize(
    "operators",
    [
        *(
            [make_pipeline(ColumnTransformer([("some", "drop", columns)], remainder="passthrough")), Ridge()]
            for columns in (["nm0", "nm3"], "nm0", slice("nm0", "nm3"))
        ),
        [HistGradientBoostingRegressor(max_iter=3, categorical_features=["nm1"])],
    ],
)
def test_columns_of_a_file_of_numbers_are_chosen_by_name(
    runner: PipelineRunner, xy: Any, tmp_path: Path, operators: list[Any]
) -> None:
    frame = pd.DataFrame(xy[0], columns=[f"nm{index}" for index in range(10)])
    frame.assign(y=xy[1]).to_csv(tmp_path / "all.csv", index=False)
    of_file = runner.run([FOLDS, *operators], tmp_path / "all.csv", verbose=0)
    assert of_file.score() == pytest.approx(runner.run([FOLDS, *operators], (frame, xy[1]), verbose=0).score())
    best = of_file.best()
    assert np.allclose(runner.predict(best, tmp_path / "all.csv"), runner.predict(best, frame), rtol=1e-9)
