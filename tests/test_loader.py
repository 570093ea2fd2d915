"""The loader: the same numbers as in training, from a cache that never serves what was replaced."""

from __future__ import annotations

import pickle
import threading
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from artifactdb import (
    ArtifactLoader,
    ArtifactNotFoundError,
    ArtifactRegistry,
    CorruptBlobError,
    InvalidValueError,
    MetaModelConfig,
    MissingDependencyError,
    UntrustedArtifactError,
    Workspace,
)
from artifactdb.artifacts import find

CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


@pytest.fixture
def loader(workspace: Workspace) -> ArtifactLoader:
    return workspace.loader("wheat")


@pytest.fixture
def ids(registry: ArtifactRegistry, fold_models: list[Any], fitted: dict[str, Any]) -> list[str]:
    """A scaler that all folds share, and five fold models that depend on it."""
    scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1).artifact_id
    return [
        registry.register_with_chain(model, CHAIN, "model", 3, fold_id=fold, depends_on=[scaler]).artifact_id
        for fold, model in enumerate(fold_models)
    ]


def test_fold_models_predict_the_same_in_a_second_process(
    workspace: Workspace,
    ids: list[str],
    fold_models: list[Any],
    xy: tuple[Any, Any],
    in_new_process: Any,
    tmp_path: Any,
) -> None:
    np.save(tmp_path / "x.npy", xy[0])
    code = """
import sys, numpy as np
from artifactdb import ArtifactLoader
loader = ArtifactLoader(sys.argv[1], "wheat")
x = np.load(sys.argv[2])
np.save(sys.argv[3], np.stack([model.predict(x).ravel() for fold, model in loader.load_fold_models(step_index=3)]))
"""
    in_new_process(code, workspace.path, tmp_path / "x.npy", tmp_path / "y.npy")
    expected = np.stack([model.predict(xy[0]).ravel() for model in fold_models])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_each_way_to_ask_gives_the_object(loader: ArtifactLoader, ids: list[str]) -> None:
    model = loader.load_by_id(ids[2])
    assert loader.load_by_chain(CHAIN, fold_id=2) is model
    assert loader.load_by_chain(CHAIN) is loader.load_by_id(ids[0])
    assert loader.load_by_chain("s1.Nothing") is None
    assert [artifact_id for artifact_id, _ in loader.load_for_step(3)] == ids
    assert [artifact_id for artifact_id, _ in loader.load_for_step(3, fold_id=1)] == [ids[1]]
    assert [fold for fold, _ in loader.load_fold_models(3)] == [0, 1, 2, 3, 4]
    assert loader.load_fold_models(3, pipeline_id="0009") == []
    assert len(loader.load_by_chain_prefix("s1.MinMaxScaler")) == 6
    assert loader.load_by_artifact_id(ids[0])[0] == "PLSRegression_fold0"
    assert len(loader.get_step_binaries(3)) == len(loader.get_step_binaries_by_artifact_ids(ids)) == 5
    assert loader.has_binaries_for_step(3) and not loader.has_binaries_for_step(4)
    assert loader.get_record_by_chain(CHAIN, 4) == loader.get_record(ids[4])
    assert len(loader.get_artifacts_by_chain_filter(step_index=3, artifact_type="model")) == 5
    assert len(loader.get_all_records()) == 6


def test_an_absent_id_is_a_key_error_that_says_what_is_there(loader: ArtifactLoader, ids: list[str]) -> None:
    absent = ids[0].replace(":0", ":7")
    with pytest.raises(KeyError, match=r"folds 0, 1, 2, 3, 4") as caught:
        loader.load_by_id(absent)
    assert isinstance(caught.value, ArtifactNotFoundError)


def test_dependencies_come_first_and_the_artifact_last(loader: ArtifactLoader, ids: list[str]) -> None:
    loaded = loader.load_with_dependencies(ids[3])
    assert [type(obj).__name__ for obj in loaded.values()] == ["MinMaxScaler", "PLSRegression"]
    assert list(loaded)[-1] == ids[3]


