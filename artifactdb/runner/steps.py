"""A configuration as a plan: which operator stands at which step, in which branch, and what it is for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from artifactdb.artifacts.place import require_name
from artifactdb.errors import InvalidValueError
from artifactdb.estimators import kinds
from artifactdb.estimators.configuration import operator, with_params
from artifactdb.estimators.grids import options
from artifactdb.fitted.structure import class_name

Branch = tuple[int, ...]

ROLES = {
    "model": "model",
    "meta_model": "meta_model",
    "y_processing": "encoder",
    "preprocessing": "transformer",
    "transformer": "transformer",
    "split": "splitter",
    "splitter": "splitter",
}
"""What an operator under a key of a step is for."""

_BESIDE = ("name", "params", "source_models")
_PREDICTING = ("model", "meta_model")


@dataclass(frozen=True, eq=False)
class Step:
    """One operator at its place.

    Attributes
    ----------
    index : int
        Position in the configuration, from 1.
    branch : tuple of int
        Index of the branch at each level, outermost first.
    substep : int, optional
        Which one, where a step or a branch has several operators.
    role : {"transformer", "encoder", "splitter", "model", "meta_model"}
    name : str
        As the user calls it; '' for none. Of a model: unique in its branch.
    sources : list of Step
        The models that a meta-model stacks.
    branch_name : str
        The names of the branches, or their numbers, joined by dots.
    """

    index: int
    branch: Branch
    substep: int | None
    role: str
    operator: Any
    name: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Step, ...] = ()
    branch_name: str = ""

    @property
    def class_name(self) -> str:
        """Name of the operator's class, as a chain can bear it."""
        return class_name(self.operator)

    @property
    def predicts(self) -> bool:
        """Whether it is a model or a meta-model."""
        return self.role in _PREDICTING


@dataclass(frozen=True)
class Plan:
    """The steps of one pipeline in the order in which they are carried out."""

    steps: tuple[Step, ...]

    @property
    def models(self) -> list[Step]:
        """Models and meta-models."""
        return [step for step in self.steps if step.predicts]

    def classifies(self, model: Step) -> bool:
        """Tell whether a model predicts labels: by itself, or through an encoder of y that gives labels back."""
        return kinds.predicts_labels(model.operator) or any(
            step.role == "encoder" and step.branch == model.branch[: len(step.branch)]
            for step in self.steps[: self.steps.index(model)]
            if model.role == "model" and kinds.gives_labels_back(step.operator)
        )

    @property
    def splitter(self) -> Step | None:
        """The step that makes folds."""
        return next((step for step in self.steps if step.role == "splitter"), None)

    def before_folds(self) -> list[Step]:
        """Give the steps that all folds share: of those before the splitter all but encoders, which learn from y."""
        return [step for step in self._before_splitter() if step.role != "encoder"]

    def within_folds(self) -> list[Step]:
        """Give the steps that each fold has for itself; all of them where there is no splitter."""
        before = self._before_splitter()
        after = self.steps if self.splitter is None else self.steps[len(before) + 1 :]
        return [*(step for step in before if step.role == "encoder"), *after]

    def _before_splitter(self) -> list[Step]:
        return [] if self.splitter is None else list(self.steps[: self.steps.index(self.splitter)])


def plan(configuration: Sequence[Any], allow: Sequence[str] = ()) -> Plan:
    """Read the steps of one pipeline, without alternatives.

    Parameters
    ----------
    configuration : list
        Operators (objects, classes, dotted names, or ``{"class": ..., "params": ...}``), dicts that say what an
        operator is for, lists of several operators, and ``{"branch": [[...], [...]]}``.
    allow : sequence of str, optional
        Packages that classes may come from, besides those that are known.

    Raises
    ------
    InvalidValueError
        For a step that cannot be read or that stands where it makes no sense.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import KFold
    >>> read = plan(["sklearn.preprocessing.MinMaxScaler", KFold(3), {"model": Ridge(), "name": "mine"}])
    >>> [(step.index, step.role, step.class_name) for step in read.steps]
    [(1, 'transformer', 'MinMaxScaler'), (2, 'splitter', 'KFold'), (3, 'model', 'Ridge')]
    """
    reader = _Reader(allow)
    reader.read(configuration, [()], (), None)
    _check(reader.steps)
    return Plan(tuple(reader.steps))


