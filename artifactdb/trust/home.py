"""What one user keeps for all workspaces: the key, whom and what they trust, and their configuration.

Nothing of it is looked for beside a workspace: whoever sends a folder must not say what is trusted in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from artifactdb.errors import InvalidValueError

HOME_VARIABLE: Final = "ARTIFACTDB_HOME"
"""Names another folder for all of it; what a container or a test wants."""
CONFIG_VARIABLE: Final = "ARTIFACTDB_CONFIG"
"""Names another configuration file; what a team shares."""
TRUST_VARIABLE: Final = "ARTIFACTDB_TRUST"
"""``all``: whatever is loaded or imported is trusted; for machines that only ever see files of their own."""


def home() -> Path:
    """Give the folder; it need not be there."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given).expanduser()
    return _default_home(os.environ.get("XDG_CONFIG_HOME", ""), os.environ.get("HOME", ""))


@lru_cache(maxsize=8)
def _default_home(*_: str) -> Path:
    import platformdirs

    try:
        return platformdirs.user_config_path("artifactdb", appauthor=False)
    except RuntimeError as error:
        raise InvalidValueError(f"there is no home folder ({error}).", hint=f"Set {HOME_VARIABLE}.") from None


def config_file() -> Path:
    """Give the configuration file; it need not be there."""
    given = os.environ.get(CONFIG_VARIABLE)
    return Path(given).expanduser() if given else home() / "config.toml"


def allowed_patterns() -> list[str]:
    """Give the allow-list of the configuration file: ``allow = ["sklearn.*", "numpy.*"]``; empty without one.

    Raises
    ------
    InvalidValueError
        When the file cannot be read, or holds something else.
    """
    file = config_file()
    try:
        changed_at = file.stat().st_mtime_ns
    except OSError as error:
        if os.environ.get(CONFIG_VARIABLE):
            raise InvalidValueError(f"{CONFIG_VARIABLE} names {file}, which cannot be read ({error}).") from None
        return []
    return list(_patterns(file, changed_at))


@lru_cache(maxsize=8)
def _patterns(file: Path, changed_at: int) -> tuple[str, ...]:
    import tomllib

    try:
        values: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{file} cannot be read ({error}).", hint="It is a TOML file.") from None
    unknown = sorted(set(values) - {"allow"})
    patterns = values.get("allow", [])
    if unknown or not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InvalidValueError(
            f"{file} holds {', '.join(unknown) or 'something else than texts'}, which artifactdb does not know.",
            hint='It holds one list: allow = ["sklearn.*", "numpy.*"]',
        )
    return tuple(patterns)


def everything_is_trusted() -> bool:
    """Tell whether the environment says that all files are the user's own.

    Raises
    ------
    InvalidValueError
        When it says something else.
    """
    said = os.environ.get(TRUST_VARIABLE, "")
    if said not in ("", "all"):
        raise InvalidValueError(f"{TRUST_VARIABLE} is {said!r}.", hint="It is 'all', or not set.")
    return said == "all"
