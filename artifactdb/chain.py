"""Operator chains: the way data took through a pipeline, as values and as text.

``s1.MinMaxScaler>s4.PLS[br=0]+s4.RF[br=1]>s5.Ridge`` reads: step 1 scaled, step 4 ran two models in two branches,
step 5 stacked them. Only values here; nothing touches a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from artifactdb.errors import InvalidChainError, InvalidValueError

MAX_PATH_CHARACTERS = 65_536
_INTEGER = r"(?:0|[1-9][0-9]{0,8})"
_KEY = re.compile(
    rf"s(?P<step>{_INTEGER})\.(?P<name>[^\s>+\[\],=\x00-\x1f\x7f-\x9f]+)"
    rf"(?:\[(?:br=(?P<br>{_INTEGER}(?:\.{_INTEGER})*))?,?(?:src=(?P<src>{_INTEGER}))?,?(?:sub=(?P<sub>{_INTEGER}))?\])?"
)


def _plain(index: Any) -> Any:
    return index.item() if hasattr(index, "item") else index  # numpy's


@dataclass(slots=True)
class OperatorNode:
    """One operator at one step of a pipeline.

    Parameters
    ----------
    step_index : int
        Position of the step in the pipeline.
    operator_class : str
        Class name, e.g. ``PLSRegression``.
    branch_path : list of int, default []
        Index of the branch at each level, outermost first.
    source_index : int, optional
        Which block of X, for several sources.
    fold_id : int, optional
        Kept on the node; not a part of the path.
    substep_index : int, optional
        Which operator, for several in one step.
    operator_name : str, optional
        The user's name for the operator; not a part of the path.
    stacked : list of OperatorNode, keyword-only, default []
        Further nodes at the same place, joined by ``+`` in the path.

    Examples
    --------
    >>> OperatorNode(3, "PLS", [0, 1], source_index=0, substep_index=2).to_key()
    's3.PLS[br=0.1,src=0,sub=2]'
    """

    step_index: int
    operator_class: str
    branch_path: list[int] = field(default_factory=list)
    source_index: int | None = None
    fold_id: int | None = None
    substep_index: int | None = None
    operator_name: str | None = None
    stacked: list[OperatorNode] = field(default_factory=list, kw_only=True)

    def to_key(self) -> str:
        """Give the node as text, stacked nodes joined by ``+``.

        Raises
        ------
        InvalidChainError
            When a field could not be read back from the text.
        """
        key = _render(self)
        if _read_key(key, 0)[1] != len(key):
            raise InvalidChainError(f"{_shown(key)} is no operator of a chain.", hint=_SHAPE)
        return "+".join([key, *(node.to_key() for node in self.stacked)])

    @classmethod
    def from_key(cls, key: str) -> OperatorNode:
        """Read a node from its text; the inverse of ``to_key``."""
        nodes = OperatorChain.from_path(key).nodes
        if len(nodes) != 1:
            raise InvalidChainError(f"{_shown(key)} is a chain of {len(nodes)} operators, not one operator.")
        return nodes[0]

    def each(self) -> Iterator[OperatorNode]:
        """Give this node, then the nodes stacked with it."""
        yield self
        yield from self.stacked

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as plain types."""
        fields: dict[str, Any] = {
            "step_index": _plain(self.step_index),
            "operator_class": self.operator_class,
            "branch_path": [_plain(index) for index in self.branch_path],
            "source_index": _plain(self.source_index),
            "fold_id": _plain(self.fold_id),
            "substep_index": _plain(self.substep_index),
            "operator_name": self.operator_name,
        }
        if self.stacked:
            fields["stacked"] = [node.to_dict() for node in self.stacked]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> OperatorNode:
        """Make a node of what ``to_dict`` gave; missing keys take their defaults."""
        return cls(
            step_index=fields["step_index"],
            operator_class=fields["operator_class"],
            branch_path=list(fields.get("branch_path") or []),
            source_index=fields.get("source_index"),
            fold_id=fields.get("fold_id"),
            substep_index=fields.get("substep_index"),
            operator_name=fields.get("operator_name"),
            stacked=[cls.from_dict(node) for node in fields.get("stacked", [])],
        )