class _Reader:
    def __init__(self, allow: Sequence[str]) -> None:
        self.allow = allow
        self.steps: list[Step] = []
        self.names: dict[Branch, tuple[str, ...]] = {(): ()}
        self.substeps: dict[Branch, int] = {}

    def read(self, steps: Sequence[Any], leaves: list[Branch], scope: Branch, index: int | None) -> list[Branch]:
        """Read a list of steps; ``index`` is that of the branch around it. Gives the branches at its end."""
        if not isinstance(steps, list | tuple):
            raise InvalidValueError(f"a pipeline is a list of steps, not {_shown(steps)}.")
        for position, step in enumerate(steps, 1):
            number = position if index is None else index
            if isinstance(step, Mapping) and "branch" in step:
                leaves = self._branches(step, leaves, number)
            elif isinstance(step, list | tuple):
                if not step:
                    raise InvalidValueError(f"step {number} is an empty list.")
                for substep, one in enumerate(step):
                    self._operators(one, leaves, scope, number, substep if index is None else None, index is not None)
            elif step is not None:
                self._operators(step, leaves, scope, number, None, index is not None)
        return leaves

    def _branches(self, step: Mapping[str, Any], leaves: list[Branch], number: int) -> list[Branch]:
        if len(step) > 1:
            raise InvalidValueError(f"step {number} has more than a branch: {', '.join(map(str, step))}.")
        given = step["branch"]
        named = _named(given) if isinstance(given, Mapping | list | tuple) else []
        if not named:
            raise InvalidValueError(f"step {number}: a branch is a list of lists of steps, not {_shown(given)}.")
        ends: list[Branch] = []
        for leaf in leaves:
            for position, (name, steps) in enumerate(named):
                child = (*leaf, position)
                self.names[child] = (*self.names[leaf], str(name))
                self.substeps[child] = self.substeps.get(leaf, 0)
                inner = steps if isinstance(steps, list | tuple) else [steps]
                ends += self.read(inner, [child], child, number)
        return ends

    def _operators(
        self, given: Any, leaves: list[Branch], scope: Branch, number: int, substep: int | None, inside: bool
    ) -> None:
        role, value, beside = self._said(given, number)
        # One operator is made and cloned for each fit: a branch must not see what another did to it.
        made = self._with_params(operator(value, self.allow), beside.get("params") or {}, number)
        role = role or _role_of(made, number)
        if role == "model" and "source_models" in beside:
            role = "meta_model"
        _check_role(role, made, number)
        for leaf in [scope] if role == "meta_model" else leaves:
            if inside:
                substep = self.substeps.get(leaf, 0)
                self.substeps[leaf] = substep + 1
            self.steps.append(
                Step(
                    number, leaf, substep, role, made,
                    name=self._name(role, beside.get("name"), made, leaf),
                    params=beside.get("params") or {},
                    sources=self._sources(beside.get("source_models"), leaf, number) if role == "meta_model" else (),
                    branch_name=".".join(self.names[leaf]),
                )
            )  # fmt: skip

    def _said(self, given: Any, number: int) -> tuple[str | None, Any, Mapping[str, Any]]:
        """Give the role that a step names, its operator, and what else it says."""
        if not isinstance(given, Mapping) or "class" in given:
            return None, given, {}
        roles = [key for key in given if key in ROLES]
        unknown = [str(key) for key in given if key not in ROLES and key not in _BESIDE]
        if unknown:
            close = get_close_matches(unknown[0], [*ROLES, *_BESIDE, "branch"], 1)
            raise InvalidValueError(
                f"step {number} has the unknown key {unknown[0]!r}.",
                hint=(f"Did you mean {close[0]!r}? " if close else "")
                + f"Known are branch, {', '.join(ROLES)}, and beside them {', '.join(_BESIDE)}.",
            )
        if len(roles) != 1:
            raise InvalidValueError(f"step {number} names {len(roles)} operators: {_shown(dict(given))}.")
        return ROLES[roles[0]], given[roles[0]], given

    def _with_params(self, made: Any, params: Any, number: int) -> Any:
        if not params:
            return made
        if not isinstance(params, Mapping):
            raise InvalidValueError(f"step {number}: params is a dict, not {_shown(params)}.")
        return with_params(made, params, self.allow)

    def _name(self, role: str, given: Any, made: Any, leaf: Branch) -> str:
        if given is not None:
            require_name("name", given)
        if role not in _PREDICTING:
            return given or ""
        base = given or class_name(made)
        taken = {step.name for step in self.steps if step.predicts and step.branch == leaf}
        numbered = (f"{base}_{count}" for count in itertools.count(2))
        return next(name for name in itertools.chain([base], numbered) if name not in taken)

    def _sources(self, wanted: Any, scope: Branch, number: int) -> tuple[Step, ...]:
        seen = [
            step
            for step in self.steps
            if step.predicts and (step.branch[: len(scope)] == scope or scope[: len(step.branch)] == step.branch)
        ]
        if wanted in (None, "all"):
            chosen = [step for step in seen if step.role == "model"]
        else:
            if not isinstance(wanted, str | list | tuple):
                raise InvalidValueError(f"step {number}: source_models is a list of names, not {_shown(wanted)}.")
            names = [wanted] if isinstance(wanted, str) else list(wanted)
            known = sorted({step.name for step in seen})
            for name in names:
                if name not in known:
                    close = get_close_matches(str(name), known, 1)
                    raise InvalidValueError(
                        f"step {number} stacks {name!r}, which is no earlier model.",
                        hint=f"Did you mean {close[0]!r}?"
                        if close
                        else f"Earlier models: {', '.join(known) or 'none'}.",
                    )
            chosen = [step for name in names for step in seen if step.name == name]
        if not chosen:
            raise InvalidValueError(f"step {number} is a meta-model, and no model stands before it.")
        return tuple(chosen)


