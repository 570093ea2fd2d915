"""Records of artifacts from what a store of nirs4all 1.4 says: its artifacts and its chains of one pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from artifactdb.ids import is_v3_artifact_id, parse_artifact_id_v3
from artifactdb.interop.chain_search import ChainSearch, Found, Wanted


@dataclass(slots=True)
class Chain:
    """The way to one model: its own artifacts by fold, and those that its folds share.

    Attributes
    ----------
    folds : dict
        Artifact ids by fold: "0", "final", "all".
    shared : list of str
        By step.
    sources : list of str, optional
        Names of the models that a stack names as its own; None for all.
    """

    model_step: int
    model_name: str
    model_class: str
    branch: tuple[int, ...]
    folds: dict[str, str]
    shared: list[str]
    steps: dict[str, int]
    sources: list[str] | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Chain:
        """Read a row of the table ``chains`` whose JSON is parsed."""
        folds = _dict(row.get("fold_artifacts"))
        shared = _dict(row.get("shared_artifacts"))
        model_step = _integer(row.get("model_step_idx"))
        steps: dict[str, int] = {}
        sources = None
        for step in _list(row.get("steps")):
            index = _integer(_dict(step).get("step_idx"))
            for artifact_id in _texts(_dict(step).get("artifact_ids")):
                steps.setdefault(artifact_id, index)
            if index == model_step:
                sources = _named_sources(_dict(step).get("params")) or sources
        by_step = sorted((int(key), value) for key, value in shared.items() if str(key).isdecimal())
        for index, ids in by_step:
            for artifact_id in _texts(ids):
                steps.setdefault(artifact_id, index)
        for artifact_id in _texts(list(folds.values())):
            steps.setdefault(artifact_id, model_step)
        return cls(
            model_step=model_step,
            model_name=str(row.get("model_name") or row.get("model_class") or ""),
            model_class=str(row.get("model_class") or ""),
            branch=tuple(_integer(index) for index in _list(row.get("branch_path"))),
            folds={str(key).removeprefix("fold_"): value for key, value in folds.items() if isinstance(value, str)},
            shared=[artifact_id for _, ids in by_step for artifact_id in _texts(ids)],
            steps=steps,
            sources=sources,
        )


def _named_sources(params: Any) -> list[str] | None:
    """Find the names of source models in the parameters of a stack, however deep they are written."""
    waiting, looked = [params], 0
    while waiting and looked < 1_000:
        value = waiting.pop()
        looked += 1
        if isinstance(value, dict):
            named = value.get("source_models")
            if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
                return named
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return None


@dataclass(slots=True)
class Artifacts:
    """The artifacts of one pipeline.

    Parameters
    ----------
    rows : sequence of dict
        Of the table ``artifacts``.
    chains : sequence of Chain
    """

    rows: Sequence[Mapping[str, Any]]
    chains: Sequence[Chain]
    _steps: dict[str, int] = field(init=False)
    _owners: dict[str, tuple[Chain, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._steps, self._owners = {}, {}
        for chain in self.chains:
            for artifact_id, step in chain.steps.items():
                self._steps.setdefault(artifact_id, step)
            for fold, artifact_id in chain.folds.items():
                self._owners.setdefault(artifact_id, (chain, fold))

    def records(self, search: ChainSearch, configuration: Any) -> list[dict[str, Any]]:
        """Give record dicts, as in a manifest."""
        wanted = [item for row in self.rows if (item := self._wanted(row)) is not None]
        found = search.find(wanted, configuration)
        present = {str(row["artifact_id"]) for row in self.rows}
        return [self._record(row, found, present) for row in self.rows]

    def _wanted(self, row: Mapping[str, Any]) -> Wanted | None:
        artifact_id = str(row["artifact_id"])
        if not is_v3_artifact_id(artifact_id):
            return None
        step = self._steps.get(artifact_id)
        owner = self._owners.get(artifact_id)
        steps = () if step is None else (step,)
        branch = owner[0].branch if owner and owner[0].branch else None
        return Wanted(parse_artifact_id_v3(artifact_id)[1], class_of(row), _type_of(row), steps, branch)

    def _record(self, row: Mapping[str, Any], found: Mapping[str, Found], present: set[str]) -> dict[str, Any]:
        artifact_id = str(row["artifact_id"])
        chain_hash, fold_id = "", None
        if is_v3_artifact_id(artifact_id):
            _, chain_hash, fold_id = parse_artifact_id_v3(artifact_id)
        chain, fold = self._owners.get(artifact_id, (None, ""))
        if fold_id is None and fold.isdecimal():
            fold_id = int(fold)
        path = found.get(chain_hash)
        record = {
            "artifact_id": artifact_id,
            "content_hash": row.get("content_hash"),
            "path": row.get("artifact_path"),
            "chain_path": path.path if path else "",
            "step_index": path.step_index if path else self._steps.get(artifact_id, 0),
            "branch_path": list(path.branch_path if path else chain.branch if chain else ()),
            "source_index": path.source_index if path else None,
            "substep_index": path.substep_index if path else None,
            "fold_id": fold_id,
            "artifact_type": _type_of(row),
            "class_name": class_of(row),
            "custom_name": chain.model_name if chain else "",
            "format": row.get("format") or "joblib",
            "depends_on": [],
            "created_at": row.get("created_at"),
        }
        if chain is None:
            return record
        sources = self._sources(chain, fold) if _type_of(row) == "meta_model" else []
        ids = [source for source, _ in sources] or list(dict.fromkeys(chain.shared))
        record["depends_on"] = [source for source in ids if source in present and source != artifact_id]
        if sources:
            record["meta_config"] = {
                "source_models": [
                    {"artifact_id": source, "feature_index": index, "model_name": name}
                    for index, (source, name) in enumerate(sources)
                ],
                "feature_columns": [f"{name}_pred" for _, name in sources],
            }
        return record

    def _sources(self, stack: Chain, fold: str) -> list[tuple[str, str]]:
        """Give id and name of the models that a stack is fed by: those of the same fold, of earlier steps."""
        earlier = sorted(
            (chain for chain in self.chains if chain.model_step < stack.model_step and fold in chain.folds),
            key=lambda chain: chain.model_step,
        )
        if stack.branch:
            earlier = [chain for chain in earlier if chain.branch == stack.branch[: len(chain.branch)]]
        if stack.sources is not None:
            earlier = [chain for name in stack.sources for chain in earlier if chain.model_name == name]
        by_id = {chain.folds[fold]: chain.model_name for chain in earlier}
        return list(by_id.items())


def class_of(row: Mapping[str, Any]) -> str:
    """Give the class of an artifact, without its module."""
    return str(row.get("operator_class") or "Unknown").rpartition(".")[2]


def _type_of(row: Mapping[str, Any]) -> str:
    named = str(row.get("artifact_type") or "model")
    return "transformer" if named == "scaler" else named


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**9 else 0
