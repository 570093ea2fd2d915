"""Artifact ids, content hashes and file names: made, read and checked. Values only.

``{pipeline_id}${chain_hash}:{fold_id|all}`` names an artifact, ``sha256:<hex>`` its content.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from artifactdb.chain import OperatorChain, compute_chain_hash
from artifactdb.errors import InvalidIdError, InvalidValueError

MAX_ID_CHARACTERS = 4096
MAX_NAME_CHARACTERS = 512

_V3 = re.compile(r"(?P<pipeline>[^$]+)\$(?P<chain>[0-9a-f]{1,64}):(?P<fold>all|0|[1-9][0-9]{0,8})")
_LEGACY = re.compile(
    r"(?P<pipeline>[^:$]+)(?P<branches>(?::[0-9]{1,9})*?):(?P<step>[0-9]{1,9})(?:\.(?P<sub>[0-9]{1,9}))?:(?P<fold>all|[0-9]{1,9})"
)


def generate_artifact_id_v3(pipeline_id: str, chain: str | OperatorChain, fold_id: int | None = None) -> str:
    """Make the id of an artifact.

    Parameters
    ----------
    pipeline_id : str
    chain : str or OperatorChain
    fold_id : int, optional
        None for an artifact that all folds share.

    Raises
    ------
    InvalidIdError, InvalidChainError, InvalidValueError

    Examples
    --------
    >>> generate_artifact_id_v3("0001_pls", "s1.MinMaxScaler>s3.PLS", 0)
    '0001_pls$d6ec12b94970:0'
    """
    validate_pipeline_id(pipeline_id)
    validate_fold_id(fold_id)
    if isinstance(chain, str):
        chain = OperatorChain.from_path(chain)
    if not chain:
        raise InvalidIdError("an artifact id needs a chain that is not empty.")
    return artifact_id_of_hash(pipeline_id, compute_chain_hash(chain), fold_id)


def artifact_id_of_hash(pipeline_id: str, chain_hash: str, fold_id: int | None) -> str:
    """Make the id of parts that were checked before."""
    return f"{pipeline_id}${chain_hash}:{'all' if fold_id is None else fold_id}"


def parse_artifact_id_v3(artifact_id: str) -> tuple[str, str, int | None]:
    """Give (pipeline_id, chain_hash, fold_id or None).

    Examples
    --------
    >>> parse_artifact_id_v3("0001_pls$7f8e9d0c1b2a:all")
    ('0001_pls', '7f8e9d0c1b2a', None)
    """
    match = _V3.fullmatch(artifact_id) if _is_sane(artifact_id) else None
    if match is None:
        raise InvalidIdError(
            f"{_shown(artifact_id)} is no artifact id.",
            hint="Ids look like 0001_pls$7f8e9d0c1b2a:0 or …:all.",
        )
    return match["pipeline"], match["chain"], _fold(match["fold"])


def is_v3_artifact_id(artifact_id: str) -> bool:
    """Tell whether a string has the shape of an artifact id."""
    return _is_sane(artifact_id) and _V3.fullmatch(artifact_id) is not None


def validate_artifact_id(artifact_id: str) -> bool:
    """Tell whether a string is an artifact id of this or an older scheme."""
    return is_v3_artifact_id(artifact_id) or parse_legacy_id(artifact_id) is not None


def is_id_of_chain(artifact_id: str, chain_path: str) -> bool:
    """Tell whether an id's hash, of whatever length, is that of a chain; ids of older schemes have none.

    Examples
    --------
    >>> is_id_of_chain("0001_pls$d6ec12b9:0", "s1.MinMaxScaler>s3.PLS")
    True
    """
    match = _V3.fullmatch(artifact_id) if _is_sane(artifact_id) else None
    return match is None or compute_chain_hash(chain_path, len(match["chain"])) == match["chain"]


def require_artifact_id(artifact_id: object) -> str:
    """Give the id back when it may name a record: any printable text of sane length.

    Raises
    ------
    InvalidIdError
    """
    return _sane(artifact_id, "an artifact id")


def extract_pipeline_id_from_artifact_id(artifact_id: str) -> str:
    """Give the pipeline of an id, of an older scheme too.

    Examples
    --------
    >>> extract_pipeline_id_from_artifact_id("0001:3:0")
    '0001'
    """
    if is_v3_artifact_id(artifact_id):
        return parse_artifact_id_v3(artifact_id)[0]
    legacy = parse_legacy_id(artifact_id)
    return legacy.pipeline_id if legacy else parse_artifact_id_v3(artifact_id)[0]


def extract_fold_id_from_artifact_id(artifact_id: str) -> int | None:
    """Give the fold of an id, None for one that all folds share."""
    if is_v3_artifact_id(artifact_id):
        return parse_artifact_id_v3(artifact_id)[2]
    legacy = parse_legacy_id(artifact_id)
    return legacy.fold_id if legacy else parse_artifact_id_v3(artifact_id)[2]


@dataclass(frozen=True, slots=True)
class LegacyId:
    """An id that names an artifact by its place instead of its chain."""

    pipeline_id: str
    branch_path: tuple[int, ...]
    step_index: int
    substep_index: int | None
    fold_id: int | None


def parse_legacy_id(artifact_id: object) -> LegacyId | None:
    """Read ``pipeline:step:fold`` or ``pipeline:branch…:step[.substep]:fold``; None for anything else.

    Examples
    --------
    >>> parse_legacy_id("0001:3:0").step_index
    3
    """
    if not _is_sane(artifact_id):
        return None
    match = _LEGACY.fullmatch(str(artifact_id))
    if match is None:
        return None
    branches = tuple(int(part) for part in match["branches"].split(":") if part)
    substep = match["sub"]
    return LegacyId(
        match["pipeline"],
        branches,
        int(match["step"]),
        int(substep) if substep else None,
        _fold(match["fold"]),
    )


def require_pipeline_id(pipeline_id: object) -> str:
    """Give the id back when a record may have it as its pipeline's: what belongs to none has its own id there.

    Raises
    ------
    InvalidIdError
    """
    return _sane(pipeline_id, "a pipeline id")


def validate_pipeline_id(pipeline_id: object) -> str:
    """Give the id of a pipeline back when ids can be made of it, or raise InvalidIdError."""
    sane = _is_sane(pipeline_id) and len(str(pipeline_id)) <= MAX_NAME_CHARACTERS
    if not sane or "$" in str(pipeline_id):
        raise InvalidIdError(
            f"{_shown(pipeline_id)} cannot be a pipeline id.",
            hint=f"It is printable text of 1 to {MAX_NAME_CHARACTERS} characters without $.",
        )
    return str(pipeline_id)


def validate_fold_id(fold_id: object) -> int | None:
    """Give a fold back, or raise InvalidValueError; None is the mark of what all folds share."""
    return None if fold_id is None else validate_index("fold_id", fold_id)


def agreeing_fold(chain: str | OperatorChain, fold_id: int | None) -> int | None:
    """Give the fold that chain and argument name, or raise InvalidValueError when they name two."""
    last = chain.get_last_node() if isinstance(chain, OperatorChain) else None
    of_chain = last.fold_id if last else None
    if of_chain is not None and fold_id is not None and of_chain != fold_id:
        raise InvalidValueError(f"the chain says fold {of_chain}, the argument fold_id={fold_id}.", hint="Give one.")
    return validate_fold_id(of_chain if fold_id is None else fold_id)


def validate_count(name: str, value: object, least: int = 0) -> int:
    """Give how many are wanted as an int, or raise InvalidValueError.

    Examples
    --------
    >>> validate_count("limit", 3)
    3
    """
    number = _whole(value)
    if number is None or number < least:
        raise InvalidValueError(f"{name} is a whole number, {least} or more, not {value!r}.")
    return number


def validate_index(name: str, value: object) -> int:
    """Give a step, branch, source, substep or fold index as an int, or raise InvalidValueError.

    Examples
    --------
    >>> validate_index("step_index", 3)
    3
    """
    number = _whole(value)
    if number is None:
        raise InvalidValueError(f"{name} is an integer, not {type(value).__name__}.")
    if not 0 <= number < 10**9:
        raise InvalidValueError(f"{name} is 0 or more, not {str(number)[:20]}.")
    return number


def compute_content_hash(content: bytes | bytearray | memoryview) -> str:
    """Give ``sha256:<hex>`` of bytes.

    Examples
    --------
    >>> compute_content_hash(b"")[:19]
    'sha256:e3b0c44298fc'
    """
    if isinstance(content, str):
        raise InvalidValueError("a content hash is of bytes, not of a string.")
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def get_short_hash(content_hash: str, length: int = 12) -> str:
    """Give the first hex digits of a content hash, without its ``sha256:``."""
    return content_hash.removeprefix("sha256:")[:length]


def generate_filename(artifact_type: str, class_name: str, content_hash: str, extension: str = "joblib") -> str:
    """Give the name that an artifact bears as a file.

    Examples
    --------
    >>> generate_filename("model", "PLSRegression", "sha256:0123456789abcdef")
    'model_PLSRegression_0123456789ab.joblib'
    """
    return f"{artifact_type!s}_{class_name}_{get_short_hash(content_hash)}.{extension.lstrip('.')}"


def _fold(text: str) -> int | None:
    return None if text == "all" else int(text)


def _whole(value: object) -> int | None:
    integer = getattr(value, "__index__", None)
    return None if integer is None or isinstance(value, bool) else int(integer())


def _sane(value: object, what: str) -> str:
    if not _is_sane(value):
        raise InvalidIdError(
            f"{_shown(value)} cannot be {what}.",
            hint=f"An id is printable text of 1 to {MAX_ID_CHARACTERS} characters.",
        )
    return str(value)


def _is_sane(text: object) -> bool:
    # isprintable is False for control characters, lone surrogates and line separators.
    return isinstance(text, str) and 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)[:200]
    return repr(text if len(text) <= 80 else text[:77] + "...")
