"""Sixteen processes and sixteen threads read one file while four processes write to it: who waits, and what grows.

    python -m tests.campaigns.crowds --minutes 10 --seed 0

What is written keeps rules that hold after each transaction and in no half of one: a pipeline has two artifacts of
one number, as many predictions above zero as below, and its newest prediction bears the number of its artifacts.
Readers ask for these in every way there is. Nobody may be told that the file is busy. Each process tells once a second
what it takes of memory and descriptors; the write-ahead log and the temporary folder are looked at ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from artifactdb import ArtifactNotFoundError, PredictionNotFoundError, Workspace
from tests.campaigns.acts import NUMBERS, content, require_content
from tests.campaigns.kills import ViolationError, as_command, fork

KEYS = 6
PAUSE_S = 1.0
"""How long who reads thinks on average: a crowd that never pauses waits for the processor, not for the file."""
WAL_BOUND_BYTES = 192 << 20
_MEMORY_BYTES, _DESCRIPTORS = 64 << 20, 12
"""How much more a process may hold at the end than after the first half."""
_MIB = 1 << 20

HALVES = "SELECT pipeline_id FROM artifacts GROUP BY 1 HAVING count(*) <> 2 OR count(DISTINCT parameters) <> 1"
AGREE = """
SELECT pipeline_uid, pipeline_id, newest, number, total, held FROM (
  SELECT pipeline_uid, max(val_score) AS newest, sum(val_score) AS total, count(*) AS held FROM predictions GROUP BY 1
) AS p FULL JOIN (
  SELECT pipeline_id, max(CAST(parameters->>'number' AS DOUBLE)) AS number FROM artifacts GROUP BY 1
) AS a ON a.pipeline_id = p.pipeline_uid
WHERE newest IS DISTINCT FROM number OR total <> 0 OR held % 2 <> 0
"""
UNHELD = "SELECT count(*) FROM predictions AS p ANTI JOIN arrays AS a ON a.array_id = p.y_pred_id"


@dataclass
class Times:
    """How often something was done, and how long the longest took."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    longest_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.note(what, time.monotonic() - began)

    def note(self, what: str, seconds: float) -> None:
        self.counts[what] += 1
        self.longest_s[what] = max(self.longest_s[what], seconds)


# -- who writes -------------------------------------------------------------------------------------


class Writer:
    """Saves, replaces and deletes pipelines of its own, with artifacts and predictions in one transaction."""

    def __init__(self, file: Path, slot: str, chance: random.Random, times: Times) -> None:
        self.workspace = Workspace(file)
        self.slot, self.chance, self.times = slot, chance, times
        self.acts = 0

    def step(self) -> None:
        self.acts += 1
        pipeline = f"{self.slot}_{self.chance.randrange(KEYS)}"
        act = self.chance.choices([self.save, self.forget, self.flush, self.compact, self.gc], [60, 8, 3, 1, 1])[0]
        with self.times.of(act.__name__):
            act(pipeline)

    def save(self, pipeline: str) -> None:
        number = self.acts
        models = content(number), {"number": number}
        began = time.monotonic()
        with self.workspace.transaction():
            self.times.note("waiting to write", time.monotonic() - began)
            registry = self.workspace.registry("wheat", pipeline)
            for model, chain in zip(models, ("aaaaaaaaaaaa", "bbbbbbbbbbbb"), strict=True):
                registry.register(model, f"{pipeline}${chain}:all", "model", params={"number": number})
            self.workspace.catalog.add_many(
                {
                    "dataset_name": "wheat", "model_name": "m", "partition": "val", "pipeline_uid": pipeline,
                    "op_counter": number, "step_idx": sign, "metric": "r2", "val_score": float(sign * number),
                    "y_pred": np.full(8, number % NUMBERS * 1.0),
                }
                for sign in (1, -1)
            )  # fmt: skip

    def forget(self, pipeline: str) -> None:
        with self.workspace.transaction():
            self.workspace.registry("wheat").delete_pipeline_artifacts(pipeline)
            self.workspace.catalog.delete(pipeline_uid=pipeline)

    def flush(self, _: str) -> None:
        self.workspace.catalog.flush()

    def compact(self, _: str) -> None:
        self.workspace.catalog.compact()

    def gc(self, _: str) -> None:
        self.workspace.gc()


# -- who reads --------------------------------------------------------------------------------------


