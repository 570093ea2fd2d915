"""Where lies what protects a workspace (``parity.py``), and how it is put aside before the workspace changes.

Apart, because every writer does so, and few protect.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from artifactdb.database import disk


def parity_file(path: Path) -> Path:
    """Give the file that protects a workspace as it is now."""
    return path.with_name(f"{path.name}.parity")


def outdated_file(path: Path) -> Path:
    """Give the file that protected an earlier state."""
    return path.with_name(f"{path.name}.parity.stale")


def outdate(path: Path) -> None:
    """Put aside what protects a workspace, by whoever alone may write to it, before the first change.

    It would bring an older state back. Durable before the change can be.

    Raises
    ------
    StorageFullError
        When it cannot be put aside; then nothing may be changed.
    """
    if not os.access(f"{path}.parity", os.F_OK):  # asked at each transaction, and answered in a microsecond
        return
    try:
        with suppress(FileNotFoundError):
            disk.rename(parity_file(path), outdated_file(path))
        disk.sync(path.parent)
    except OSError as error:
        raise disk.refusal(f"{parity_file(path)} could not be put aside", error, "Nothing was changed.") from error
