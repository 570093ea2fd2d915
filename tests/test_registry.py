"""The registry: what is registered is found again, by everything it can be asked for, in this and other processes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.linear_model import Ridge

from artifactdb import (
    ArtifactLoader,
    ArtifactRegistry,
    ArtifactType,
    DuplicateError,
    InvalidValueError,
    MetaModelConfig,
    MissingDependencyError,
    OperatorChain,
    OperatorNode,
    StillReferencedError,
    Workspace,
    register_artifact_type,
)

CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


def register_folds(registry: ArtifactRegistry, models: list[Any], chain: str = CHAIN) -> list[str]:
    return [
        registry.register_with_chain(model, chain, ArtifactType.MODEL, 3, fold_id=fold).artifact_id
        for fold, model in enumerate(models)
    ]


def test_the_seed_example_gives_an_id_of_pipeline_chain_and_fold(
    registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    record = registry.register_with_chain(
        obj=fitted["pls"],
        chain="s1.MinMaxScaler>s3.PLSRegression",
        artifact_type=ArtifactType.MODEL,
        step_index=3,
        fold_id=0,
        params={"n_components": 10},
    )
    assert record.artifact_id == registry.generate_id(CHAIN, fold_id=0)
    assert record.artifact_id.startswith("0001_pls_abc123$")
    assert record.params == {"n_components": 10}
    assert registry.resolve(record.artifact_id) == record
    assert registry.resolve_by_hash(record.content_hash) == record


def test_every_fold_of_a_chain_is_found_by_its_fold(registry: ArtifactRegistry, fold_models: list[Any]) -> None:
    ids = register_folds(registry, fold_models)
    for fold, artifact_id in enumerate(ids):
        record = registry.get_by_chain(CHAIN, fold_id=fold)
        assert record is not None and record.artifact_id == artifact_id
    assert registry.get_by_chain(CHAIN) == registry.resolve(ids[0]), "no fold named: the first"
    shared = registry.register_with_chain(fold_models[0], CHAIN, "model", 3)
    assert registry.get_by_chain(CHAIN) == shared, "what all folds share comes before any fold"
    assert registry.get_by_chain(CHAIN, fold_id=9) is None
    assert [record.fold_id for record in registry.get_fold_models("0001_pls_abc123", 3)] == [0, 1, 2, 3, 4]


def test_the_same_content_is_stored_once_in_the_whole_file(workspace: Workspace, fitted: dict[str, Any]) -> None:
    for dataset in ("wheat", "barley"):
        for number in range(3):
            registry = workspace.registry(dataset, f"000{number}_x")
            registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
    stats = workspace.stats()
    assert (stats["total_artifacts"], stats["unique_files"]) == (6, 1)
    assert stats["deduplication_ratio"] == pytest.approx(5 / 6)
    assert len(workspace.query("SELECT * FROM blobs")) == 1


def test_an_array_that_two_models_hold_is_stored_once(workspace: Workspace) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    x = np.random.default_rng(0).normal(size=(200, 50))
    registry = workspace.registry("wheat", "0001_knn")
    for neighbors in (3, 5, 7):
        model = KNeighborsRegressor(neighbors, algorithm="brute").fit(x, x[:, 0])
        registry.register_with_chain(model, f"s1.KNN{neighbors}", "model", 1)
    sizes = workspace.query("SELECT size_bytes FROM blobs WHERE size_bytes >= ?", (x.nbytes,))
    assert len(sizes) == 1


def test_the_same_id_with_the_same_content_changes_nothing(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    first = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3, fold_id=0)
    again = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3, fold_id=0)
    assert again == first


def test_the_same_id_with_other_content_replaces_it(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.register_with_chain(fitted["pls"], CHAIN, "model", 3, fold_id=0)
    replaced = registry.register_with_chain(fitted["ridge"], CHAIN, "model", 3, fold_id=0)
    assert registry.get_all_records() == [replaced]
    assert registry.load_artifact(replaced).alpha == 0.5
    assert len(registry.find_orphaned_artifacts()) == 1


def test_place_comes_from_the_chain_unless_given(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    record = registry.register_with_chain(fitted["pls"], "s1.A>s3.PLS[br=0.1,src=2,sub=4]", "model", 3)
    assert (record.branch_path, record.source_index, record.substep_index) == ([0, 1], 2, 4)
    given = registry.register_with_chain(fitted["pls"], "s1.A>s4.PLS[br=0.1]", "model", 4, branch_path=[2])
    assert given.branch_path == [2]


def test_parameters_default_to_those_of_the_estimator(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    record = registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
    assert record.params["alpha"] == 0.5


def test_an_id_of_the_callers_and_of_an_older_scheme_is_found(
    registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    record = registry.register(fitted["pls"], "0001:3:0", "model")
    assert (record.step_index, record.fold_id, record.pipeline_id) == (3, 0, "0001")
    assert registry.resolve("0001:3:0") == record


def test_an_id_of_an_older_scheme_finds_what_was_registered_by_chain(
    registry: ArtifactRegistry, fold_models: list[Any]
) -> None:
    ids = register_folds(registry, fold_models)
    found = registry.resolve("0001:3:2")
    assert found is not None and found.artifact_id == ids[2]
    assert registry.resolve("0001:7:2") is None
    assert registry.resolve("0001_pls_abc123:3:2") == found


def test_artifacts_of_a_step_are_found_with_none_for_anything(
    registry: ArtifactRegistry, fold_models: list[Any], fitted: dict[str, Any]
) -> None:
    register_folds(registry, fold_models)
    registry.register_with_chain(fitted["ridge"], "s1.MinMaxScaler>s3.Ridge[br=1]", "model", 3, fold_id=0)
    assert len(registry.get_artifacts_for_step("0001", 3)) == 6
    assert len(registry.get_artifacts_for_step("0001_pls_abc123", 3, branch_path=[1])) == 1
    assert len(registry.get_artifacts_for_step("0001", 3, fold_id=0)) == 2
    assert registry.get_artifacts_for_step("0002", 3) == []
    assert len(registry.get_chain_prefix("s1.MinMaxScaler")) == 6
    assert registry.get_chain_prefix("s1.MinMax") == [], "a prefix ends where an operator ends"


def test_a_stack_knows_its_sources_in_feature_order(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    sources = [
        registry.register_with_chain(fitted[name], f"s3.{name}[br={i}]", "model", 3).artifact_id
        for i, name in enumerate(("svr", "pls", "ridge"))
    ]
    stack_id = registry.generate_id("s3.svr[br=0]+s3.pls[br=1]+s3.ridge[br=2]>s4.Ridge")
    record = registry.register_meta_model(Ridge().fit([[1.0, 2, 3]], [1.0]), stack_id, sources)
    assert record.is_meta_model and record.depends_on == sources
    assert record.meta_config is not None
    assert record.meta_config.feature_columns == ["SVR_pred", "PLSRegression_pred", "Ridge_pred"]
    assert [source["feature_index"] for source in record.meta_config.source_models] == [0, 1, 2]
    assert registry.get_dependencies(stack_id) == sources


def test_a_stack_without_its_sources_is_refused_and_leaves_nothing(
    registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    missing = registry.generate_id("s3.PLS")
    config = MetaModelConfig([{"artifact_id": missing, "feature_index": 0}], ["PLS_pred"])
    with pytest.raises(MissingDependencyError) as caught:
        registry.register_with_chain(fitted["ridge"], "s3.PLS>s4.Ridge", "meta_model", 4, meta_config=config)
    assert caught.value.missing == [missing]
    assert isinstance(caught.value, ValueError)
    assert registry.get_all_records() == []
    assert registry.get_stats()["orphaned_count"] == 0


def test_types_of_the_users_own_can_be_registered(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="register_artifact_type"):
        registry.register_with_chain(fitted["pls"], "s1.X", "wavelength_selector", 1)
    register_artifact_type("wavelength_selector")
    assert registry.register_with_chain(fitted["pls"], "s1.X", "wavelength_selector", 1).artifact_type


def test_orphans_are_shown_first_and_deleted_when_asked(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    registry.register_with_chain(fitted["ridge"], CHAIN, "model", 3)
    planned, size = registry.delete_orphaned_artifacts(dry_run=True)
    assert len(planned) == 1 and size > 0
    deleted, freed = registry.delete_orphaned_artifacts(dry_run=False)
    assert (deleted, registry.find_orphaned_artifacts()) == (planned, [])
    assert freed == size


def test_a_registry_of_another_process_finds_no_orphans_among_live_models(
    registry: ArtifactRegistry, workspace: Workspace, fold_models: list[Any], in_new_process: Any
) -> None:
    register_folds(registry, fold_models)
    code = """
