"""Key pairs (Ed25519, RFC 8032): what one colleague signs, every other one can check who trusts the public key.

Needs the package ``cryptography``, which the extra ``artifactdb[sign]`` brings.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from artifactdb.database import disk
from artifactdb.errors import ArtifactDBError, DuplicateError, InvalidValueError
from artifactdb.trust import remembered
from artifactdb.trust.home import cannot_be_written, home, keep_closed, written_beside
from artifactdb.trust.own_key import keep_secret

SCHEME: Final = "ed25519"
DEFAULT_NAME: Final = "default"
PREFIX: Final = "artifactdb-ed25519"
_NAME: Final = re.compile(r"(?![0-9A-Fa-f]{16}\Z)[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key and the name that the user knows it by.

    Examples
    --------
    >>> key = PublicKey.parse("artifactdb-ed25519 " + "A" * 43 + "= ada")
    >>> key.name, key.key_id, str(key) == "artifactdb-ed25519 " + "A" * 43 + "= ada"
    ('ada', 'b6f86069f4a8cab6', True)
    """

    name: str
    raw: bytes

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key."""
        return hashlib.sha256(b"artifactdb public key 1\n" + self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{PREFIX} {base64.b64encode(self.raw).decode()} {self.name}"

    @classmethod
    def parse(cls, text: str, name: str | None = None) -> PublicKey:
        """Read a line as ``str`` gives it.

        Parameters
        ----------
        text : str
        name : str, optional
            What to call the key; default: what the line says, which is what somebody else calls it.

        Raises
        ------
        InvalidValueError
        """
        words = text.split()
        try:
            prefix, encoded, *names = words
            raw = base64.b64decode(encoded, validate=True)
            if prefix != PREFIX or len(raw) != _KEY_BYTES or len(names) > 1:
                raise ValueError
        except ValueError:
            raise InvalidValueError(
                f"{text[:100]!r} is no public key.", hint=f"It looks like `{PREFIX} AAAA...= ada`: one line."
            ) from None
        chosen = name or "".join(names)
        return cls(require_name(chosen) if chosen else "", raw)


def require_name(name: str) -> str:
    """Give a name back that can be one of a key.

    Raises
    ------
    InvalidValueError
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f"{name[:80]!r} is no name for a key.",
            hint="Choose one of letters, digits and . _ @ - that does not look like the id of a key.",
        )
    return name


# -- the user's own key pairs ---------------------------------------------------------------------------


def make(name: str = DEFAULT_NAME) -> PublicKey:
    """Make a key pair; the private key is kept in the user's folder, for that user alone.

    Raises
    ------
    DuplicateError
        When there is one of that name, be it a colleague's.
    """
    file = _file(name)
    seed = _ed25519().Ed25519PrivateKey.generate().private_bytes_raw()
    try:
        written = name not in {key.name for key in _listed()} and keep_secret(file, f"{seed.hex()}\n")
    except ArtifactDBError:
        raise
    except OSError as error:
        raise cannot_be_written(file, error) from None
    if not written:
        raise DuplicateError(f"there is a key {name!r} already.", hint="Choose another name.")
    return own(name)


def own(name: str | None = None) -> PublicKey:
    """Give the public key of one of the user's key pairs.

    Parameters
    ----------
    name : str, optional
        Default: the only one there is, or the one called "default".

    Raises
    ------
    InvalidValueError
        When there is none of that name.
    """
    chosen = _chosen(name)
    return PublicKey(chosen, _private(_seed(chosen)).public_key().public_bytes_raw())


def all_own() -> list[PublicKey]:
    """Give the public keys of the user's key pairs, by name; files that hold none are left out with a warning."""
    found = []
    for name in _names():
        try:
            seed = _seed(name)
        except InvalidValueError as error:
            warnings.warn(f"{error} It is left out.", stacklevel=2)
            continue
        found.append(PublicKey(name, _private(seed).public_key().public_bytes_raw()))
    return found


def sign(name: str | None, messages: list[bytes]) -> list[bytes]:
    """Sign messages with one of the user's key pairs."""
    private = _private(_seed(_chosen(name)))
    return [private.sign(message) for message in messages]


