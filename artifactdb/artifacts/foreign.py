"""Record dicts of strangers become records: each value of the right kind, or a reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from artifactdb.artifacts.place import meta_config_of
from artifactdb.chain import MAX_PATH_CHARACTERS, OperatorChain
from artifactdb.errors import InvalidChainError, InvalidValueError
from artifactdb.ids import (
    extract_pipeline_id_from_artifact_id,
    is_id_of_chain,
    is_v3_artifact_id,
    require_artifact_id,
    require_pipeline_id,
    validate_artifact_id,
    validate_index,
)
from artifactdb.records import ArtifactRecord, register_artifact_type

_TEXTS = (
    "path", "custom_name", "format", "format_version", "nirs4all_version", "created_at", "class_name", "signature",
    "artifactdb_version",
)  # fmt: skip
_INDEXES = ("source_index", "substep_index", "fold_id")
_MAX_TEXT = 4096


def record_of(values: Mapping[str, Any], dataset: str, pipeline_id: str) -> tuple[ArtifactRecord, str]:
    """Give the record of a dict, and what had to be changed in it ("" for nothing).

    Raises
    ------
    InvalidValueError, InvalidIdError
    """
    artifact_id = require_artifact_id(values.get("artifact_id"))
    plain: dict[str, Any] = {name: _text(name, values.get(name)) for name in _TEXTS}
    plain |= {name: None if values.get(name) is None else validate_index(name, values[name]) for name in _INDEXES}
    own = values.get("pipeline_id") or (
        extract_pipeline_id_from_artifact_id(artifact_id) if validate_artifact_id(artifact_id) else pipeline_id
    )
    chain_path, note = _chain_of(artifact_id, values.get("chain_path"))
    record = ArtifactRecord(
        artifact_id=artifact_id,
        content_hash=_hash(values.get("content_hash")),
        chain_path=chain_path,
        pipeline_id=require_pipeline_id(own),
        branch_path=[validate_index("branch_path", index) for index in _list("branch_path", values)],
        step_index=validate_index("step_index", values.get("step_index") or 0),
        artifact_type=register_artifact_type(str(values.get("artifact_type") or "model")),
        depends_on=[require_artifact_id(source) for source in _list("depends_on", values)],
        params=_dict("params", values),
        meta_config=meta_config_of(values.get("meta_config")),
        environment={name: _text("environment", version) for name, version in _dict("environment", values).items()},
        dataset=dataset,
        **plain,
    )
    record.format = record.format or "joblib"
    record.class_name = record.class_name or "Unknown"
    return record, note


def _chain_of(artifact_id: str, given: Any) -> tuple[str, str]:
    """Give the chain path if it is one and agrees with the id; a wrong one would be worse than none."""
    if not given:
        return "", ""
    path = str(given)
    if not is_id_of_chain(artifact_id, path):
        return "", f"its chain path {path[:80]!r} is not the one that its id was made of, and was left out"
    # Names that we would not take, such as "PCA, Ridge" of nirs4all, are right when the id was made of them.
    if is_v3_artifact_id(artifact_id) and len(path) <= MAX_PATH_CHARACTERS and path.isprintable():
        return path, ""
    try:
        return OperatorChain.from_path(path).to_path(), ""
    except InvalidChainError:
        return "", f"its chain path {path[:80]!r} cannot be read and was left out"


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise InvalidValueError(f"{name} is text, not {str(value)[:80]!r}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValueError(f"{name} is no text that UTF-8 can hold.") from None
    return value


def _list(name: str, values: Mapping[str, Any]) -> Sequence[Any]:
    value = values.get(name) or []
    if not isinstance(value, list | tuple):
        raise InvalidValueError(f"{name} is a list, not {str(value)[:80]!r}.")
    return value


def _dict(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    value = values.get(name) or {}
    if not isinstance(value, Mapping):
        raise InvalidValueError(f"{name} is a mapping, not {str(value)[:80]!r}.")
    return {str(key): item for key, item in value.items()}


def _hash(value: Any) -> str:
    """Give ``sha256:<hex>``; some write the digits alone."""
    text = _text("content_hash", value).lower()
    digits = text.removeprefix("sha256:")
    if not text:
        return ""
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise InvalidValueError(f"content_hash is sha256: and 64 hex digits, not {text[:80]!r}.")
    return f"sha256:{digits}"
