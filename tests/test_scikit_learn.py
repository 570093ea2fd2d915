"""What users of scikit-learn bring: series and frames, selectors, stacks, encoders, splitters and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, metrics
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier, StackingClassifier, StackingRegressor
from sklearn.feature_selection import RFE
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    StratifiedKFold,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    LabelBinarizer,
    LabelEncoder,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import OneClassSVM
from sklearn.tree import DecisionTreeClassifier

from artifactdb import InvalidValueError, PipelineRunner, Workspace
from artifactdb.estimators.scores import score

FOLDS = KFold(3, shuffle=True, random_state=0)
FLOWERS, KINDS_OF_FLOWERS = load_iris(return_X_y=True)


@pytest.fixture
def runner(workspace: Workspace) -> PipelineRunner:
    return PipelineRunner(workspace, verbose=0)


@pytest.mark.parametrize(
    "index", [lambda n: np.random.default_rng(0).permutation(n), lambda n: [f"s{k}" for k in range(n)]]
)
def test_folds_of_frames_and_series_hold_the_rows_that_they_held_out(workspace: Workspace, xy: Any, index: Any) -> None:
    x, y = pd.DataFrame(xy[0], index=index(len(xy[1]))), pd.Series(xy[1], index=index(len(xy[1])))
    folds = cross_validate(Ridge(), x, y, cv=KFold(4), return_estimator=True, return_indices=True)
    logged = workspace.log(folds, x, y, dataset="d")
    for fold, prediction_id in enumerate(logged.prediction_ids):
        found = workspace.catalog.get(prediction_id)
        assert np.array_equal(found["y_true"], y.to_numpy()[found["sample_indices"]])
        assert found["metric"] == "r2", "it is test_score, found again"
        assert found["val_score"] == pytest.approx(folds["test_score"][fold])


def test_searches_of_several_folds_are_one_model_whatever_each_came_to(runner: PipelineRunner, xy: Any) -> None:
    steps = Pipeline([("scaler", StandardScaler()), ("model", Ridge())])
    grids = {"scaler": ["passthrough"]}, {"model": [LinearRegression()]}, {"model__alpha": [0.1, 1.0]}
    searches = [GridSearchCV(steps, grid, cv=2).fit(*xy) for grid in grids]
    folds = {"estimator": searches, "test_score": np.array([0.4, 0.5, 0.6])}
    logged = runner.workspace.log(folds, dataset="d", metric="r2")
    (summary,) = runner.workspace.catalog.fold_summary("r2").to_dicts()
    assert (summary["folds"], summary["mean"], summary["model_name"]) == (3, pytest.approx(0.5), "GridSearchCV")
    expected = np.mean([search.predict(xy[0]) for search in searches], axis=0)
    assert np.allclose(runner.predict(logged.pipeline_id, xy[0]), expected, rtol=1e-12)


def test_what_clusters_predicts_by_the_id_of_its_pipeline(runner: PipelineRunner, xy: Any) -> None:
    fitted = make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit(xy[0])
    logged = runner.workspace.log(fitted, dataset="d")
    assert np.array_equal(runner.predict(logged.pipeline_id, xy[0]), fitted.predict(xy[0]))


@pytest.mark.parametrize(
    "detector", [IsolationForest(n_estimators=10, random_state=0), make_pipeline(StandardScaler(), OneClassSVM())]
)
def test_what_tells_outliers_is_scored_by_accuracy_and_votes(runner: PipelineRunner, detector: Any) -> None:
    usual = np.where(KINDS_OF_FLOWERS == 2, -1, 1)
    folds = StratifiedKFold(3)
    fitted = [(clone(detector).fit(FLOWERS[train]), test) for train, test in folds.split(FLOWERS, usual)]
    predictions = runner.run([folds, {"model": detector}], (FLOWERS, usual))
    expected = np.mean([np.mean(model.predict(FLOWERS[test]) == usual[test]) for model, test in fitted])
    assert (predictions.best()["metric"], predictions.score()) == ("accuracy", pytest.approx(expected))
    votes = np.sum([model.predict(FLOWERS) for model, _ in fitted], axis=0)
    assert np.array_equal(runner.predict(predictions.best(), FLOWERS), np.sign(votes))
    assert not runner.run([folds, {"model": detector}], (FLOWERS, usual), metric="f1_macro").failed
    with pytest.raises(InvalidValueError, match="rmse is a metric of regression"):
        runner.run([folds, {"model": detector}], (FLOWERS, usual), metric="rmse")


@pytest.mark.parametrize("y", [KINDS_OF_FLOWERS, KINDS_OF_FLOWERS.astype(str), KINDS_OF_FLOWERS == 2])
def test_what_tells_outliers_is_trained_on_what_says_which_are(runner: PipelineRunner, y: Any) -> None:
    predictions = runner.run([KFold(3), {"model": IsolationForest(n_estimators=5)}], (FLOWERS, y))
    assert "predicts 1 for what is usual" in predictions.failed[0].error


def test_clusters_of_several_folds_are_not_averaged(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([FOLDS, {"model": KMeans(3, n_init=1, random_state=0)}], xy)
    with pytest.raises(InvalidValueError, match="KMeans numbers its clusters in each fold anew") as refused:
        runner.predict(predictions.best(), xy[0])
    assert "Name the artifact of one fold" in str(refused.value)
    of_one_fold = runner.predict(predictions.to_dicts()[0]["model_artifact_id"], xy[0])
    assert set(of_one_fold) == {0, 1, 2}


def test_masks_are_folds_too(workspace: Workspace, runner: PipelineRunner, xy: Any) -> None:
    class Masks(KFold):  # type: ignore[misc]
        def split(self, *given: Any, **more: Any) -> Any:
            for train, test in super().split(*given, **more):
                mask = np.isin(np.arange(len(train) + len(test)), test)
                yield (~mask).tolist(), mask.tolist()

    masks = list(Masks(3).split(xy[0]))
    folds = cross_validate(Ridge(), *xy, cv=[(np.array(a), np.array(b)) for a, b in masks], return_estimator=True)
    folds["indices"] = {"test": [np.array(mask) for _, mask in masks]}
    logged = workspace.log(folds, *xy, dataset="logged")
    assert np.array_equal(
        workspace.catalog.get(logged.prediction_ids[1])["sample_indices"], np.flatnonzero(masks[1][1])
    )
    steps = [Masks(3), {"model": Ridge(), "name": "ridge"}, {"meta_model": Ridge(), "name": "stack"}]
    assert not runner.run(steps, xy).failed


class YScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Of numbers, though it is fitted to y alone as an encoder of labels is."""

    def fit(self, y: Any) -> YScaler:
        self.mean_, self.n_ = np.mean(y), len(y)
        return self

    def transform(self, y: Any) -> Any:
        return y - self.mean_

    def inverse_transform(self, y: Any) -> Any:
        return y + self.mean_