import sys
from artifactdb import ArtifactRegistry
registry = ArtifactRegistry(sys.argv[1], "wheat")
print(registry.delete_orphaned_artifacts(dry_run=False), len(registry.get_all_records()))
"""
    assert in_new_process(code, workspace.path) == "([], 0) 5"


def test_deleting_a_pipeline_is_refused_when_another_needs_it(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    source = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    other = workspace.registry("wheat", "0002_stack")
    stack = other.register_with_chain(fitted["ridge"], "s4.Ridge", "model", 4, depends_on=[source.artifact_id])
    with pytest.raises(StillReferencedError) as caught:
        registry.delete_pipeline_artifacts("0001_pls_abc123")
    assert caught.value.dependents == [stack.artifact_id]
    assert len(registry.get_all_records()) == 2
    assert registry.delete_pipeline_artifacts("0001_pls_abc123", delete_files=True, cascade=True) == 2
    assert registry.get_stats()["orphaned_count"] == 0


def test_purging_needs_a_confirmation_and_spares_other_datasets(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    registry.register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
    barley = workspace.registry("barley", "0001_x")
    barley.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    with pytest.raises(ValueError, match="confirm=True"):
        registry.purge_dataset_artifacts()
    deleted, freed = registry.purge_dataset_artifacts(confirm=True)
    assert deleted == 2 and freed > 0
    assert len(barley.get_all_records()) == 1
    assert barley.load_artifact(barley.get_all_records()[0]).n_components == 4


def test_a_failed_run_is_taken_back_and_what_was_there_before_stays(
    registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    kept = registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
    registry.start_run()
    registry.register_with_chain(fitted["pls"], CHAIN, "model", 3, depends_on=[kept.artifact_id])
    registry.register_with_chain(fitted["ridge"], "s1.StandardScaler>s3.Ridge", "model", 3)
    assert registry.cleanup_failed_run() == 2
    assert registry.get_all_records() == [kept]
    registry.start_run()
    registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    registry.end_run()
    assert registry.cleanup_failed_run() == 0
    assert len(registry.get_all_records()) == 2


def test_what_a_killed_process_registered_in_its_run_can_be_taken_back(
    workspace: Workspace, registry: ArtifactRegistry, in_new_process: Any
) -> None:
    code = """
