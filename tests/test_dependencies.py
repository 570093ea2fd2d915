"""Dependencies: rows that never dangle, never go in a circle, however deep and wide."""

from __future__ import annotations

from typing import Any

import pytest

from artifactdb import (
    ArtifactRegistry,
    DependencyCycleError,
    InvalidValueError,
    MetaModelConfig,
    MissingDependencyError,
    Workspace,
)


def link(registry: ArtifactRegistry, number: int, *sources: str) -> str:
    """Register a small object that depends on others."""
    return registry.register(number, f"0001$aaaaaaaaaaaa:{number}", "model", depends_on=sources).artifact_id


def test_a_missing_source_is_refused_and_leaves_nothing(registry: ArtifactRegistry) -> None:
    with pytest.raises(MissingDependencyError, match="Register the sources first"):
        link(registry, 0, "0001$bbbbbbbbbbbb:all")
    assert registry.get_all_records() == []


def test_a_cycle_is_refused_in_the_transaction_that_would_make_it(registry: ArtifactRegistry) -> None:
    first = link(registry, 0)
    second = link(registry, 1, first)
    third = link(registry, 2, second)
    before = registry.get_all_records()
    with pytest.raises(DependencyCycleError) as caught:
        registry.register("other content", first, "model", depends_on=[third])
    assert caught.value.cycle[0] == caught.value.cycle[-1]
    assert set(caught.value.cycle) == {first, second, third}
    assert registry.get_all_records() == before
    with pytest.raises(DependencyCycleError):
        registry.register("other content", first, "model", depends_on=[first])


@pytest.mark.campaign
def test_a_chain_10000_long_resolves_in_order(workspace: Workspace, registry: ArtifactRegistry) -> None:
    ids: list[str] = []
    with workspace.transaction():
        for number in range(10_000):
            ids.append(link(registry, number, *ids[-1:]))
    resolved = [record.artifact_id for record in registry.resolve_dependencies(ids[-1])]
    assert resolved == ids[:-1]
    count = workspace.query("SELECT count(*) FROM lineage_up WHERE artifact_id = ?", (ids[-1],))
    assert count[0] == (9_999,)
    count = workspace.query("SELECT count(*) FROM lineage_down WHERE artifact_id = ?", (ids[0],))
    assert count[0] == (9_999,)


@pytest.mark.slow
def test_10000_sources_keep_their_order(workspace: Workspace, registry: ArtifactRegistry) -> None:
    with workspace.transaction():
        ids = [link(registry, number) for number in range(10_000)]
        wide = link(registry, 10_000, *reversed(ids))
    assert registry.get_dependencies(wide) == ids[::-1]
    assert len(registry.resolve_dependencies(wide)) == 10_000


def test_a_ladder_of_diamonds_is_walked_once(workspace: Workspace, registry: ArtifactRegistry) -> None:
    with workspace.transaction():
        last = [link(registry, 0), link(registry, 1)]
        for level in range(1, 200):
            last = [link(registry, 2 * level + side, *last) for side in (0, 1)]
    resolved = [record.artifact_id for record in registry.resolve_dependencies(last[0])]
    assert len(resolved) == len(set(resolved)) == 398


def test_a_replaced_source_keeps_its_dependents(registry: ArtifactRegistry) -> None:
    source = link(registry, 0)
    dependent = link(registry, 1, source)
    registry.register("other content", source, "model")
    assert registry.get_dependencies(dependent) == [source]


def test_asking_for_what_is_not_there_is_a_key_error(registry: ArtifactRegistry) -> None:
    with pytest.raises(KeyError):
        registry.get_dependencies("0001$bbbbbbbbbbbb:all")


def test_the_same_id_in_two_datasets_is_two_artifacts(workspace: Workspace, fitted: dict[str, Any]) -> None:
    for dataset in ("wheat", "barley"):
        workspace.registry(dataset).register(fitted["pls"], "0001$aaaaaaaaaaaa:0", "model")
    with pytest.raises(InvalidValueError, match="barley, wheat"):
        workspace.record("0001$aaaaaaaaaaaa:0")
    assert workspace.record("0001$aaaaaaaaaaaa:0", dataset="barley").dataset == "barley"


def test_sources_may_be_named_by_ids_of_older_schemes(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    sources = [
        registry.register_with_chain(fitted["pls"], "s3.PLS", "model", 3, fold_id=fold).artifact_id for fold in range(2)
    ]
    older = ["0001:3:0", "0001:3:1"]
    dependent = registry.register_with_chain(fitted["svr"], "s4.SVR", "model", 4, depends_on=[*older, sources[0]])
    assert dependent.depends_on == registry.get_dependencies(dependent.artifact_id) == sources
    config = MetaModelConfig.of_sources(older, ["first", "second"])
    for stack in (
        registry.register_meta_model(fitted["ridge"], registry.generate_id("s5.Ridge"), iter(older)),
        registry.register_with_chain(fitted["ridge"], "s6.Ridge", "meta_model", 6, meta_config=config),
    ):
        assert stack == registry.resolve(stack.artifact_id)
        loaded = workspace.loader("wheat").load_meta_model_with_sources(stack.artifact_id)[1]
        assert [source_id for source_id, _ in loaded] == stack.depends_on == sources
    assert workspace.history(older[1]) == workspace.history(sources[1]) != []
    with pytest.raises(MissingDependencyError, match="0001:7:0"):
        registry.register_with_chain(fitted["svr"], "s4.SVR", "model", 4, depends_on=["0001:7:0"])
    registry.register(1, "0001:3:0", "model")
    own = registry.register_with_chain(fitted["svr"], "s7.SVR", "model", 7, depends_on=older[:1])
    assert own.depends_on == ["0001:3:0"], "the very id comes first"
