"""Chain paths that nirs4all 1.4 does not store, found again: an artifact's id holds the hash of its path.

Paths that the program could have made from a pipeline's configuration are hashed until one fits; what does not fit
is not believed. The search is bounded, and likely paths come first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

from artifactdb.artifacts.reading import parse_json
from artifactdb.errors import InvalidValueError

Branch = tuple[int, ...]

_OF_A_PIPELINE = 600_000
_OF_AN_IMPORT = 20_000_000
"""How many paths are tried at the most; half a second of work, and half a minute."""
_SOURCES, _MORE_SOURCES = 3, 12
_SUBSTEPS, _MORE_SUBSTEPS = 8, 64
_MAX_PREFIXES = 1_000
_MAX_BRANCHES = 64
_SEPARATING = ("by_tag", "by_metadata", "by_filter", "by_source")
_KEYWORDS = (
    "preprocessing", "y_processing", "feature_augmentation", "sample_augmentation", "concat_transform", "model",
    "meta_model", "branch", "merge", "merge_sources", "name", "tag", "exclude",
)  # fmt: skip
"""What tells the kind of a step, in the order in which the program asks for it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact whose path is sought.

    Attributes
    ----------
    chain_hash : str
        The first 12 hex digits of the path's SHA-256.
    steps : tuple of int
        The steps that it may belong to.
    branch : tuple of int, optional
        The branch that its model is in, as a hint.
    """

    chain_hash: str
    class_name: str
    artifact_type: str
    steps: tuple[int, ...]
    branch: Branch | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A path that fits, and what its last operator says."""

    path: str
    step_index: int
    branch_path: Branch
    source_index: int | None
    substep_index: int | None


@dataclass(slots=True)
class ChainSearch:
    """Finds paths, for one pipeline after the other.

    Attributes
    ----------
    known : dict
        What was found before, by hash and class: pipelines of one study have the same chains.
    """

    known: dict[tuple[str, str], Found] = field(default_factory=dict)
    _left: int = _OF_AN_IMPORT

    def find(self, wanted: Sequence[Wanted], configuration: Any) -> dict[str, Found]:
        """Give the paths that fit, by chain hash.

        Parameters
        ----------
        configuration : list
            The steps of the pipeline, as the program expanded them.
        """
        found = {}
        missing: dict[str, Wanted] = {}
        for item in wanted:
            known = self.known.get((item.chain_hash, item.class_name))
            if known is not None:
                found[item.chain_hash] = known
            else:
                missing[item.chain_hash] = item
        if missing:
            budget = _Budget(min(_OF_A_PIPELINE, self._left))
            with suppress(RecursionError):  # a configuration that is nested to no purpose
                for chain_hash, path in _search(missing, _Shape.of(configuration), budget):
                    found[chain_hash] = path
                    self.known[chain_hash, missing[chain_hash].class_name] = path
            self._left -= budget.spent
        return found


@dataclass(slots=True)
class _Budget:
    allowed: int
    spent: int = 0


@dataclass(slots=True)
class _Shape:
    """What a configuration says of chains.

    Attributes
    ----------
    prefixes : dict
        By step of the branch that made them: the operators that chains may begin with, and their last branch.
    branches : list of tuple
        The branches that there are, and what they may be nested in.
    """

    steps: int = 0
    prefixes: dict[int, list[tuple[str, Branch]]] = field(default_factory=dict)
    branches: list[Branch] = field(default_factory=list)

    @classmethod
    def of(cls, configuration: Any) -> _Shape:
        steps = configuration if isinstance(configuration, list) else []
        shape = cls(len(steps))
        own: list[Branch] = []
        before: list[tuple[str, Branch]] = [("", ())]
        for index, step in enumerate(steps, start=1):
            if not isinstance(step, dict) or "branch" not in step:
                continue
            definition = _branches_of(step["branch"])
            # A second branch step may start its own numbering, whatever branch it runs in.
            starts = [*before, *((prefix, ()) for prefix, branch in before if branch)]
            grown = (made for prefix, branch in starts for made in _grow(prefix, index, definition, branch))
            shape.prefixes[index] = list(dict.fromkeys(islice(grown, _MAX_PREFIXES)))
            before = list(dict.fromkeys([*before, *shape.prefixes[index]]))[:_MAX_PREFIXES]
            inner = list(dict.fromkeys(branch for _, branch in islice(_grow("", index, definition, ()), _MAX_PREFIXES)))
            numbers = _MAX_BRANCHES if _separates(step["branch"]) else max(len(definition), 1)
            inner = list(dict.fromkeys([*inner, *((number,) for number in range(min(numbers, _MAX_BRANCHES)))]))
            nested = [(*outer, *branch) for outer, branch in product(own[:_MAX_BRANCHES], inner[:_MAX_BRANCHES])]
            own = list(dict.fromkeys([*own, *inner, *nested]))[: _MAX_BRANCHES * 4]
        shape.branches = own
        return shape

    def prefixes_at(self, step: int) -> list[tuple[str, Branch]]:
        """Give what the chain of an operator of a step may begin with, the likely first."""
        nearest = sorted((index for index in self.prefixes if index <= step), reverse=True)
        return [("", ()), *(prefix for index in nearest for prefix in self.prefixes[index])]


def _grow(prefix: str, step: int, branches: Sequence[Sequence[Any]], outer: Branch) -> Iterator[tuple[str, Branch]]:
    """Give the chains that a branch step makes: longer by one operator with each of its steps."""
    for number, steps in enumerate(branches[:_MAX_BRANCHES]):
        branch = (*outer, number)
        chain = prefix
        for substep, inner in enumerate(steps):
            key = f"s{step}.{_class_of(inner)}[br={'.'.join(map(str, branch))},sub={substep}]"
            chain = f"{chain}>{key}" if chain else key
            yield chain, branch
            if isinstance(inner, dict) and "branch" in inner and len(branch) < 4:
                nested = list(islice(_grow(chain, step, _branches_of(inner["branch"]), branch), _MAX_PREFIXES))
                yield from nested
                # The program goes on with the chain of the branch that it ran last.
                chain = nested[-1][0] if nested else chain


