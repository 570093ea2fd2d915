"""Chains of what several flows of data have gone through before they meet in one operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from artifactdb.chain import OperatorChain, OperatorNode
from artifactdb.runner.steps import Step

Nodes = tuple[OperatorNode, ...]


def node_of(step: Step, source_index: int | None = None) -> OperatorNode:
    """Give a step's operator as a node of a chain."""
    return OperatorNode(
        step.index, step.class_name, list(step.branch), source_index=source_index, substep_index=step.substep
    )


def path_of(nodes: Iterable[OperatorNode]) -> str:
    """Give nodes as a chain path."""
    return OperatorChain(list(nodes)).to_path()


def merged(chains: Sequence[Nodes]) -> Nodes:
    """Give one chain of several; what stands at the same place of different chains is joined by ``+``.

    Examples
    --------
    >>> read = [tuple(OperatorChain.from_path(path)) for path in ("s1.A[src=0]>s2.B[src=0]", "s1.A[src=1]>s2.B[src=1]")]
    >>> path_of(merged(read))
    's1.A[src=0]+s1.A[src=1]>s2.B[src=0]+s2.B[src=1]'
    """
    if len(chains) == 1:
        return chains[0]
    levels: dict[tuple[int, int], dict[str, OperatorNode]] = {}
    for chain in chains:
        for node in chain:
            for one in node.each():
                alone = _alone(one)
                place = (one.step_index, -1 if one.substep_index is None else one.substep_index)
                levels.setdefault(place, {})[alone.to_key()] = alone
    return tuple(side_by_side(levels[place].values()) for place in sorted(levels))


def side_by_side(nodes: Iterable[OperatorNode]) -> OperatorNode:
    """Give nodes as one, joined by ``+``."""
    first, *others = (_alone(node) for node in nodes)
    first.stacked = others
    return first


def inputs_of(path: str) -> list[tuple[int, str]]:
    """Give the chains that feed the last operator of a chain, each with its source; none for raw X.

    Examples
    --------
    >>> inputs_of("s1.A>s2.B>s3.PLS")
    [(0, 's1.A>s2.B')]
    >>> inputs_of("s1.A[src=0]+s1.A[src=1]>s3.PLS")
    [(0, 's1.A[src=0]'), (1, 's1.A[src=1]')]
    """
    before = OperatorChain.from_path(path).nodes[:-1]
    if not before:
        return []
    sources = [node.source_index for node in before[-1].each()]
    if len(sources) == 1:
        return [(sources[0] or 0, path_of(before))]
    return [(source or 0, path_of(_of_source(before, source))) for source in sources]


def _of_source(nodes: Iterable[OperatorNode], source: int | None) -> list[OperatorNode]:
    return [_alone(one) for node in nodes for one in node.each() if one.source_index in (None, source)]


def _alone(node: OperatorNode) -> OperatorNode:
    return OperatorNode(
        node.step_index, node.operator_class, list(node.branch_path), node.source_index, None, node.substep_index
    )
