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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from artifactdb.errors import InvalidValueError, StorageFullError
from artifactdb.trust.home import home

FILE: Final = "key"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class OwnKey:
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


@lru_cache(maxsize=8)
def _own_key(file: Path) -> OwnKey:
    try:
        text = _read(file) if file.exists() else _make(file)
    except OSError as error:
        if not isinstance(error, PermissionError) and os.access(file, os.F_OK):
            # Another key in its place would make strangers' objects of all that this process saves.
            raise StorageFullError(f"{file} cannot be read just now ({error}).", hint="Try again.") from error
        warnings.warn(
            f"no key can be kept at {file} ({error.strerror}): what this process saves will be a stranger's to the "
            f"next one. Let ARTIFACTDB_HOME name a folder that can be written, or set ARTIFACTDB_TRUST=all where only "
            f"files of your own are loaded.",
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
    if os.name == "posix" and file.stat().st_mode & 0o077:
        warnings.warn(f"{file} could be read by others; which was mended where it could be.", stacklevel=2)
        with suppress(OSError):  # somebody else's, such as one that is mounted
            file.chmod(0o600)
    return file.read_text(encoding="ascii", errors="replace").strip()


def _make(file: Path) -> str:
    """Write a new key; of several processes that do so at once one wins, and all use what it wrote."""
    keep_secret(file, f"{secrets.token_hex(_KEY_BYTES)}\n")
    return _read(file)


def keep_secret(file: Path, text: str) -> bool:
    """Write a file that only the user can read, unless it is there; tell whether it was written."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(unfinished, file)  # unlike a new name, it refuses to replace what is there
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True
