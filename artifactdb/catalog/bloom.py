"""A Bloom filter over ids: says for certain that an id is not in a file, and rarely errs the other way.

Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 13 (1970); the probes are made of two hashes
as in Kirsch and Mitzenmacher, "Less hashing, same performance", ESA 2006.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

_BITS_PER_ID = 12
_PROBES = 8


class BloomBuilder:
    """Makes the filter of so many ids, which are added bit by bit.

    Examples
    --------
    >>> builder = BloomBuilder(expected=2)
    >>> builder.add(["a", "b"])
    >>> may_contain(builder.bits(), hashed(["a", "z"])).tolist()
    [True, False]
    """

    def __init__(self, expected: int) -> None:
        self._bits = np.zeros(max(64, -(-expected * _BITS_PER_ID // 8) * 8), bool)

    def add(self, ids: Iterable[str]) -> None:
        """Add ids."""
        for positions in _positions(hashed(ids), len(self._bits)):
            self._bits[positions] = True

    def bits(self) -> bytes:
        """Give the filter."""
        return np.packbits(self._bits, bitorder="little").tobytes()


def hashed(ids: Iterable[str]) -> np.ndarray[Any, Any]:
    """Give two 64-bit hashes of each id, as an array of two columns."""
    digests = b"".join([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in ids])
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def may_contain(filter_bits: bytes, hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Tell for each id whether it may be there; False is certain."""
    octets = np.frombuffer(filter_bits, np.uint8)
    found = np.ones(len(hashes), bool)
    for positions in _positions(hashes, len(octets) * 8):
        found &= (octets[positions >> np.uint64(3)] >> (positions & np.uint64(7)).astype(np.uint8)) & 1 == 1
    return found


def _positions(hashes: np.ndarray[Any, Any], size: int) -> Iterator[np.ndarray[Any, Any]]:
    with np.errstate(over="ignore"):
        for probe in range(_PROBES):
            yield (hashes[:, 0] + np.uint64(probe) * (hashes[:, 1] | np.uint64(1))) % np.uint64(size)
