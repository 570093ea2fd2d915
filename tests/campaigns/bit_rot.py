"""Flips bytes of a workspace one after the other; looks whether each that changes an answer is found and named.

    python -m tests.campaigns.bit_rot --seed 0 --minutes 120
    python -m tests.campaigns.bit_rot --seed 0 --minutes 120 --file staged
    python -m tests.campaigns.bit_rot --seed 0 --minutes 600 --file large

Each number of a seed is one flip of one byte, the same each time: first every byte of the file in a random order, a few
of each table, column and page before all others, with one bit changed; then every byte with another value. An answer
is what listing, loading, predictions, parameters, metrics and SQL over the public views give. A flip that changes one
and is found by nothing, neither on the way to the answer nor by ``verify``, is a failure. Nothing but errors of
artifactdb's may come out, and what a flip does not reach must load.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib

from artifactdb import ArtifactDBError, ArtifactNotFoundError, LibraryEntryNotFoundError, Workspace, recover
from artifactdb.database import structure
from artifactdb.database.damaged import DamagedDatabase
from artifactdb.database.pages import Cell, Damaged, Pages
from tests.campaigns.studies import make_study

FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
_VIEWS = (
    "artifacts", "folds", "dependencies", "lineage_up", "lineage_down", "shared_blobs", "orphan_blobs", "runs",
    "pipelines_with_runs", "metrics", "library", "events",
)  # fmt: skip
_CATALOG = (
    "SELECT file_key, kind, name, rows, size_bytes, content_hash, footer_hash, id_filter FROM catalog_files",
    "SELECT file_key, chunk_index, payload FROM catalog_payloads",
    "SELECT * FROM staged_predictions",
    "SELECT * FROM staged_arrays",
    "SELECT * FROM deleted_predictions",
)
_FIRST_OF_A_PLACE = 2
_LARGE_FLIPS = 100_000
_TIMES = 1_600_000_000


# -- places -----------------------------------------------------------------------------------------


class Places:
    """What lies at each byte of a sound workspace."""

    def __init__(self, path: Path) -> None:
        found: list[tuple[int, int, str]] = [(0, 100, "header of the file")]
        with closing(Pages(path)) as pages:
            database = DamagedDatabase(pages)
            names = {root: shape.name for root, shape in database.shapes.items()}
            for root, numbers in database._pages_of.items():
                shape = database.shapes[root]
                for number in numbers:
                    found += self._of_page(pages, number, names[root], shape.columns)
            self.size = pages.size
            self._kinds = {number: pages.pointer(number) for number in range(1, pages.count + 1)}
            self._names = {number: names[root] for root, numbers in database._pages_of.items() for number in numbers}
        found.sort()
        self._starts = [start for start, *_ in found]
        self._found = found

    def at(self, offset: int) -> str:
        """Say what a byte belongs to: table and column, or what kind of page."""
        position = bisect_right(self._starts, offset) - 1
        if position >= 0 and offset < self._found[position][1]:
            return self._found[position][2]
        number = offset // self.size + 1
        for _ in range(100_000):
            kind, parent = self._kinds.get(number, (0, 0))
            if kind not in (3, 4):
                break
            number = parent
        if number != offset // self.size + 1:
            return f"{self._names.get(number, '?')}, overflow page"
        if number in self._names:
            return f"{self._names[number]}, structure or unused"
        return "free page" if kind == 2 else "page of the schema" if number == 1 else "page map or page of the schema"

    @staticmethod
    def _of_page(pages: Pages, number: int, name: str, columns: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
        page, start = pages.page(number), (number - 1) * pages.size
        for cell in pages.cells(number):
            if not isinstance(cell, Cell) or not cell.local:
                continue
            place = start + page.index(cell.local)
            try:
                values = pages.values(cell)
            except Damaged:
                continue
            at = cell.local[0] if cell.local[0] < 0x80 else (cell.local[0] & 0x7F) << 7 | cell.local[1]
            yield place, place + at, f"{name}, header of a row"
            for column, value in zip(columns, values, strict=False):
                size = _stored_bytes(value)
                if size and at < len(cell.local):
                    yield place + at, place + min(at + size, len(cell.local)), f"{name}.{column or 'key'}"
                at += size


def _stored_bytes(value: Any) -> int:
    if value is None or (value in (0, 1) and isinstance(value, int)):
        return 0
    if isinstance(value, int):
        return next(size for size in (1, 2, 3, 4, 6, 8) if -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1)
    return 8 if isinstance(value, float) else len(value.encode() if isinstance(value, str) else value)


# -- answers ----------------------------------------------------------------------------------------


@dataclass
class Answers:
    """What a workspace answers; ``errors`` by question where it says that something is wrong."""

    given: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def differ_from(self, expected: Answers) -> list[str]:
        """Give the questions that are answered otherwise."""
        return [question for question, answer in self.given.items() if answer != expected.given[question]]

    def ask(self, question: str, act: Callable[[], Any]) -> None:
        try:
            self.given[question] = act()
        except (
            ArtifactNotFoundError,
            LibraryEntryNotFoundError,
        ) as error:  # another answer, and nothing that was found
            self.given[question] = f"{type(error).__name__}: {error}"
        except ArtifactDBError as error:
            self.errors[question] = f"{type(error).__name__}: {error}"


def ask_all(path: Path, expected: Answers | None = None) -> tuple[Answers, bool]:
    """Give the answers of a workspace, and whether ``verify`` finds something where they are others and no error."""
    answers, found = Answers(), True
    structure._seen.clear()
    try:
        workspace = Workspace(path, mode="ro")
    except ArtifactDBError as error:
        answers.errors["open"] = f"{type(error).__name__}: {error}"
        return answers, True
    with workspace:
        answers.ask("records", lambda: sorted(repr(record.to_dict()) for record in workspace.records()))
        for view in _VIEWS:
            answers.ask(view, lambda view=view: sorted(map(repr, workspace.query(f"SELECT * FROM {view}"))))
        answers.ask("statistics", lambda: repr({**workspace.stats(), "file_size_bytes": 0}))
        answers.ask("template", lambda: repr(workspace.library.load_template("baseline")))
        answers.ask("pipelines", lambda: [repr(pipeline) for pipeline in workspace.pipelines()])
        names = names_of(workspace) if expected is None else [q for q in expected.given if q.startswith("load ")]
        for name in names:
            dataset, _, artifact_id = name.removeprefix("load ").partition(" ")
            answers.ask(name, lambda a=artifact_id, d=dataset: joblib.hash(workspace.load(a, dataset=d)))
        answers.ask("catalog rows", lambda: [workspace.database.rows(sql) for sql in _CATALOG])
        # What DuckDB answers is made of these rows alone, and takes ten times longer than all the rest.
        if expected is None or answers.given.get("catalog rows") != expected.given["catalog rows"]:
            answers.ask("predictions", lambda: sorted(map(repr, workspace.sql("SELECT * FROM predictions"))))
            answers.ask("arrays", lambda: sorted(map(repr, workspace.sql("SELECT array_id, array_data FROM arrays"))))
        else:
            answers.given |= {name: expected.given[name] for name in ("predictions", "arrays")}
        if expected is not None:
            answers.given.pop("catalog rows", None)  # which is no answer
        differing = [] if expected is None else answers.differ_from(expected)
        if differing and (not answers.errors or any(question.startswith("load ") for question in differing)):
            try:
                found = not workspace.verify().ok
            except ArtifactDBError:
                found = True
    return answers, found


def names_of(workspace: Workspace) -> list[str]:
    return [f"load {record.dataset} {record.artifact_id}" for record in workspace.records()]


# -- flips ------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of many flips."""

    size: int = 0
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


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

    def try_one(self, number: int, tally: Tally) -> None:
        """Flip a byte, ask everything, and put the byte back."""
        offset, value = self.flip(number)
        place = self.places.at(offset)
        said = f"number {number}, byte {offset} of {place}: {self.content[offset]} to {value}"
        self.write(offset, value)
        try:
            answers, found = ask_all(self.path, self.expected)
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
                loads = [question for question in self.expected.given if question.startswith("load ")]
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
        words = ("page", "Page", "sha256:", "$", "row", "index", "table", "view", "header", "catalog file", "blob")
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
) -> Tally:
    """Flip for so long, or some numbers only, and tell what came of it."""
    root = Path(tempfile.mkdtemp(prefix="artifactdb-rot-", dir=FOLDER))
    tally, started = Tally(), time.monotonic()
    try:
        flips = Flips(make(root, file), seed, _LARGE_FLIPS if file == "large" else 1 << 24)
        tally.size = len(flips.content)
        limit = _LARGE_FLIPS if file == "large" else 2 * tally.size
        said_last = started = time.monotonic()
        for number in range(limit) if numbers is None else numbers:
            if time.monotonic() - started > 60 * minutes:
                break
            before = len(tally.failures)
            flips.try_one(number, tally)
            for failure in tally.failures[before:][:5]:
                report(failure)
            if time.monotonic() - said_last > 60:
                said_last = time.monotonic()
                report(f"{tally.done} of {limit}, {len(tally.failures)} failures, {said_last - started:.0f} s")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--file", choices=("packed", "staged", "large"), default="packed")
    parser.add_argument("--only", type=int, help="one number of the seed")
    options = parser.parse_args()
    numbers = None if options.only is None else [options.only]
    tally = campaign(options.seed, options.minutes, options.file, numbers=numbers)
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