def test_a_branch_gets_its_own_artifacts_and_the_shared_ones(
    registry: ArtifactRegistry, loader: ArtifactLoader, fitted: dict[str, Any]
) -> None:
    for branch in (0, 1):
        registry.register_with_chain(fitted["pls" if branch else "svr"], f"s2.M[br={branch}]", "model", 2)
    registry.register_with_chain(fitted["scaler"], "s2.Scaler", "transformer", 2)
    classes = {type(obj).__name__ for _, obj in loader.load_for_step(2, branch_path=[1])}
    assert classes == {"PLSRegression", "StandardScaler"}


def test_a_custom_name_finds_the_newest(
    registry: ArtifactRegistry, loader: ArtifactLoader, fitted: dict[str, Any]
) -> None:
    registry.register_with_chain(fitted["pls"], "s1.A", "model", 1, custom_name="best")
    second = registry.register_with_chain(fitted["ridge"], "s2.B", "model", 2, custom_name="best")
    found = loader.find_artifact_by_custom_name("best")
    assert found == second
    assert loader.find_artifact_by_custom_name("best", step_index=1) is not None
    assert loader.find_artifact_by_custom_name("worst") is None


class TestStacks:
    @pytest.fixture
    def stack_id(self, registry: ArtifactRegistry, fitted: dict[str, Any]) -> str:
        sources = [
            registry.register_with_chain(fitted[name], f"s3.{name}", "model", 3).artifact_id
            for name in ("svr", "ridge")
        ]
        # Registered in another order than that of the features.
        config = MetaModelConfig(
            [{"artifact_id": sources[1], "feature_index": 1}, {"artifact_id": sources[0], "feature_index": 0}],
            ["SVR_pred", "Ridge_pred"],
        )
        return registry.register_with_chain(
            fitted["pls"], "s3.svr+s3.ridge>s4.PLS[br=1]", "meta_model", 4, meta_config=config
        ).artifact_id

    def test_sources_come_in_feature_order(self, loader: ArtifactLoader, stack_id: str) -> None:
        stack, sources, columns = loader.load_meta_model_with_sources(stack_id)
        assert type(stack).__name__ == "PLSRegression"
        assert [type(source).__name__ for _, source in sources] == ["SVR", "Ridge"]
        assert columns == ["SVR_pred", "Ridge_pred"]

    def test_x_must_have_the_features_that_the_sources_were_trained_on(
        self, loader: ArtifactLoader, stack_id: str, xy: tuple[Any, Any]
    ) -> None:
        assert loader.load_meta_model_for_prediction(stack_id, xy[0])[2] == ["SVR_pred", "Ridge_pred"]
        with pytest.raises(ValueError, match="trained on 10 features, X has 9"):
            loader.load_meta_model_for_prediction(stack_id, xy[0][:, :9])

    def test_what_is_no_stack_is_a_value_error(
        self, loader: ArtifactLoader, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        record = registry.register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
        with pytest.raises(ValueError, match="no meta-model"):
            loader.load_meta_model_with_sources(record.artifact_id)
        with pytest.raises(KeyError):
            loader.load_meta_model_with_sources("0001$abcdefabcdef:all")

    def test_a_source_of_a_foreign_branch_is_a_value_error_unless_allowed(
        self, loader: ArtifactLoader, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        source = registry.register_with_chain(fitted["svr"], "s3.SVR[br=0]", "model", 3).artifact_id
        stack_id = registry.generate_id("s3.SVR[br=0]>s4.Ridge[br=1]")
        config = MetaModelConfig.of_sources([source], ["SVR_pred"])
        registry.register_with_chain(
            fitted["ridge"], "s3.SVR[br=0]>s4.Ridge[br=1]", "meta_model", 4, meta_config=config
        )
        with pytest.raises(ValueError, match="branch"):
            loader.load_meta_model_with_sources(stack_id)
        assert loader.load_meta_model_with_sources(stack_id, validate_branch=False)[2] == ["SVR_pred"]

    def test_a_missing_source_cannot_be_made_by_deletion(
        self, registry: ArtifactRegistry, loader: ArtifactLoader, stack_id: str
    ) -> None:
        with pytest.raises(MissingDependencyError):
            registry.register_meta_model(object, "0001$abcdefabcdef:all", ["0001$000000000000:0"])


class TestCache:
    def test_what_was_replaced_is_not_served(
        self, loader: ArtifactLoader, registry: ArtifactRegistry, ids: list[str], fitted: dict[str, Any]
    ) -> None:
        assert type(loader.load_by_id(ids[0])).__name__ == "PLSRegression"
        kept = loader.load_by_id(ids[1])
        registry.register_with_chain(fitted["ridge"], CHAIN, "model", 3, fold_id=0)
        assert type(loader.load_by_id(ids[0])).__name__ == "Ridge"
        assert loader.load_by_id(ids[1]) is kept

    def test_what_another_process_replaced_is_not_served(
        self, workspace: Workspace, loader: ArtifactLoader, ids: list[str], in_new_process: Any
    ) -> None:
        loader.load_by_id(ids[0])
        code = """
import sys
from sklearn.linear_model import Ridge
from artifactdb import ArtifactRegistry
registry = ArtifactRegistry(sys.argv[1], "wheat", pipeline_id="0001_pls_abc123")
registry.register_with_chain(Ridge().fit([[1.0]], [1.0]), sys.argv[2], "model", 3, fold_id=0)
"""
        in_new_process(code, workspace.path, CHAIN)
        assert type(loader.load_by_id(ids[0])).__name__ == "Ridge"

    @pytest.mark.parametrize("inner", [False, True])
    def test_what_was_rolled_back_is_not_served(
        self, workspace: Workspace, fitted: dict[str, Any], inner: bool
    ) -> None:
        registry, loader = workspace.registry("wheat", "0001_pls"), workspace.loader("wheat")
        kept = registry.register_with_chain(fitted["pls"], "s1.Model", "model", 1)
        with workspace.transaction() if inner else nullcontext():
            with pytest.raises(ZeroDivisionError), workspace.transaction():
                registry.register_with_chain(fitted["ridge"], "s1.Model", "model", 1)
                never = registry.register_with_chain(fitted["forest"], "s2.Model", "model", 2)
                assert type(loader.load_by_id(kept.artifact_id)) is type(fitted["ridge"])
                assert type(loader.load_by_id(never.artifact_id)) is type(fitted["forest"])
                raise ZeroDivisionError
            assert type(loader.load_by_id(kept.artifact_id)) is type(fitted["pls"])
            with pytest.raises(ArtifactNotFoundError):
                loader.load_by_id(never.artifact_id)

    def test_what_was_deleted_is_not_served(
        self, loader: ArtifactLoader, registry: ArtifactRegistry, ids: list[str]
    ) -> None:
        loader.load_by_id(ids[0])
        registry.delete_pipeline_artifacts("0001_pls_abc123")
        with pytest.raises(KeyError):
            loader.load_by_id(ids[0])

    def test_none_is_a_value_like_any_other(self, registry: ArtifactRegistry, loader: ArtifactLoader) -> None:
        artifact_id = registry.register_with_chain(None, "s1.Nothing", "transformer", 1).artifact_id
        assert loader.load_by_id(artifact_id) is None
        assert loader.load_by_id(artifact_id) is None
        assert loader.get_cache_info()["hits"] == 1

    def test_counts_and_bounds(self, loader: ArtifactLoader, ids: list[str]) -> None:
        assert loader.preload_artifacts([*ids, "0001$abcdefabcdef:all"]) == 5
        assert loader.preload_artifacts(artifact_types=["transformer"]) == 1
        loader.load_by_id(ids[0])
        info = loader.get_cache_info()
        assert (info["cached_count"], info["hits"], info["misses"]) == (6, 1, 6)
        assert info["total_artifacts"] == 6
        assert info["artifacts_by_type"] == {"model": 5, "transformer": 1}
        loader.set_cache_size(2)
        assert loader.get_cache_info()["cached_count"] == 2
        loader.clear_cache()
        assert loader.get_cache_info()["cached_count"] == 0


def test_a_pickled_loader_opens_its_own_connection(loader: ArtifactLoader, ids: list[str]) -> None:
    copy = pickle.loads(pickle.dumps(loader))
    assert type(copy.load_by_id(ids[0])).__name__ == "PLSRegression"
    copy.close()
    assert type(loader.load_by_id(ids[1])).__name__ == "PLSRegression"


def test_a_loader_is_made_of_a_manifest_and_its_files(
    fitted: dict[str, Any], tmp_path: Any, xy: tuple[Any, Any]
) -> None:
    import joblib

    joblib.dump(fitted["forest"], tmp_path / "forest.joblib")
    manifest = {
        "dataset": "wheat",
        "artifacts": {
            "items": [
                {
                    "artifact_id": "0001_rf$abcdefabcdef:all",
                    "path": "forest.joblib",
                    "pipeline_id": "0001_rf",
                    "step_index": 2,
                    "format": "joblib",
                    "class_name": "RandomForestRegressor",
                }
            ]
        },
    }
    loader = ArtifactLoader.from_manifest(manifest, tmp_path, trust=True)
    loaded = loader.load_by_id("0001_rf$abcdefabcdef:all")
    np.testing.assert_array_equal(loaded.predict(xy[0]), fitted["forest"].predict(xy[0]))
    loader.close()


def test_a_file_that_a_manifest_names_and_nobody_has_is_a_missing_file(
    workspace: Workspace, xy: tuple[Any, Any], tmp_path: Path
) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    here, gone = (
        registry.register_with_chain(Ridge(alpha).fit(*xy), "s1.Ridge", "model", 1, fold_id=fold)
        for fold, alpha in enumerate((1.0, 2.0))
    )
    needing = registry.register_with_chain(
        Ridge(3.0).fit(*xy), "s2.Ridge", "model", 2, depends_on=[gone.artifact_id]
    )  # fmt: skip
    workspace.export(tmp_path / "export")
    next((tmp_path / "export").rglob(gone.path)).unlink()
    exported = registry.export_to_manifest()
    with closing(ArtifactLoader.from_manifest(manifest=exported, results_dir=tmp_path / "export")) as loader:
        assert loader.load_by_id(here.artifact_id).alpha == 1.0
        for load in (loader.load_by_id, loader.load_with_dependencies, loader.load_by_artifact_id):
            with pytest.raises(FileNotFoundError, match=f"{gone.path} is not there; looked for it in .*binaries/wheat"):
                load(gone.artifact_id)
            with pytest.raises(ArtifactNotFoundError, match=r"depends on 1 artifacts that are not there"):
                load(needing.artifact_id)
        done = loader.import_from_manifest(manifest=exported, results_dir=tmp_path / "export")
        assert [artifact_id for artifact_id, _ in done.refused] == [gone.artifact_id, needing.artifact_id]
        assert done.missing == [gone.artifact_id]


def test_what_cannot_be_loaded_is_left_out_of_a_preload(tmp_path: Path, xy: tuple[Any, Any]) -> None:
    with Workspace(tmp_path / "damaged.sqlite") as workspace:
        registry = workspace.registry("wheat", "0001_ridge")
        for step in (1, 2, 3):
            registry.register_with_chain(Ridge(step).fit(*xy), f"s{step}.Ridge", "model", step)
        workspace.database.rows(
            "UPDATE records SET signature = NULL, signer_key = NULL, format = 'dill' WHERE step_index = 1"
        )
        workspace.database.rows(
            "UPDATE chunks SET payload = zeroblob(length(payload)) "
            "WHERE blob_key = (SELECT blob_key FROM records WHERE step_index = 2)"
        )
        loader = workspace.loader("wheat")
        with pytest.raises(UntrustedArtifactError):
            loader.load_for_step(1)
        with pytest.raises(CorruptBlobError):
            loader.load_for_step(2)
        assert loader.preload_artifacts() == 1


def test_a_stack_across_branches_loads_for_prediction_when_that_is_meant(
    workspace: Workspace, registry: ArtifactRegistry, xy: tuple[Any, Any]
) -> None:
    ids = [
        registry.register_with_chain(Ridge(1.0 + branch).fit(*xy), f"s4.Ridge[br={branch}]", "model", 4).artifact_id
        for branch in range(2)
    ]
    stack = registry.register_meta_model(Ridge().fit(xy[0][:, :2], xy[1]), registry.generate_id("s5.Ridge"), ids)
    loader = workspace.loader("wheat")
    with pytest.raises(InvalidValueError, match="validate_branch=False"):
        loader.load_meta_model_for_prediction(stack.artifact_id, xy[0])
    _, sources, _ = loader.load_meta_model_for_prediction(stack.artifact_id, xy[0], validate_branch=False)
    assert [source_id for source_id, _ in sources] == ids


def test_a_stack_without_a_configuration_has_its_dependencies_as_sources(
    workspace: Workspace, registry: ArtifactRegistry, xy: tuple[Any, Any]
) -> None:
    ids = [
        registry.register_with_chain(Ridge(1.0 + fold).fit(*xy), "s4.Ridge", "model", 4, fold_id=fold).artifact_id
        for fold in (1, 0)
    ]
    meta = Ridge().fit(xy[0][:, :2], xy[1])
    stack = registry.register_with_chain(meta, "s6.Ridge", "meta_model", 6, depends_on=ids)
    _, sources, columns = workspace.loader("wheat").load_meta_model_with_sources(stack.artifact_id)
    assert ([source_id for source_id, _ in sources], columns) == (ids, ["Ridge_pred", "Ridge_pred"])
    for index in ("b", None, 1.5, -1):
        config = MetaModelConfig([{"artifact_id": ids[0], "feature_index": index}], ["first"])
        with pytest.raises(InvalidValueError, match="feature_index"):
            registry.register_with_chain(meta, "s7.Ridge", "meta_model", 7, meta_config=config)
    for indexes, names, said in (
        ((0, 0), [], "one feature_index"), ((0, 0), ["a", "b"], "one feature_index"),
        ((0, 1), ["a"], "do not fit"), ((5,), ["a"], "do not fit"),
    ):  # fmt: skip
        sources = [{"artifact_id": ids[fold], "feature_index": index} for fold, index in enumerate(indexes)]
        with pytest.raises(InvalidValueError, match=said):
            registry.register_with_chain(meta, "s7.Ridge", "meta_model", 7, meta_config=MetaModelConfig(sources, names))
    # A source may have a column for each class, and who gives no index means the order.
    several = MetaModelConfig([{"artifact_id": source} for source in ids], ["a_0", "a_1", "b_0", "b_1"])
    assert registry.register_with_chain(meta, "s7.Ridge", "meta_model", 7, meta_config=several).depends_on == ids


def test_what_is_replaced_between_look_up_and_load_is_not_served_for_ever(
    file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry("wheat", "0001_a")
    record = registry.register_with_chain({"version": 1}, "s1.A", "model", 1)
    by_chain = find.by_chain
    with Workspace(file) as other, monkeypatch.context() as patched:

        def slow(*arguments: Any) -> Any:
            found = by_chain(*arguments)
            theirs = other.registry("wheat", "0001_a")
            thread = threading.Thread(target=lambda: theirs.register_with_chain({"version": 2}, "s1.A", "model", 1))
            thread.start()
            thread.join()
            return found

        loader = workspace.loader("wheat")
        patched.setattr(find, "by_chain", slow)
        assert loader.load_by_chain("s1.A") == {"version": 2}
    assert loader.load_by_id(record.artifact_id) == loader.load_by_chain("s1.A") == {"version": 2}


def test_models_of_several_pipelines_are_told_apart(workspace: Workspace) -> None:
    for number, pipeline_id in enumerate(("0001_pls", "0001_pls_snv", "0002_pls")):
        registry = workspace.registry("wheat", pipeline_id)
        registry.register_with_chain(Ridge().fit([[0.0], [1.0]], [0, number]), "s3.Ridge", "model", 3, fold_id=0)
    loader = workspace.loader("wheat")
    with pytest.warns(UserWarning, match="models of 3 pipelines"):
        assert len(loader.load_fold_models(3)) == 3
    assert len(loader.load_fold_models(3, pipeline_id="0001_pls")) == 1
    assert [one.pipeline_id for one in workspace.registry("wheat").get_fold_models("0001_pls", 3)] == ["0001_pls"]
    assert len(workspace.registry("wheat").get_fold_models("0001", 3)) == 2
    assert len(loader.load_fold_models(3, pipeline_id="0002")) == 1


def test_an_id_that_is_elsewhere_says_where(workspace: Workspace) -> None:
    for name in ("wheat", "oats"):
        record = workspace.registry(name, "0001_a").register_with_chain({"of": name}, "s1.A", "model", 1, fold_id=0)
    with pytest.raises(ArtifactNotFoundError, match=r"dataset 'corn'\. It is of oats, wheat"):
        workspace.load(record.artifact_id, "corn")
    with pytest.raises(ArtifactNotFoundError, match=r"has the folds 0\."):
        workspace.load(record.artifact_id.replace(":0", ":7"), "wheat")


def test_what_makes_no_sense_is_said(workspace: Workspace, xy: Any) -> None:
    loader = workspace.loader("wheat")
    with pytest.raises(InvalidValueError, match="3 or '3_1'"):
        loader.get_step_binaries("abc")
    registry = workspace.registry("wheat", "0001_stack")
    source = registry.register_with_chain(Ridge().fit(*xy), "s1.Ridge", "model", 1)
    stack = registry.register_with_chain(
        Ridge().fit(xy[0][:, :1], xy[1]), "s2.Ridge", "meta_model", 2,
        meta_config=MetaModelConfig.of_sources([source.artifact_id], ["ridge"]),
    )  # fmt: skip
    assert loader.load_meta_model_for_prediction(stack.artifact_id, xy[0].tolist())[2] == ["ridge"]
    with pytest.raises(InvalidValueError, match="two dimensions"):
        loader.load_meta_model_for_prediction(stack.artifact_id, xy[1])


def test_folds_that_share_an_array_do_not_share_its_memory(workspace: Workspace) -> None:
    spectra = np.random.default_rng(0).normal(size=(100, 100))
    registry = workspace.registry("wheat", "0001_pls")
    for fold in range(3):
        model = {"fold": fold, "first": spectra, "second": spectra.copy()}
        registry.register_with_chain(model, "s1.Keep", "model", 1, fold_id=fold)
    models = [model for _, model in workspace.loader("wheat").load_fold_models(1)]
    models[0]["first"][:] = 0
    others = [models[0]["second"], *(model[name] for model in models[1:] for name in ("first", "second"))]
    assert all(np.array_equal(array, spectra) for array in others)


def test_a_damaged_fold_is_named_and_the_others_still_load(tmp_path: Path) -> None:
    with Workspace(tmp_path / "damaged.sqlite") as workspace:
        registry = workspace.registry("wheat", "0001_pls")
        for fold in range(3):
            model = {"fold": fold, "x": np.arange(9000.0) + fold}
            registry.register_with_chain(model, "s1.Keep", "model", 1, fold_id=fold)
        workspace.database.rows(
            "UPDATE chunks SET payload = zeroblob(length(payload)) WHERE blob_key = (SELECT part_key FROM blob_parts "
            "JOIN records USING (blob_key) WHERE fold_id = 1)"
        )
        loader = workspace.loader("wheat")
        with pytest.raises(CorruptBlobError, match="damaged"):
            loader.load_fold_models(1)
        assert [loader.load_by_chain("s1.Keep", fold)["fold"] for fold in (0, 2)] == [0, 2]