def test_what_computes_with_y_sees_none_of_the_rows_held_out(runner: PipelineRunner, xy: Any) -> None:
    runner.run([{"y_processing": YScaler()}, FOLDS, Ridge()], xy)
    encoders = list(runner.workspace.records(artifact_type="encoder"))
    assert sorted(record.fold_id for record in encoders) == [0, 1, 2]
    assert all(runner.workspace.load(record.artifact_id).n_ < len(xy[1]) for record in encoders)


def mirrored(y: Any) -> Any:
    return 2 - y


@pytest.mark.parametrize(
    ("encoders", "labels"),
    [
        ([FunctionTransformer(mirrored, mirrored, check_inverse=False), LabelEncoder()], KINDS_OF_FLOWERS),
        ([LabelEncoder(), FunctionTransformer(mirrored, mirrored, check_inverse=False)], KINDS_OF_FLOWERS),
        ([OrdinalEncoder(), LabelEncoder()], np.array(["low", "mid", "high"])[KINDS_OF_FLOWERS]),
    ],
)
def test_encoders_are_gone_through_in_their_order_wherever_the_splitter_stands(
    runner: PipelineRunner, encoders: list[Any], labels: Any
) -> None:
    steps: list[Any] = [{"y_processing": encoder} for encoder in encoders]
    found = []
    for position in range(3):
        config = [*steps[:position], StratifiedKFold(3), *steps[position:], DecisionTreeClassifier(random_state=0)]
        predictions = runner.run(config, (FLOWERS, labels))
        assert not predictions.failed, predictions.failed[0].error
        for row in predictions.to_dicts():
            arrays = runner.workspace.catalog.get(row["id"])
            predicted = runner.predict(row["id"], FLOWERS[arrays["sample_indices"].astype(int)])
            names = np.array(arrays["metadata"].get("classes", np.unique(labels)))
            assert np.array_equal(names[arrays["y_pred"]], predicted)
        found.append((predictions.score(), runner.predict(predictions.best(), FLOWERS).tolist()))
    assert found[0][0] > 0.9 and found[0] == found[1] == found[2]
    encoded = list(runner.workspace.records(artifact_type="encoder"))
    assert {record.fold_id for record in encoded} == {0, 1, 2}


