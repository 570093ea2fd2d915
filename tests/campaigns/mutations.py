"""Workspace files as somebody might have made them: bytes, headers, schema, text, frames, payloads changed at random.

    python -m tests.campaigns.mutations --count 1000000 --seed 0

Each number of a seed is one mutation, the same each time. A worker process opens what came of it, lists, asks,
verifies, exports, packs and loads; only errors of artifactdb's hierarchy count as an answer. The parent sees a worker
that dies, hangs or takes too much memory, says at which number, and goes on with the next.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artifactdb import ArtifactDBError, Workspace
from artifactdb.artifacts import check
from artifactdb.blobs import store
from artifactdb.database import structure
from artifactdb.formats.container import unpack
from tests.campaigns import hostile

MAX_GROWTH_BYTES = 500 << 20
HANG_S = 30
_WAYS = {
    "sqlite_utils": 24, "write": 24, "backup": 24, "gc": 24,
    "verify": 1, "export": 1, "pack": 1, "sql": 1, "arrays": 1, "merge": 1, "compact": 1,
}  # fmt: skip
"""What else is done with a mutated file, and how often: what DuckDB takes part in takes ten times longer."""
_VIEWS = ("artifacts", "lineage_up", "lineage_down", "orphan_blobs", "shared_blobs", "metrics", "library")
"""Each file is asked two of them, and a fifth of the files are checked: more files tell more than more questions."""
_ADDRESS_SPACE = 8 << 30
_LONG_AGO = 1_600_000_000
FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


def make(folder: Path) -> list[Path]:
    """Make the files that mutations begin with: one packed, with its predictions inside, and one with rows staged."""
    path = folder / "study.sqlite"
    with Workspace(path) as workspace:
        with workspace.run("wheat", name="first", configuration={"folds": 2}, tags=["nir"]) as run:
            for number in range(2):
                with run.pipeline([{"model": "PLS"}], name=f"pls{number}") as pipeline:
                    scaler = {"scale": np.linspace(0, 1, 100), "names": ["a", "b"]}
                    first = pipeline.registry.register_with_chain(scaler, "s1.Scaler", "transformer", 1)
                    for fold in range(2):
                        model = {"rows": np.arange(9000.0) + number, "coefficients": np.arange(80.0) * fold}
                        record = pipeline.registry.register_with_chain(
                            model, "s1.Scaler>s3.PLS[br=0]", "model", 3, fold_id=fold, params={"n": fold},
                            depends_on=[first.artifact_id], branch_path=[0],
                        )  # fmt: skip
                        workspace.catalog.add(
                            dataset_name="wheat", pipeline_uid=pipeline.pipeline_id, model_name="PLS", fold_id=fold,
                            model_artifact_id=record.artifact_id, partition="val", metric="rmse", val_score=0.5 + fold,
                            y_true=np.arange(5.0), y_pred=np.arange(5, dtype=np.float32),
                        )  # fmt: skip
                    pipeline.log_metrics({"val": {"rmse": 0.5}})
        workspace.library.save_template([{"class": "Scaler"}], "baseline", tags=["pls"])
        workspace.library.save_pipeline_full("wheat", pipeline.pipeline_id, "quality")
        packed = workspace.pack(folder / "packed.sqlite")
        workspace.database.close()  # without moving the staged rows
    return [packed, path]


# -- what is done with each -------------------------------------------------------------------------


def exercise(path: Path, chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give the ways in which a file is used, by name."""
    workspace: Workspace | None = None

    def open_it() -> None:
        nonlocal workspace
        workspace = Workspace(path, mode=chance.choice(["rw", "ro"]), timeout_s=1)

    yield "open", open_it
    if workspace is None:
        return
    opened = workspace
    try:
        yield "records", opened.records
        yield "runs", lambda: [opened.runs(), opened.pipelines(), opened.datasets(), repr(opened), opened._repr_html_()]
        yield "stats", opened.stats
        yield "library", lambda: [opened.library.search(""), *map(opened.library.records, ["quality"])]
        for view in chance.sample(_VIEWS, 2):
            yield f"query {view}", lambda view=view: opened.query(f"SELECT * FROM {view}", timeout_s=5, max_rows=1000)
        yield "load", lambda: [opened.load(name) for name in _ids(opened, chance)]
        yield "bytes", lambda: [unpack(content) for content in store.get_many(opened.database, _blobs(opened))]
        yield "library load", lambda: opened.library.load("quality")
        way = chance.choices(list(_WAYS), list(_WAYS.values()))[0]
        if way == "verify":
            yield "verify", lambda: opened.verify().to_dict()
        elif chance.random() < 0.2:
            yield "check", lambda: check.verify(opened.database).to_dict()
        if way == "export":
            yield "export", lambda: opened.export(path.with_name("out"))
        elif way == "pack":
            yield "pack", lambda: opened.pack(path.with_name("again.sqlite"))
        elif way == "sql":
            sql = "SELECT * FROM predictions JOIN artifacts ON artifact_id = model_artifact_id"
            yield "sql", lambda: opened.sql(sql)
        elif way == "arrays":
            yield "arrays", lambda: [opened.catalog.get(row[0]) for row in opened.sql("SELECT id FROM predictions")]
        elif way == "sqlite_utils":
            yield "sqlite_utils", opened.sqlite_utils
        elif way == "merge":
            yield "merge", lambda: _merge(path)
        elif way == "write":
            yield "write", lambda: _write(opened)
        elif way == "backup":
            yield "backup", lambda: opened.backup(path.with_name("copy.sqlite"))
        elif way == "compact":
            yield "compact", opened.catalog.compact
        if way in ("compact", "gc"):
            yield "gc", opened.gc
    finally:
        yield "close", opened.close