def _branches_of(definition: Any) -> list[list[Any]]:
    """Give the steps of each branch; a branch without steps is one too."""
    if isinstance(definition, dict):
        if _separates(definition):
            steps = definition.get("steps", [])
            if isinstance(steps, dict):
                return [_as_list(inner) for inner in steps.values()]
            return [_as_list(steps)] * _SEPARATE_ALIKE
        for generator in ("_or_", "_chain_"):
            if isinstance(definition.get(generator), list):
                return [_as_list(choice) for choice in definition[generator]]
        named = {key: inner for key, inner in definition.items() if key not in ("parallel", "n_jobs")}
        return [_as_list(inner) for key, inner in named.items() if not str(key).startswith("_")]
    if isinstance(definition, list):
        return [_as_list(item["steps"] if isinstance(item, dict) and "steps" in item else item) for item in definition]
    return [[definition]]


_SEPARATE_ALIKE = 8
"""How many groups of samples are looked for where each runs the same steps."""


def _separates(definition: Any) -> bool:
    return isinstance(definition, dict) and any(word in definition for word in _SEPARATING)


def _as_list(steps: Any) -> list[Any]:
    return steps if isinstance(steps, list) else [steps]


def _class_of(step: Any) -> str:
    """Give what the program calls a step within a branch."""
    if isinstance(step, dict):
        for keyword in _KEYWORDS:
            if keyword in step and keyword != "name":
                return _name_of(step[keyword])
            if keyword == "name" and "name" in step and "model" in step:
                return _name_of(step["model"])
        return str(step["class"]).rpartition(".")[2] if "class" in step else "Config"
    return step.rpartition(".")[2] if isinstance(step, str) else type(step).__name__


def _name_of(operator: Any) -> str:
    if operator is None:
        return "None"
    if isinstance(operator, list):
        if len(operator) < 2:
            return _name_of(operator[0]) if operator else "Empty"
        more = f"... (+{len(operator) - 3})" if len(operator) > 3 else ""
        return ", ".join(_name_of(inner) for inner in operator[:3]) + more
    if isinstance(operator, dict):
        return str(operator["class"]).rpartition(".")[2] if "class" in operator else "Config"
    return operator.rpartition(".")[2] if isinstance(operator, str) else type(operator).__name__


# -- the search -------------------------------------------------------------------------------------


def _search(missing: Mapping[str, Wanted], shape: _Shape, budget: _Budget) -> Iterator[tuple[str, Found]]:
    """Try the likely places of each artifact first, then all others."""
    left = dict(missing)
    for thorough in (False, True):
        groups: dict[tuple[int, str], list[Wanted]] = {}
        for item in left.values():
            steps = item.steps or tuple(range(shape.steps + 2))
            for step, name in product(steps, _names_of(item)):
                groups.setdefault((step, name), []).append(item)
        for (step, name), items in groups.items():
            sought = {item.chain_hash for item in items if item.chain_hash in left}
            hints = list(dict.fromkeys(item.branch for item in items if item.branch))
            for found in _paths(step, name, shape, hints, sought, budget, thorough=thorough):
                chain_hash, path = found
                del left[chain_hash]
                yield chain_hash, path


def _names_of(item: Wanted) -> tuple[str, ...]:
    plain = item.class_name
    first = {"encoder": f"y_{plain}", "meta_model": f"Meta_{plain}"}.get(item.artifact_type)
    return (first, plain) if first else (plain,)


def _paths(
    step: int,
    name: str,
    shape: _Shape,
    hints: Iterable[Branch],
    sought: set[str],
    budget: _Budget,
    *,
    thorough: bool,
) -> Iterator[tuple[str, Found]]:
    """Hash the paths of one operator at one step, and give those that are sought."""
    sources = (None, *range(_MORE_SOURCES if thorough else _SOURCES))
    substeps = (None, *range(_MORE_SUBSTEPS if thorough else _SUBSTEPS))
    within = list(product(sources, substeps))
    for prefix, last in shape.prefixes_at(step):
        start = f"{prefix}>s{step}.{name}" if prefix else f"s{step}.{name}"
        hasher = hashlib.sha256(start.encode("utf-8", "surrogatepass"))
        likely = [last, *hints, (), *(last[:length] for length in range(1, len(last)))]
        for branch in dict.fromkeys([*likely, *shape.branches] if thorough or not shape.prefixes else likely):
            if not sought or budget.spent >= budget.allowed:
                return
            budget.spent += len(within)
            for source, substep in within:
                qualifiers = _qualifiers(branch, source, substep)
                tried = hasher.copy()
                tried.update(qualifiers.encode())
                chain_hash = tried.hexdigest()[:12]
                if chain_hash in sought:
                    sought.discard(chain_hash)
                    yield chain_hash, Found(start + qualifiers, step, branch, source, substep)


def _qualifiers(branch: Branch, source: int | None, substep: int | None) -> str:
    parts = [f"br={'.'.join(map(str, branch))}"] if branch else []
    parts += [] if source is None else [f"src={source}"]
    parts += [] if substep is None else [f"sub={substep}"]
    return f"[{','.join(parts)}]" if parts else ""


def configuration_of(text: Any) -> Any:
    """Give the configuration that a column holds as JSON; None when it does not."""
    try:
        return parse_json(text, "configuration") if isinstance(text, str) else None
    except InvalidValueError:
        return None
