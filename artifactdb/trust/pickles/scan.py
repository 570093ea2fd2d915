"""What loading a stored object would import and call, found without executing anything.

**A scan is no boundary.** It reads names; what a class does when it is made is not in them, and whoever writes a pickle
can read these rules. It is there so that a person can decide. To load what is not trusted, use
``artifactdb.trust.pickles.restricted``, which refuses while it loads.

The bytes may come from anybody: opcodes, time, nesting and memory are limited, and whatever exceeds the limits or
cannot be followed makes the verdict "unknown" at best.
"""

from __future__ import annotations

import struct
from typing import Final

from artifactdb.content import StoredContent
from artifactdb.formats import is_data_only
from artifactdb.formats.container import CONTAINER_FORMATS, MAGIC
from artifactdb.trust.pickles.findings import Budget, Findings, Limits
from artifactdb.trust.pickles.machine import walk
from artifactdb.trust.pickles.opcodes import BrokenStreamError, Buffer
from artifactdb.trust.pickles.report import Report
from artifactdb.trust.pickles.unpacking import archive_of, decompressed, members

_PICKLES: Final = frozenset({"joblib", "pickle", "cloudpickle"})
_HEADER: Final = struct.Struct("<8sIIQ")
_ENTRY: Final = struct.Struct("<QII")
_HASH_BYTES, _PART = 32, 1
_MAX_STREAMS = 64
LIMITS: Final = Limits()


def scan(content: StoredContent, format: str, *, limits: Limits = LIMITS) -> Report:
    r"""Say what loading an object would import and call.

    Parameters
    ----------
    content : StoredContent
        Its logical bytes. Parts, which are arrays, are not asked for.
    format : str
        As its record says: "pickle5", "dill", "joblib", "pickle"; of one that holds data only there is nothing to say.
    limits : Limits, optional
        What the scan may cost.

    Returns
    -------
    Report
        Always; bytes that are no pickle are a report with a problem.

    Examples
    --------
    >>> print(scan(StoredContent(bytearray(b"cposix\nsystem\n(S'true'\ntR."), lambda _: bytearray()), "pickle"))
    dangerous
      posix: system
    calls: posix.system
    """
    findings = Findings(Budget(limits))
    if is_data_only(format):
        return findings.report()
    try:
        if format in CONTAINER_FORMATS:
            start, end = _stream_of(content.data)
            _streams(findings, content.data, start, end)
        else:
            if format not in _PICKLES:
                findings.problem(f"the format {format} is read by a plugin, which a scan cannot follow")
            data, problem = decompressed(content.data, limits.size_bytes) if format == "joblib" else (content.data, "")
            if problem:
                findings.problem(problem)
            _streams(findings, data, 0, len(data), arrays=format == "joblib")
            _archive(findings, data, limits)
    except BrokenStreamError as error:
        findings.problem(str(error))
    _inner(findings, limits)
    return findings.report()


def _streams(findings: Findings, data: Buffer, start: int, end: int, *, arrays: bool = False) -> None:
    """Walk a pickle, and any that follow it, which an unpickler would leave alone and torch would not."""
    try:
        position = walk(findings, data, start, end, arrays=arrays)
    except BrokenStreamError as error:
        findings.problem(str(error))
        return
    if position < end:
        findings.problem("more bytes follow where the pickle ends")
    for _ in range(_MAX_STREAMS):
        if position >= end:
            return
        further = Findings(findings.budget)
        try:
            position = walk(further, data, position, end)
        except BrokenStreamError:
            position = end
        if further.names_something:
            findings.take(further, "behind the pickle: ")
        findings.constants += further.constants


def _archive(findings: Findings, data: Buffer, limits: Limits) -> None:
    kind = archive_of(data)
    if not kind:
        return
    findings.problem(f"the content is a {kind} archive, which no format of artifactdb reads")
    for name, content in members(data, limits.size_bytes):
        findings.constants.append((content, 0, len(content)))
        if name.endswith((".pkl", ".pickle")) and not content.startswith(b"\x80"):
            findings.problem(f"{name[:200]} is no pickle of a present protocol")


def _inner(findings: Findings, limits: Limits) -> None:
    """Look into bytes that an object holds, as far down as is allowed: a pickle there is for something to load it."""
    waiting, findings.constants = findings.constants, []
    for depth in range(limits.depth + 1):
        deeper: list[tuple[Buffer, int, int]] = []
        for data, start, end in waiting:
            inner, finished = Findings(findings.budget), True
            try:
                walk(inner, data, start, end)
            except BrokenStreamError as error:
                finished = False
                inner.problem(str(error))
            if inner.names_something:
                findings.take(inner, "in bytes of the object: ")
            if inner.names_something or finished:
                deeper += inner.constants
        if deeper and depth == limits.depth:
            findings.problem(f"pickles lie within pickles more than {limits.depth} deep")
        waiting = deeper


def _stream_of(data: Buffer) -> tuple[int, int]:
    """Give where the stream of an object container stands; ``docs/format.md`` defines it."""
    if len(data) < _HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise BrokenStreamError("the content is no object container")
    _, count, _, size = _HEADER.unpack_from(data)
    entries_end = _HEADER.size + _ENTRY.size * count
    entries = memoryview(data)[_HEADER.size : entries_end] if entries_end <= len(data) else b""
    start = entries_end + _HASH_BYTES * sum(place == _PART for _, _, place in _ENTRY.iter_unpack(entries))
    if start + size > len(data):
        raise BrokenStreamError("the object container is cut off")
    return start, start + size