def test_an_encoder_of_y_may_give_frames(runner: PipelineRunner, xy: Any) -> None:
    expected = runner.run([{"y_processing": StandardScaler()}, FOLDS, Ridge()], xy).score()
    with config_context(transform_output="pandas"):
        assert runner.run([{"y_processing": StandardScaler()}, FOLDS, Ridge()], xy).score() == expected


def test_a_selector_that_also_predicts_selects(runner: PipelineRunner, xy: Any) -> None:
    predictions = runner.run([FOLDS, RFE(Ridge(), n_features_to_select=2), {"model": Ridge(), "name": "ridge"}], xy)
    (record, *_) = runner.workspace.records(class_name="Ridge")
    assert record.chain_path == "s2.RFE>s3.Ridge"
    assert runner.workspace.load(record.artifact_id).n_features_in_ == 2
    assert {row["model_name"] for row in predictions.to_dicts()} == {"ridge"}
    runner.workspace.log(make_pipeline(RFE(Ridge()), Ridge()).fit(*xy), *xy, dataset="logged")
    assert [str(record.artifact_type) for record in runner.workspace.records(class_name="RFE", dataset="logged")] == [
        "transformer"
    ]


def test_a_stack_whose_final_estimator_is_the_usual_one_is_a_model(runner: PipelineRunner, xy: Any) -> None:
    stack = StackingRegressor([("ridge", Ridge()), ("ols", LinearRegression())])
    for step in (stack, {"model": stack}):
        predictions = runner.run([FOLDS, step], xy)
        assert not predictions.failed
        assert len(predictions.to_dicts()) == 3


