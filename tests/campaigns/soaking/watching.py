"""What is measured while a workspace lives, and whether it grows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from scipy.stats import theilslopes

_MB = 1e6
LATENCIES = ("save", "load", "query", "add_many")
WINDOWS = 60
"""Into which the whole time is cut; each counts by its median."""


@dataclass(frozen=True)
class Measure:
    """Something that must not grow.

    Attributes
    ----------
    title, unit : str
        For people.
    relative, absolute : float
        How much more of it there may be at the end of the last half than at its beginning: a part of what there is, or
        so many units, whichever is more.
    """

    title: str
    unit: str
    relative: float
    absolute: float


MEASURES = {
    "file": Measure("file without its history", "MB", 0.05, 0.5),
    "wal": Measure("-wal", "MB", 0.1, 1.0),
    "catalog": Measure("catalog folder", "MB", 0.1, 0.2),
    "backups": Measure("3 backups without history", "MB", 0.1, 1.0),
    "memory, first": Measure("memory, first process", "MB", 0.05, 5.0),
    "memory, second": Measure("memory, second process", "MB", 0.05, 5.0),
    "descriptors, first": Measure("descriptors, first process", "", 0.0, 1.0),
    "descriptors, second": Measure("descriptors, second process", "", 0.0, 1.0),
    "temporary": Measure("temporary files", "", 0.0, 1.0),
    **{
        f"{act}, {which}": Measure(f"{act}, {which}", "ms", 0.5, 5.0 if which == "median" else 50.0)
        for act in LATENCIES
        for which in ("median", "p99")
    },
}
"""Latencies are of whole calls under whatever else the machine does: only what grows by half is told from that."""


@dataclass
class Series:
    """One measure over time, in seconds."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        self.times.append(time)
        self.values.append(value)

    def windows(self, until: float, percentile: float = 50, count: int = WINDOWS) -> Series:
        """Give one percentile for each window in which there is anything."""
        times, values = np.array(self.times), np.array(self.values)
        places = np.minimum((times / until * count).astype(int), count - 1)
        found = Series()
        for place in np.unique(places):
            found.add((place + 0.5) * until / count, float(np.percentile(values[places == place], percentile)))
        return found


@dataclass(frozen=True)
class Judgement:
    """How a measure went in the last half of the time."""

    measure: Measure
    level: float
    growth: float
    certain: float
    """Less than that, it did not grow, with 95 % confidence."""
    line: tuple[float, float]

    @property
    def allowed(self) -> float:
        return max(self.measure.absolute, self.measure.relative * self.level)

    @property
    def grows(self) -> bool:
        """More than it may, and more than chance makes of what is flat."""
        return self.growth > self.allowed and self.certain > 0

    def __str__(self) -> str:
        return (
            f"{self.measure.title:28} {self.level:10.2f} {self.measure.unit:3} {self.growth:+9.2f} "
            f"(may {self.allowed:.2f}){'  GROWS' if self.grows else ''}"
        )


def judge(measure: Measure, series: Series, until: float) -> Judgement | None:
    """Fit a line that few outliers do not move (Theil and Sen) to the last half; three points at least."""
    late = [(time, value) for time, value in zip(series.times, series.values, strict=True) if time >= until / 2]
    if len(late) < 3:
        return None
    times, values = np.array(late).T
    slope, intercept, low, _ = theilslopes(values, times)
    return Judgement(measure, float(np.median(values)), slope * until / 2, low * until / 2, (slope, intercept))


def weigh(paths: Sequence[Path]) -> float:
    """Give how many MB some files, and all in some folders, take; what vanishes meanwhile takes nothing."""
    files = [path for path in paths if not path.is_dir()]
    for path in paths:  # walking leaves out a folder that vanishes meanwhile
        files += [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total / _MB


def sample(path: Path, tmp: Path, processes: Sequence[tuple[str, psutil.Process]]) -> dict[str, float]:
    """Measure everything but latencies, once."""
    folder = path.parent
    known = {path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.stem}.catalog", "backups", "home", tmp.name}
    found = {
        "file": weigh([path]),
        "wal": weigh([path.with_name(f"{path.name}-wal")]),
        "catalog": weigh([folder / f"{path.stem}.catalog"]),
        "backups": weigh([folder / "backups"]),
        "temporary": float(sum(entry.name not in known for entry in folder.iterdir()) + sum(1 for _ in tmp.iterdir())),
    }
    for name, process in processes:
        found[f"memory, {name}"] = process.memory_info().rss / _MB
        found[f"descriptors, {name}"] = float(process.num_fds())
    return found