class Reader:
    """Asks in every way, and looks for half a transaction in what it is told."""

    def __init__(self, workspace: Workspace, chance: random.Random, times: Times) -> None:
        self.workspace, self.chance, self.times = workspace, chance, times

    def step(self) -> None:
        act = self.chance.choices([self.load, self.query, self.top, self.sql, self.hold], [8, 6, 3, 3, 1])[0]
        with self.times.of(act.__name__):
            act()
        time.sleep(self.chance.uniform(0.0, 2 * PAUSE_S))

    def load(self) -> None:
        found = self.workspace.query("SELECT artifact_id FROM artifacts WHERE artifact_id LIKE '%$aaa%'").rows
        if not found:
            return
        try:
            loaded = self.workspace.load(self.chance.choice(found)[0])
        except ArtifactNotFoundError:
            return  # deleted since
        require_content(loaded, loaded["number"])

    def query(self) -> None:
        halves = self.workspace.query(HALVES).rows
        assert not halves, f"half a transaction was seen in {halves}"

    def top(self) -> None:
        best = self.workspace.catalog.top(6, metric="r2").to_dicts()
        scores = [row["val_score"] for row in best]
        assert scores == sorted(scores, reverse=True), scores
        if best:
            try:
                found = self.workspace.catalog.get(best[0]["id"])
            except PredictionNotFoundError:
                return  # deleted since
            assert found["y_pred"][0] == round(abs(found["val_score"])) % NUMBERS

    def sql(self) -> None:
        differing = self.workspace.sql(AGREE).rows
        assert not differing, f"records and predictions are of two states: {differing}"
        assert self.workspace.sql(UNHELD).rows == [(0,)], "a prediction was seen without its array"

    def hold(self) -> None:
        """Keep one state for a while, as who walks through a result does."""
        with self.workspace.database.reading():
            first = self.workspace.database.value("SELECT count(*) FROM records")
            time.sleep(self.chance.uniform(0.0, 0.3))
            assert self.workspace.database.value("SELECT count(*) FROM records") == first


# -- processes --------------------------------------------------------------------------------------


