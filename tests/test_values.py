"""Plain values: errors, records, graphs and the cache."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactdb import (
    ArtifactRecord,
    ArtifactType,
    DependencyCycleError,
    DependencyGraph,
    LRUCache,
    MetaModelConfig,
    errors,
)


def test_the_drawn_error_tree_is_the_real_one() -> None:
    drawn = re.findall(r"^[│ ├└─]*(\w+Error)(?: \((\w+)\))?", errors.__doc__ or "", re.MULTILINE)
    real = {value.__name__: value for value in vars(errors).values() if isinstance(value, type)}
    real = {name: value for name, value in real.items() if issubclass(value, errors.ArtifactDBError)}
    assert {name for name, _ in drawn} == set(real)
    depth = {line.split("Error")[0].strip("│├└─ "): len(line) - len(line.lstrip("│ ├└─"))
             for line in (errors.__doc__ or "").splitlines() if "Error" in line}  # fmt: skip
    for name, builtin in drawn:
        bases = {base.__name__ for base in real[name].__mro__}
        assert not builtin or builtin in bases, name
        assert ("StorageError" in bases) == (depth[name.removesuffix("Error")] > 4 or name == "StorageError"), name
        assert isinstance(real[name].exit_code, int)


@pytest.mark.parametrize("kind", [errors.ArtifactNotFoundError, errors.MissingDependencyError, errors.BusyError])
def test_errors_print_as_sentences_and_survive_a_pickle(kind: type[errors.ArtifactDBError]) -> None:
    error = kind("it is not there.", hint="Look elsewhere.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error) == "it is not there. Look elsewhere."
    assert copy.__dict__ == error.__dict__


def test_a_record_becomes_a_dict_and_back() -> None:
    record = ArtifactRecord(
        artifact_id="0001$7f8e9d0c1b2a:0", content_hash="sha256:" + "ab" * 32, branch_path=[0, 2], step_index=3,
        fold_id=0, artifact_type="meta_model", source_index=1,
        meta_config=MetaModelConfig([{"artifact_id": "x", "feature_index": 0}], ["x_pred"]),
    )  # fmt: skip
    assert ArtifactRecord.from_dict(record.to_dict()) == record
    assert (record.short_hash, record.chain_hash) == ("abababababab", "7f8e9d0c1b2a")
    assert record.is_meta_model and record.is_fold_specific and record.is_branch_specific and record.is_source_specific
    assert (record.get_branch_path_str(), record.get_fold_str()) == ("0:2", "0")
    assert record.matches_context() and record.matches_context(3, [0, 2], 1, 0)
    assert not record.matches_context(fold_id=1) and not record.matches_context(branch_path=[0])
    empty = ArtifactRecord.from_dict({"artifact_id": "a", "unheard_of": 1})
    assert (empty.version, empty.get_fold_str(), empty.params) == (3, "all", {})
    assert str(ArtifactType.META_MODEL) == "meta_model" and ArtifactType("model") is ArtifactType.MODEL


def test_a_graph_resolves_deep_and_wide_and_refuses_circles() -> None:
    graph = DependencyGraph()
    for number in range(10_000):
        graph.add_dependency(str(number + 1), str(number))
    assert graph.resolve_dependencies("10000", max_depth=20_000) == [str(number) for number in range(10_000)]
    with pytest.raises(ValueError, match="more than 100 deep"):
        graph.resolve_dependencies("10000")
    graph.add_dependency("0", "5")
    with pytest.raises(DependencyCycleError):
        graph.resolve_dependencies("3", max_depth=20_000)
    graph.remove_artifact("5")
    assert graph.get_dependencies("6") == [] and graph.get_dependents("4") == []
    graph.clear()
    graph.add_dependencies("wide", map(str, range(10_000)))
    assert len(graph.resolve_dependencies("wide")) == 10_000


@pytest.mark.parametrize("sources", [["a", "b"], ["b", "a"]])
def test_how_deep_a_graph_is_does_not_depend_on_the_order_in_which_it_was_made(sources: list[str]) -> None:
    graph = DependencyGraph()
    graph.add_dependencies("stack", sources)
    graph.add_dependency("a", "b")
    assert graph.resolve_dependencies("stack", max_depth=2) == ["b", "a"]
    with pytest.raises(ValueError, match="more than 1 deep"):
        graph.resolve_dependencies("stack", max_depth=1)
    assert graph.resolve_dependencies("b", max_depth=0) == []


@given(
    st.integers(0, 4),
    st.lists(
        st.tuples(st.sampled_from(["get", "put", "remove"]), st.sampled_from("abcdef"), st.none() | st.integers())
    ),
)
def test_the_cache_does_what_a_plain_model_does(size: int, steps: list[tuple[str, str, Any]]) -> None:
    cache, model = LRUCache(size), OrderedDict[str, Any]()
    absent = object()
    for step, key, value in steps:
        if step == "put":
            cache.put(key, value)
            model.pop(key, None)
            model[key] = value
            while len(model) > size:
                model.popitem(last=False)
        elif step == "get":
            assert cache.get(key, absent) is model.get(key, absent)
            if key in model:
                model.move_to_end(key)
        else:
            assert cache.remove(key) == (key in model)
            model.pop(key, None)
        assert list(model) == cache.keys()
        assert len(cache) == cache.size == len(model)


def test_the_cache_is_bounded_by_bytes_too() -> None:
    cache = LRUCache(10, max_bytes=100)
    for key in "abc":
        cache.put(key, key, 40)
    assert cache.keys() == ["b", "c"]
    cache.put("huge", None, 1000)
    assert cache.keys() == []
