"""Paths as people give them."""

from __future__ import annotations

import os
from pathlib import Path

from artifactdb.errors import InvalidValueError


def local_path(given: str | os.PathLike[str], *, to_read: bool = False) -> Path:
    """Give the path that is meant: a leading ``~`` is the home of who runs this, wherever a file or folder is named.

    Raises
    ------
    InvalidValueError
        For what is no path, or one that no workspace can have; what is only read may have any name.

    Examples
    --------
    >>> local_path("~/wheat.sqlite") == Path.home() / "wheat.sqlite", local_path("wheat.sqlite").as_posix()
    (True, 'wheat.sqlite')
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InvalidValueError(f"a path is a str or Path, not {type(given).__name__}.")
    if not text or "\0" in text:
        raise InvalidValueError(
            f"{text[:80]!r} is no name for a file or folder.", hint="A path is not empty, and holds no NUL character."
        )
    try:
        if not to_read:
            text.encode()
        return Path(text).expanduser()
    except UnicodeEncodeError:
        raise InvalidValueError(f"{text!r} is a path that UTF-8 cannot hold.", hint="Choose another name.") from None
    except RuntimeError:  # of somebody whom nobody knows
        return Path(text)