def in_order(value: Any) -> Any:
    """Give steps with branches that have names as a list, whose order JSON with sorted keys keeps.

    Examples
    --------
    >>> in_order([{"branch": {"snv": ["SNV"], "none": []}}])
    [{'branch': [{'name': 'snv', 'steps': ['SNV']}, {'name': 'none', 'steps': []}]}]
    """
    if isinstance(value, Mapping) and set(value) == {"branch"} and isinstance(value["branch"], Mapping):
        return {"branch": [{"name": name, "steps": in_order(steps)} for name, steps in _named(value["branch"])]}
    if isinstance(value, Mapping) and not {"branch", "steps", "pipeline"}.isdisjoint(value):
        return {key: in_order(one) for key, one in value.items()}
    return [in_order(one) for one in value] if isinstance(value, list | tuple) else value


def settled(value: Any) -> Any:
    """Give steps without alternatives so that expanding them again gives the same: a list in ``params`` is one value.

    Examples
    --------
    >>> settled([{"model": "sklearn.neural_network.MLPRegressor", "params": {"hidden_layer_sizes": [7, 8]}}])
    [{'model': 'sklearn.neural_network.MLPRegressor', 'params': {'hidden_layer_sizes': [[7, 8]]}}]
    """
    if isinstance(value, Mapping) and isinstance(value.get("params"), Mapping) and not ROLES.keys().isdisjoint(value):
        params = {name: [one] if options(one) is not None else one for name, one in value["params"].items()}
        return {**value, "params": params}
    if isinstance(value, Mapping) and ("branch" in value or "steps" in value):
        return {key: settled(one) for key, one in value.items()}
    return [settled(one) for one in value] if isinstance(value, list | tuple) else value


def _named(branches: Mapping[str, Any] | Sequence[Any]) -> list[tuple[str, Any]]:
    """Give the branches of a step with their names, or their numbers where they have none."""
    if isinstance(branches, Mapping):
        return [(str(name), steps) for name, steps in branches.items()]
    return [
        (str(one.get("name", position)), one["steps"])
        if isinstance(one, Mapping) and "steps" in one
        else (str(position), one)
        for position, one in enumerate(branches)
    ]


def _role_of(made: Any, number: int) -> str:
    if kinds.is_splitter(made):
        return "splitter"
    if kinds.is_selector(made):
        return "transformer"
    if kinds.is_model(made):
        return "model"
    if kinds.is_transformer(made):
        return "transformer"
    raise InvalidValueError(
        f"step {number}: {type(made).__name__} is neither a transformer, a model, nor a splitter.",
        hint="It has to have fit and transform, fit and predict, or split.",
    )


def _check_role(role: str, made: Any, number: int) -> None:
    needed = {
        "transformer": ("fit", "transform"),
        "encoder": ("fit", "transform", "inverse_transform"),
        "splitter": ("split",),
        "model": ("fit", "predict"),
        "meta_model": ("fit", "predict"),
    }[role]
    missing = [
        name for name in needed if not (kinds.predicts(made) if name == "predict" else hasattr(made, name))
    ]  # fmt: skip
    if missing:
        raise InvalidValueError(
            f"step {number}: {type(made).__name__} stands as a {role} and has no {' and no '.join(missing)}."
        )


def _check(steps: Sequence[Step]) -> None:
    splitters = [step for step in steps if step.role == "splitter"]
    if splitters and splitters[0].branch:
        raise InvalidValueError(
            "a splitter inside or behind a branch would give each branch folds of its own.",
            hint="Put it before the branch.",
        )
    if len(splitters) > 1:
        raise InvalidValueError(
            f"a pipeline has one splitter; steps {' and '.join(str(step.index) for step in splitters)} are splitters.",
            hint="Keep one.",
        )
    models = [step for step in steps if step.predicts]
    if not models:
        raise InvalidValueError("the pipeline has no model.", hint='Add {"model": ...} as a step.')
    if splitters:
        early = next(_models_before(steps, splitters[0]), None)
        if early is not None:
            raise InvalidValueError(
                f"the model {early.name} stands before the splitter.", hint="Put the splitter before the first model."
            )
    stacked = next((step for step in models if step.role == "meta_model"), None)
    if stacked is not None and not splitters:
        raise InvalidValueError(
            f"the meta-model {stacked.name} needs out-of-fold predictions, and there is no splitter.",
            hint="Add one, e.g. KFold(5), before the models.",
        )


def _models_before(steps: Sequence[Step], splitter: Step) -> Iterator[Step]:
    for step in steps:
        if step is splitter:
            return
        if step.predicts:
            yield step


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
