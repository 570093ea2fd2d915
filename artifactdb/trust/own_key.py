"""The user's own key: made on first use, kept for that user alone, never written into a workspace.

What it signs is checked in microseconds and needs no library; only who holds the key can check it. Keys for one
workspace are made from it, so that a worker on another machine can be given one without the key itself.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from artifactdb.database import disk
from artifactdb.database.grants import Secret
from artifactdb.errors import InvalidValueError, StorageFullError
from artifactdb.trust import remembered
from artifactdb.trust.home import home, keep_closed, keep_home_closed, make_home, written_beside

FILE: Final = "key"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class OwnKey(Secret):
    """A user's key.

    Attributes
    ----------
    key_id : str
        16 hex digits that name it, and say nothing of the key.
    """

    secret: bytes = field(repr=False)
    key_id: str

    def for_workspace(self, workspace_id: bytes) -> bytes:
        """Give the key that signs in one workspace."""
        return hashlib.blake2b(b"artifactdb workspace 1\n" + workspace_id, key=self.secret, digest_size=32).digest()


def own_key() -> OwnKey:
    """Give the user's key, which is made when there is none.

    Where it cannot be kept, it lasts as long as the process does, and a warning says so.

    Raises
    ------
    InvalidValueError
        When the file holds no key.
    StorageFullError
        When it is there, and the device fails.
    """
    with _lock:  # else threads that find none at once would each make one
        return _own_key(home() / FILE)


_lock = threading.Lock()


def _new_lock() -> None:
    """Give a forked child a lock of its own: the thread that held the other one is not there to let go of it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@lru_cache(maxsize=8)
def _own_key(file: Path) -> OwnKey:
    try:
        text = _read(file) if file.exists() else _make(file)
    except OSError as error:
        if not isinstance(error, PermissionError) and os.access(file, os.F_OK):
            # Another key in its place would make strangers' objects of all that this process saves.
            raise StorageFullError(f"{file} cannot be read just now ({error}).", hint="Try again.") from error
        warnings.warn(
            f"no key can be kept at {file} ({error.strerror or error}): what this process saves will be a stranger's "
            f"to the next one. Let ARTIFACTDB_HOME name a folder that can be written, or set ARTIFACTDB_TRUST=all "
            f"where only files of your own are loaded.",
            stacklevel=2,
        )
        text = secrets.token_hex(_KEY_BYTES)
    try:
        secret = bytes.fromhex(text)
        if len(secret) != _KEY_BYTES:
            raise ValueError
    except ValueError:
        raise InvalidValueError(
            f"{file} holds no key of artifactdb.",
            hint="Move it away, and a new one is made; `artifactdb trust FILE` then takes your files back.",
        ) from None
    return OwnKey(secret, hashlib.sha256(b"artifactdb key 1\n" + secret).hexdigest()[:16])


def _read(file: Path) -> str:
    keep_home_closed()
    keep_closed(file)
    return file.read_text(encoding="utf-8", errors="replace").strip()


def _make(file: Path) -> str:
    """Write a new key; of several processes that do so at once one wins, and all use what it wrote."""
    keep_secret(file, f"{secrets.token_hex(_KEY_BYTES)}\n")
    return _read(file)


def keep_secret(file: Path, text: str) -> bool:
    """Write a file that only the user can read, unless it is there; tell whether it was written."""
    make_home()
    disk.make_folder(file.parent, 0o700)
    with written_beside(file, text) as made:
        try:
            disk.link(made, file)  # unlike a new name, it refuses to replace what is there
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            with remembered.alone():
                if os.path.lexists(file):
                    return False
                disk.rename(made, file)
    return True