import os, sys
from sklearn.linear_model import Ridge
from artifactdb import ArtifactRegistry
registry = ArtifactRegistry(sys.argv[1], "wheat", pipeline_id="0001_pls_abc123")
registry.start_run()
registry.register_with_chain(Ridge().fit([[1.0]], [1.0]), "s1.Ridge", "model", 1)
print("acknowledged", flush=True)
os.kill(os.getpid(), 9)
"""
    with pytest.raises(AssertionError):
        in_new_process(code, workspace.path)
    assert len(registry.get_all_records()) == 1, "acknowledged means durable"
    assert registry.cleanup_failed_run() == 1


def test_statistics_have_the_keys_of_the_seed(registry: ArtifactRegistry, fold_models: list[Any]) -> None:
    register_folds(registry, fold_models)
    stats = registry.get_stats()
    assert stats["total_artifacts"] == stats["unique_files"] == 5
    assert stats["by_type"] == {"model": 5}
    assert stats["disk_usage_bytes"] > 0 and stats["compression_ratio"] > 0
    assert stats["total_size_bytes"] == sum(record.size_bytes for record in registry.get_all_records())


def test_a_manifest_goes_out_and_files_of_another_program_come_in(
    registry: ArtifactRegistry, workspace: Workspace, fitted: dict[str, Any], tmp_path: Path, xy: tuple[Any, Any]
) -> None:
    import hashlib

    import joblib

    folder = tmp_path / "results"
    folder.mkdir()
    items = []
    for fold in range(2):
        joblib.dump(fitted["pls"], folder / f"model_{fold}.joblib", compress=fold)
        content = (folder / f"model_{fold}.joblib").read_bytes()
        items.append(
            {
                "artifact_id": registry.generate_id(CHAIN, fold),
                "content_hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "path": f"model_{fold}.joblib",
                "chain_path": CHAIN,
                "pipeline_id": "0001_pls_abc123",
                "step_index": 3,
                "fold_id": fold,
                "artifact_type": "model",
                "class_name": "PLSRegression",
                "format": "joblib",
                "format_version": "sklearn==1.9.1",
                "nirs4all_version": "0.6.2",
            }
        )
    items.append({**items[0], "artifact_id": "0001$abcdefabcdef:all", "path": "../../outside.joblib"})
    items.append({**items[0], "artifact_id": "0001$abcdefabcdef:1", "content_hash": "sha256:00"})
    result = registry.import_from_manifest({"artifacts": {"items": items}}, folder, trust=True)
    assert result.imported == [items[0]["artifact_id"], items[1]["artifact_id"]]
    assert {artifact_id for artifact_id, _ in result.refused} == {"0001$abcdefabcdef:all", "0001$abcdefabcdef:1"}
    exported = registry.export_to_manifest()
    assert exported["schema_version"] == "3.0"
    for item, original in zip(exported["items"], items, strict=False):
        for name in ("artifact_id", "content_hash", "chain_path", "format", "format_version", "nirs4all_version"):
            assert item[name] == original[name]
    loaded = workspace.loader("wheat").load_by_id(items[1]["artifact_id"])
    np.testing.assert_array_equal(loaded.predict(xy[0]), fitted["pls"].predict(xy[0]))


def test_numbers_of_numpy_and_what_is_none_are_kept_of_a_stack(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    with workspace.transaction():
        source = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
        named = {"artifact_id": source.artifact_id, "feature_index": np.int64(0), "weight": float("nan")}
        given = {"source_models": [named], "feature_columns": ["pls_pred"]}
        stack = registry.register_with_chain(fitted["ridge"], "s4.Ridge", "meta_model", 4, meta_config=given)
    found = registry.resolve(stack.artifact_id)
    assert found is not None and found.meta_config == stack.meta_config is not None
    assert found.meta_config.source_models == [{**named, "feature_index": 0, "weight": "NaN"}]
    assert found.depends_on == [source.artifact_id]


def test_a_record_is_loaded_from_its_own_dataset(workspace: Workspace, registry: ArtifactRegistry) -> None:
    registry.register_with_chain({"of": "wheat"}, CHAIN, "model", 3)
    record = workspace.registry("oats", "0001_pls_abc123").register_with_chain({"of": "oats"}, CHAIN, "model", 3)
    found = registry.resolve_by_hash(record.content_hash)
    assert found is not None
    assert registry.load_artifact(found) == registry.load_artifact(record) == {"of": "oats"}
    assert registry.load_artifact(record.artifact_id) == {"of": "wheat"}


def test_a_manifest_brings_the_arrays_that_its_objects_name(
    workspace: Workspace, registry: ArtifactRegistry, tmp_path: Path
) -> None:
    spectra = np.random.default_rng(0).normal(size=(60, 100))
    registry.register_with_chain({"spectra": spectra}, CHAIN, "model", 3)
    folder = tmp_path / "export"
    workspace.export(folder)
    manifest = yaml.safe_load(next(folder.rglob("manifest.yaml")).read_text())
    (item,) = manifest["artifacts"]["items"]
    assert item["parts"]
    with closing(ArtifactLoader.from_manifest(manifest, folder)) as loader:
        assert np.array_equal(loader.load_by_id(item["artifact_id"])["spectra"], spectra)
    item["parts"] = []
    with Workspace(tmp_path / "other.sqlite") as other:
        result = other.registry("wheat").import_from_manifest(manifest, folder)
        assert result.imported == [] and "is not among its files" in result.refused[0][1]
        assert other.verify().ok


def test_a_chain_object_may_name_pipeline_and_fold(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    chain = OperatorChain([OperatorNode(3, "PLS", fold_id=2)])
    record = registry.register_with_chain(fitted["pls"], chain, "model", 3)
    assert record.fold_id == 2
    with pytest.raises(InvalidValueError, match="fold 2"):
        registry.register_with_chain(fitted["pls"], chain, "model", 3, fold_id=1)


def test_an_id_of_the_caller_is_that_of_its_chain(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValueError, match=r"0009_z.aaaaaaaaaaaa:3.*s2.Ridge.*6d4444073189"):
        registry.register(fitted["ridge"], "0009_z$aaaaaaaaaaaa:3", "model", chain_path="s2.Ridge")
    chain = OperatorChain.from_path(CHAIN)
    for length in (12, 16, 64):
        artifact_id = f"0001_pls${chain.to_hash(length)}:{length}"
        assert registry.register(fitted["pls"], artifact_id, "model", chain_path=CHAIN).chain_path == CHAIN
    registry.register(fitted["pls"], "0001:3:0", "model", chain_path=CHAIN)
    assert workspace.verify().ok


def test_a_manifest_with_longer_and_shorter_hashes_comes_in_whole(
    workspace: Workspace, fitted: dict[str, Any], tmp_path: Path
) -> None:
    oats = workspace.registry("oats", "0001_a")
    oats.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    workspace.export(tmp_path / "export")
    (item,) = oats.export_to_manifest()["items"]
    chain, hidden = OperatorChain.from_path(CHAIN), "s1.P\u200bLS"
    items = [
        {**item, "artifact_id": f"0001_a${chain.to_hash(8)}:0"},
        {**item, "artifact_id": f"0001_a${chain.to_hash(20)}:0"},
        {**item, "artifact_id": "0001_a$aaaaaaaaaaaa:0"},
        {**item, "artifact_id": "0001_a$bbbbbbbbbbbb:0", "chain_path": hidden},
    ]
    imported = oats.import_from_manifest(items, tmp_path / "export").imported
    found = {record.artifact_id: record.chain_path for record in workspace.records(dataset="oats")}
    assert [found[artifact_id] for artifact_id in imported] == [CHAIN, CHAIN, "", ""]
    assert workspace.verify().ok


def test_a_manifest_of_another_dataset_brings_it(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any], tmp_path: Path
) -> None:
    record = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
    workspace.export(tmp_path / "export")
    with Workspace(tmp_path / "other.sqlite") as other:
        done = other.registry("rye").import_from_manifest(
            manifest=registry.export_to_manifest(), results_dir=tmp_path / "export"
        )
        assert done.imported == [record.artifact_id] and "'wheat'" in dict(done.notes)[record.artifact_id]
        assert other.record(record.artifact_id).dataset == "wheat"


def test_the_fold_of_a_chain_counts_when_it_is_asked_for(
    workspace: Workspace, registry: ArtifactRegistry, fold_models: list[Any]
) -> None:
    chains = [OperatorChain([OperatorNode(3, "PLS", fold_id=fold)]) for fold in range(3)]
    loader = workspace.loader("wheat")
    for chain, model in zip(chains, fold_models, strict=False):
        record = registry.register_with_chain(model, chain, "model", 3)
        assert record.artifact_id == registry.generate_id(chain)
        assert record == registry.get_by_chain(chain) == loader.get_record_by_chain(chain)
        assert np.array_equal(loader.load_by_chain(chain).coef_, model.coef_)
    with pytest.raises(InvalidValueError, match="fold 2"):
        loader.load_by_chain(chains[2], fold_id=1)


def test_parameters_that_are_no_json_stay_readable_and_queryable(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    parameters = {
        "alpha": np.float64(0.25),
        "steps": np.arange(3),
        "kind": ArtifactType.ENCODER,
        "base": Ridge(alpha=2.0),
        "gamma": float("nan"),
        "function": np.log1p,
        "flag": np.bool_(True),
        "none": None,
    }
    record = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3, params=parameters)
    assert record.params["alpha"] == 0.25
    assert record.params["steps"] == [0, 1, 2]
    assert record.params["kind"] == "encoder"
    assert record.params["base"]["params"]["alpha"] == 2.0
    assert record.params["gamma"] == "NaN"
    assert record.params["flag"] is True and record.params["none"] is None
    asked = {"alpha": 0.25, "flag": True, "kind": "encoder", "steps": [0, 1, 2], "gamma": float("nan"), "none": None}
    for name, value in (*asked.items(), ("alpha", np.float32(0.25)), ("flag", np.int64(1)), ("steps", np.arange(3))):
        assert [found.artifact_id for found in workspace.records(parameter=(name, value))] == [record.artifact_id]
    assert list(workspace.records(parameter=("none", float("nan")))) == []


def test_the_record_that_is_given_is_the_record_that_is_stored(
    registry: ArtifactRegistry, fitted: dict[str, Any], fold_models: list[Any]
) -> None:
    ids = register_folds(registry, fold_models)
    records = [
        registry.register_with_chain(fitted["forest"], "s3.RF[br=0.1,src=1,sub=2]", "model", 3, depends_on=ids[:2]),
        registry.register_meta_model(fitted["ridge"], registry.generate_id("s4.Ridge"), ids),
        registry.register_with_chain(fitted["svr"], CHAIN, "model", 3, fold_id=0, custom_name="replaced"),
    ]
    for record in records:
        stored = registry.resolve(record.artifact_id)
        assert stored is not None and stored.to_dict() == record.to_dict()


def test_the_same_content_described_anew_is_described_anew(
    registry: ArtifactRegistry, fitted: dict[str, Any], fold_models: list[Any]
) -> None:
    sources = [
        registry.register_with_chain(model, "s1.PLS", "model", 1, fold_id=fold).artifact_id
        for fold, model in enumerate(fold_models[:2])
    ]
    said: list[dict[str, Any]] = [
        {"meta_config": MetaModelConfig.of_sources(sources, ["x", "y"]), "params": {"alpha": 1}},
        {"meta_config": MetaModelConfig.of_sources(sources[::-1], ["y", "x"]), "params": {"alpha": 1}},
        {"meta_config": MetaModelConfig.of_sources(sources, ["x", "y"]), "params": {"alpha": 2}, "custom_name": "last"},
    ]
    for number, description in enumerate(said):
        given = registry.register_with_chain(fitted["ridge"], "s2.Ridge", "meta_model", 2, **description)
        stored = registry.resolve(given.artifact_id)
        assert stored is not None and stored == given
        assert stored.meta_config == description["meta_config"] and stored.params == description["params"]
        assert stored.custom_name == description.get("custom_name", "")
        assert stored.depends_on == (sources[::-1] if number == 1 else sources)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"branch_path": [0]}, {"branch_path": [1]}),
        ({"source_index": 0}, {"source_index": 1}),
        ({"substep_index": 0}, {"substep_index": 1}),
    ],
)
def test_another_branch_source_or_substep_takes_no_place_that_the_chain_does_not_tell_apart(
    registry: ArtifactRegistry, fitted: dict[str, Any], first: dict[str, Any], second: dict[str, Any]
) -> None:
    kept = registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1, **first)
    with pytest.raises(DuplicateError, match="does not tell apart"):
        registry.register_with_chain(fitted["ridge"], "s1.PLS", "model", 1, **second)
    assert registry.resolve(kept.artifact_id) == kept
    told = {"branch_path": "br=1", "source_index": "src=1", "substep_index": "sub=1"}[next(iter(second))]
    registry.register_with_chain(fitted["ridge"], f"s1.PLS[{told}]", "model", 1)
    assert len(registry.get_all_records()) == 2


def test_what_the_place_was_not_told_of_may_be_told_later(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    chain = "s1.PLS[br=0]"
    artifact_id = registry.generate_id(OperatorChain.from_path(chain), 0)
    registry.register(fitted["pls"], artifact_id, "model")
    registry.register(fitted["pls"], artifact_id, "model", chain_path=chain)
    found = registry.get_by_chain(chain)
    assert found is not None and found.branch_path == [0] and found.chain_path == chain


@pytest.mark.parametrize("again", ["ridge", "svr"])
def test_where_an_artifact_belongs_may_be_told_later_and_stays_told(
    registry: ArtifactRegistry, fitted: dict[str, Any], again: str
) -> None:
    told: dict[str, Any] = {"branch_path": [0, 1], "source_index": 2, "substep_index": 3}
    registry.register_with_chain(fitted["ridge"], "s2.Model", "model", 2)
    record = registry.register_with_chain(fitted["ridge"], "s2.Model", "model", 2, **told)
    assert (record.branch_path, record.source_index, record.substep_index) == ([0, 1], 2, 3)
    assert registry.get_artifacts_for_step(registry.pipeline_id, 2, branch_path=[0, 1]) == [record]
    later = registry.register_with_chain(fitted[again], "s2.Model", "model", 2, custom_name="later")
    assert (later.branch_path, later.source_index, later.substep_index, later.custom_name) == ([0, 1], 2, 3, "later")
    assert registry.get_by_chain("s2.Model") == later
    for name, other in (("branch_path", [2]), ("source_index", 0), ("substep_index", 0)):
        with pytest.raises(DuplicateError, match="does not tell apart"):
            registry.register_with_chain(fitted["ridge"], "s2.Model", "model", 2, **{name: other})
    assert registry.get_all_records() == [later]


@pytest.mark.parametrize("again", ["ridge", "svr"])
def test_the_chain_of_an_id_stays_told(registry: ArtifactRegistry, fitted: dict[str, Any], again: str) -> None:
    chain = "s1.PLS>s2.Model[br=0]"
    first = registry.register_with_chain(fitted["ridge"], chain, "model", 2)
    later = registry.register(fitted[again], first.artifact_id, "model")
    assert registry.get_by_chain(chain) == later == registry.resolve(first.artifact_id)
    assert (later.chain_path, later.step_index, later.branch_path) == (chain, 2, [0])
