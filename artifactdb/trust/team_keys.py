"""Key pairs (Ed25519, RFC 8032): what one colleague signs, every other one can check who trusts the public key.

Needs the package ``cryptography``, which the extra ``artifactdb[sign]`` brings.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from artifactdb.database import disk
from artifactdb.errors import DuplicateError, InvalidValueError, ReadOnlyError
from artifactdb.trust.home import home
from artifactdb.trust.own_key import keep_secret

SCHEME: Final = "ed25519"
DEFAULT_NAME: Final = "default"
_PREFIX: Final = "artifactdb-ed25519"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
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
        return f"{_PREFIX} {base64.b64encode(self.raw).decode()} {self.name}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read a line as ``str`` gives it.

        Raises
        ------
        InvalidValueError
        """
        words = text.split()
        try:
            prefix, encoded, *names = words
            raw = base64.b64decode(encoded, validate=True)
            if prefix != _PREFIX or len(raw) != _KEY_BYTES or len(names) > 1:
                raise ValueError
        except ValueError:
            raise InvalidValueError(
                f"{text[:100]!r} is no public key.", hint=f"It looks like `{_PREFIX} AAAA...= ada`: one line."
            ) from None
        return cls(require_name(names[0]) if names else "", raw)


def require_name(name: str) -> str:
    """Give a name back that can be one of a key.

    Raises
    ------
    InvalidValueError
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(f"{name[:80]!r} is no name for a key.", hint="Use letters, digits and . _ @ -")
    return name


# -- the user's own key pairs ---------------------------------------------------------------------------


def make(name: str = DEFAULT_NAME) -> PublicKey:
    """Make a key pair; the private key is kept in the user's folder, for that user alone.

    Raises
    ------
    DuplicateError
        When there is one of that name.
    """
    seed = _ed25519().Ed25519PrivateKey.generate().private_bytes_raw()
    try:
        written = keep_secret(_file(name), f"{seed.hex()}\n")
    except OSError as error:
        raise ReadOnlyError(
            f"{home()} cannot be written ({error.strerror}).", hint="Let ARTIFACTDB_HOME name a folder that can."
        ) from None
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
    chosen, private = _private(name)
    return PublicKey(chosen, private.public_key().public_bytes_raw())


def all_own() -> list[PublicKey]:
    """Give the public keys of the user's key pairs, by name."""
    return [own(name) for name in _names()]


def sign(name: str | None, messages: list[bytes]) -> list[bytes]:
    """Sign messages with one of the user's key pairs."""
    _, private = _private(name)
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


def _private(name: str | None) -> tuple[str, Any]:
    """Give the name and the private key of a key pair."""
    chosen = _chosen(name)
    return chosen, _ed25519().Ed25519PrivateKey.from_private_bytes(_seed(chosen))


def _chosen(name: str | None) -> str:
    names = _names()
    chosen = name or (names[0] if len(names) == 1 else DEFAULT_NAME)
    if chosen not in names:
        there = f"There are {', '.join(names)}." if names else "`artifactdb keys make` makes one."
        raise InvalidValueError(f"there is no key {chosen[:80]!r} to sign with.", hint=there)
    return chosen


def _names() -> list[str]:
    folder = home() / "keys"
    return sorted(file.stem for file in folder.glob("*.key")) if folder.is_dir() else []


def _seed(name: str) -> bytes:
    file = _file(name)
    try:
        return bytes.fromhex(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{file} cannot be read as a key ({error}).") from None


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
        When another key is trusted under that name.
    InvalidValueError
        For a key without a name.
    """
    require_name(key.name)
    known = _listed()
    for other in known:
        if other.name == key.name and other.raw != key.raw:
            raise DuplicateError(
                f"{key.name!r} is the name of another key ({other.key_id}).",
                hint=f"Choose another name, or `artifactdb keys forget {key.name}` first.",
            )
    if key not in known:
        _write([*(other for other in known if other.raw != key.raw), key])


def forget(name: str) -> PublicKey:
    """No longer believe what a key signs, by its name or key id.

    Raises
    ------
    InvalidValueError
        When no such key is trusted.
    """
    known = _listed()
    gone = [key for key in known if name in (key.name, key.key_id)]
    if not gone:
        raise InvalidValueError(f"no key {name[:80]!r} is trusted.", hint="`artifactdb keys` lists those that are.")
    _write([key for key in known if key.raw != gone[0].raw])
    return gone[0]


def _listed() -> list[PublicKey]:
    try:
        lines = (home() / "trusted_keys").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"{home() / 'trusted_keys'} cannot be read ({error}).") from None
    return [PublicKey.parse(line) for line in lines if line.strip() and not line.startswith("#")]


def _write(keys: list[PublicKey]) -> None:
    file = home() / "trusted_keys"
    unfinished = file.with_name(f".trusted_keys.{secrets.token_hex(8)}")
    try:
        disk.make_folder(file.parent, 0o700)
        unfinished.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")
        disk.sync(unfinished)
        disk.rename(unfinished, file)
        disk.sync(file.parent)
    except OSError as error:
        raise ReadOnlyError(f"{file} cannot be written ({error.strerror}).") from None


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InvalidValueError(
            "signatures of key pairs need the package cryptography.", hint="pip install artifactdb[sign]"
        ) from None
    return ed25519
