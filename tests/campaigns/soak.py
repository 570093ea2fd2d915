"""A long life: everything mixed on one file by two processes, while it is watched for whatever grows.

    python -m tests.campaigns.soak --minutes 60 --seed 0 --out docs/soak.png

Objects are saved, replaced, loaded and deleted, predictions added, flushed, compacted, asked for and deleted, the file
is backed up, packed, merged into, collected, closed and opened again; deletions balance additions. Files, memory,
descriptors, temporary files and latencies are measured meanwhile; a line through the last half of each must be flat
within its tolerance. At the end nothing but the workspace may be left, it must be sound, and hold what it must.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from artifactdb import Workspace
from tests.campaigns.soaking import life
from tests.campaigns.soaking.watching import LATENCIES, MEASURES, WINDOWS, Judgement, Series, judge, sample

PROCESSES = ("first", "second")
_MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Else glibc keeps more and more of what was given back (100 MB in 7,000 acts), and hides what is really held."""
_PERCENTILES = {"median": 50, "p99": 99}


@dataclass
class Watch:
    """What was measured."""

    samples: dict[str, Series] = field(default_factory=dict)
    latencies: dict[str, Series] = field(default_factory=lambda: {act: Series() for act in LATENCIES})
    acts: Counter[str] = field(default_factory=Counter)
    tables: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    until: float = 0.0

    def sampled(self, time_s: float, values: dict[str, float]) -> None:
        history = self.tables[-1][1].get("history", 0) / 1e6 if self.tables else 0.0
        values |= {"whole": values["file"], "whole backups": values["backups"], "acts": float(self.acts.total())}
        values |= {"file": values["file"] - history, "backups": values["backups"] - 3 * history}  # each holds it
        for name, value in values.items():
            self.samples.setdefault(name, Series()).add(time_s, value)

    def did(self, act: str, time_s: float, seconds: float) -> None:
        self.acts[act] += 1
        if act in self.latencies:
            self.latencies[act].add(time_s, seconds * 1000)

    def windows(self) -> dict[str, Series]:
        """Give each measure, a point a window."""
        found = {name: series.windows(self.until) for name, series in self.samples.items()}
        for act, series in self.latencies.items():
            for which, percentile in _PERCENTILES.items():
                found[f"{act}, {which}"] = series.windows(
                    self.until, percentile, WINDOWS if which == "median" else WINDOWS // 3
                )
        done = found["acts"]
        steps = zip(done.times, done.times[1:], done.values, done.values[1:], strict=False)
        found["acts"] = Series(done.times[1:], [(after - before) / (t2 - t1) for t1, t2, before, after in steps])
        return found


@contextmanager
def processes(
    path: Path, tmp: Path, seed: int, minutes: float
) -> Iterator[dict[str, tuple[Connection, psutil.Process]]]:
    """Start the processes, in a world of their own; none is left when the block ends."""
    settings = {"ARTIFACTDB_HOME": str(path.parent / "home"), "TMPDIR": str(tmp), "OMP_NUM_THREADS": "1", **_MALLOC}
    before = {name: os.environ.get(name) for name in settings}
    context = multiprocessing.get_context("spawn")
    started, found = [], {}
    try:
        os.environ.update(settings)
        for name in PROCESSES:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=life.live, args=(theirs, path, name, seed, max(1.0, minutes * 60 / 100)), daemon=True
            )
            process.start()
            theirs.close()
            started.append(process)
            found[name] = (ours, psutil.Process(process.pid))
        yield found
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for process in started:
            process.join(0 if sys.exc_info()[0] else 60)
            if process.is_alive():
                process.kill()
                process.join()


def soak(path: Path, minutes: float, seed: int, report: Callable[[str], None]) -> tuple[Watch, dict[str, Any]]:
    """Let two processes work on a file for so long; give what was measured, and what each says must be there."""
    watch, tmp, models = Watch(), path.parent / "tmp", {}
    tmp.mkdir()
    every = min(5.0, max(0.1, minutes * 60 / 400))
    with processes(path, tmp, seed, minutes) as running:
        pipes = {pipe: name for name, (pipe, _) in running.items()}
        started, told, stopping = math.inf, 0.0, False
        next_sample = math.inf
        while pipes:
            for pipe in wait(list(pipes), timeout=min(every, 1.0)):
                kind, *said = pipe.recv()
                if kind == "failed":
                    raise AssertionError(f"seed {seed}: {said[0]}")
                if kind == "done":
                    models[pipes.pop(pipe)] = said
                elif kind == "weighed":
                    watch.tables.append((time.monotonic() - started, said[0]))
                else:
                    act, began, seconds = said
                    if started == math.inf:
                        started = next_sample = began
                    watch.did(act, began - started, seconds)
            now = time.monotonic()
            if now >= next_sample and not stopping:
                next_sample = now + every
                watch.sampled(now - started, sample(path, tmp, [(name, two[1]) for name, two in running.items()]))
            if now - told > max(60.0, minutes * 3) and not stopping and watch.samples:
                told = now
                latest = {name: round(series.values[-1], 1) for name, series in watch.samples.items()}
                report(f"{(now - started) / 60:.1f} min, {latest}")
            if now - started >= minutes * 60 and not stopping:
                stopping, watch.until = True, now - started
                for pipe in pipes:
                    pipe.send("stop")
    return watch, models