def _ids(workspace: Workspace, chance: random.Random) -> list[str]:
    names = [name for (name,) in workspace.database.rows("SELECT artifact_id FROM records LIMIT 20")]
    return chance.sample(names, min(3, len(names)))


def _blobs(workspace: Workspace) -> list[int]:
    return [key for (key,) in workspace.database.rows("SELECT DISTINCT blob_key FROM records LIMIT 20")]


def _write(workspace: Workspace) -> None:
    workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)


def _merge(path: Path) -> None:
    with Workspace(path.with_name("target.sqlite")) as target:
        target.merge(path)


# -- worker -----------------------------------------------------------------------------------------


def work(files: list[Path], seed: int, numbers: range) -> None:
    """Try mutations, and say on standard output which is under way and what came of it."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    contents = [file.read_bytes() for file in files]
    scratch = Path(tempfile.mkdtemp(prefix="mutation-", dir=FOLDER))
    read_through = structure._READ_THROUGH_BYTES
    baseline = 0
    try:
        for number in numbers:
            print(json.dumps({"at": number}), flush=True)
            faulthandler.dump_traceback_later(HANG_S - 5, exit=False)
            chance = random.Random(f"{seed}/{number}")
            # A large file is not read through when it is opened: for each second mutation neither is this small one.
            structure._READ_THROUGH_BYTES = read_through if chance.random() < 0.5 else 0
            structure._seen.clear()
            what, content = hostile.mutated(chance.choice(contents), chance)
            result = _try(scratch, content, chance)
            if baseline == 0:
                baseline = _memory()
            growth = _memory() - baseline
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps({"done": number, "what": what, "growth": growth, **result}), flush=True)
            if growth > MAX_GROWTH_BYTES:
                return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _try(scratch: Path, content: bytes, chance: random.Random) -> dict[str, Any]:
    folder = scratch / "one"
    folder.mkdir()
    path = folder / "study.sqlite"
    path.write_bytes(content)
    os.utime(path, (_LONG_AGO, _LONG_AGO))  # so that it counts as at rest, and is not waited for
    failures, refused, reached = [], "", "open"
    started = time.monotonic()
    try:
        for name, act in exercise(path, chance):
            reached = name
            try:
                act()
            except ArtifactDBError as error:
                refused = refused or f"{name}: {type(error).__name__}"
                str(error).encode()
            except Exception:
                failures.append({"step": name, "trace": traceback.format_exc()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"failures": failures, "refused": refused, "reached": reached, "seconds": time.monotonic() - started}


# -- parent -----------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of many mutations."""

    done: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: int = 0
    growth: int = 0
    seconds: float = 0.0

    def add(self, said: dict[str, Any]) -> None:
        self.done += 1
        self.kinds[said["what"].partition(":")[0]] += 1
        self.refused[said["refused"] or "no error"] += 1
        self.growth = max(self.growth, said["growth"])
        self.seconds = max(self.seconds, said["seconds"])
        if said["growth"] > MAX_GROWTH_BYTES:
            self.fail(said["done"], "memory", f"{said['growth'] >> 20} MB more, {said['what']}")
        for failure in said["failures"]:
            self.fail(said["done"], failure["step"], failure["trace"], said["what"])

    def fail(self, number: int, step: str, trace: str, what: str = "") -> None:
        self.failed += 1
        *_, last = ["", *(line for line in trace.strip().splitlines() if line.strip())]
        kind = f"{step}: {last[:160]}"
        first = {"number": number, "what": what, "times": 0, "trace": trace, "told": False}
        found = self.failures.setdefault(kind, first)
        found["times"] += 1

    def new_failures(self) -> list[tuple[str, dict[str, Any]]]:
        """Give each kind of failure once."""
        new = [(kind, found) for kind, found in self.failures.items() if not found["told"]]
        for _, found in new:
            found["told"] = True
        return new


