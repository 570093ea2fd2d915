"""Fitted scikit-learn objects are logged as they are, and come back predicting the same."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFECV
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer_names, make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_validate
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler
from sklearn.svm import SVC, SVR
from typer.testing import CliRunner

from artifactdb import ArtifactNotFoundError, InvalidValueError, MissingDependencyError, SerializationError, Workspace
from artifactdb.artifacts import find, load
from artifactdb.artifacts.composite import Composite, Part
from artifactdb.catalog.columns import lower_is_better
from artifactdb.cli.app import app
from artifactdb.fitted import Logged
from artifactdb.fitted.structure import pieces_of

X, Y = load_diabetes(return_X_y=True)
FLOWERS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
FRAME = pd.DataFrame({"age": X[:, 0], "bmi": X[:, 2], "colour": np.where(X[:, 3] > 0, "red", "blue"), "bp": X[:, 3]})


def forest() -> Any:
    return RandomForestRegressor(20, random_state=0)


def scaled_ridge() -> Any:
    return Pipeline([("scaler", StandardScaler()), ("ridge", Ridge())])


# By name: what is fitted, its X and y, and the chains of what it consists of.
STRUCTURES: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "plain": (Ridge(), X, Y, ["s1.Ridge"]),
    "pipeline": (
        Pipeline([("scaler", StandardScaler()), ("no", "passthrough"), ("pca", PCA(3)), ("model", Ridge())]), X, Y,
        [
            "s1.StandardScaler",
            "s1.StandardScaler>s2.PCA",
            "s1.StandardScaler>s2.PCA>s3.Ridge",
            "s1.StandardScaler>s2.PCA>s3.Ridge>s4.Pipeline",
        ],
    ),
    "nested": (
        Pipeline([("before", make_pipeline(StandardScaler(), PCA(4))), ("model", SVR())]), X, Y,
        [
            "s1.StandardScaler",
            "s1.StandardScaler>s2.PCA",
            "s1.StandardScaler>s2.PCA>s3.SVR",
            "s1.StandardScaler>s2.PCA>s3.SVR>s4.Pipeline",
        ],
    ),
    "columns": (
        make_pipeline(
            ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", OneHotEncoder(), ["colour"])]), Ridge()
        ), FRAME, Y,
        [
            "s1.StandardScaler[br=0]",
            "s1.OneHotEncoder[br=1]",
            "s1.StandardScaler[br=0]+s1.OneHotEncoder[br=1]>s2.ColumnTransformer",
            "s1.StandardScaler[br=0]+s1.OneHotEncoder[br=1]>s2.ColumnTransformer>s3.Ridge",
            "s1.StandardScaler[br=0]+s1.OneHotEncoder[br=1]>s2.ColumnTransformer>s3.Ridge>s4.Pipeline",
        ],
    ),
    "columns with pipelines": (
        ColumnTransformer(
            [("n", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]), ("c", OneHotEncoder(), ["colour"])],
            remainder="passthrough",
        ), FRAME, Y,
        [
            "s1.SimpleImputer[br=0]",
            "s1.SimpleImputer[br=0]>s2.StandardScaler[br=0]",
            "s1.OneHotEncoder[br=1]",
            "s1.SimpleImputer[br=0]+s1.OneHotEncoder[br=1]>s2.StandardScaler[br=0]>s3.ColumnTransformer",
        ],
    ),
    "union": (
        make_pipeline(FeatureUnion([("pca", PCA(2)), ("scaler", StandardScaler()), ("no", "drop")]), Ridge()), X, Y,
        [
            "s1.PCA[br=0]",
            "s1.StandardScaler[br=1]",
            "s1.PCA[br=0]+s1.StandardScaler[br=1]>s2.FeatureUnion",
            "s1.PCA[br=0]+s1.StandardScaler[br=1]>s2.FeatureUnion>s3.Ridge",
            "s1.PCA[br=0]+s1.StandardScaler[br=1]>s2.FeatureUnion>s3.Ridge>s4.Pipeline",
        ],
    ),
    "stack": (
        StackingRegressor([("forest", forest()), ("pls", PLSRegression(2)), ("no", "drop")], Ridge()), X, Y,
        [
            "s1.RandomForestRegressor[sub=0]",
            "s1.PLSRegression[sub=1]",
            "s1.RandomForestRegressor[sub=0]+s1.PLSRegression[sub=1]>s2.Ridge",
            "s1.RandomForestRegressor[sub=0]+s1.PLSRegression[sub=1]>s2.Ridge>s3.StackingRegressor",
        ],
    ),
    "stack of classifiers": (
        StackingClassifier(
            [("forest", RandomForestClassifier(20, random_state=0)), ("svc", make_pipeline(StandardScaler(), SVC()))],
            LogisticRegression(), passthrough=True,
        ), FLOWERS, NAMES,
        [
            "s1.RandomForestClassifier[sub=0]",
            "s1.StandardScaler[sub=1]",
            "s1.StandardScaler[sub=1]>s2.SVC[sub=1]",
            "s1.StandardScaler[sub=1]>s2.SVC[sub=1]>s3.Pipeline[sub=1]",
            "s1.RandomForestClassifier[sub=0]+s1.StandardScaler[sub=1]>s2.SVC[sub=1]>s3.Pipeline[sub=1]"
            ">s4.LogisticRegression",
            "s1.RandomForestClassifier[sub=0]+s1.StandardScaler[sub=1]>s2.SVC[sub=1]>s3.Pipeline[sub=1]"
            ">s4.LogisticRegression>s5.StackingClassifier",
        ],
    ),
    "vote": (
        VotingClassifier([("svc", SVC()), ("logistic", LogisticRegression(max_iter=1000))]), FLOWERS, NAMES,
        [
            "s1.SVC[sub=0]",
            "s1.LogisticRegression[sub=1]",
            "s1.SVC[sub=0]+s1.LogisticRegression[sub=1]>s2.VotingClassifier",
        ],
    ),
    "grid": (
        GridSearchCV(scaled_ridge(), {"ridge__alpha": [0.1, 1.0, 10.0]}), X, Y,
        [
            "s1.StandardScaler",
            "s1.StandardScaler>s2.Ridge",
            "s1.StandardScaler>s2.Ridge>s3.Pipeline",
            "s1.StandardScaler>s2.Ridge>s3.Pipeline>s4.GridSearchCV",
        ],
    ),
    "random search": (
        RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, n_iter=2, random_state=0), X, Y,
        ["s1.Ridge", "s1.Ridge>s2.RandomizedSearchCV"],
    ),
    "target": (
        TransformedTargetRegressor(PLSRegression(3), transformer=QuantileTransformer(n_quantiles=50)), X, Y,
        [
            "s1.QuantileTransformer",
            "s1.QuantileTransformer>s2.PLSRegression",
            "s1.QuantileTransformer>s2.PLSRegression>s3.TransformedTargetRegressor",
        ],
    ),
    "folds": (
        None, X, Y,
        ["s1.StandardScaler", "s1.StandardScaler>s2.Ridge", "s1.StandardScaler>s2.Ridge>s3.Pipeline"] * 3,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    folds = cross_validate(scaled_ridge(), X, Y, cv=3, return_estimator=True, return_indices=True)
    return {name: folds if model is None else model.fit(x, y) for name, (model, x, y, _) in STRUCTURES.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, objects: dict[str, Any]) -> tuple[Path, dict[str, Logged]]:
    """A workspace with everything that is logged, and what logging gave back."""
    file = tmp_path_factory.mktemp("fitted") / "study.sqlite"
    with Workspace(file) as workspace:
        return file, {name: workspace.log(objects[name], X_of(name), Y_of(name), name=name) for name in STRUCTURES}


@pytest.fixture
def opened(study: tuple[Path, dict[str, Logged]]) -> Iterator[Workspace]:
    with Workspace(study[0], mode="ro") as workspace:
        yield workspace


def X_of(name: str) -> Any:  # noqa: N802
    return STRUCTURES[name][1]


def Y_of(name: str) -> Any:  # noqa: N802
    return STRUCTURES[name][2]


def output(model: Any, x: Any) -> Any:
    return model.predict(x) if hasattr(model, "predict") else model.transform(x)


def whole(objects: dict[str, Any], name: str) -> Any:
    return objects[name]["estimator"][0] if name == "folds" else objects[name]


# -- what comes back --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(study: tuple[Path, dict[str, Logged]], in_new_process: Any) -> dict[str, Any]:
    """What another process predicts with what it loads."""
    file, logged = study
    asked = {name: (entry.artifact_id, X_of(name)) for name, entry in logged.items()}
    joblib.dump(asked, file.with_name("asked.joblib"))
    code = """