def test_the_regressor_within_a_transformed_target_gives_what_the_whole_gives(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy[0][:, :1], xy[1]
    for model in (
        TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
        make_pipeline(StandardScaler(), TransformedTargetRegressor(Ridge(), transformer=StandardScaler())),
    ):
        whole = model.fit(x, y)
        logged = runner.workspace.log(whole, x, y, dataset="d")
        (inner,) = runner.workspace.records(class_name="Ridge", pipeline_id=logged.pipeline_id)
        assert np.allclose(runner.predict(inner.artifact_id, x[:5]), whole.predict(x[:5]), rtol=1e-12)


def test_an_inner_pipeline_of_a_transformed_target_scales_x_as_in_training(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy[0][:, :1], xy[1]
    inner = make_pipeline(StandardScaler(), Ridge())
    whole = make_pipeline(StandardScaler(), TransformedTargetRegressor(inner, transformer=StandardScaler())).fit(x, y)
    logged = runner.workspace.log(whole, x, y, dataset="d")
    models = [runner.workspace.record(one) for one in logged.artifact_ids]
    for record in [one for one in models if one.class_name in ("Ridge", "Pipeline", "TransformedTargetRegressor")]:
        assert np.allclose(runner.predict(record.artifact_id, x[:5]), whole.predict(x[:5]), rtol=1e-12), record


def test_an_encoder_in_the_chain_is_gone_back_through(runner: PipelineRunner, xy: Any) -> None:
    x, y = xy
    scaler, encoder = StandardScaler().fit(x), StandardScaler().fit(y[:, None])
    model = Ridge().fit(scaler.transform(x), encoder.transform(y[:, None]).ravel())
    registry = runner.workspace.registry("hand", "0001_ridge")
    registry.register_with_chain(encoder, "s1.StandardScaler", "encoder", 1)
    registry.register_with_chain(scaler, "s1.StandardScaler>s2.StandardScaler", "transformer", 2)
    record = registry.register_with_chain(model, "s1.StandardScaler>s2.StandardScaler>s3.Ridge", "model", 3)
    expected = encoder.inverse_transform(model.predict(scaler.transform(x))[:, None]).ravel()
    assert np.array_equal(runner.predict(record.artifact_id, x), expected)


def test_each_source_goes_past_an_encoder_in_the_chain(runner: PipelineRunner, xy: Any) -> None:
    sources, encoder = [xy[0][:, :4], xy[0][:, 4:]], StandardScaler().fit(xy[1][:, None])
    registry = runner.workspace.registry("hand", "0001_ridge")
    registry.register_with_chain(encoder, "s1.StandardScaler", "encoder", 1)
    scaled = []
    for index, source in enumerate(sources):
        scaler = StandardScaler().fit(source)
        chain = f"s1.StandardScaler>s2.StandardScaler[src={index}]"
        registry.register_with_chain(scaler, chain, "transformer", 2, source_index=index)
        scaled.append(scaler.transform(source))
    model = Ridge().fit(np.hstack(scaled), encoder.transform(xy[1][:, None]).ravel())
    chain = "s1.StandardScaler>s2.StandardScaler[src=0]+s2.StandardScaler[src=1]>s3.Ridge"
    record = registry.register_with_chain(model, chain, "model", 3)
    expected = encoder.inverse_transform(model.predict(np.hstack(scaled))[:, None]).ravel()
    assert np.array_equal(runner.predict(record.artifact_id, sources), expected)


def test_one_object_in_several_places_is_gone_through_as_often_as_it_stands_there(
    runner: PipelineRunner, xy: Any
) -> None:
    scaler, a, b = StandardScaler(), Ridge().fit(*xy), LinearRegression().fit(*xy)
    union = FeatureUnion([("two", make_pipeline(scaler, PCA(2))), ("three", make_pipeline(scaler, PCA(3)))])
    for model in (
        make_pipeline(union, Ridge()),
        Pipeline([("first", scaler), ("again", scaler), ("ridge", Ridge())]),
        make_pipeline(StandardScaler(), StackingRegressor([("a", a), ("b", b), ("again", a)], cv="prefit")),
    ):
        fitted = model.fit(*xy)
        logged = runner.workspace.log(fitted, *xy, dataset="d")
        for source in (logged.artifact_id, logged.pipeline_id):
            assert np.array_equal(runner.predict(source, xy[0]), fitted.predict(xy[0]))
        assert np.array_equal(runner.workspace.load(logged.artifact_id).predict(xy[0]), fitted.predict(xy[0]))


def test_a_frame_to_test_with_is_read_by_the_names_of_its_columns(runner: PipelineRunner, xy: Any) -> None:
    a, b = pd.DataFrame(xy[0][:, :2], columns=["a", "b"]), pd.DataFrame(xy[0][:, 2:4], columns=["c", "d"])
    for x, test in (([a, b], [a[["b", "a"]], b]), (a, a[["b", "a"]])):
        given = {"X": x, "y": xy[1], "X_test": test, "y_test": xy[1]}
        predictions = runner.run([FOLDS, {"model": Ridge()}], given)
        assert not predictions.failed
        of_run = runner.workspace.catalog.filter(partition="test", pipeline_uid=predictions.best()["pipeline_id"])
        for row in of_run.to_dicts():
            y_pred = runner.workspace.catalog.get(row["id"])["y_pred"]
            assert np.array_equal(y_pred, runner.predict(row["model_artifact_id"], x))
    with pytest.raises(InvalidValueError, match="no feature 'b'"):
        runner.run([FOLDS, Ridge()], {"X": a, "y": xy[1], "X_test": a[["a"]], "y_test": xy[1]})


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    several = rng.integers(0, 2, (2, 40, 3))
    assert score("accuracy", *several) == metrics.accuracy_score(*several)
    for y, predicted in (
        rng.normal(size=(2, 40, 3)),
        rng.normal(size=(2, 40)),
        rng.integers(0, 255, (2, 40)).astype("u1"),
    ):
        assert score("rmse", y, predicted) == pytest.approx(metrics.root_mean_squared_error(y.astype(float), predicted))
        assert score("mse", y, predicted) == pytest.approx(metrics.mean_squared_error(y.astype(float), predicted))
        assert score("mae", y, predicted) == pytest.approx(metrics.mean_absolute_error(y.astype(float), predicted))
        assert score("r2", y, predicted) == pytest.approx(metrics.r2_score(y.astype(float), predicted))
    model = KNeighborsClassifier(9).fit(FLOWERS, rng.integers(0, 2, (150, 3)))
    assert score("accuracy", model.predict(FLOWERS), model.predict(FLOWERS)) == 1


def test_a_score_that_is_infinite_costs_no_pipeline(runner: PipelineRunner, xy: Any) -> None:
    endless = FunctionTransformer(np.positive, np.reciprocal, check_inverse=False)
    x, y = np.zeros((30, 2)), np.tile([1e-320, -1e-320], 15)
    predictions = runner.run([FOLDS, {"y_processing": endless}, Ridge()], (x, y))
    assert not predictions.failed, predictions.failed[0].error


def test_a_model_that_is_endlessly_wrong_in_one_fold_is_the_last(runner: PipelineRunner) -> None:
    x = np.random.default_rng(0).random((90, 1))
    y = 3 * x[:, 0] + 1
    x[0] = 1e4
    logarithm = {"y_processing": FunctionTransformer(np.log1p, np.expm1)}
    config = [{"_or_": [logarithm, None]}, KFold(3), {"model": LinearRegression(), "name": "line"}]
    predictions = runner.run(config, (x, y))
    for metric, worst in (("rmse", np.inf), ("r2", -np.inf)):
        first, last = predictions.top(metric=metric).to_dicts()
        assert first["chain_path"] == "s2.LinearRegression"
        assert (last["score"], last["std"], last["folds"]) == (worst, None, 3)
    assert predictions.best()["chain_path"] == "s2.LinearRegression"
    assert np.isfinite(runner.predict(last, x[:3], weighted=True)).all(), "what weighs nothing is not asked"


class Lost(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts no number for the first row of an even fold."""

    def fit(self, x: Any, y: Any) -> Lost:
        self.model_, self.first_ = Ridge(0.1).fit(x, y), np.mean(y) if len(y) % 2 else np.nan
        return self

    def predict(self, x: Any) -> Any:
        return np.r_[self.first_, self.model_.predict(x)[1:]]


@pytest.mark.parametrize("metric", ["rmse", "mape", "r2", "explained_variance"])
def test_what_is_no_number_counts_as_the_worst_prediction(runner: PipelineRunner, xy: Any, metric: str) -> None:
    x, y = xy[0][:121], xy[1][:121]
    predictions = runner.run([KFold(3), Lost(), {"model": Ridge(1000), "name": "ridge"}], (x, y), metric=metric)
    assert [row["model_name"] for row in predictions.top().to_dicts()] == ["ridge", "Lost"]
    assert predictions.pipelines[0].metadata["models"][0]["name"] == "ridge"


def test_folds_whose_r2_is_no_number_are_left_out_whatever_is_asked(runner: PipelineRunner, xy: Any) -> None:
    folds = PredefinedSplit(np.r_[0, np.repeat([1, 2], 30)])  # r2 of one sample is no number
    data = xy[0][:61], xy[1][:61]
    by_r2 = runner.run([folds, Ridge()], data, metric="r2").top().to_dicts()
    (asked,) = runner.run([folds, Ridge()], data).top(metric="r2").to_dicts()
    assert asked["folds"] == 2
    assert [row["score"] for row in by_r2] == [pytest.approx(asked["score"])]


def test_a_run_is_resumed_with_what_it_began_with(runner: PipelineRunner, xy: Any) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    config = [FOLDS, {"_or_": [Ridge(), Ridge(2.0)]}]
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(runner, "_train", interrupted)
        runner.run(config, xy, name="study")
    with pytest.raises(InvalidValueError, match="another configuration"):
        runner.run([KFold(4), Ridge()], xy, name="study", resume=True)
    with pytest.raises(InvalidValueError, match=r"another metric \(None; now r2\)"):
        runner.run(config, xy, name="study", resume=True, metric="r2")
    assert len(runner.run(config, xy, name="study", resume=True).pipelines) == 2


def test_an_encoder_of_several_columns_says_what_to_take_instead(runner: PipelineRunner) -> None:
    labels = np.array(["a", "b", "c"])[KINDS_OF_FLOWERS]
    predictions = runner.run(
        [{"y_processing": LabelBinarizer()}, StratifiedKFold(3), RandomForestClassifier(3)], (FLOWERS, labels)
    )
    assert "LabelBinarizer makes 3 columns" in str(predictions.failed[0].error)
    assert "LabelEncoder" in str(predictions.failed[0].error)


def test_an_encoder_of_one_column_suits_a_classifier(runner: PipelineRunner) -> None:
    labels = np.array(["a", "b"])[KINDS_OF_FLOWERS[:100]]
    predictions = runner.run(
        [{"y_processing": LabelBinarizer()}, StratifiedKFold(3), RandomForestClassifier(3)], (FLOWERS[:100], labels)
    )
    assert predictions.score() > 0.9 and set(runner.predict(predictions.best(), FLOWERS[:100])) == {"a", "b"}


NAMES = np.array(["low", "mid", "high"])[KINDS_OF_FLOWERS]


@pytest.mark.parametrize("labels", [NAMES, KINDS_OF_FLOWERS + 4])
def test_each_column_of_probabilities_is_of_the_label_at_its_place(runner: PipelineRunner, labels: Any) -> None:
    data = {"X": FLOWERS, "y": labels, "groups": KINDS_OF_FLOWERS}  # each group is a class that its fold does not know
    known = [labels[[0, 50, 100]].tolist()]
    for config in (
        [{"y_processing": OrdinalEncoder(categories=known)}, StratifiedKFold(3), LogisticRegression(max_iter=500)],
        [LeaveOneGroupOut(), LogisticRegression(max_iter=500)],
    ):
        predictions = runner.run(config, data)
        assert not predictions.failed, predictions.failed[0].error
        for row in predictions.to_dicts():
            found = runner.workspace.catalog.get(row["id"])
            names = np.array(found["metadata"].get("classes", np.unique(labels)))
            predicted = names[found["y_pred"]] if "classes" in found["metadata"] else found["y_pred"]
            assert found["y_proba"].shape == (50, 3)
            assert np.array_equal(names[found["y_proba"].argmax(axis=1)], predicted)
            assert np.array_equal(predicted, runner.predict(row["id"], FLOWERS[found["sample_indices"].astype(int)]))


class Rejecting(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Says of what it is not sure about that it does not know."""

    def fit(self, x: Any, y: Any) -> Rejecting:
        self.model_ = KNeighborsClassifier(15).fit(x, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, x: Any) -> Any:
        sure = self.model_.predict_proba(x).max(axis=1) == 1
        return np.where(sure, self.model_.predict(x), self.no_label)

    no_label = "?"


@pytest.mark.parametrize("no_label", ["?", "none", "zzz"])
def test_a_label_that_is_in_no_y_stays_what_it_is(
    runner: PipelineRunner, monkeypatch: pytest.MonkeyPatch, no_label: str
) -> None:
    monkeypatch.setattr(Rejecting, "no_label", no_label)
    folds = StratifiedKFold(3)
    predictions = runner.run([folds, Rejecting()], (FLOWERS, NAMES))
    assert not predictions.failed
    for row, (train, test) in zip(predictions.to_dicts(), folds.split(FLOWERS, NAMES), strict=True):
        found, expected = runner.workspace.catalog.get(row["id"]), Rejecting().fit(FLOWERS[train], NAMES[train])
        assert np.array_equal(np.array(found["metadata"]["classes"])[found["y_pred"]], expected.predict(FLOWERS[test]))
        assert found["metadata"]["classes"] == ["high", "low", "mid", no_label]
    assert set(runner.predict(predictions.best(), FLOWERS)) == {"high", "low", "mid", no_label}
    options: dict[str, Any] = {"cv": folds, "return_estimator": True, "return_indices": True}
    logged = runner.workspace.log(cross_validate(Rejecting(), FLOWERS, NAMES, **options), FLOWERS, NAMES, dataset="d")
    for one, model in zip(logged.prediction_ids, logged.artifact_ids, strict=True):
        found = runner.workspace.catalog.get(one)
        assert found["metadata"]["classes"] == ["high", "low", "mid", no_label]
        expected = runner.workspace.load(model, dataset="d").predict(FLOWERS[found["sample_indices"].astype(int)])
        assert np.array_equal(np.array(found["metadata"]["classes"])[found["y_pred"]], expected)


@pytest.mark.parametrize("labels", [NAMES, KINDS_OF_FLOWERS])
@pytest.mark.parametrize("encoder", [LabelBinarizer(), OneHotEncoder(), OneHotEncoder(sparse_output=False)])
def test_a_regressor_whose_encoder_gives_labels_back_classifies(
    runner: PipelineRunner, encoder: Any, labels: Any
) -> None:
    folds, config = StratifiedKFold(3), [{"y_processing": encoder}, StratifiedKFold(3), PLSRegression(2)]
    predictions = runner.run(config, (FLOWERS, labels))
    best = predictions.best()
    expected = []
    for train, test in folds.split(FLOWERS, labels):
        columns = (labels[train][:, None] == np.unique(labels)).astype(float)
        predicted = PLSRegression(2).fit(FLOWERS[train], columns).predict(FLOWERS[test])
        expected.append(np.mean(np.unique(labels)[predicted.argmax(axis=1)] == labels[test]))
    assert (best["metric"], best["score"]) == ("accuracy", pytest.approx(np.mean(expected)))
    assert {row["task_type"] for row in predictions.to_dicts()} == {"multiclass_classification"}
    assert set(runner.predict(best, FLOWERS)) == set(labels)
    assert runner.run(config, (FLOWERS, labels), metric="f1_macro").score() > 0.5
    with pytest.raises(InvalidValueError, match="rmse is a metric of regression"):
        runner.run(config, (FLOWERS, labels), metric="rmse")


def test_an_encoder_that_has_no_label_for_a_number_says_which_has(runner: PipelineRunner) -> None:
    for steps, said in (
        ([{"y_processing": LabelEncoder()}, FOLDS, Ridge()], "LabelBinarizer, which gives the nearest label"),
        (
            [{"y_processing": LabelBinarizer()}, FOLDS, Ridge(), {"meta_model": LogisticRegression()}],
            "Stack classifiers",
        ),
    ):
        (failed,) = runner.run(steps, (FLOWERS, NAMES)).failed
        assert said in str(failed.error)


def test_a_classifier_of_intervals_is_refused_as_it_could_never_be_right(runner: PipelineRunner) -> None:
    intervals = KBinsDiscretizer(3, encode="ordinal", strategy="uniform")
    for steps in ([{"y_processing": intervals}], [{"y_processing": intervals}, {"y_processing": LabelEncoder()}]):
        (failed,) = runner.run([*steps, FOLDS, DecisionTreeClassifier()], (FLOWERS, FLOWERS[:, 0])).failed
        assert "to which the encoders of y go back, and no y is that" in str(failed.error)
        assert "take a regressor" in str(failed.error)
    thirds = np.round(KINDS_OF_FLOWERS / 3, 2)  # labels, as they come back
    assert (
        runner.run([{"y_processing": LabelEncoder()}, FOLDS, DecisionTreeClassifier()], (FLOWERS, thirds)).score() > 0.9
    )


@pytest.mark.parametrize(("classes", "passthrough"), [(2, False), (3, False), (3, True)])
def test_each_column_of_a_stack_has_its_name(workspace: Workspace, classes: int, passthrough: bool) -> None:
    rows = classes > KINDS_OF_FLOWERS
    stack = StackingClassifier(
        [("logistic", LogisticRegression(max_iter=500)), ("near", KNeighborsClassifier())], passthrough=passthrough
    ).fit(FLOWERS[rows], KINDS_OF_FLOWERS[rows])
    workspace.log(stack, dataset="flowers")
    (meta,) = workspace.records(artifact_type="meta_model")
    *_, columns = workspace.loader("flowers").load_meta_model_with_sources(meta.artifact_id)
    assert len(columns) == stack.final_estimator_.n_features_in_
    assert columns[0] == ("logistic_proba_1" if classes == 2 else "logistic_proba_0")


def test_metrics_of_training_are_of_the_model_that_is_kept(workspace: Workspace, xy: Any) -> None:
    search = GridSearchCV(Ridge(), {"alpha": [1, 50]}, return_train_score=True, cv=3).fit(*xy)
    logged = workspace.log(search, *xy, dataset="d")
    found = workspace.pipeline(logged.pipeline_id).metrics
    assert found["train"]["all"]["r2"] == pytest.approx(search.score(*xy))
    assert found["val"]["all"]["r2"] == pytest.approx(search.best_score_)


def test_texts_of_a_file_stay_texts_though_new_ones_look_like_numbers(runner: PipelineRunner, tmp_path: Path) -> None:
    train, new = tmp_path / "train.csv", tmp_path / "new.csv"
    train.write_text("lot,y\n" + "7,1\n8,5\nB3,9\n" * 4)
    new.write_text("lot\n8\n7\n")
    steps = [KFold(2), OneHotEncoder(), Ridge(1e-9)]
    best = runner.run(steps, str(train)).best()
    assert np.allclose(runner.predict(best, str(new)), [5, 1])
