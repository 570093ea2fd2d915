"""What datasets and pipelines may be called, and the numbered names that pipelines get."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

from artifactdb.artifacts.place import require_name
from artifactdb.errors import InvalidValueError

_MAX_DATASET_BYTES = 200
_MAX_NAME_CHARACTERS = 80
_MAX_FOLDER_CHARACTERS = 120


def require_dataset_name(name: object) -> str:
    """Give the name of a dataset back when a folder can bear it.

    Raises
    ------
    InvalidValueError
        For a slash, a name of dots, a control character, or more than 200 bytes of UTF-8.

    Examples
    --------
    >>> require_dataset_name("wheat_sample1")
    'wheat_sample1'
    """
    text = require_name("dataset", name)
    if any(char in text for char in "/\\") or not text.strip(". "):
        raise InvalidValueError(
            f"dataset {text[:80]!r} cannot be the name of a folder.", hint="Use letters, digits and _."
        )
    if len(text.encode()) > _MAX_DATASET_BYTES:
        raise InvalidValueError(f"a dataset's name takes at most {_MAX_DATASET_BYTES} bytes, not {len(text.encode())}.")
    return text


def configuration_json(configuration: Any) -> str:
    """Give canonical JSON of a configuration; operators in it become their class and parameters.

    Raises
    ------
    InvalidValueError
        For what JSON cannot hold.
    """
    return json.dumps(plain_configuration(configuration), ensure_ascii=False, sort_keys=True)


def plain_configuration(configuration: Any) -> Any:
    """Give a configuration in JSON's types, as it is where it holds nothing else.

    Raises
    ------
    InvalidValueError
        For what JSON cannot hold.
    """
    try:
        return json.loads(json.dumps(configuration, allow_nan=False))
    except (TypeError, ValueError):
        # Operators bring numpy and scikit-learn along, which most who open a workspace do without.
        from artifactdb.estimators.configuration import to_plain
    except RecursionError as error:
        raise InvalidValueError(f"the configuration cannot be written as JSON ({error}).") from None
    return to_plain(configuration)


def numbered_id(number: int, name: str, configuration: str) -> str:
    """Give the id of a pipeline: its number in the dataset, its name if it has one, and a hash of its configuration.

    Examples
    --------
    >>> numbered_id(1, "pls", "[]"), numbered_id(42, "", "[]")
    ('0001_pls_4f53cd', '0042_4f53cd')
    """
    digest = hashlib.sha256(configuration.encode()).hexdigest()[:6]
    readable = re.sub(r"[^\w.-]+", "_", name).strip("_")[:_MAX_NAME_CHARACTERS]
    return "_".join(part for part in (f"{number:04}", readable, digest) if part)


class FolderNames:
    """Gives names that folders can bear, on any system, each once.

    Examples
    --------
    >>> names = FolderNames()
    >>> names.of("wheat"), names.of("Wheat"), names.of("a/b"), names.of(".."), names.of("wheat")
    ('wheat', 'Wheat~2', 'a%2Fb', '%2E%2E', 'wheat')
    """

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """Give the name of a folder or file for a name; the same for the same."""
        if name in self._given:
            return self._given[name]
        safe = quote(name, safe=" ()+,-=@[]{}~!^$&'")
        if not safe.strip(". "):
            safe = safe.replace(".", "%2E").replace(" ", "%20")
        safe = safe.rstrip(". ") or safe
        if len(safe) > _MAX_FOLDER_CHARACTERS:
            safe = f"{safe[:_MAX_FOLDER_CHARACTERS]}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        chosen, count = safe, 1
        while chosen.casefold() in self._taken:
            count += 1
            chosen = f"{safe}~{count}"
        self._taken.add(chosen.casefold())
        self._given[name] = chosen
        return chosen
