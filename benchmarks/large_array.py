"""How much memory does it take to save and load an array of 3 GB, beyond the array itself?

Each is done in a process of its own under a limit on its memory (RLIMIT_DATA): the array and 256 MB.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.measure import header, run_fresh, table, verdict

BOUND_MB = 256

PROLOGUE = """
import json, resource, sys, time
import numpy as np
from artifactdb import Workspace
workspace = Workspace(sys.argv[1])
registry = workspace.registry("wheat", "0001")
registry.register(np.zeros(10_000), "0001$aaaaaaaaaaaa:warm", "model")
workspace.load("0001$aaaaaaaaaaaa:warm")
count = int(float(sys.argv[2]) * 1e9 / 8)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
held = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData")][0]
limit = held + count * 8 + int(sys.argv[3]) * 1_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
"""
EPILOGUE = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "extra_mb": (peak - base) * 1024 / 1e6 - count * 8 / 1e6}))
"""
SAVE = (
    PROLOGUE
    + """
array = np.empty(count)
for start in range(0, count, 1_000_000):
    array[start : start + 1_000_000] = np.random.default_rng(start).normal(size=len(array[start : start + 1_000_000]))
started = time.perf_counter()
registry.register(array, "0001$aaaaaaaaaaaa:0", "model")
seconds = time.perf_counter() - started
"""
    + EPILOGUE
)
LOAD = (
    PROLOGUE
    + """
started = time.perf_counter()
array = workspace.load("0001$aaaaaaaaaaaa:0")
seconds = time.perf_counter() - started
assert len(array) == count and (array[:1000] == np.random.default_rng(0).normal(size=1_000_000)[:1000]).all()
"""
    + EPILOGUE
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    gigabytes = parser.parse_args().gigabytes
    header(f"How much memory does an array of {gigabytes:g} GB take beyond itself?", ["numpy", "apsw", "zstandard"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.sqlite"
        runs = {
            name: run_fresh(["-c", code, str(file), str(gigabytes), str(BOUND_MB)])
            for name, code in (("save", SAVE), ("load", LOAD))
        }
        size = file.stat().st_size
    rows = [
        (name, f"{run['extra_mb']:.0f}", f"{run['seconds']:.1f}", f"{gigabytes * 1000 / run['seconds']:.0f}")
        for name, run in runs.items()
    ]
    table(["", "MB beyond the array", "seconds", "MB/s"], rows)
    print(f"The file has {size / 1e9:.2f} GB.\n")
    for name, run in runs.items():
        verdict(f"{name}: memory beyond the array", run["extra_mb"], BOUND_MB, " MB")


if __name__ == "__main__":
    main()
