"""Artifact types and records: what is known of a fitted object besides its bytes. Values only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from artifactdb.chain import compute_chain_hash
from artifactdb.errors import InvalidValueError
from artifactdb.ids import get_short_hash, is_v3_artifact_id, parse_artifact_id_v3
from artifactdb.results import html_fields

_MAX_TYPE_CHARACTERS = 64
_FILE_NAME = re.compile(
    r"(?P<type>[A-Za-z][A-Za-z0-9]*(?:_[a-z][a-z0-9]*)*)_(?P<class>_*[^_/\\][^/\\]*)_(?P<hash>[0-9a-f]{12})\.[A-Za-z0-9]+"
)


class ArtifactType(str, Enum):  # noqa: UP042 - StrEnum would print alike, but the contract names str and Enum
    """The kinds of artifacts of the seed; ``register_artifact_type`` adds kinds of the user's own.

    Examples
    --------
    >>> str(ArtifactType.META_MODEL)
    'meta_model'
    """

    MODEL = "model"
    TRANSFORMER = "transformer"
    SPLITTER = "splitter"
    ENCODER = "encoder"
    META_MODEL = "meta_model"

    def __str__(self) -> str:
        return str(self.value)


_types: set[str] = {str(known) for known in ArtifactType}


def register_artifact_type(name: str) -> str:
    """Make a type of the user's own known, and give its name.

    Examples
    --------
    >>> artifact_type_name(register_artifact_type("feature_selector"))
    'feature_selector'
    """
    if not isinstance(name, str) or len(name) > _MAX_TYPE_CHARACTERS or not name.isidentifier() or not name.islower():
        raise InvalidValueError(f"an artifact type is a lower-case identifier, not {str(name)[:80]!r}.")
    _types.add(name)
    return name


def artifact_type_name(artifact_type: ArtifactType | str) -> str:
    """Give the name of a known type.

    Raises
    ------
    InvalidValueError
        Lists the types that are known.
    """
    name = str(artifact_type) if isinstance(artifact_type, str) else ""
    if name not in _types:
        raise InvalidValueError(
            f"{str(artifact_type)[:80]!r} is no artifact type; known: {', '.join(sorted(_types))}.",
            hint="Add your own with artifactdb.register_artifact_type(name).",
        )
    return name


def parse_filename(filename: str) -> tuple[str, str, str] | None:
    """Give (type, class name, short hash) of such a file name, or None.

    Examples
    --------
    >>> parse_filename("meta_model_Ridge_0123456789ab.joblib")
    ('meta_model', 'Ridge', '0123456789ab')
    """
    match = _FILE_NAME.fullmatch(filename)
    if match is None:
        return None
    # A class may look like more of a type, as csr_matrix does: the longest that is known decides.
    type_name = max((name for name in _types if filename.startswith(f"{name}_")), key=len, default="")
    class_name = filename[len(type_name) + 1 : match.end("class")]
    if not type_name or not class_name:
        type_name, class_name = match.group("type", "class")
    return type_name, class_name, match["hash"]


@dataclass(slots=True)
class MetaModelConfig:
    """What a stacking meta-model was trained on.

    Parameters
    ----------
    source_models : list of dict
        ``{"artifact_id": str, "feature_index": int}`` in feature order.
    feature_columns : list of str
        Names of the columns of its X.
    """

    source_models: list[dict[str, Any]] = field(default_factory=list)
    feature_columns: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {
            "source_models": [dict(source) for source in self.source_models],
            "feature_columns": list(self.feature_columns),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MetaModelConfig:
        """Make a configuration of what ``to_dict`` gave."""
        sources = [dict(source) for source in values.get("source_models") or []]
        return cls(sources, list(values.get("feature_columns") or []))

    @classmethod
    def of_sources(cls, artifact_ids: Iterable[str], feature_columns: Sequence[str]) -> MetaModelConfig:
        """Make a configuration of source ids in feature order."""
        sources = [{"artifact_id": source, "feature_index": index} for index, source in enumerate(artifact_ids)]
        return cls(sources, list(feature_columns))


@dataclass
class ArtifactRecord:
    """Everything that is known of one artifact, but its object.

    The names are the seed's; ``path`` is the name it bears when exported to files, ``size_bytes`` its logical
    bytes, ``created_at`` ISO 8601 in UTC, ``environment`` the library versions that wrote it.
    """

    artifact_id: str
    content_hash: str = ""
    path: str = ""
    chain_path: str = ""
    source_index: int | None = None
    pipeline_id: str = ""
    branch_path: list[int] = field(default_factory=list)
    step_index: int = 0
    substep_index: int | None = None
    fold_id: int | None = None
    artifact_type: str = ArtifactType.MODEL.value
    class_name: str = ""
    custom_name: str = ""
    depends_on: list[str] = field(default_factory=list)
    format: str = "joblib"
    format_version: str = ""
    nirs4all_version: str = ""
    size_bytes: int = 0
    created_at: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    meta_config: MetaModelConfig | None = None
    version: int = 3
    dataset: str = ""
    artifactdb_version: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    signature: str = ""

    @property
    def short_hash(self) -> str:
        """First 12 hex digits of the content hash."""
        return get_short_hash(self.content_hash)

    @property
    def chain_hash(self) -> str:
        """First 12 hex digits of the chain's hash; "" when neither chain nor id tells."""
        if self.chain_path:
            return compute_chain_hash(self.chain_path)
        return parse_artifact_id_v3(self.artifact_id)[1] if is_v3_artifact_id(self.artifact_id) else ""

    @property
    def is_branch_specific(self) -> bool:
        """Whether it belongs to a branch."""
        return bool(self.branch_path)

    @property
    def is_fold_specific(self) -> bool:
        """Whether it belongs to one fold."""
        return self.fold_id is not None

    @property
    def is_source_specific(self) -> bool:
        """Whether it belongs to one block of X."""
        return self.source_index is not None

    @property
    def is_meta_model(self) -> bool:
        """Whether it is a stacking meta-model."""
        return str(self.artifact_type) == ArtifactType.META_MODEL.value

    def get_branch_path_str(self) -> str:
        """Give the branch as "0:2", "" for none."""
        return ":".join(map(str, self.branch_path))

    def get_fold_str(self) -> str:
        """Give the fold, "all" for what folds share."""
        return "all" if self.fold_id is None else str(self.fold_id)

    def matches_context(
        self,
        step_index: int | None = None,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
        fold_id: int | None = None,
    ) -> bool:
        """Tell whether the record is of that step, branch, source and fold; None matches anything."""
        return (
            step_index in (None, self.step_index)
            and (branch_path is None or list(branch_path) == self.branch_path)
            and source_index in (None, self.source_index)
            and fold_id in (None, self.fold_id)
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain types, ready for JSON and YAML."""
        plain = {item.name: getattr(self, item.name) for item in fields(ArtifactRecord)}
        plain["artifact_type"] = str(self.artifact_type)
        plain["meta_config"] = self.meta_config.to_dict() if self.meta_config else None
        for name in ("branch_path", "depends_on"):
            plain[name] = list(plain[name])
        for name in ("params", "environment"):
            plain[name] = dict(plain[name])
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ArtifactRecord:
        """Make a record of what ``to_dict`` gave; missing keys take defaults, unknown ones are left out."""
        known = {item.name for item in fields(ArtifactRecord)}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        meta_config = given.get("meta_config")
        if isinstance(meta_config, Mapping):
            given["meta_config"] = MetaModelConfig.from_dict(meta_config)
        for name, kind in (
            ("branch_path", list),
            ("depends_on", list),
            ("params", dict),
            ("environment", dict),
        ):
            if name in given:
                given[name] = kind(given[name])
        if "artifact_type" in given:
            given["artifact_type"] = str(given["artifact_type"])
        if "signature" in given:
            given["signature"] = str(given["signature"])
        return cls(**{"artifact_id": "", **given})

    def __repr__(self) -> str:
        return (
            f"<ArtifactRecord {self.artifact_id}: {self.artifact_type} {self.class_name}, fold {self.get_fold_str()}, "
            f"{self.size_bytes} bytes>"
        )

    def _repr_html_(self) -> str:
        shown = {name: value for name, value in self.to_dict().items() if value not in (None, "", [], {})}
        return html_fields(shown)
