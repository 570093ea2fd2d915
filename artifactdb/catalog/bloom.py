"""A Bloom filter over ids: says for certain that an id is not in a file, and rarely errs the other way.

Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 13 (1970); the probes are made of two hashes
as in Kirsch and Mitzenmacher, "Less hashing, same performance", ESA 2006.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

# One id in 100,000 is taken for present by mistake: of hundreds of files few need to be looked at for nothing.
_BITS_PER_ID = 24
_PROBES = 16


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
        hashes = hashed(ids)
        for probe in range(_PROBES):
            self._bits[_positions(hashes, probe, len(self._bits))] = True

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
    left = np.arange(len(hashes))
    for probe in range(_PROBES):
        if not len(left):
            break
        # Half of the bits are set, so each probe leaves half of the absent ids to the next.
        positions = _positions(hashes[left], probe, len(octets) * 8)
        left = left[(octets[positions >> np.uint64(3)] >> (positions & np.uint64(7)).astype(np.uint8)) & 1 == 1]
    found = np.zeros(len(hashes), bool)
    found[left] = True
    return found


def _positions(hashes: np.ndarray[Any, Any], probe: int, size: int) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        return np.asarray((hashes[:, 0] + np.uint64(probe) * (hashes[:, 1] | np.uint64(1))) % np.uint64(size))
