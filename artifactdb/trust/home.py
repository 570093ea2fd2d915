"""What one user keeps for all workspaces: the key, whom and what they trust, and their configuration.

Nothing of it is looked for beside a workspace: whoever sends a folder must not say what is trusted in it.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import platformdirs

from artifactdb.database import disk
from artifactdb.errors import InvalidValueError, ReadOnlyError

HOME_VARIABLE: Final = "ARTIFACTDB_HOME"
"""Names another folder for all of it; what a container or a test wants."""
CONFIG_VARIABLE: Final = "ARTIFACTDB_CONFIG"
"""Names another configuration file; what a team shares."""
TRUST_VARIABLE: Final = "ARTIFACTDB_TRUST"
"""``all``: whatever is loaded or imported is trusted; for machines that only ever see files of their own."""


def home() -> Path:
    """Give the folder; it need not be there.

    Raises
    ------
    InvalidValueError
        When there is none, or its path begins in whichever folder the program runs.
    """
    named = _named_by(HOME_VARIABLE)
    return named or _default_home(os.environ.get("XDG_CONFIG_HOME", ""), os.environ.get("HOME", ""))


@lru_cache(maxsize=8)
def _default_home(*_: str) -> Path:
    try:
        found = platformdirs.user_config_path("artifactdb", appauthor=False)
    except RuntimeError as error:
        raise InvalidValueError(f"there is no home folder ({error}).", hint=f"Set {HOME_VARIABLE}.") from None
    if not found.is_absolute():
        raise InvalidValueError(f"the home folder is {str(found)!r}, {_RELATIVE}.", hint=f"Set {HOME_VARIABLE}.")
    return found


def _named_by(variable: str) -> Path | None:
    given = os.environ.get(variable)
    if not given:
        return None
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise InvalidValueError(f"{variable} is {given!r}, which cannot be found ({error}).") from None
    if not path.is_absolute():
        raise InvalidValueError(f"{variable} is {given!r}, {_RELATIVE}.", hint="Give the whole path.")
    return path


_RELATIVE: Final = "which would be another one in each folder, also in one that a stranger sent"


def make_home() -> Path:
    """Give the folder, which is made for the user alone if it is not there; the only place that makes it.

    Raises
    ------
    ReadOnlyError
        When it cannot be made.
    """
    folder = home()
    try:
        disk.make_folder(folder, 0o700)
        keep_home_closed()
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return folder


def cannot_be_written(path: Path, error: OSError) -> ReadOnlyError:
    """Give the error for a file or folder of the user's that cannot be written."""
    return ReadOnlyError(
        f"{path} cannot be written ({error.strerror or error}).", hint=f"Let {HOME_VARIABLE} name a folder that can."
    )


def keep_home_closed() -> None:
    """Warn of a folder that others could use; the usual one is closed to them, one that somebody chose is theirs."""
    if not os.environ.get(HOME_VARIABLE):
        keep_closed(home())
    elif os.name == "posix" and home().stat().st_mode & 0o022:
        warnings.warn(
            f"{home()} can be written by others, who could say what is trusted: let {HOME_VARIABLE} name a folder of "
            f"the user alone.",
            stacklevel=2,
        )


def keep_closed(path: Path) -> None:
    """See that nobody else can use a file or folder; say so when somebody could."""
    if os.name != "posix" or not (mode := path.stat().st_mode) & 0o077:
        return
    warnings.warn(f"{path} could be read by others; which was mended where it could be.", stacklevel=2)
    with suppress(OSError):  # somebody else's, such as one that is mounted
        path.chmod(mode & 0o700)


@contextmanager
def written_beside(file: Path, text: str) -> Iterator[Path]:
    """Write a file that only the user can read under another name, which goes when the block ends."""
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(disk.create(unfinished, 0o600), "w", encoding="ascii") as stream:
            stream.write(text)
        disk.sync(unfinished)
        yield unfinished
    finally:
        disk.remove(unfinished)
        disk.sync(file.parent)  # what is signed would be a stranger's if its key were gone after a power cut


def config_file() -> Path:
    """Give the configuration file; it need not be there."""
    return _named_by(CONFIG_VARIABLE) or home() / "config.toml"


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
