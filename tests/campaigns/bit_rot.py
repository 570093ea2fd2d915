"""Flips bytes of a workspace one after the other; looks whether each that changes an answer is found and named.

    python -m tests.campaigns.bit_rot --seed 0 --minutes 120
    python -m tests.campaigns.bit_rot --seed 0 --minutes 120 --file staged
    python -m tests.campaigns.bit_rot --seed 0 --minutes 600 --file large

Each number of a seed is one flip of one byte, the same each time: first every byte of the file in a random order, a few
of each table, column and page before all others, with one bit changed; then every byte with another value. An answer
is what listing, loading, predictions, parameters, metrics and SQL over the public views give. A flip that changes one
and is found by nothing, neither on the way to the answer nor by ``verify``, is a failure. Nothing but errors of
artifactdb's may come out, and what a flip does not reach must load.

An answer that is made without the page of a flip cannot change: only those that read it are asked for again; of each
hundredth flip all are, as if nothing were known of pages.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice, takewhile
from multiprocessing import get_context
from pathlib import Path

from artifactdb import Workspace, recover
from tests.campaigns.rot.answers import Answers, ask_all, pages_read
from tests.campaigns.rot.places import Places
from tests.campaigns.studies import make_study

FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
_FIRST_OF_A_PLACE = 2
_LARGE_FLIPS = 100_000
_TIMES = 1_600_000_000
_ASKED_EVERYTHING = 100
_SHARE = 100


@dataclass
class Tally:
    """What came of many flips."""

    size: int = 0
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def take(self, other: Tally) -> None:
        """Add what came of others."""
        self.done += other.done
        self.outcomes += other.outcomes
        self.missed += other.missed
        self.unnamed += other.unnamed
        self.failures += other.failures


class Flips:
    """A workspace of which one byte at a time is another."""

    def __init__(self, path: Path, seed: int, most: int) -> None:
        self.path, self.seed = path, seed
        self.content = path.read_bytes()
        self.places = Places(path)
        self.time = _TIMES
        self._set_time()
        self.expected, _ = ask_all(path)
        assert not self.expected.errors, self.expected.errors
        self.readers = pages_read(path, self.expected)
        self.order = random.Random(seed).sample(range(len(self.content)), min(len(self.content), most))
        seen: Counter[str] = Counter()
        late = []
        for offset in self.order:  # some bytes of each place come first, so that a short run has seen them all
            place = self.places.at(offset)
            seen[place] += 1
            late.append(seen[place] > _FIRST_OF_A_PLACE)
        self.order = [o for _, o in sorted(zip(late, self.order, strict=True), key=lambda pair: pair[0])]

    def flip(self, number: int) -> tuple[int, int]:
        """Give place and new value of a flip."""
        chance = random.Random(f"{self.seed}/{number}")
        offset = self.order[number % len(self.order)]
        old = self.content[offset]
        if number < len(self.order):
            return offset, old ^ 1 << chance.randrange(8)
        return offset, (old + chance.randrange(1, 256)) % 256

    def _set_time(self) -> None:
        self.time += 1  # so long ago that the file counts as at rest, and another each time
        os.utime(self.path, (self.time, self.time))

    def write(self, offset: int, value: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes([value]))
        self._set_time()

    def try_all(self, numbers: Iterable[int], until: float) -> Tally:
        """Try flips until the time is over."""
        tally = Tally()
        for number in numbers:
            if time.monotonic() >= until:
                break
            self.try_one(number, tally)
        return tally

    def try_one(self, number: int, tally: Tally) -> None:
        """Flip a byte, ask everything, and put the byte back."""
        offset, value = self.flip(number)
        place = self.places.at(offset)
        said = f"number {number}, byte {offset} of {place}: {self.content[offset]} to {value}"
        self.write(offset, value)
        try:
            readers = self.readers.get(offset // self.places.size + 1, set())
            answers, found = ask_all(self.path, self.expected, readers if number % _ASKED_EVERYTHING else None)
            outcome = self._outcome(answers, found)
            if outcome == "missed":
                tally.missed[place] += 1
                changed = ", ".join(answers.differ_from(self.expected)[:4])
                tally.failures.append(f"{said}: nothing finds that {changed} changed")
            elif outcome == "refused as a whole":
                self._name(answers.errors["open"], tally)
                if number % 50 == 0:
                    self._recover(said, tally)
            elif outcome == "found by an answer":
                for error in answers.errors.values():
                    self._name(error, tally)
                loads = self.expected.loads
                refused = sum(question in answers.errors for question in loads)
                if "records" in answers.given and refused > len(loads) // 2:
                    tally.outcomes["(most objects refused)"] += 1
        except Exception as error:
            outcome = "another error"
            tally.failures.append(f"{said}: {type(error).__name__}: {error}")
        finally:
            self.write(offset, self.content[offset])
        tally.outcomes[outcome] += 1
        tally.done += 1

    def _outcome(self, answers: Answers, found: bool) -> str:
        if "open" in answers.errors:
            return "refused as a whole"
        if answers.errors and found:
            return "found by an answer"
        if not answers.differ_from(self.expected):
            return "no answer changed"
        return "found by verify" if found else "missed"

    def _name(self, error: str, tally: Tally) -> None:
        words = (
            "page", "Page", "sha256:", "$", "row", "index", "table", "view", "header", "catalog file", "blob",
            "value in", "schema", ".parquet", "not an SQLite",
        )  # fmt: skip
        if not any(word in error for word in words):
            tally.unnamed[error.replace(str(self.path), "FILE")[:150]] += 1

    def _recover(self, said: str, tally: Tally) -> None:
        """See that everything else comes back from a file that is refused."""
        target = self.path.with_name("saved.sqlite")
        recovery = recover(self.path, target)
        tally.outcomes["(recovered)"] += 1
        try:
            answers, _ = ask_all(target, self.expected)
            gone = {f"load {gone.dataset} {gone.artifact_id}" for gone in recovery.gone}
            for question, answer in self.expected.given.items():
                is_lost = question.startswith("load ") and answers.given.get(question) != answer
                if is_lost and question not in gone and not recovery.incomplete:  # a dataset may have another name now
                    tally.failures.append(f"{said}: {question} did not come back ({answers.errors.get(question)})")
            if len(gone) > len(self.expected.given) // 2:
                tally.failures.append(f"{said}: recovery gave up {len(gone)} artifacts")
        finally:
            target.unlink()
            shutil.rmtree(target.with_name("saved.catalog"), ignore_errors=True)


def make(folder: Path, file: str) -> Path:
    """Make the workspace: packed, with every byte in one file; with rows staged; or large."""
    pipelines, folds, weight = (12, 5, 400) if file == "large" else (1, 2, 0)
    study = make_study(folder / "study.sqlite", pipelines, folds, weight=weight)
    if file == "staged":
        return study
    with Workspace(study, mode="ro") as workspace:
        return workspace.pack(folder / "packed.sqlite")


def campaign(
    seed: int,
    minutes: float,
    file: str = "packed",
    report: Callable[[str], None] = print,
    numbers: Sequence[int] | None = None,
    workers: int = 1,
) -> Tally:
    """Flip for so long, or some numbers only, and tell what came of it."""
    root = Path(tempfile.mkdtemp(prefix="artifactdb-rot-", dir=FOLDER))
    most = _LARGE_FLIPS if file == "large" else 1 << 24
    try:
        path = make(root, file)
        tally = Tally(size=path.stat().st_size)
        if numbers is None:
            numbers = range(most if file == "large" else 2 * tally.size)
        shares = (numbers[first : first + _SHARE] for first in range(0, len(numbers), _SHARE))
        said_last = started = time.monotonic()
        until = started + 60 * minutes
        in_time = takewhile(lambda _: time.monotonic() < until, shares)
        for share in _in_turn(path, seed, most, in_time, workers, until):
            tally.take(share)
            for failure in share.failures[:5]:
                report(failure)
            if time.monotonic() - said_last > 60:
                said_last = time.monotonic()
                report(f"{tally.done} of {len(numbers)}, {len(tally.failures)} failures, {said_last - started:.0f} s")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report(
        f"seed {seed}, {file}: {tally.done} flips of {tally.size} bytes in {time.monotonic() - started:.0f} s; "
        f"{dict(tally.outcomes)}; {len(tally.failures)} failures"
    )
    for place, count in tally.missed.most_common():
        report(f"not found, and changes an answer: {count} in {place}")
    for error, count in tally.unnamed.most_common(10):
        report(f"names no place: {count} times {error}")
    return tally


def _in_turn(
    path: Path, seed: int, most: int, shares: Iterator[Sequence[int]], workers: int, until: float
) -> Iterator[Tally]:
    """Give what comes of each share until the time is over; a process that ends is a failure, and ends them all."""
    if workers == 1:
        flips = Flips(path, seed, most)
        for share in shares:
            yield flips.try_all(share, until)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (path, seed, most)) as pool:
        under_way: dict[Future[Tally], Sequence[int]] = {}

        def submit(wanted: int) -> None:
            under_way.update({pool.submit(_try, share, until): share for share in islice(shares, wanted)})

        submit(2 * workers)
        while under_way:
            done = next(as_completed(under_way))
            share = under_way.pop(done)
            try:
                yield done.result()
            except BrokenProcessPool as error:
                yield Tally(failures=[f"one of the numbers {share[0]} to {share[-1]}, or of others: {error}"])
                return
            submit(1)


_flips: Flips
"""Of this process, where several flip."""


def _begin(path: Path, seed: int, most: int) -> None:
    global _flips
    own = path.with_name(str(os.getpid())) / path.name
    shutil.copytree(path.parent, own.parent, ignore=lambda folder, names: [name for name in names if name.isdigit()])
    _flips = Flips(own, seed, most)


def _try(share: Iterable[int], until: float) -> Tally:
    return _flips.try_all(share, until)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--file", choices=("packed", "staged", "large"), default="packed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", type=int, help="one number of the seed")
    options = parser.parse_args()
    numbers = None if options.only is None else [options.only]
    tally = campaign(options.seed, options.minutes, options.file, numbers=numbers, workers=options.workers)
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