def live(root: Path, name: str, steps: list[Callable[[], None]], workspace: Workspace, times: Times) -> None:
    """Take steps, each list item in a thread of its own, until told to stop; tell once a second what this takes."""
    parent, stop, ended = os.getppid(), root / "stop", threading.Event()
    failures: list[BaseException] = []

    def go_on(step: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                step()
        except BaseException as error:
            failures.append(error)
            ended.set()

    threads = [threading.Thread(target=go_on, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    with (root / f"{name}.samples").open("w") as samples:
        while not ended.wait(1.0):
            samples.write(json.dumps([time.monotonic(), *held()]) + "\n")
            samples.flush()
            if stop.exists() or os.getppid() != parent:
                ended.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    with times.of("close"):
        workspace.close()
    (root / f"{name}.times").write_text(json.dumps([times.counts, times.longest_s]))


def held() -> tuple[int, int]:
    """Give the bytes of memory and the descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len(list(Path("/proc/self/fd").iterdir()))


def write(root: Path, file: Path, name: str, seed: str) -> None:
    times = Times()
    writer = Writer(file, name, random.Random(seed), times)
    live(root, name, [writer.step], writer.workspace, times)


def read(root: Path, file: Path, name: str, seed: str, threads: int) -> None:
    times = [Times() for _ in range(threads)]
    chance = random.Random(seed)
    workspace = Workspace(file, mode=chance.choice(["ro", "rw"]) if threads == 1 else "rw")
    readers = [Reader(workspace, random.Random(chance.random()), of_thread) for of_thread in times]
    together = Times()
    live(root, name, [reader.step for reader in readers], workspace, together)
    for of_thread in times:
        for what, seconds in of_thread.longest_s.items():
            together.counts[what] += of_thread.counts[what]
            together.longest_s[what] = max(together.longest_s[what], seconds)
    (root / f"{name}.times").write_text(json.dumps([together.counts, together.longest_s]))


# -- the campaign -----------------------------------------------------------------------------------


@dataclass
class Figures:
    """What came of a crowd."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    longest_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    wal_peak_bytes: int = 0
    wal_after_half_bytes: int = 0
    temporary_files: list[int] = field(default_factory=list)
    growth: list[tuple[str, float, float]] = field(default_factory=list)  # name, bytes and descriptors a minute

    def lines(self) -> Iterator[str]:
        acts = ", ".join(f"{what} {self.counts[what]} ({self.longest_s[what]:.2f} s)" for what in sorted(self.counts))
        yield f"done (longest): {acts}"
        yield f"peak of the write-ahead log: {self.wal_peak_bytes / _MIB:.1f} MiB"
        memory = max((g[1] for g in self.growth), default=0.0)
        descriptors = max((g[2] for g in self.growth), default=0.0)
        yield (
            f"growth a minute in the second half, of the process that grows most: {memory / _MIB:.2f} MiB, "
            f"{descriptors:.2f} descriptors; temporary files at most {max(self.temporary_files, default=0)}"
        )


def campaign(
    seconds: float,
    seed: int = 0,
    writers: int = 4,
    readers: int = 16,
    threads: int = 16,
    report: Callable[[str], None] = print,
) -> Figures:
    """Let a crowd live for so long; raise ViolationError for what must not be."""
    root = Path(tempfile.mkdtemp(prefix="artifactdb-crowds-"))
    file, temporary = root / "study.sqlite", root / "temporary"
    temporary.mkdir()
    children: dict[str, int] = {}
    figures = Figures()
    told_where, tempfile.tempdir = tempfile.tempdir, str(temporary)
    try:
        os.waitpid(fork(lambda: Workspace(file).close(), root / "first.log"), 0)
        for number in range(writers):
            name = f"w{number}"
            _enter(children, root, name, partial(write, root, file, name, f"{seed}/{name}"))
        for number in range(readers):
            name = f"r{number}"
            _enter(children, root, name, partial(read, root, file, name, f"{seed}/{name}", 1))
        if threads:
            _enter(children, root, "threads", partial(read, root, file, "threads", f"{seed}/threads", threads))
        _watch(file, temporary, seconds, children, figures)
        (root / "stop").touch()
        _gather(root, children, figures)
        _judge(root, file, seconds, figures)
    except BaseException:
        report(f"FAILED: seed {seed}, {writers} writers, {readers} readers, {threads} threads; see {root}")
        raise
    finally:
        tempfile.tempdir = told_where
        (root / "stop").touch()
        for child in children.values():
            os.waitpid(child, 0)
    shutil.rmtree(root)
    report(f"seed {seed}, {seconds:.0f} s: {writers} processes wrote, {readers} and {threads} threads read")
    for line in figures.lines():
        report(line)
    return figures


def _enter(children: dict[str, int], root: Path, name: str, work: Callable[[], None]) -> None:
    children[name] = fork(work, root / f"{name}.log")


def _watch(file: Path, temporary: Path, seconds: float, children: dict[str, int], figures: Figures) -> None:
    log, began = file.with_name(file.name + "-wal"), time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(0.1)
        size = log.stat().st_size if log.exists() else 0
        figures.wal_peak_bytes = max(figures.wal_peak_bytes, size)
        figures.temporary_files.append(sum(1 for _ in temporary.rglob("*")))
        if any(os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) for child in children.values()):
            return  # one has failed


def _gather(root: Path, children: dict[str, int], figures: Figures) -> None:
    failed = []
    for name in list(children):
        _, status = os.waitpid(children.pop(name), 0)
        log = root / f"{name}.log"
        if status:
            failed.append(f"{name}:\n{log.read_text()[-3000:] if log.exists() else status}")
            continue
        counts, longest_s = json.loads((root / f"{name}.times").read_text())
        for what, seconds in longest_s.items():
            figures.counts[what] += counts[what]
            figures.longest_s[what] = max(figures.longest_s[what], seconds)
    if failed:
        raise ViolationError("\n".join(failed))


def _judge(root: Path, file: Path, seconds: float, figures: Figures) -> None:
    if figures.wal_peak_bytes > WAL_BOUND_BYTES:
        raise ViolationError(f"the write-ahead log grew to {figures.wal_peak_bytes / _MIB:.0f} MiB")
    for path in root.glob("*.samples"):
        samples = np.array([json.loads(line) for line in path.read_text().splitlines()])
        if len(samples) < 60:  # threads open their connections one by one
            continue
        half = samples[len(samples) // 2 :]
        slopes = np.polyfit(half[:, 0], half[:, 1:], 1)[0]
        figures.growth.append((path.stem, 60 * slopes[0], 60 * slopes[1]))
        grown = slopes * (half[-1, 0] - half[0, 0])
        if grown[0] > _MEMORY_BYTES or grown[1] > _DESCRIPTORS:
            raise ViolationError(f"{path.stem} grew by {grown[0] / _MIB:.0f} MiB and {grown[1]:.0f} descriptors")
    with Workspace(file) as workspace:
        assert not workspace.query(HALVES).rows and not workspace.sql(AGREE).rows
        found = workspace.verify()
        assert found.ok, found.problems
    left = [path.name for path in file.parent.iterdir() if path.name.startswith(f"{file.name}-")]
    assert not left, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writers", type=int, default=4)
    options = parser.parse_args()
    as_command(partial(campaign, 60 * options.minutes, options.seed, options.writers))


if __name__ == "__main__":
    main()