def campaign(count: int, seed: int, workers: int = 2, report: Callable[[str], None] = print, first: int = 0) -> Tally:
    """Try so many mutations, and tell what came of them."""
    root = Path(tempfile.mkdtemp(prefix="artifactdb-mutations-", dir=FOLDER))
    tally, started = Tally(), time.monotonic()
    try:
        files = make(root)
        shares = [_Share(files, seed, range(first + worker, first + count, workers)) for worker in range(workers)]
        said_last = started
        while any(share.alive for share in shares):
            for share in shares:
                share.listen(tally)
            for kind, found in tally.new_failures():
                report(f"number {found['number']} of seed {seed} ({found['what']}): {kind}\n{found['trace']}")
            if time.monotonic() - said_last > 60:
                said_last = time.monotonic()
                report(f"{tally.done} of {count}, {tally.failed} failures, {said_last - started:.0f} s")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report(
        f"seed {seed}: {tally.done} mutations in {time.monotonic() - started:.0f} s; slowest {tally.seconds:.1f} s, "
        f"most memory {tally.growth >> 20} MB; {tally.failed} failures of {len(tally.failures)} kinds"
    )
    return tally


class _Share:
    """One worker after the other, until all numbers of a share are tried."""

    def __init__(self, files: list[Path], seed: int, numbers: range) -> None:
        self.files, self.seed, self.left = files, seed, numbers
        self.alive = bool(numbers)
        if self.alive:
            self._start()

    def _start(self) -> None:
        code = (
            "import sys, json; from tests.campaigns import mutations; mutations.work_as_told(json.loads(sys.argv[1]))"
        )
        told = {
            "files": [str(file) for file in self.files], "seed": self.seed,
            "numbers": [self.left.start, self.left.stop, self.left.step],
        }  # fmt: skip
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(told)],
            stdout=subprocess.PIPE, stderr=self.errors, cwd=Path(__file__).parent.parent.parent,
        )  # fmt: skip
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.buffer, self.at, self.heard = b"", self.left.start, time.monotonic()

    def listen(self, tally: Tally) -> None:
        """Take in what the worker says, and put another in the place of one that is gone."""
        if not self.alive:
            return
        ended = False
        for key, _ in self.selector.select(0.05):
            piece = os.read(key.fd, 1 << 20)
            ended = not piece
            self.heard = time.monotonic()
            *lines, self.buffer = (self.buffer + piece).split(b"\n")
            for line in lines:
                said = json.loads(line)
                self.at = said.get("at", self.at)
                if "done" in said:
                    tally.add(said)
                    self.left = range(said["done"] + self.left.step, self.left.stop, self.left.step)
        if time.monotonic() - self.heard > HANG_S:
            self.process.kill()
            self._replace(tally, "hang")
        elif ended:
            self.process.wait()
            self._replace(tally, f"ended with {self.process.returncode}")

    def _replace(self, tally: Tally, why: str) -> None:
        self.process.wait()
        if self.left and self.at == self.left.start:
            self.errors.seek(0)
            tally.fail(self.at, "worker", f"{self.errors.read()[-4000:].decode(errors='replace')}\n{why}")
            tally.done += 1
            self.left = self.left[1:]
        self.selector.close()
        self.alive = bool(self.left)
        if self.alive:
            self._start()


def work_as_told(told: dict[str, Any]) -> None:
    work([Path(file) for file in told["files"]], told["seed"], range(*told["numbers"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    tally = campaign(options.count, options.seed, options.workers, first=options.first)
    print(dict(tally.kinds), dict(tally.refused.most_common(40)), sep="\n")
    for kind, found in sorted(tally.failures.items(), key=lambda item: -item[1]["times"]):
        print(f"{found['times']} times, first number {found['number']} ({found['what']}): {kind}")
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