@dataclass(slots=True)
class OperatorChain:
    """Operators in the order in which data went through them.

    Parameters
    ----------
    nodes : list of OperatorNode, default []
    pipeline_id : str, default ""

    Examples
    --------
    >>> chain = OperatorChain.from_path("s1.MinMaxScaler>s3.PLS[br=0]")
    >>> chain.to_hash(), len(chain), chain.get_last_node().operator_class
    ('60fccafdb39c', 2, 'PLS')
    """

    nodes: list[OperatorNode] = field(default_factory=list)
    pipeline_id: str = ""

    def to_path(self) -> str:
        """Give the chain as text: the keys of its nodes joined by ``>``; "" for an empty chain."""
        return ">".join(node.to_key() for node in self.nodes)

    @classmethod
    def from_path(cls, path: str, pipeline_id: str = "") -> OperatorChain:
        """Read a chain from its text, the exact inverse of ``to_path``.

        Raises
        ------
        InvalidChainError
            Names the character where reading stopped, also as ``position``.
        """
        if not isinstance(path, str):
            raise InvalidChainError(f"a chain path is a string, not {type(path).__name__}.")
        if not path:
            raise InvalidChainError("a chain path cannot be empty.", hint=_SHAPE, position=0)
        if len(path) > MAX_PATH_CHARACTERS:
            raise InvalidChainError(
                f"a chain path has at most {MAX_PATH_CHARACTERS} characters, not {len(path)}.",
                position=MAX_PATH_CHARACTERS,
            )
        nodes: list[OperatorNode] = []
        position, joint = 0, ">"
        while True:
            node, position = _read_key(path, position)
            if joint == ">":
                nodes.append(node)
            else:
                nodes[-1].stacked.append(node)
            if position == len(path):
                return cls(nodes, pipeline_id)
            joint = path[position]
            if joint not in ">+":
                raise _unreadable(path, position)
            position += 1

    def to_hash(self, length: int = 12) -> str:
        """Give the first ``length`` hex digits of SHA-256 over the UTF-8 path."""
        return compute_chain_hash(self.to_path(), length)

    def append(self, node: OperatorNode) -> OperatorChain:
        """Give a new chain with one more node at the end."""
        return OperatorChain([*self.nodes, node], self.pipeline_id)

    def extend(self, nodes: Iterable[OperatorNode] | OperatorChain) -> OperatorChain:
        """Give a new chain with more nodes at the end."""
        more = nodes.nodes if isinstance(nodes, OperatorChain) else nodes
        return OperatorChain([*self.nodes, *more], self.pipeline_id)

    def filter_branch(self, branch_path: list[int]) -> OperatorChain:
        """Keep what a branch sees: nodes before it, and in it or a branch around it."""
        wanted = list(branch_path)
        return self._filtered(lambda node: node.branch_path == wanted[: len(node.branch_path)])

    def filter_step(self, max_step: int) -> OperatorChain:
        """Keep the nodes up to and including a step."""
        return self._filtered(lambda node: node.step_index <= max_step)

    def filter_source(self, source_index: int) -> OperatorChain:
        """Keep the nodes of one source and those of all sources."""
        return self._filtered(lambda node: node.source_index in (None, source_index))

    def _filtered(self, keeps: Callable[[OperatorNode], bool]) -> OperatorChain:
        """Keep of each node, and of those stacked with it, what ``keeps`` says."""
        kept = [[part for part in node.each() if keeps(part)] for node in self.nodes]
        nodes = [replace(parts[0], stacked=parts[1:]) for parts in kept if parts]
        return OperatorChain(nodes, self.pipeline_id)

    def get_last_node(self) -> OperatorNode | None:
        """Give the last node, or None."""
        return self.nodes[-1] if self.nodes else None

    def get_nodes_at_step(self, step_index: int) -> list[OperatorNode]:
        """Give every node of one step, stacked ones too."""
        return [part for node in self.nodes for part in node.each() if part.step_index == step_index]

    def get_branch_path(self) -> list[int]:
        """Give the branch of the last node that has one, of stacked ones the first's, else []."""
        parts = (part for node in reversed(self.nodes) for part in node.each())
        return next((list(part.branch_path) for part in parts if part.branch_path), [])

    def is_empty(self) -> bool:
        """Tell whether the chain has no nodes."""
        return not self.nodes

    def copy(self) -> OperatorChain:
        """Give an equal chain that shares nothing with this one."""
        return OperatorChain.from_dict(self.to_dict())

    def merge_with_prefix(self, prefix_chain: OperatorChain, step_offset: int = 0) -> OperatorChain:
        """Give the prefix followed by this chain, whose steps are moved by ``step_offset``."""
        moved = [_with_steps(node, lambda step: step + step_offset) for node in self.copy().nodes]
        return OperatorChain([*prefix_chain.copy().nodes, *moved], self.pipeline_id or prefix_chain.pipeline_id)

    def remap_steps(self, mapping: Mapping[int, int]) -> OperatorChain:
        """Give the chain with other step numbers; steps that are not in the mapping stay."""
        nodes = [_with_steps(node, lambda step: mapping.get(step, step)) for node in self.copy().nodes]
        return OperatorChain(nodes, self.pipeline_id)

    def with_pipeline_id(self, pipeline_id: str) -> OperatorChain:
        """Give the same chain for another pipeline."""
        return OperatorChain(list(self.nodes), pipeline_id)

    def to_dict(self) -> dict[str, Any]:
        """Give the chain as plain types."""
        return {"nodes": [node.to_dict() for node in self.nodes], "pipeline_id": self.pipeline_id}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> OperatorChain:
        """Make a chain of what ``to_dict`` gave."""
        nodes = [OperatorNode.from_dict(node) for node in fields.get("nodes", [])]
        return cls(nodes, fields.get("pipeline_id", ""))

    def __len__(self) -> int:
        return len(self.nodes)

    def __bool__(self) -> bool:
        return bool(self.nodes)

    def __iter__(self) -> Iterator[OperatorNode]:
        return iter(self.nodes)

    def __str__(self) -> str:
        return self.to_path()