def check(path: Path, models: dict[str, Any]) -> None:
    """See that nothing is left beside the workspace, that it is sound, and that it holds just what it must."""
    left = {entry.name for entry in path.parent.iterdir()} - {"home", "backups"}
    left |= {entry.name for entry in (path.parent / "tmp").iterdir()}
    assert left == {path.name, f"{path.stem}.catalog", "tmp"}, f"left over: {sorted(left)}"
    with Workspace(path) as workspace:
        for name, (pipelines, predictions) in models.items():
            life.compare(workspace, pipelines, predictions, name)
            for artifacts in pipelines.values():
                for artifact_id, (_, answer, _) in artifacts.items():
                    assert life.answer(workspace.load(artifact_id)) == answer, f"{artifact_id} is another object"
        assert len(workspace.records()) == sum(len(own) for two in models.values() for own in two[0].values())
        found = workspace.verify()
        assert found.ok, found.problems
    restored = Workspace.restore(path.parent / "backups", path.parent / "restored.sqlite")
    with Workspace(restored, mode="ro") as workspace:
        assert workspace.verify().ok


def campaign(
    minutes: float,
    seed: int = 0,
    out: Path | None = None,
    report: Callable[[str], None] = print,
    folder: Path | None = None,
) -> dict[str, Judgement]:
    """Soak for so long; give how each measure went that was taken often enough, and draw all.

    Parameters
    ----------
    folder : Path, optional
        Where the workspace lies; else the temporary folder.

    Raises
    ------
    AssertionError
        When the workspace is not sound, or holds anything else than it must.
    """
    home, root = os.environ.get("ARTIFACTDB_HOME"), Path(tempfile.mkdtemp(prefix="artifactdb-soak-", dir=folder))
    path = root / "study.sqlite"
    report(f"seed {seed}, {minutes:g} minutes, in {root}")
    try:
        watch, models = soak(path, minutes, seed, report)
        os.environ["ARTIFACTDB_HOME"] = str(root / "home")
        if watch.acts["backup_to"] == 0:
            with Workspace(path) as workspace:
                workspace.backup_to(root / "backups")
        check(path, models)
    finally:
        os.environ.pop("ARTIFACTDB_HOME", None) if home is None else os.environ.update(ARTIFACTDB_HOME=home)
        if sys.exc_info()[0] is None:
            shutil.rmtree(root)
    windows = watch.windows()
    judged = {
        name: found
        for name, measure in MEASURES.items()
        if (found := judge(measure, windows[name], watch.until)) is not None
    }
    report(f"{watch.acts.total()} acts: {', '.join(f'{act} {times}' for act, times in watch.acts.most_common())}")
    report("at its end, sound, as large as what it must hold; in the last half:")
    for found in judged.values():
        report(f"  {found}")
    for table, grown in largest_growth(watch):
        report(f"  table {table}: {grown / 1000:+.1f} kB in the last half")
    if out is not None:
        today = datetime.now(UTC).date().isoformat()
        title = (
            f"Soak of {watch.until / 60:.1f} minutes, seed {seed}, {today}: {watch.acts.total():,} acts "
            "by two processes on one file.\n"
            "Grey: warm-up. Dots: medians (or p99) of windows. Lines: the last half; its median, and growth in it."
        )
        from tests.campaigns.soaking.picture import draw  # matplotlib takes a second, which only a picture is worth

        draw(out, title, watch.until, watch.samples, windows, judged)
        report(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return judged


def largest_growth(watch: Watch) -> list[tuple[str, int]]:
    """Give the tables that took the most more room at the end than at half time."""
    late = [tables for time_s, tables in watch.tables if time_s >= watch.until / 2]
    if not late:
        return []
    grown = Counter({name: late[-1].get(name, 0) - late[0].get(name, 0) for name in late[-1]})
    return [(name, more) for name, more in grown.most_common(5) if more > 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a PNG of what was measured")
    given = parser.parse_args()
    judged = campaign(given.minutes, given.seed, given.out)
    grows = [str(found) for found in judged.values() if found.grows]
    grows += [f"{measure.title}: measured too seldom" for name, measure in MEASURES.items() if name not in judged]
    print("FAILED, these are not flat:\n  " + "\n  ".join(grows) if grows else "flat at the end")
    return 1 if grows else 0


if __name__ == "__main__":
    sys.exit(main())