def is_right(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature is that of the key on the message."""
    ed25519 = _ed25519()  # first: it says what to install
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(seed: bytes) -> Any:
    return _ed25519().Ed25519PrivateKey.from_private_bytes(seed)


def _chosen(name: str | None) -> str:
    names = _names()
    chosen = name or (names[0] if len(names) == 1 else DEFAULT_NAME)
    if chosen not in names:
        there = f"There are {', '.join(names)}." if names else "`artifactdb keys make` makes one."
        raise InvalidValueError(f"there is no key {chosen[:80]!r} to sign with.", hint=there)
    return chosen


def _names() -> list[str]:
    try:
        files = [file for file in (home() / "keys").iterdir() if file.suffix == ".key" and _NAME.fullmatch(file.stem)]
    except OSError:  # there are none, or somebody else's
        return []
    return sorted(file.stem for file in files if os.path.isfile(file))  # noqa: PTH113  # raises nothing


def _seed(name: str) -> bytes:
    file = _file(name)
    try:
        keep_closed(file)
        seed = bytes.fromhex(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{file} cannot be read as a key ({error}).") from None
    if len(seed) != _KEY_BYTES:
        raise InvalidValueError(f"{file} cannot be read as a key (it holds {len(seed)} bytes, not {_KEY_BYTES}).")
    return seed


def _file(name: str) -> Path:
    return home() / "keys" / f"{require_name(name)}.key"


# -- whom the user trusts -------------------------------------------------------------------------------


def trusted() -> dict[str, PublicKey]:
    """Give the keys whose signatures the user believes, by key id: those of colleagues, and the user's own."""
    return {key.key_id: key for key in (*_listed(), *all_own())}


def trust(key: PublicKey) -> None:
    """Believe what a key signs.

    Raises
    ------
    DuplicateError
        When another key is known under that name.
    InvalidValueError
        For a key without a name, or that is none.
    """
    require_name(key.name)
    if len(key.raw) != _KEY_BYTES:
        raise InvalidValueError(f"{key.name!r} is no public key: it has {len(key.raw)} bytes, not {_KEY_BYTES}.")
    with remembered.alone():
        known = _listed()
        for other in (*known, *all_own()):
            if other.name == key.name and other.raw != key.raw:
                raise DuplicateError(
                    f"{key.name!r} is the name of another key ({other.key_id}).",
                    hint="Choose another name, or forget that key first; `artifactdb keys` lists them.",
                )
        if key not in known:
            _write([*(other for other in known if other.raw != key.raw), key])


def forget(name: str) -> PublicKey:
    """No longer believe what a key signs, by its name or key id.

    Raises
    ------
    InvalidValueError
        When no such key is trusted, several are, or it is one of the user's own.
    """
    for pair in all_own():
        if name in (pair.name, pair.key_id):
            raise InvalidValueError(
                f"{name!r} is a key pair of your own, and trusted as long as you have it.",
                hint=f"To give it up, move {_file(pair.name)} away.",
            )
    with remembered.alone():
        known = _listed()
        gone = {key.raw: key for key in known if name in (key.name, key.key_id)}
        if not gone:
            raise InvalidValueError(f"no key {name[:80]!r} is trusted.", hint="`artifactdb keys` lists those that are.")
        if len(gone) > 1:
            ids = ", ".join(key.key_id for key in gone.values())
            raise InvalidValueError(f"{name!r} is the name of several keys.", hint=f"Say which by its id: {ids}.")
        _write([key for key in known if key.raw not in gone])
    return next(iter(gone.values()))


def _listed() -> list[PublicKey]:
    file = home() / "trusted_keys"
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InvalidValueError(f"{file} cannot be read ({error}).") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(PublicKey.parse(line))
            except InvalidValueError as error:
                warnings.warn(f"line {number} of {file} is left out: {error}", stacklevel=2)
    return found


def _write(keys: list[PublicKey]) -> None:
    file = home() / "trusted_keys"
    try:
        with written_beside(file, "".join(f"{key}\n" for key in keys)) as made:
            disk.rename(made, file)
    except OSError as error:
        raise cannot_be_written(file, error) from None


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InvalidValueError(
            "signatures of key pairs need the package cryptography.", hint="pip install artifactdb[sign]"
        ) from None
    return ed25519
