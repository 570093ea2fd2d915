"""Does the cost grow with what is there? Registers 200,000 artifacts, then opens the file and looks things up.

Goals: the last tenth at 0.8 of the first tenth's rate; opening under 10 ms; ``import artifactdb`` under 150 ms;
each look-up under 1 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from sklearn.preprocessing import StandardScaler

from artifactdb import ArtifactRegistry, Workspace
from benchmarks.measure import header, percentile, run_fresh, spread, table, verdict

GROUP = 100
PER_PIPELINE = 20

OPEN = """
import json, sys, time
started = time.perf_counter()
import artifactdb
imported = time.perf_counter()
from artifactdb import Workspace
ready = time.perf_counter()
workspace = Workspace(sys.argv[1])
opened = time.perf_counter()
print(json.dumps({"import": imported - started, "open": opened - ready, "all": opened - started}))
"""


def fill(workspace: Workspace, count: int) -> list[float]:
    """Register; give the seconds of each tenth."""
    obj = StandardScaler().fit(np.random.default_rng(0).normal(size=(20, 50)))
    tenths = []
    for tenth in range(10):
        started = time.perf_counter()
        for start in range(tenth * count // 10, (tenth + 1) * count // 10, GROUP):
            with workspace.transaction():
                for number in range(start, start + GROUP):
                    obj.mean_[0] = number
                    register(workspace.registry("wheat", pipeline(number)), obj, number)
        tenths.append(time.perf_counter() - started)
    return tenths


def pipeline(number: int) -> str:
    return f"{number // PER_PIPELINE:05}_scale"


def chain(number: int) -> str:
    return f"s1.StandardScaler>s{number // 5 % 4 + 2}.X{number // PER_PIPELINE}"


def register(registry: ArtifactRegistry, obj: object, number: int) -> None:
    step = number // 5 % 4 + 2
    registry.register_with_chain(
        obj, chain(number), "transformer", step, fold_id=number % 5, params={"number": number // 5, "with_mean": True}
    )


def milliseconds(question: Callable[[int], object], count: int) -> list[float]:
    """Ask for numbers spread over the whole file."""
    times = []
    for turn in range(300):
        number = turn * 7919 % count
        started = time.perf_counter()
        assert question(number), number
        times.append(1000 * (time.perf_counter() - started))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    count = parser.parse_args().count
    header(f"Does the cost grow with what is there? {count:,} artifacts.", ["apsw", "scikit-learn"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.sqlite"
        with Workspace(file) as workspace:
            tenths = fill(workspace, count)
            rates = [count / 10 / seconds for seconds in tenths]
            registry = workspace.registry("wheat")
            named = {
                "id": lambda n: registry.resolve(registry.generate_id(chain(n), n % 5, pipeline(n))),
                "chain and fold": lambda n: registry.get_by_chain(chain(n), n % 5),
                "step of a pipeline": lambda n: registry.get_artifacts_for_step(pipeline(n), n // 5 % 4 + 2),
                "fold models' parameter value": lambda n: workspace.records(parameter=("number", n // 5)),
                "chain prefix": lambda n: registry.get_chain_prefix(chain(n)),
                "id of an older scheme": lambda n: registry.resolve(f"{n // PER_PIPELINE:05}:{n // 5 % 4 + 2}:{n % 5}"),
            }
            looked_up = {name: milliseconds(question, count) for name, question in named.items()}
        opened = [run_fresh(["-c", OPEN, str(file)]) for _ in range(7)]
        size = file.stat().st_size
    table(["tenth", "artifacts a second"], [(n + 1, f"{rate:,.0f}") for n, rate in enumerate(rates)])
    rows = [(name, f"{median(times):.3f}", f"{percentile(times, 99):.3f}") for name, times in looked_up.items()]
    table(["look-up", "median ms", "99th percentile"], rows)
    in_ms = {name: [1000 * run[name] for run in opened] for name in ("import", "open", "all")}
    table(["fresh process", "ms"], [(name, spread(values, digits=2)) for name, values in in_ms.items()])
    print(f"The file has {size / 1e6:,.0f} MB.\n")
    verdict("last tenth / first tenth", rates[-1] / rates[0], 0.8, at_least=True)
    verdict("open", median(in_ms["open"]), 10, " ms")
    verdict("import artifactdb", median(in_ms["import"]), 150, " ms")
    verdict("slowest look-up, median", max(median(times) for times in looked_up.values()), 1, " ms")


if __name__ == "__main__":
    main()
