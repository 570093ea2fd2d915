"""What the measurements share: how times are summed up and printed, and processes that work when told to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def header(question: str, packages: Sequence[str] = ()) -> None:
    """Print what is asked, and of what machine and versions."""
    import artifactdb

    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    print(f"# {question}\n")
    print(f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}")
    print(f"artifactdb {artifactdb.__version__}" + (f", {versions}" if versions else "") + "\n", flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)


def spread(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    """Give the median and the range of the middle half."""
    if len(values) < 2:
        return f"{values[0]:,.{digits}f}{unit}"
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):,.{digits}f}{unit} ({low:,.{digits}f}..{high:,.{digits}f})"


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def verdict(name: str, value: float, goal: float, unit: str = "", *, at_least: bool = False) -> None:
    """Print whether a goal is met."""
    met = value >= goal if at_least else value <= goal
    sign = ">=" if at_least else "<="
    print(f"- {name}: {value:,.3g}{unit} (goal {sign} {goal:g}{unit}): {'met' if met else 'NOT MET'}", flush=True)


def run_fresh(arguments: Sequence[str], python: str | Path = sys.executable) -> Any:
    """Run a command of Python in a new process and give the JSON of the last line it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(python), *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


class Worker:
    """A process that answers each line it is given with a line of JSON."""

    def __init__(self, python: str | Path, arguments: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [str(python), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
        )

    def ask(self, *words: object) -> Any:
        """Send words, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise RuntimeError(f"{self._process.args} ended without an answer")

    def close(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def workers(*started: Worker) -> Iterator[tuple[Worker, ...]]:
    """Close workers at the end."""
    try:
        yield started
    finally:
        for worker in started:
            worker.close()
