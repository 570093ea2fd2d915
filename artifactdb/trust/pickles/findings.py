"""What accumulates while streams are walked, and what the walk may cost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from artifactdb.trust.pickles.known import is_name, judge
from artifactdb.trust.pickles.opcodes import UNREAD, BrokenStreamError, Buffer
from artifactdb.trust.pickles.report import DANGEROUS, SAFE, Global, Report, Verdict, worst

_MAX_FOUND = 5_000
_MAX_TEXT = 64 << 20
_CHECK_EVERY = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What one scan may cost; whatever exceeds it is reported as not read.

    Parameters
    ----------
    opcodes : int, default 4 million
        Over all streams of one object.
    seconds : float, default 20
    size_bytes : int, default 128 MiB
        Of what is unpacked: compressed files, members of archives.
    depth : int, default 8
        Pickles within pickles.
    """

    opcodes: int = 4_000_000
    seconds: float = 20.0
    size_bytes: int = 128 << 20
    depth: int = 8


class Budget:
    """Opcodes, time and room that are left, shared by all walks of one scan."""

    def __init__(self, limits: Limits) -> None:
        self._opcodes = limits.opcodes
        self._text_left = _MAX_TEXT
        self._deadline = time.monotonic() + limits.seconds

    def kept(self, text: Any) -> Any:
        """Give a text back while there is room for texts, then a stand-in that can become no name."""
        if text is not UNREAD:
            self._text_left -= len(text)
        return text if self._text_left > 0 else UNREAD

    def spend(self) -> None:
        """Take one opcode off; raise BrokenStreamError when nothing is left."""
        self._opcodes -= 1
        if self._opcodes < 0:
            raise BrokenStreamError("the stream has too many opcodes to be followed")
        if self._opcodes % _CHECK_EVERY == 0 and time.monotonic() > self._deadline:
            raise BrokenStreamError("following the stream takes too long")


class Findings:
    """Imports, calls, problems, and the bytes in which further pickles may hide."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.constants: list[tuple[Buffer, int, int]] = []
        self._imports: dict[tuple[str, str], Verdict] = {}
        self._calls: dict[str, None] = {}
        self._problems: dict[str, None] = {}

    def use(self, module: str, name: str, *, asked: tuple[str, str] | None = None) -> None:
        """Enter an import; ``asked`` is how the stream calls it, if otherwise, and is judged too."""
        verdict = judge(module, name)
        if asked and asked != (module, name) and verdict != SAFE:
            verdict = worst([verdict, judge(*asked)])
        self._enter(module, name, verdict)

    def call(self, name: str, method: str = "", *, imported: tuple[str, str] | None = None) -> None:
        """Enter a call, by the full name of what is called and its method, if any."""
        called = f"{name}.{method}" if method else name
        if len(self._calls) < _MAX_FOUND:
            self._calls[called] = None
        elif called not in self._calls:
            self.problem("more is called than is listed")
        if imported:
            self._enter(*imported, judge(*imported, called=True))

    def changed(self, module: str, name: str, method: str) -> None:
        """Enter that the stream changes what it imports, for the whole process."""
        self.call(f"{module}.{name}", method)
        self._enter(module, name, DANGEROUS)

    def problem(self, text: str) -> None:
        """Enter what could not be followed."""
        if len(self._problems) < _MAX_FOUND:
            self._problems[text] = None

    def take(self, other: Findings, prefix: str) -> None:
        """Enter what was found elsewhere."""
        for (module, name), verdict in other._imports.items():
            self._enter(module, name, verdict)
        for called in other._calls:
            self.call(called)
        for text in other._problems:
            self.problem(f"{prefix}{text}")

    @property
    def names_something(self) -> bool:
        """Whether any import bears a name that a module could have; chance bytes do not."""
        return any(is_name(module) for module, _ in self._imports)

    def report(self) -> Report:
        """Give what was found."""
        imports = [Global(*found, verdict) for found, verdict in self._imports.items()]
        return Report(imports, list(self._calls), list(self._problems))

    def _enter(self, module: str, name: str, verdict: Verdict) -> None:
        found = module, name
        known = self._imports.get(found)
        # Twice as many when dangerous: so the first of these is never the one that is left out.
        if known is None and len(self._imports) >= _MAX_FOUND * (2 if verdict == DANGEROUS else 1):
            self.problem("more is imported than is listed")
            return
        self._imports[found] = worst([verdict, known or verdict])