def compute_chain_hash(chain: str | OperatorChain, length: int = 12) -> str:
    """Give the first ``length`` hex digits of SHA-256 over the UTF-8 chain path.

    Examples
    --------
    >>> compute_chain_hash("s1.MinMaxScaler>s3.PLS[br=0]")
    '60fccafdb39c'
    """
    if not 1 <= length <= 64:
        raise InvalidValueError(f"a hash has 1 to 64 hex digits, not {length}.")
    path = chain.to_path() if isinstance(chain, OperatorChain) else chain
    if not isinstance(path, str):
        raise InvalidChainError(f"a chain is a string or an OperatorChain, not {type(path).__name__}.")
    return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:length]


_SHAPE = "A path looks like s1.MinMaxScaler>s3.PLS[br=0,src=0,sub=1]; stacked operators are joined by +."


def _read_key(text: str, position: int) -> tuple[OperatorNode, int]:
    match = _KEY.match(text, position)
    if match is None:
        raise _unreadable(text, position)
    br, src, sub = match.group("br", "src", "sub")
    node = OperatorNode(
        int(match.group("step")),
        match.group("name"),
        [int(index) for index in br.split(".")] if br else [],
        int(src) if src else None,
        None,
        int(sub) if sub else None,
    )
    if _render(node) != match.group():  # a comma or a bracket too many
        raise _unreadable(text, match.end("name"))
    return node, match.end()


def _render(node: OperatorNode) -> str:
    qualifiers = []
    if node.branch_path is not None and len(node.branch_path):  # which may be an array
        qualifiers.append("br=" + ".".join(str(index) for index in node.branch_path))
    if node.source_index is not None:
        qualifiers.append(f"src={node.source_index}")
    if node.substep_index is not None:
        qualifiers.append(f"sub={node.substep_index}")
    return f"s{node.step_index}.{node.operator_class}" + (f"[{','.join(qualifiers)}]" if qualifiers else "")


def _unreadable(text: str, position: int) -> InvalidChainError:
    found = f"{text[position]!r}" if position < len(text) else "the end"
    return InvalidChainError(
        f"the chain path {_shown(text)} cannot be read at character {position}: found {found}.",
        hint=_SHAPE,
        position=position,
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _with_steps(node: OperatorNode, move: Any) -> OperatorNode:
    for part in node.each():
        part.step_index = move(part.step_index)
    return node
