"""How fast are 100,000 artifacts packed into one file and merged, and how much memory does it take?

The artifacts are PLS fold models of 262 wavelengths, four components each, of about 30 kB. The goal counts stored bytes
a second: a copy of the file, measured in the same run, goes mostly to memory here, and says little about the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.cross_decomposition import PLSRegression

from artifactdb import Workspace
from benchmarks.measure import header, run_fresh, table, verdict

MEMORY_MB = 200
CODE = """
import json, sys, time
from pathlib import Path
from artifactdb import Workspace
import artifactdb.transfer.merge, artifactdb.transfer.pack
what, source, target = sys.argv[1:]
workspace = Workspace(source if what == "pack" else target, mode="ro" if what == "pack" else "rw")
workspace.catalog
def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
Path("/proc/self/clear_refs").write_text("5")  # the highest so far starts again: it was this process's parent's
base = memory("VmRSS")
started = time.perf_counter()
workspace.pack(target) if what == "pack" else workspace.merge(source)
workspace.close()
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "extra_mb": (memory("VmHWM") - base) * 1024 / 1e6}))
"""


def study(file: Path, artifacts: int, seed: int) -> int:
    """Fill a workspace with models, five folds a pipeline, no two alike; give their stored bytes."""
    rng = np.random.default_rng(seed)
    model = PLSRegression(4).fit(rng.normal(size=(20, 262)), rng.normal(size=20))
    arrays = ("x_weights_", "x_loadings_", "x_rotations_", "coef_", "_x_mean", "_x_std")
    shapes = {name: np.shape(getattr(model, name)) for name in arrays}
    with Workspace(file) as workspace:
        for first in range(0, artifacts, 1000):
            with workspace.transaction():
                for number in range(first, min(first + 1000, artifacts)):
                    pipeline, fold = divmod(number, 5)
                    registry = workspace.registry(f"wheat{seed}", f"{pipeline:05}_pls")
                    # Fitting 100,000 models would take an hour; numbers of the same kind take their place.
                    vars(model).update((attribute, rng.normal(size=shape)) for attribute, shape in shapes.items())
                    registry.register_with_chain(model, "s1.SNV>s2.PLSRegression", "model", 2, fold_id=fold)
        return int(workspace.query("SELECT sum(stored_bytes) FROM blobs")[0][0])


def copied(source: Path, target: Path) -> float:
    """Copy a file; give the seconds until it is on the disk."""
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    header(f"How fast are {options.artifacts:,} artifacts packed and merged?", ["apsw", "zstandard", "scikit-learn"])
    seconds: dict[str, list[float]] = {"copy": [], "pack": [], "merge": []}
    memory: dict[str, list[float]] = {"pack": [], "merge": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = study(folder / "source.sqlite", options.artifacts, 0)
        study(folder / "ours.sqlite", options.artifacts // 10, 1)
        for number in range(options.rounds):
            target = folder / f"{number}.sqlite"
            seconds["copy"].append(copied(folder / "source.sqlite", target))
            target.unlink()
            for what in ("pack", "merge"):
                if what == "merge":
                    shutil.copyfile(folder / "ours.sqlite", target)
                done = run_fresh(["-c", CODE, what, str(folder / "source.sqlite"), str(target)])
                seconds[what].append(done["seconds"])
                memory[what].append(done["extra_mb"])
                target.unlink()
    megabytes = stored / 1e6
    rows = [
        (
            what,
            f"{median(times):.1f}",
            f"{megabytes / median(times):.0f}",
            f"{median(seconds['copy']) / median(times):.2f}",
            f"{max(memory[what]):.0f}" if what in memory else "",
        )
        for what, times in seconds.items()
    ]
    print(f"{megabytes:.0f} MB stored; median of {options.rounds} rounds.\n")
    table(["", "seconds", "MB/s", "of a copy's speed", "MB of memory beyond imports"], rows)
    for what in ("pack", "merge"):
        verdict(f"{what}: stored bytes", megabytes / median(seconds[what]), 100, " MB/s", at_least=True)
        verdict(f"{what}: memory", max(memory[what]), MEMORY_MB, " MB")


if __name__ == "__main__":
    main()
