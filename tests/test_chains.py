"""Chains and ids: text and values, both ways, for everything that is valid, and a named place for what is not."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactdb import (
    ArtifactType,
    InvalidChainError,
    InvalidIdError,
    OperatorChain,
    OperatorNode,
    compute_chain_hash,
    generate_artifact_id_v3,
    generate_filename,
    is_v3_artifact_id,
    parse_artifact_id_v3,
    parse_filename,
    register_artifact_type,
    validate_artifact_id,
)
from artifactdb.ids import parse_legacy_id

INDEX = st.integers(0, 999_999_999)
NAME = st.text(st.characters(categories=["L", "N"], include_characters="_.-#()"), min_size=1, max_size=20)


def single_nodes() -> st.SearchStrategy[OperatorNode]:
    return st.builds(
        OperatorNode,
        INDEX,
        NAME,
        st.lists(INDEX, max_size=3),
        source_index=st.none() | INDEX,
        substep_index=st.none() | INDEX,
    )


def nodes() -> st.SearchStrategy[OperatorNode]:
    def stack(node: OperatorNode, others: list[OperatorNode]) -> OperatorNode:
        node.stacked = others
        return node

    return st.builds(stack, single_nodes(), st.lists(single_nodes(), max_size=2))


CHAINS = st.builds(OperatorChain, st.lists(nodes(), min_size=1, max_size=5))


@given(CHAINS)
def test_every_chain_is_read_back_from_its_path(chain: OperatorChain) -> None:
    assert OperatorChain.from_path(chain.to_path()) == chain
    assert OperatorChain.from_dict(chain.to_dict()) == chain
    assert chain.copy() == chain and chain.copy() is not chain


@given(nodes())
def test_every_node_is_read_back_from_its_key(node: OperatorNode) -> None:
    assert OperatorNode.from_key(node.to_key()) == node


@given(st.text() | st.text(alphabet="s0123.AB[]=,brcu>+ ", max_size=30))
def test_any_text_is_either_refused_or_printed_back_unchanged(text: str) -> None:
    try:
        chain = OperatorChain.from_path(text)
    except InvalidChainError as error:
        assert error.position is not None and 0 <= error.position <= len(text)
    else:
        assert chain.to_path() == text


@pytest.mark.parametrize(
    "path",
    [
        "s1.MinMaxScaler[src=0,sub=0]",
        "s4.PLSRegression[sub=0]",
        "s1.MinMaxScaler>s3.PLS[br=0]",
        "s4.PLS[br=0]+s4.RF[br=1]>s5.Ridge",
        "s3.PLS[br=0.1,src=0,sub=2]",
        "s1.sklearn.preprocessing.MinMaxScaler",
    ],
)
def test_paths_as_pipelines_have_them(path: str) -> None:
    assert OperatorChain.from_path(path).to_path() == path
    assert compute_chain_hash(path) == hashlib.sha256(path.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("path", "position"),
    [("", 0), ("s1", 0), ("s01.A", 0), ("s1.A>", 5), ("s1.A[]", 4), ("s1.A[src=0,br=1]", 4), ("s1.A[br=0,]", 4),
     ("s1.A b", 4), ("s1.A>>s2.B", 5), ("s1.A[br=0src=1]", 4), ("s1.A\n", 4), ("s-1.A", 0)],
)  # fmt: skip
def test_a_malformed_path_is_refused_at_its_place(path: str, position: int) -> None:
    with pytest.raises(InvalidChainError) as caught:
        OperatorChain.from_path(path)
    assert caught.value.position == position


def test_chains_are_cut_joined_and_moved() -> None:
    chain = OperatorChain.from_path("s1.A>s2.B[br=0]>s2.C[br=1]>s3.D[br=0.1,src=1]>s4.E[src=0]", "0001")
    assert chain.filter_branch([0, 1]).to_path() == "s1.A>s2.B[br=0]>s3.D[br=0.1,src=1]>s4.E[src=0]"
    assert chain.filter_step(2).to_path() == "s1.A>s2.B[br=0]>s2.C[br=1]"
    assert chain.filter_source(0).to_path() == "s1.A>s2.B[br=0]>s2.C[br=1]>s4.E[src=0]"
    assert [node.operator_class for node in chain.get_nodes_at_step(2)] == ["B", "C"]
    assert chain.get_branch_path() == [0, 1]
    prefix = OperatorChain.from_path("s1.Load")
    assert OperatorChain.from_path("s1.A>s2.B").merge_with_prefix(prefix, 1).to_path() == "s1.Load>s2.A>s3.B"
    assert OperatorChain.from_path("s1.A+s1.B>s2.C").remap_steps({1: 7}).to_path() == "s7.A+s7.B>s2.C"
    assert chain.with_pipeline_id("0002").pipeline_id == "0002" and chain.pipeline_id == "0001"
    assert not OperatorChain() and OperatorChain().is_empty() and OperatorChain().to_path() == ""
    assert len(chain.append(OperatorNode(5, "F"))) == 6 and len(chain) == 5
    assert len(chain.extend([OperatorNode(5, "F")])) == 6
    assert len(chain.to_hash(40)) == 40


def test_a_branch_may_be_an_array() -> None:
    assert OperatorNode(3, "PLS", np.array([0, 1])).to_key() == "s3.PLS[br=0.1]"  # type: ignore[arg-type]
    node = OperatorNode(np.int64(3), "PLS", np.array([0, 1]), fold_id=np.int64(2))  # type: ignore[arg-type]
    assert OperatorNode.from_dict(json.loads(json.dumps(node.to_dict()))) == OperatorNode(3, "PLS", [0, 1], fold_id=2)


@given(st.text(min_size=1, max_size=40), st.none() | INDEX, CHAINS)
def test_every_id_is_taken_apart_again(pipeline_id: str, fold: int | None, chain: OperatorChain) -> None:
    try:
        artifact_id = generate_artifact_id_v3(pipeline_id, chain, fold)
    except InvalidIdError:
        assert "$" in pipeline_id or not pipeline_id.isprintable()
        return
    assert parse_artifact_id_v3(artifact_id) == (pipeline_id, chain.to_hash(), fold)
    assert is_v3_artifact_id(artifact_id) and validate_artifact_id(artifact_id)


@given(st.text())
def test_any_text_is_an_id_or_refused(text: str) -> None:
    if is_v3_artifact_id(text):
        assert parse_artifact_id_v3(text)
    else:
        with pytest.raises(InvalidIdError):
            parse_artifact_id_v3(text)
    legacy = parse_legacy_id(text)
    assert legacy is None or text.startswith(legacy.pipeline_id)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("0001:3:0", ("0001", (), 3, None, 0)),
        ("0001_pls:3:all", ("0001_pls", (), 3, None, None)),
        ("0001:0:3.1:2", ("0001", (0,), 3, 1, 2)),
        ("0001:0:1:3:all", ("0001", (0, 1), 3, None, None)),
    ],
)
def test_ids_of_older_schemes_are_read(text: str, fields: tuple[Any, ...]) -> None:
    legacy = parse_legacy_id(text)
    assert legacy is not None
    assert (
        legacy.pipeline_id, legacy.branch_path, legacy.step_index, legacy.substep_index, legacy.fold_id
    ) == fields  # fmt: skip


@given(st.sampled_from(["model", "meta_model", "encoder"]), st.from_regex(r"_?[A-Z][A-Za-z]{0,20}", fullmatch=True))
def test_file_names_are_taken_apart_again(artifact_type: str, class_name: str) -> None:
    name = generate_filename(artifact_type, class_name, "sha256:" + "0123456789abcdef" * 4, "joblib")
    assert parse_filename(name) == (artifact_type, class_name, "0123456789ab")


@pytest.mark.parametrize("kind", [*ArtifactType, "feature_selector"])
@pytest.mark.parametrize("name", ["csr_matrix", "Ridge", "function", "model_of_mine", "_Private"])
def test_a_file_name_says_the_type_and_the_class(kind: str, name: str) -> None:
    register_artifact_type(str(kind))
    file = generate_filename(kind, name, "sha256:0123456789abcdef")
    assert parse_filename(file) == (str(kind), name, "0123456789ab")


def test_of_stacked_operators_each_is_kept_by_its_own_branch_and_source() -> None:
    chain = OperatorChain.from_path("s1.Scaler>s4.PLS[br=0]+s4.RF[br=1]+s4.SVR>s5.Ridge")
    assert chain.filter_branch([0]).to_path() == "s1.Scaler>s4.PLS[br=0]+s4.SVR>s5.Ridge"
    assert chain.filter_branch([1, 2]).to_path() == "s1.Scaler>s4.RF[br=1]+s4.SVR>s5.Ridge"
    assert OperatorChain.from_path("s4.PLS[br=0]+s4.RF[br=1]>s5.Ridge").filter_branch([2]).to_path() == "s5.Ridge"
    sources = OperatorChain.from_path("s1.SNV[src=0]+s1.MSC[src=1]+s1.PCA>s2.PLS")
    assert sources.filter_source(1).to_path() == "s1.MSC[src=1]+s1.PCA>s2.PLS"
    before = sources.to_path()
    assert sources.filter_source(0).get_nodes_at_step(1)[0].stacked != [] and sources.to_path() == before
    assert OperatorChain.from_path("s4.PLS+s4.RF[br=1]").get_branch_path() == [1]
    steps = OperatorChain.from_path("s1.A+s3.B>s2.C")
    assert steps.filter_step(2).to_path() == "s1.A>s2.C"