import sys, joblib
from artifactdb import Workspace
answers = {}
with Workspace(sys.argv[1], mode="ro") as workspace:
    for name, (artifact_id, x) in joblib.load(sys.argv[2]).items():
        model = workspace.load(artifact_id)
        answers[name] = model.predict(x) if hasattr(model, "predict") else model.transform(x)
joblib.dump(answers, sys.argv[3])
"""
    in_new_process(code, file, file.with_name("asked.joblib"), file.with_name("answers.joblib"))
    answers: dict[str, Any] = joblib.load(file.with_name("answers.joblib"))
    return answers


@pytest.mark.parametrize("name", STRUCTURES)
def test_predictions_in_another_process_are_the_same_to_the_last_bit(
    elsewhere: dict[str, Any], objects: dict[str, Any], name: str
) -> None:
    expected = output(whole(objects, name), X_of(name))
    assert elsewhere[name].dtype == expected.dtype
    np.testing.assert_array_equal(elsewhere[name], expected)


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_operator_is_a_record_with_its_chain_and_the_given_object_is_the_last(
    opened: Workspace, study: tuple[Path, dict[str, Logged]], objects: dict[str, Any], name: str
) -> None:
    logged = study[1][name]
    records = [opened.record(artifact_id) for artifact_id in logged.artifact_ids]
    assert [record.chain_path for record in records] == STRUCTURES[name][3]
    assert all(record.pipeline_id == logged.pipeline_id for record in records)
    assert records[-1].class_name == type(whole(objects, name)).__name__
    assert records[-1].custom_name == name
    if name != "folds":
        assert logged.artifact_id == logged.artifact_ids[-1]


def sources(workspace: Workspace, logged: Logged) -> dict[str, list[str]]:
    """What each artifact depends on: the last operators of the chains."""
    last = {}
    for record in map(workspace.record, logged.artifact_ids):
        last[record.artifact_id] = record.chain_path.rpartition(">")[2]
    return {last[own]: [last[source] for source in workspace.record(own).depends_on] for own in logged.artifact_ids}


def test_a_part_depends_on_the_one_before_and_a_container_on_its_parts(
    opened: Workspace, study: tuple[Path, dict[str, Logged]]
) -> None:
    assert sources(opened, study[1]["pipeline"]) == {
        "s1.StandardScaler": [],
        "s2.PCA": ["s1.StandardScaler"],
        "s3.Ridge": ["s2.PCA"],
        "s4.Pipeline": ["s1.StandardScaler", "s2.PCA", "s3.Ridge"],
    }
    assert sources(opened, study[1]["columns"]) == {
        "s1.StandardScaler[br=0]": [],
        "s1.OneHotEncoder[br=1]": [],
        "s2.ColumnTransformer": ["s1.StandardScaler[br=0]", "s1.OneHotEncoder[br=1]"],
        "s3.Ridge": ["s2.ColumnTransformer"],
        "s4.Pipeline": ["s2.ColumnTransformer", "s3.Ridge"],
    }
    assert sources(opened, study[1]["stack of classifiers"])["s4.LogisticRegression"] == [
        "s1.RandomForestClassifier[sub=0]",
        "s3.Pipeline[sub=1]",
    ]


def test_names_types_and_parameters_are_those_of_the_operators(
    opened: Workspace, study: tuple[Path, dict[str, Logged]]
) -> None:
    def described(name: str) -> list[tuple[str, str, str]]:
        records = map(opened.record, study[1][name].artifact_ids)
        return [(record.custom_name, str(record.artifact_type), record.class_name) for record in records]

    assert described("nested") == [
        ("standardscaler", "transformer", "StandardScaler"),
        ("pca", "transformer", "PCA"),
        ("model", "model", "SVR"),
        ("nested", "model", "Pipeline"),
    ]
    assert described("target")[0] == ("transformer", "encoder", "QuantileTransformer")
    assert described("columns")[2] == ("columntransformer", "transformer", "ColumnTransformer")
    assert described("stack")[2:] == [
        ("final_estimator", "meta_model", "Ridge"),
        ("stack", "model", "StackingRegressor"),
    ]
    search = opened.record(study[1]["grid"].artifact_id)
    assert search.params["param_grid"] == {"ridge__alpha": [0.1, 1.0, 10.0]}
    assert search.params["estimator"]["class"] == "sklearn.pipeline.Pipeline"
    assert search.environment["sklearn"] and search.format_version.startswith("sklearn==")


def test_a_stack_is_what_the_loader_knows_as_a_meta_model(
    opened: Workspace, study: tuple[Path, dict[str, Logged]], objects: dict[str, Any]
) -> None:
    meta_id = study[1]["stack"].artifact_ids[2]
    meta, models, columns = opened.loader("dataset").load_meta_model_with_sources(meta_id)
    assert columns == ["forest_pred", "pls_pred"]
    stacked = np.column_stack([model.predict(X).ravel() for _, model in models])
    np.testing.assert_array_equal(meta.predict(stacked), objects["stack"].predict(X))


def test_the_folds_of_a_cross_validation_are_fold_models(
    opened: Workspace, study: tuple[Path, dict[str, Logged]], objects: dict[str, Any]
) -> None:
    logged = study[1]["folds"]
    assert [opened.record(artifact_id).fold_id for artifact_id in logged.artifact_ids] == [0] * 3 + [1] * 3 + [2] * 3
    assert logged.artifact_id == logged.artifact_ids[2]
    models = opened.loader("dataset").load_fold_models(3, pipeline_id=logged.pipeline_id)
    for (fold, model), estimator in zip(models, objects["folds"]["estimator"], strict=True):
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X)), fold


# -- no content twice -------------------------------------------------------------------------------


def test_what_a_container_holds_is_stored_once(workspace: Workspace) -> None:
    stack = StackingRegressor([("forest", forest()), ("ridge", Ridge())], Ridge())
    search = GridSearchCV(make_pipeline(StandardScaler(), stack), {"stackingregressor__forest__max_depth": [8]}, cv=2)
    logged = workspace.log(search.fit(X, Y))
    sizes = {record.class_name: record.size_bytes for record in map(workspace.record, logged.artifact_ids)}
    assert sizes["RandomForestRegressor"] > 200_000
    for container in ("StackingRegressor", "Pipeline", "GridSearchCV"):
        assert sizes[container] < 10_000, container
    total = workspace.query("SELECT sum(size_bytes) FROM blobs").rows[0][0]
    assert total < sizes["RandomForestRegressor"] + 30_000


def test_what_was_one_object_is_one_object_again(
    opened: Workspace, study: tuple[Path, dict[str, Logged]], objects: dict[str, Any]
) -> None:
    vote = opened.load(study[1]["vote"].artifact_id)
    assert vote.named_estimators_["svc"] is vote.estimators_[0]
    stack = opened.load(study[1]["stack"].artifact_id)
    assert stack.named_estimators_["forest"] is stack.estimators_[0]
    columns = opened.load(study[1]["columns with pipelines"].artifact_id)
    assert columns.named_transformers_["c"] is columns.transformers_[1][1]


def test_logging_changes_nothing_of_the_object(workspace: Workspace) -> None:
    fitted = STRUCTURES["stack"][0].fit(X, Y)
    before = {name: id(value) for name, value in vars(fitted).items()}
    inside = [id(model) for model in fitted.estimators_]
    workspace.log(fitted)
    assert {name: id(value) for name, value in vars(fitted).items()} == before
    assert [id(model) for model in fitted.estimators_] == inside


def test_chains_stay_apart_however_ensembles_and_unions_are_nested() -> None:
    inner = VotingRegressor([("a", make_pipeline(StandardScaler(), Ridge())), ("b", Ridge())])
    union = FeatureUnion([("a", StandardScaler()), ("b", make_pipeline(StandardScaler(), StandardScaler()))])
    model = VotingRegressor([("inner", inner), ("union", make_pipeline(union, Ridge())), ("again", inner)])
    chains = [piece.chain for piece in pieces_of(model.fit(X, Y))]
    assert len(set(chains)) == len(chains) == 17


def test_classes_of_any_name_make_chains(workspace: Workspace) -> None:
    odd = type("My Scaler[br=0]>", (StandardScaler,), {"__module__": "__main__"})
    workspace.log(make_pipeline(odd(), Ridge()).fit(X, Y))
    assert workspace.records(step_index=1)[0].chain_path == "s1.My_Scaler_br_0_"


# -- composites -------------------------------------------------------------------------------------


def retrained(workspace: Workspace, artifact_id: str, obj: Any) -> None:
    record = workspace.record(artifact_id)
    registry = workspace.registry(record.dataset, record.pipeline_id)
    registry.register_with_chain(
        obj, record.chain_path, record.artifact_type, record.step_index, depends_on=record.depends_on
    )


def test_each_way_to_load_puts_the_container_together(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["columns"])
    expected = objects["columns"].predict(FRAME)
    loader = workspace.loader("dataset")
    ways = {
        "workspace": workspace.load(logged.artifact_id),
        "by pipeline": workspace.load(logged.pipeline_id),
        "registry": workspace.registry("dataset").load_artifact(logged.artifact_id),
        "loader": loader.load_by_id(logged.artifact_id),
        "by step": loader.load_for_step(4)[0][1],
        "dependencies": workspace.loader("dataset").load_with_dependencies(logged.artifact_id)[logged.artifact_id],
        "no cache": workspace.loader("dataset", cache_size=0).load_by_id(logged.artifact_id),
    }
    for way, model in ways.items():
        np.testing.assert_array_equal(model.predict(FRAME), expected, err_msg=way)


def test_a_cached_container_is_not_served_when_a_part_was_replaced(
    workspace: Workspace, objects: dict[str, Any]
) -> None:
    logged = workspace.log(objects["grid"])
    loader = workspace.loader("dataset")
    cached = loader.load_by_id(logged.artifact_id)
    assert loader.load_by_id(logged.artifact_id) is cached
    workspace.log(objects["plain"], dataset="another")
    assert loader.load_by_id(logged.artifact_id) is cached, "nothing of it was replaced"
    other = Ridge(alpha=1000.0).fit(StandardScaler().fit_transform(X), Y)
    retrained(workspace, logged.artifact_ids[1], other)
    again = loader.load_by_id(logged.artifact_id)
    assert again.best_estimator_[-1].alpha == 1000.0
    np.testing.assert_array_equal(again.predict(X), other.predict(cached.best_estimator_[0].transform(X)))


def test_a_container_and_its_parts_are_of_one_state(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["random search"])
    found = find.require(workspace.database, logged.artifact_id, "dataset")
    other = RandomizedSearchCV(Ridge(), {"alpha": [500.0]}, n_iter=1, random_state=0).fit(X, Y)
    best_id = logged.artifact_ids[0]
    with workspace.transaction():  # as somebody else, after the record was looked up and before it is loaded
        retrained(workspace, best_id, other.best_estimator_)
        retrained(workspace, logged.artifact_id, Composite.of(other, {id(other.best_estimator_): best_id}))
    loaded = load.load(workspace.database, found)
    assert loaded.best_score_ == other.best_score_ and loaded.best_estimator_.alpha == 500.0


def test_a_library_entry_predicts_as_before_when_the_pipeline_is_trained_again(
    workspace: Workspace, objects: dict[str, Any], tmp_path: Path
) -> None:
    expected = objects["grid"].predict(X)
    logged = workspace.log(objects["grid"])
    workspace.library.save_pipeline_full("dataset", logged.pipeline_id, "kept")
    retrained(workspace, logged.artifact_ids[1], Ridge(alpha=1000.0).fit(X, Y))
    assert (workspace.load(logged.artifact_id).predict(X) != expected).any()
    kept = workspace.library.load("kept")
    np.testing.assert_array_equal(kept[logged.artifact_id].predict(X), expected)
    assert kept[logged.artifact_id].best_estimator_[0] is kept[logged.artifact_ids[0]], "each object is made once"
    exported = workspace.library.export("kept", tmp_path / "kept.sqlite")
    with Workspace(exported) as alone:
        np.testing.assert_array_equal(alone.load(logged.artifact_id).predict(X), expected)


def test_a_packed_merged_exported_container_predicts_the_same(
    study: tuple[Path, dict[str, Logged]], objects: dict[str, Any], tmp_path: Path
) -> None:
    file, logged = study
    with Workspace(file) as workspace:
        workspace.pack(tmp_path / "packed.sqlite")
        workspace.export(tmp_path / "tree")
    with Workspace(tmp_path / "merged.sqlite") as merged, Workspace(tmp_path / "imported.sqlite") as imported:
        merged.merge(tmp_path / "packed.sqlite")
        assert imported.import_folder(tmp_path / "tree").ok
        for target in (merged, imported, Workspace(tmp_path / "packed.sqlite", mode="ro")):
            for name in ("columns", "stack of classifiers", "grid", "folds"):
                model = target.load(logged[name].artifact_id)
                np.testing.assert_array_equal(model.predict(X_of(name)), whole(objects, name).predict(X_of(name)))
            target.close() if target.database.mode == "ro" else None
        assert merged.verify().ok


def test_a_part_that_is_not_there_is_named(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["pipeline"])
    part, root = logged.artifact_ids[1], logged.artifact_id
    workspace.library.save_pipeline_full("dataset", logged.pipeline_id, "kept")
    database = workspace.database
    database.rows("DELETE FROM library_artifacts WHERE record ->> 'artifact_id' = ?", (part,))
    with pytest.raises(MissingDependencyError, match=part.replace("$", r"\$")) as caught:
        workspace.library.load("kept")
    assert caught.value.missing == [part]
    gone = "(SELECT record_key FROM records WHERE artifact_id = ?1)"
    database.rows(f"DELETE FROM record_sources WHERE source_key = {gone} OR record_key = {gone}", (part,))
    database.rows(f"DELETE FROM records WHERE record_key = {gone}", (part,))
    with pytest.raises(MissingDependencyError, match=part.replace("$", r"\$")):
        workspace.load(root)


def test_a_container_leads_only_to_what_it_depends_on(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["random search"])
    workspace.database.rows("DELETE FROM record_sources")
    with pytest.raises(MissingDependencyError):
        workspace.load(logged.artifact_id)


def test_a_composite_holds_its_parts_wherever_they_were() -> None:
    model = Ridge()
    container = {"list": [model], "tuple": (1, model), "inner": Pipeline([("a", model)]), "array": np.array([model])}
    composite = Composite.of(container, {id(model): "the id"})
    assert container["list"][0] is model and container["inner"].steps[0][1] is model
    stored = pickle.loads(pickle.dumps(composite))
    assert stored.skeleton["list"] == [Part("the id")] and stored.container is None
    put = stored.assemble({"the id": model}.__getitem__)
    assert put["list"][0] is put["tuple"][1] is put["inner"].steps[0][1] is put["array"][0] is model


# -- a pipeline's id --------------------------------------------------------------------------------


def test_a_pipeline_is_loaded_by_its_id_where_it_ends_in_one_artifact(
    opened: Workspace, study: tuple[Path, dict[str, Logged]], objects: dict[str, Any]
) -> None:
    logged = study[1]
    np.testing.assert_array_equal(opened.load(logged["stack"].pipeline_id).predict(X), objects["stack"].predict(X))
    with pytest.raises(InvalidValueError, match="ends in 3 artifacts") as caught:
        opened.load(logged["folds"].pipeline_id)
    assert logged["folds"].artifact_id in str(caught.value)
    for absent in ("0099_nothing", "0099_nothing$7f8e9d0c1b2a:all"):
        with pytest.raises(ArtifactNotFoundError):
            opened.load(absent)
    with pytest.raises(ArtifactNotFoundError):
        opened.load(logged["stack"].pipeline_id, dataset="another")


def test_a_pipeline_of_two_datasets_is_loaded_with_the_dataset(workspace: Workspace, objects: dict[str, Any]) -> None:
    first = workspace.log(objects["plain"], dataset="wheat")
    second = workspace.log(objects["plain"], dataset="corn")
    assert first.pipeline_id == second.pipeline_id
    with pytest.raises(InvalidValueError, match="dataset="):
        workspace.load(first.pipeline_id)
    assert workspace.load(first.pipeline_id, dataset="corn").alpha == 1.0


# -- scores and predictions -------------------------------------------------------------------------


def test_one_line_logs_a_search_and_sql_finds_its_winner(workspace: Workspace) -> None:
    search = GridSearchCV(scaled_ridge(), {"ridge__alpha": [0.1, 1.0, 10.0]}).fit(X, Y)
    workspace.log(search, X, Y, dataset="diabetes", name="ridge")

    best = workspace.catalog.best("r2")
    assert best is not None
    assert best["score"] == search.best_score_ and json.loads(best["best_params"]) == search.best_params_
    assert best["model_name"] == "Ridge" and best["preprocessings"] == "StandardScaler"
    winner = workspace.load(best["model_artifact_id"])
    np.testing.assert_array_equal(winner.predict(X), search.best_estimator_.predict(X))

    found = workspace.query("SELECT parameters ->> 'alpha' FROM artifacts WHERE class_name = 'Ridge'")
    assert [row[0] for row in found] == [search.best_params_["ridge__alpha"]]
    candidates = workspace.catalog.top(10, "r2").to_dicts()
    assert sorted(json.loads(row["best_params"])["ridge__alpha"] for row in candidates) == [0.1, 1.0, 10.0]
    assert [row["model_artifact_id"] is None for row in candidates] == [False, True, True]
    assert len(json.loads(best["metadata"])["split_scores"]["r2"]) == 5
    (pipeline,) = workspace.pipelines()
    assert pipeline.metrics["val"]["all"] == {"r2": search.best_score_}
    assert pipeline.status == "completed" and pipeline.configuration["class"].endswith("GridSearchCV")


def test_the_training_set_is_scored_with_its_arrays(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["pipeline"], X, Y, dataset="diabetes")
    (prediction_id,) = logged.prediction_ids
    row = workspace.catalog.get(prediction_id)
    predicted = objects["pipeline"].predict(X)
    assert (row["partition"], row["metric"], row["model_artifact_id"]) == ("train", "rmse", logged.artifact_id)
    assert row["train_score"] == float(np.sqrt(np.mean((predicted - Y) ** 2)))
    np.testing.assert_array_equal(row["y_pred"], predicted)
    np.testing.assert_array_equal(row["y_true"], Y)
    assert (row["n_features"], row["n_samples"], row["task_type"]) == (10, len(Y), "regression")
    assert workspace.pipeline(logged.pipeline_id).metrics["train"]["all"]["rmse"] == row["train_score"]
    assert workspace.catalog.best("mae", partition="train") is not None
    (other,) = workspace.log(objects["pipeline"], X, Y, metric="mae").prediction_ids
    assert workspace.catalog.get(other)["metric"] == "mae"


def test_labels_that_are_texts_are_kept_as_indices_of_the_sorted_classes(
    workspace: Workspace, objects: dict[str, Any]
) -> None:
    (prediction_id,) = workspace.log(objects["vote"], FLOWERS, NAMES).prediction_ids
    row = workspace.catalog.get(prediction_id)
    assert row["metadata"] == {"classes": ["setosa", "versicolor", "virginica"]}
    np.testing.assert_array_equal(row["y_true"], SPECIES)
    np.testing.assert_array_equal(np.array(row["metadata"]["classes"])[row["y_pred"]], objects["vote"].predict(FLOWERS))
    assert row["metric"] == "accuracy" and row["train_score"] == objects["vote"].score(FLOWERS, NAMES)


def test_folds_that_lack_a_class_count_the_classes_alike(workspace: Workspace) -> None:
    splits = [(np.r_[:50, 60:150], np.r_[50:60]), (np.r_[:100, 110:150], np.r_[100:110])]
    folds = cross_validate(SVC(), FLOWERS, NAMES, cv=splits, return_estimator=True, return_indices=True)
    logged = workspace.log(folds, FLOWERS, NAMES)
    for prediction_id, (_, held_out) in zip(logged.prediction_ids, splits, strict=True):
        row = workspace.catalog.get(prediction_id)
        np.testing.assert_array_equal(row["y_true"], SPECIES[held_out])
        assert row["metric"] == "accuracy"


def test_the_folds_of_a_cross_validation_are_scored_by_what_they_held_out(
    workspace: Workspace, objects: dict[str, Any]
) -> None:
    folds = objects["folds"]
    logged = workspace.log(folds, X, Y, dataset="diabetes")
    for fold, prediction_id in enumerate(logged.prediction_ids):
        row, held_out = workspace.catalog.get(prediction_id), folds["indices"]["test"][fold]
        assert (row["partition"], row["fold_id"], row["metric"]) == ("val", str(fold), "r2")
        assert row["val_score"] == folds["test_score"][fold]
        np.testing.assert_array_equal(row["sample_indices"], held_out)
        np.testing.assert_array_equal(row["y_pred"], folds["estimator"][fold].predict(X[held_out]))
        assert row["model_artifact_id"] == logged.artifact_ids[3 * fold + 2]
    metrics = workspace.pipeline(logged.pipeline_id).metrics["val"]
    assert metrics["1"]["r2"] == folds["test_score"][1]
    assert metrics["all"]["r2"] == pytest.approx(folds["test_score"].mean())
    assert len(workspace.catalog.fold_summary("rmse")) == 1


def test_a_score_that_is_not_named_is_not_given_a_name_that_may_be_wrong(workspace: Workspace) -> None:
    scoring = "neg_mean_absolute_error"
    folds = cross_validate(Ridge(), X, Y, cv=2, scoring=scoring, return_estimator=True, return_indices=True)
    for given in ((), (X, Y)):
        logged = workspace.log(folds, *given)
        assert {workspace.catalog.get(own)["metric"] for own in logged.prediction_ids} == {"score"}
    named = workspace.log(folds, metric=scoring)
    assert workspace.catalog.best(scoring)["model_artifact_id"] in named.artifact_ids  # type: ignore[index]


def test_several_scores_of_a_fold_are_all_kept(workspace: Workspace) -> None:
    folds = cross_validate(
        Ridge(), X, Y, cv=2, scoring=["r2", "neg_max_error"], return_estimator=True, return_train_score=True
    )
    row = workspace.catalog.get(workspace.log(folds).prediction_ids[1])
    assert (row["metric"], row["val_score"], row["train_score"]) == ("r2", folds["test_r2"][1], folds["train_r2"][1])
    assert row["scores"]["val"] == {"r2": folds["test_r2"][1], "neg_max_error": folds["test_neg_max_error"][1]}
    with pytest.raises(InvalidValueError, match="r2, neg_max_error"):
        workspace.log(folds, metric="rmse")


@pytest.mark.parametrize(
    ("scoring", "metric"),
    [
        (None, "r2"),
        ("neg_root_mean_squared_error", "neg_root_mean_squared_error"),
        (make_scorer(mean_squared_error, greater_is_better=False), "neg_mean_squared_error"),
    ],
)
def test_a_search_names_what_it_compares_by(workspace: Workspace, scoring: Any, metric: str) -> None:
    search = GridSearchCV(Ridge(), {"alpha": [1.0, 100.0]}, scoring=scoring, cv=2).fit(X, Y)
    workspace.log(search)
    best = workspace.catalog.best(metric)
    assert best is not None and best["score"] == search.best_score_
    assert json.loads(best["best_params"]) == search.best_params_


def test_an_error_that_a_scorer_gives_below_zero_is_kept_as_the_error_that_it_is_called(workspace: Workspace) -> None:
    scoring = {"rmse": "neg_root_mean_squared_error", "r2": "r2"}
    options: dict[str, Any] = {"scoring": scoring, "cv": 3, "return_train_score": True}
    search = GridSearchCV(Ridge(), {"alpha": [0.01, 1.0, 1000.0]}, refit="rmse", **options).fit(X, Y)
    workspace.log(search, dataset="search")
    best = workspace.catalog.best("rmse", dataset_name="search")
    assert best is not None and json.loads(best["best_params"]) == search.best_params_
    assert best["score"] == -search.best_score_ and best["model_artifact_id"] is not None
    assert best["train_score"] > 0 and min(json.loads(best["metadata"])["split_scores"]["rmse"]) > 0

    folds = cross_validate(Ridge(), X, Y, return_estimator=True, return_indices=True, **options)
    for given in ((), (X, Y)):
        logged = workspace.log(folds, *given, dataset="folds")
        row = workspace.catalog.get(logged.prediction_ids[1])
        assert row["metric"] == "rmse" and row["val_score"] == -folds["test_rmse"][1]
        assert row["scores"]["val"]["rmse"] == pytest.approx(-folds["test_rmse"][1])
        assert row["scores"]["train"]["rmse"] == -folds["train_rmse"][1]
    named = cross_validate(Ridge(), X, Y, cv=3, scoring=scoring["rmse"], return_estimator=True)
    best = workspace.catalog.best("rmse", id=workspace.log(named, metric="rmse").prediction_ids)
    assert best is not None and best["score"] == -max(named["test_score"])


def test_every_scorer_of_scikit_learn_is_better_when_higher() -> None:
    assert not [name for name in get_scorer_names() if lower_is_better(name)]
    assert lower_is_better("neg_r2")


def test_a_search_with_several_metrics_is_compared_by_the_one_it_refits(workspace: Workspace) -> None:
    search = GridSearchCV(
        Ridge(), {"alpha": [1.0, 100.0]}, scoring=["neg_mean_absolute_error", "r2"], refit="r2", cv=2,
        return_train_score=True,
    ).fit(X, Y)  # fmt: skip
    row = workspace.catalog.get(workspace.log(search).prediction_ids[search.best_index_])
    assert (row["metric"], row["val_score"]) == ("r2", search.best_score_)
    assert row["scores"]["val"].keys() == row["scores"]["train"].keys() == {"neg_mean_absolute_error", "r2"}
    assert row["train_score"] == search.cv_results_["mean_train_r2"][search.best_index_]


def test_a_search_over_models_says_which_each_candidate_was(workspace: Workspace) -> None:
    search = GridSearchCV(scaled_ridge(), {"ridge": [Ridge(), PLSRegression(2), SVR()]}, cv=2).fit(X, Y)
    workspace.log(search)
    assert {row["model_name"] for row in workspace.catalog.top(5, "r2").to_dicts()} == {
        "Ridge", "PLSRegression", "SVR",
    }  # fmt: skip


def test_candidates_that_failed_are_rows_without_a_score(workspace: Workspace) -> None:
    search = GridSearchCV(PLSRegression(), {"n_components": [2, 50]}, cv=2, error_score=np.nan)
    with pytest.warns(Warning):
        search.fit(X, Y)
    logged = workspace.log(search)
    assert np.isnan(workspace.catalog.get(logged.prediction_ids[1])["val_score"])
    assert len(workspace.catalog.top(5, "r2")) == 1


def test_what_does_not_predict_is_kept_without_predictions(workspace: Workspace) -> None:
    assert workspace.log(StandardScaler().fit(X), X, Y).prediction_ids == []
    assert workspace.log(PCA(2).fit(X)).artifact_ids != []


def test_a_selector_with_results_of_its_own_is_no_search(workspace: Workspace) -> None:
    fitted = RFECV(Ridge(), cv=2).fit(X, Y)
    logged = workspace.log(fitted, X, Y)
    assert len(logged.artifact_ids) == len(logged.prediction_ids) == 1
    np.testing.assert_array_equal(workspace.load(logged.artifact_id).predict(X), fitted.predict(X))


def test_a_run_bears_name_tags_and_notes(workspace: Workspace, objects: dict[str, Any]) -> None:
    logged = workspace.log(objects["plain"], dataset="wheat", name="first", tags=["nir"], notes="by hand")
    (run,) = workspace.runs(tag="nir")
    assert (run.run_id, run.name, run.notes, run.status) == (logged.run_id, "first", "by hand", "completed")
    assert workspace.pipeline(logged.pipeline_id).tags == ["nir"]
    assert logged.pipeline_id.startswith("0001_first_")
    assert repr(logged) == f"<Logged {logged.artifact_id} on wheat: 1 artifacts, 0 predictions>"


# -- what is refused --------------------------------------------------------------------------------


class Unstorable(TransformerMixin, BaseEstimator):
    """Fits, and cannot be serialized."""

    def fit(self, X: Any, y: Any = None) -> Unstorable:  # noqa: N803
        self.rows_ = (row for row in X)
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return X


class Holding(Pipeline):
    """A container that cannot be serialized, of parts that can."""

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:  # noqa: N803
        super().fit(X, y, **params)
        self.rows_ = (row for row in X)
        return self


def refusals() -> dict[str, tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]]:
    no_refit = GridSearchCV(Ridge(), {"alpha": [1.0]}, refit=False, cv=2).fit(X, Y)
    fitted = Ridge().fit(X, Y)
    held = make_pipeline(StandardScaler(), Unstorable(), Ridge()).fit(X, Y)
    holding = Holding([("s", StandardScaler()), ("m", Ridge())]).fit(X, Y)
    return {
        "not fitted": (Ridge(), (), {}, InvalidValueError, r"Ridge is not fitted.*Call fit"),
        "pipeline not fitted": (scaled_ridge(), (), {}, InvalidValueError, "not fitted"),
        "a fold not fitted": ({"estimator": [fitted, Ridge()]}, (), {}, InvalidValueError, "of fold 1 is not fitted"),
        "no estimators": ({"test_score": [1.0]}, (), {}, InvalidValueError, "return_estimator=True"),
        "a class": (Ridge, (), {}, InvalidValueError, "the class Ridge is no fitted estimator"),
        "an array": (X, (), {}, InvalidValueError, "ndarray is no fitted estimator"),
        "no refit": (no_refit, (), {}, InvalidValueError, "refit=False"),
        "lengths": (fitted, (X, Y[1:]), {}, InvalidValueError, "X has 442 samples and y has 441"),
        "no y": (fitted, (X,), {}, InvalidValueError, "X and y"),
        "other features": (fitted, (X[:, :3], Y), {}, InvalidValueError, "Ridge cannot be scored by this X and y"),
        "no metric": (fitted, (X, Y), {"metric": "rsme"}, InvalidValueError, "rmse"),
        "metric of classes": (fitted, (X, Y), {"metric": "accuracy"}, InvalidValueError, "accuracy is for class"),
        "no dataset": (fitted, (), {"dataset": "a/b"}, InvalidValueError, "dataset"),
        "part": (held, (X, Y), {}, SerializationError, "rows_"),
        "whole": (holding, (), {}, SerializationError, "rows_"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals())
def test_what_is_refused_leaves_nothing_behind(workspace: Workspace, name: str) -> None:
    fitted, pairs, options, error, said = refusals()[name]
    with pytest.raises(error, match=said):
        workspace.log(fitted, *pairs, **options)
    for table in ("records", "pipelines", "run_entries", "datasets", "blobs", "staged_predictions", "chains"):
        assert workspace.database.value(f"SELECT count(*) FROM {table}") == 0, table


def test_indices_of_other_samples_are_refused(workspace: Workspace, objects: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="fold 0 holds out sample"):
        workspace.log(objects["folds"], X[:100], Y[:100])


# -- on the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", [joblib.dump, lambda obj, file: file.write_bytes(pickle.dumps(obj))])
def test_a_file_of_joblib_or_pickle_is_logged(tmp_path: Path, objects: dict[str, Any], write: Any) -> None:
    write(objects["grid"], tmp_path / "search.file")
    arguments = ["log", str(tmp_path / "study.sqlite"), str(tmp_path / "search.file"), "--dataset", "wheat"]
    done = CliRunner().invoke(app, [*arguments, "--name", "ridge", "--json"])
    assert done.exit_code == 0, done.output
    logged = json.loads(done.output)
    with Workspace(tmp_path / "study.sqlite", mode="ro") as workspace:
        assert workspace.datasets() == ["wheat"]
        np.testing.assert_array_equal(
            workspace.load(logged["artifact_id"]).predict(X), objects["grid"].predict(X)
        )  # fmt: skip
    again = CliRunner().invoke(app, arguments)
    assert "4 artifacts, 3 predictions" in again.output


def test_a_file_of_data_scores_what_is_logged(tmp_path: Path, objects: dict[str, Any]) -> None:
    joblib.dump(objects["columns"], tmp_path / "model.joblib")
    # In another order, as people's files are.
    FRAME.assign(glucose=Y)[["glucose", "colour", "bp", "bmi", "age"]].to_csv(tmp_path / "data.csv", index=False)
    arguments = ["log", str(tmp_path / "study.sqlite"), str(tmp_path / "model.joblib"), "--data"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "data.csv"), "--target", "glucose", "--json"])
    assert done.exit_code == 0, done.exception
    (prediction_id,) = json.loads(done.output)["prediction_ids"]
    with Workspace(tmp_path / "study.sqlite", mode="ro") as workspace:
        np.testing.assert_allclose(
            workspace.catalog.get(prediction_id)["y_pred"], objects["columns"].predict(FRAME), rtol=1e-12
        )
    FRAME.assign(glucose=Y).drop(columns="age").to_csv(tmp_path / "data.csv", index=False)
    refused = CliRunner().invoke(app, [*arguments, str(tmp_path / "data.csv")])
    assert isinstance(refused.exception, InvalidValueError) and "no column age" in str(refused.exception)


def test_a_file_that_cannot_be_logged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.joblib").write_text("no pickle")
    for name, code in (("absent.joblib", 3), ("text.joblib", 5)):
        done = CliRunner().invoke(app, ["log", str(tmp_path / "study.sqlite"), str(tmp_path / name)])
        assert getattr(done.exception, "exit_code", None) == code
    assert not (tmp_path / "study.sqlite").exists()


def test_of_candidates_that_score_alike_the_best_is_the_one_that_is_kept(workspace: Workspace, xy: Any) -> None:
    search = GridSearchCV(DummyRegressor(), {"strategy": ["mean"] * 40}, cv=3, scoring="r2").fit(*xy)
    logged = workspace.log(search, *xy, dataset="diabetes")
    best = workspace.catalog.best("r2", partition="val")
    assert best is not None
    assert workspace.load(best["model_artifact_id"]).predict(xy[0]).tolist() == search.predict(xy[0]).tolist()
    assert len(logged.prediction_ids) >= 40
