"""Where an artifact belongs and what it is called, checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artifactdb.artifacts.parameters import readable
from artifactdb.chain import compute_chain_hash
from artifactdb.errors import InvalidValueError, MissingDependencyError
from artifactdb.ids import is_id_of_chain, require_artifact_id, validate_index
from artifactdb.records import ArtifactRecord, ArtifactType, MetaModelConfig, artifact_type_name

_MAX_NAME_CHARACTERS = 512


@dataclass(slots=True, kw_only=True)
class Place:
    """All of an artifact's record but its content."""

    dataset: str
    pipeline_id: str
    artifact_id: str
    artifact_type: str
    step_index: int
    chain_path: str = ""
    branch_path: Sequence[int] = ()
    source_index: int | None = None
    substep_index: int | None = None
    fold_id: int | None = None
    custom_name: str = ""
    depends_on: Sequence[str] = ()
    params: Mapping[str, Any] | None = None
    meta_config: MetaModelConfig | None = None


def checked_place(
    *,
    artifact_type: ArtifactType | str,
    depends_on: Sequence[str] | None,
    meta_config: MetaModelConfig | Mapping[str, Any] | None,
    custom_name: str | None,
    branch_path: Sequence[int],
    step_index: int,
    source_index: int | None,
    substep_index: int | None,
    **fields: Any,
) -> Place:
    """Make a place of what a caller gave; a stack's source models become dependencies.

    Raises
    ------
    InvalidValueError, InvalidIdError
    MissingDependencyError
        For a meta-model without sources.
    """
    type_name = artifact_type_name(artifact_type)
    config = meta_config_of(meta_config)
    sources = listed_ids("depends_on", depends_on or ())
    stacked = [require_artifact_id(source["artifact_id"]) for source in config.source_models] if config else []
    if config:
        _require_fitting_columns(config)
    if type_name == ArtifactType.META_MODEL and not stacked and not sources:
        raise MissingDependencyError(
            "a meta-model needs its source models.", hint="Give meta_config or depends_on, or use register_meta_model."
        )
    return Place(
        artifact_type=type_name,
        depends_on=list(dict.fromkeys([*stacked, *sources])),
        meta_config=config,
        custom_name=require_name("custom_name", custom_name) if custom_name else "",
        branch_path=branch_indexes(branch_path),
        step_index=validate_index("step_index", step_index),
        source_index=None if source_index is None else validate_index("source_index", source_index),
        substep_index=None if substep_index is None else validate_index("substep_index", substep_index),
        **fields,
    )


def listed_ids(what: str, given: Any) -> list[str]:
    """Give a list of artifact ids, of which one may stand alone, and a record for its id."""
    if isinstance(given, str | ArtifactRecord):
        given = [given]
    if not isinstance(given, Iterable):
        raise InvalidValueError(f"{what} is a list of artifact ids, not {str(given)[:80]!r}.")
    return [require_artifact_id(getattr(one, "artifact_id", one)) for one in given]


def meta_config_of(value: Any) -> MetaModelConfig | None:
    """Give what a stack was trained on, of the object or of its dict.

    Raises
    ------
    InvalidValueError
    """
    if value is None:
        return None
    if isinstance(value, MetaModelConfig):
        value = value.to_dict()
    sources = value.get("source_models") or [] if isinstance(value, Mapping) else None
    columns = value.get("feature_columns") or [] if isinstance(value, Mapping) else None
    if (
        not isinstance(sources, list)
        or not isinstance(columns, list)
        or not all(isinstance(source, Mapping) and isinstance(source.get("artifact_id"), str) for source in sources)
    ):
        raise InvalidValueError(f"meta_config has source_models and feature_columns, not {str(value)[:80]!r}.")
    # As it will be kept: JSON knows neither NaN nor the numbers of numpy.
    return MetaModelConfig([readable(source) for source in sources], [str(column) for column in columns])


def _require_fitting_columns(config: MetaModelConfig) -> None:
    """Refuse indexes and columns of which some source has none; it may have several, as of a classifier's classes."""
    named = [source for source in config.source_models if "feature_index" in source]
    indexes = [validate_index("feature_index", source["feature_index"]) for source in named]
    columns = len(config.feature_columns)
    if len(set(indexes)) < len(indexes):
        raise InvalidValueError(
            "two source models have one feature_index.", hint="It says which columns of X are whose."
        )
    if columns and max([len(config.source_models), *(index + 1 for index in indexes)]) > columns:
        raise InvalidValueError(
            f"{len(config.source_models)} source models, the last feature_index {max(indexes, default=0)}, "
            f"do not fit {columns} feature_columns.",
            hint="Each source has one or more.",
        )


def branch_indexes(value: Sequence[int]) -> list[int]:
    """Give the indexes of a branch path as ints, or raise InvalidValueError."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidValueError(f"branch_path is a list of numbers, not {str(value)[:80]!r}.")
    return [validate_index("branch_path", index) for index in value]


def require_own_chain(artifact_id: str, chain_path: str) -> str:
    """Give the path of a chain back when the hash in the id is its own, or raise InvalidValueError."""
    if chain_path and not is_id_of_chain(artifact_id, chain_path):
        raise InvalidValueError(
            f"the id {artifact_id} was not made of the chain {chain_path[:80]!r}, "
            f"whose hash is {compute_chain_hash(chain_path)}.",
            hint="Use register_with_chain, generate_id, or leave the chain path out.",
        )
    return chain_path


def require_name(what: str, value: object) -> str:
    """Give a name back when it is printable text of sane length, or raise InvalidValueError."""
    if isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARACTERS and value.isprintable():
        return value
    shown = repr(value[:40] if isinstance(value, str) else value)[:80]
    raise InvalidValueError(f"{what} is printable text of 1 to {_MAX_NAME_CHARACTERS} characters, not {shown}.")
