"""What a scan found: imports with a verdict each, calls, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

Verdict = Literal["known-safe", "unknown", "dangerous"]
SAFE: Verdict = "known-safe"
UNKNOWN: Verdict = "unknown"
DANGEROUS: Verdict = "dangerous"

_ORDER: tuple[Verdict, ...] = (SAFE, UNKNOWN, DANGEROUS)
_MAX_SHOWN = 200


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Give the verdict that counts for several together; "known-safe" for none.

    Examples
    --------
    >>> worst(["known-safe", "dangerous", "unknown"])
    'dangerous'
    """
    return max(verdicts, key=_ORDER.index, default=SAFE)


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a stream asks for by module and name."""

    module: str
    name: str
    verdict: Verdict


@dataclass(frozen=True)
class Report:
    """What loading an object would import and call, as far as reading its bytes can tell.

    Parameters
    ----------
    imports : list of Global
        In the order in which they are asked for, each once.
    calls : list of str
        What is called while loading: "sklearn.linear_model._ridge.Ridge.__setstate__".
    problems : list of str
        What could not be read or followed; with any, the verdict is "unknown" at best.

    Examples
    --------
    >>> report = Report([Global("posix", "system", "dangerous")], ["posix.system"])
    >>> report.verdict
    'dangerous'
    >>> print(report)
    dangerous
      posix: system
    calls: posix.system
    """

    imports: list[Global]
    calls: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of all imports, and "unknown" when anything could not be followed."""
        return worst([*(found.verdict for found in self.imports), UNKNOWN if self.problems else SAFE])

    def to_dict(self) -> dict[str, Any]:
        """Give the report as plain values, for JSON."""
        return {
            "verdict": self.verdict,
            "imports": [
                {"module": found.module, "name": found.name, "verdict": found.verdict} for found in self.imports
            ],
            "calls": list(self.calls),
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        shown = sorted(self.imports, key=lambda found: (-_ORDER.index(found.verdict), found.module, found.name))
        for verdict, of_verdict in groupby(shown[:_MAX_SHOWN], key=lambda found: found.verdict):
            yield verdict
            for module, names in groupby(of_verdict, key=lambda found: found.module):
                yield f"  {printable(module)}: {', '.join(printable(found.name) for found in names)}"
        if len(shown) > _MAX_SHOWN:
            yield f"  and {len(shown) - _MAX_SHOWN} more"
        if self.calls:
            more = f" and {len(self.calls) - _MAX_SHOWN} more" if len(self.calls) > _MAX_SHOWN else ""
            yield f"calls: {', '.join(map(printable, self.calls[:_MAX_SHOWN]))}{more}"
        yield from (f"problem: {printable(problem)}" for problem in self.problems[:_MAX_SHOWN])
        if not (self.imports or self.problems):
            yield "imports nothing"


def printable(text: str) -> str:
    """Keep what a stranger wrote from moving the cursor of a terminal or filling it."""
    text = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return text if text.isprintable() else ascii(text)
