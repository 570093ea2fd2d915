"""What class a pickled object has, read from its opcodes: nothing is imported, nothing is built."""

from __future__ import annotations

import bz2
import io
import lzma
import pickletools
import zlib
from collections.abc import Callable
from pathlib import Path

from artifactdb.artifacts.reading import open_file

PREFIX_BYTES = 1 << 20
UNKNOWN = "Unknown"
_MAX_OPCODES = 20_000

_COMPRESSED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", lambda data: zlib.decompressobj(wbits=31).decompress(data, PREFIX_BYTES)),
    (b"\x78", lambda data: zlib.decompressobj().decompress(data, PREFIX_BYTES)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, PREFIX_BYTES)),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data, PREFIX_BYTES)),
    (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data, PREFIX_BYTES)),
)
"""What joblib compresses with, by the first bytes of the file."""

_HELPERS = ("copyreg", "copy_reg", "builtins", "__builtin__", "numpy", "joblib", "cloudpickle", "dill", "_codecs")
"""Packages whose functions put objects together; they are not what the object is."""
_TRANSFORMERS = ("preprocessing", "decomposition", "feature_selection", "feature_extraction", "impute", "compose")
_ARRAYS = ("NumpyArrayWrapper", "NDArrayWrapper", "_reconstruct", "_frombuffer")
_CONTAINERS = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_SET": "set"}
_SKIPPED = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "MARK"}


def read_head(file: Path) -> bytes:
    """Give as many of the first bytes of a file as are needed to know its class."""
    with open_file(file) as stream:
        return stream.read(PREFIX_BYTES)


def is_compressed(data: bytes) -> bool:
    """Tell whether bytes begin as a file does that joblib compressed."""
    return any(data.startswith(magic) for magic, _ in _COMPRESSED)


def class_of(data: bytes) -> tuple[str, str]:
    r"""Give module and name of the class of a pickled object, from the first bytes of its file.

    Examples
    --------
    >>> class_of(b"csklearn.linear_model\nRidge\n.")
    ('sklearn.linear_model', 'Ridge')
    """
    try:
        return _first_class(_decompressed(data))
    except Exception:
        return "", UNKNOWN  # no pickle, or one that is cut off before it says


def _decompressed(data: bytes) -> bytes:
    for magic, decompress in _COMPRESSED:
        if data.startswith(magic):
            return decompress(data)
    return data


def type_of(module: str, class_name: str) -> str:
    """Give the kind of artifact that a class of scikit-learn's is, else "model".

    Examples
    --------
    >>> type_of("sklearn.preprocessing._data", "MinMaxScaler")
    'transformer'
    """
    packages = module.split(".")
    if class_name in ("LabelEncoder", "LabelBinarizer"):
        return "encoder"
    if any(package in packages for package in _TRANSFORMERS):
        return "transformer"
    if class_name.endswith(("Fold", "Split")) and "model_selection" in packages:
        return "splitter"
    return "model"


def _first_class(data: bytes) -> tuple[str, str]:
    strings = ["", ""]
    memo: dict[int, str] = {}
    memoized = 0
    arrays = False
    first = True
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            name = opcode.name
            if first and name in _CONTAINERS:
                return "", _CONTAINERS[name]
            first = first and name in _SKIPPED
            if name == "MEMOIZE":
                memo[memoized], memoized = strings[-1], memoized + 1
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[int(str(argument))] = strings[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                strings.append(memo.get(int(str(argument)), ""))
            elif name == "BUILD" and arrays:
                break  # what comes next may be the bytes of an array, which are no opcodes
            elif "UNICODE" in name or "STRING" in name:
                strings.append(str(argument))
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                module, called = str(argument).split(" ", 1) if name == "GLOBAL" else strings[-2:]
                if module.partition(".")[0] not in _HELPERS:
                    return module, called.rpartition(".")[2]
                arrays = arrays or called in _ARRAYS
                strings.append(called)
            if count > _MAX_OPCODES:
                break
    except Exception:
        if not arrays:
            raise
    return ("numpy", "ndarray") if arrays else ("", UNKNOWN)
