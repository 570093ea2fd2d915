"""Each public operation is done while the n-th read, write, sync, lock, truncation, opening or allocation fails.

Or while somebody interrupts it with Ctrl-C.

    python -m tests.campaigns.faults --seed 0 --minutes 60
    python -m tests.campaigns.faults --operation catalog-flush --kind disk-full --n 12

For every n until the operation passes; beyond ``--each``, as one operation allocates ten thousand times, in steps that
grow, and with ``--sample`` from the start. It raises an error of ours or succeeds; the workspace is as before or as
after; the same object goes on working when the fault is gone, and leaves nothing behind when it is closed. One
workspace sees all the faults of a kind until an operation changes it. ``--n`` repeats one fault on a new one.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from artifactdb import ArtifactDBError, Workspace
from tests.campaigns.fault_operations import OPERATIONS, Case, exact, make, picture, save_small, without_warnings
from tests.campaigns.faulty import KINDS, ROOT, Faults, run

_EACH = 150
_CONTENT = ("records", "orphans", "predictions", "arrays", "library")


class BrokenPromiseError(Exception):
    """A promise was not kept."""


class _UndoneError(Exception):
    pass


@dataclass
class Expected:
    """What an operation gives, and leaves, when nothing fails."""

    result: Any
    exact_before: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


class Campaign:
    def __init__(self, seed: int, deadline: float, *, verbose: bool) -> None:
        self.faults = Faults()
        self.root = self.faults.root
        self.chance = random.Random(seed)
        self.deadline = deadline
        self.verbose = verbose
        self.counts: Counter[str] = Counter()

    def series(self, name: str, kind: str, ns: Iterator[int]) -> None:
        """Try one operation with one kind of fault at each n, until it is not met any more."""
        expected = self.expect(name)
        case, descriptors = None, -1
        may_stay = bool({"unlink", "open"} & set(KINDS[kind].calls.split()))
        for n in ns:
            if time.monotonic() > self.deadline:
                break
            (self.root.parent / "last").write_text(f"{name} {kind} {n}", encoding="ascii")
            try:
                if case is None:
                    case = self.begin(name)
                    expected.exact_before = _in_force(case, exact)
                met, changed = self.one(case, name, kind, n, expected)
                if changed or not met:
                    self.end(case, may_stay=may_stay)
                    case = None
                    gc.collect()
                    now = _descriptors()
                    # An interrupt may come between the opening of a file and who would close it.
                    if descriptors >= 0 and len(now) > descriptors + 2 and not KINDS[kind].interrupts:
                        raise BrokenPromiseError(f"{len(now)} descriptors are open, and were {descriptors}: {now}")
                    descriptors = max(descriptors, len(now))
                else:
                    self.clear(case, may_stay=may_stay)
            except Exception as error:
                raise BrokenPromiseError(
                    f"--operation {name} --kind {kind} --n {n}: {error or type(error).__name__}"
                ) from error
            self.counts["cases"] += bool(met)
            if not met:
                self.counts["series"] += 1
                break
        if case is not None:
            self.end(case, may_stay=may_stay)

    def begin(self, name: str) -> Case:
        case = Case(self.root)
        case.begin()
        with without_warnings():
            case.prepared = OPERATIONS[name].prepare(case)
        return case

    def expect(self, name: str) -> Expected:
        case = self.begin(name)
        exact_before, before = _in_force(case, exact), _in_force(case, picture)
        result = _read(OPERATIONS[name].run(case))
        after = _in_force(case, picture)
        self.end(case)
        return Expected(result, exact_before, before, after)

    def one(self, case: Case, name: str, kind: str, n: int, expected: Expected) -> tuple[str, bool]:
        operation = OPERATIONS[name]
        closed = case.workspace.database.closed
        if not closed:
            case.workspace.database.rows("PRAGMA shrink_memory")
        result, refused = None, None  # type: Any, BaseException | None
        self.faults.arm(KINDS[kind], n)
        try:
            with without_warnings():
                result = operation.run(case)
        except ArtifactDBError as error:
            refused = error
        except KeyboardInterrupt as error:
            if not KINDS[kind].interrupts:
                raise
            # What an interrupt kept from being given back goes with its traceback, as at the prompt of Python.
            refused = error.with_traceback(None)
            refused.__context__ = None
        except BaseException as error:
            met = self.faults.disarm()
            raise BrokenPromiseError(f"{met} failed, and {type(error).__name__} came: {error}") from error
        met = self.faults.disarm()
        result = _read(result)
        same = _in_force(case, exact) == expected.exact_before
        try:
            self.judge(case, name, result, refused, met, same, expected)
        except Exception as error:
            how = f"was refused ({type(refused).__name__}: {refused})" if refused else "passed"
            raise BrokenPromiseError(
                f"{met or 'nothing'} failed, it {how}, and then: {error or type(error).__name__}"
            ) from (error if refused is None else _both(error, refused))
        if refused is not None:
            self.counts[type(refused).__name__] += 1
        if self.verbose:
            print(f"{name} {kind} {n}: {met or 'nothing'} failed; {refused or 'it passed'}", flush=True)
        return met, not same or case.workspace.database.closed != closed

    def judge(
        self, case: Case, name: str, result: Any, refused: BaseException | None, met: str, same: bool,
        expected: Expected,
    ) -> None:  # fmt: skip
        if not met and refused is not None:
            raise BrokenPromiseError("it is refused though nothing failed any more") from refused
        now = expected.before if same else _in_force(case, picture)
        allowed = [expected.after] if refused is None else [expected.before, expected.after]
        if now not in allowed and OPERATIONS[name].in_parts and (refused or result is False):
            OPERATIONS[name].run(case)
            now, result = _in_force(case, picture), expected.result
            # What a run or pipeline is said to hold is read once, with it; what was left out then comes by itself.
            allowed = [{name: expected.after[name] if name in _CONTENT else value for name, value in now.items()}]
        if now not in allowed:
            raise BrokenPromiseError(f"the workspace is neither as before nor as after: {_difference(now, allowed)}")
        if refused is None and result != expected.result and not (met and name.endswith("verify") and result):
            raise BrokenPromiseError(f"it gave {str(result)[:300]} and not {str(expected.result)[:300]}")
        if refused is None:
            _require(names_in(case.out) == sorted(OPERATIONS[name].makes), "not all was written")
        if case.workspace.database.closed:
            return
        probe(case)
        if refused is not None and names_in(case.out):
            self.again(case, name)

    def again(self, case: Case, name: str) -> None:
        """What a fault left over, as where nothing could be removed, must not be in the way of the next try."""
        made = set(OPERATIONS[name].makes)
        if made & set(names_in(case.out)):
            for path in case.out.iterdir():  # whole, though it was said that it failed: then it must not be half
                if path.name in made:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        OPERATIONS[name].run(case)
        _require(names_in(case.out) == sorted(made), f"{names_in(case.out)} lies there after the next try")

    def end(self, case: Case, *, may_stay: bool = False) -> None:
        """Close it, and see that it is whole and that nothing lies beside it."""
        closed = case.workspace.database.closed
        with Workspace(case.path) if closed else case.workspace as workspace, without_warnings():
            found = workspace.verify()
            _require(found.ok, f"verify finds {found.problems}")
        _require(
            names_in(case.path.parent) == ["study.catalog", "study.sqlite"], f"{names_in(case.path.parent)} lie there"
        )
        self.clear(case, may_stay=may_stay)

    def clear(self, case: Case, *, may_stay: bool = False) -> None:
        """Remove what came out, and see that nothing lies in the temporary folder."""
        for path in case.out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        temporary = self.root / "tmp"
        if not may_stay:  # where removing failed, the operating system clears away
            _require(not names_in(temporary), f"{names_in(temporary)} in the temporary folder")
        for path in temporary.iterdir():
            shutil.rmtree(path)


def _descriptors() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def probe(case: Case) -> None:
    """See that the same object saves, loads and answers."""
    with suppress(_UndoneError), case.workspace.transaction():
        save_small(case)
        gc.collect()  # the error before lets go of what it held, which must not reach into this transaction
        (record,) = case.workspace.records(pipeline_id="0003_new", chain_prefix="s1.New")
        case.workspace.load(record.artifact_id)
        case.workspace.query("SELECT count(*) FROM artifacts")
        raise _UndoneError


def _read(result: Any) -> Any:
    """Give what an operation gives, and of a file its content: it is read when nothing fails any more."""
    return result.read_text(encoding="utf-8") if isinstance(result, Path) else result


def _in_force(case: Case, look: Callable[[Workspace], dict[str, Any]]) -> dict[str, Any]:
    """Look at the workspace by the same object, or by another when it was closed."""
    if not case.workspace.database.closed:
        return look(case.workspace)
    with Workspace(case.path, mode="ro") as workspace:
        return look(workspace)


def _both(error: BaseException, first: BaseException) -> BaseException:
    error.__cause__ = error.__cause__ or first
    return error


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenPromiseError(otherwise)


def _difference(now: dict[str, Any], allowed: list[dict[str, Any]]) -> str:
    said = []
    for other in allowed:
        for key in now:
            if now[key] != other[key]:
                missing, more = (
                    [x for x in a if x not in b] for a, b in ((other[key], now[key]), (now[key], other[key]))
                )
                said.append(f"{key} without {str(missing)[:300]}, and with {str(more)[:300]}")
                break
    return " || ".join(said)


def every(each: int, first: int) -> Iterator[int]:
    n = first
    while True:
        yield n
        n += 1 if n < each else max(1, n // 10)


def some(chance: random.Random) -> Iterator[int]:
    """Begin anywhere, and go on in steps that grow."""
    n = chance.randint(1, 2)
    while True:
        yield n
        n += chance.randint(1, 2 + n // 3)


def campaign(
    seed: int, minutes: float, operations: list[str], kinds: list[str], n: int | None, *,
    first: int, each: int, go_on: bool,
) -> int:  # fmt: skip
    work = Campaign(seed, time.monotonic() + 60 * minutes, verbose=n is not None)
    make(work.root)
    gc.freeze()  # what is imported stays, and need not be looked through after each case
    print(f"seed {seed}, {len(operations)} operations, {len(kinds)} kinds of faults", flush=True)
    pairs = [(operation, kind) for operation in operations for kind in kinds]
    work.chance.shuffle(pairs)
    broken = 0
    started = time.monotonic()
    for operation, kind in pairs:
        ns = iter([n]) if n else every(each, first) if each else some(work.chance)
        if not KINDS[kind].error:
            ns = islice(ns, 3)  # every call does half from the first on: there is little more to try
        before, began = work.counts["cases"], time.monotonic()
        try:
            work.series(operation, kind, ns)
        except BrokenPromiseError as error:
            print(f"FAILED: {error}", flush=True)
            broken += 1
            if not go_on:
                traceback.print_exc()
                return 1
        print(f"{operation} {kind} {work.counts['cases'] - before} {time.monotonic() - began:.1f}s", flush=True)
        if time.monotonic() > work.deadline:
            break
    refused = {name: count for name, count in sorted(work.counts.items()) if name not in ("cases", "series")}
    print(
        f"{work.counts['cases']} faults met in {work.counts['series']} of {len(pairs)} series, "
        f"{time.monotonic() - started:.0f} s; refused with {refused}; {broken} broken"
    )
    if n is None and not work.counts["cases"]:
        print("FAILED: no fault was met")
        return 1
    return 1 if broken else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--operation", choices=list(OPERATIONS), action="append")
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--n", type=int)
    parser.add_argument("--first", type=int, default=1, help="go on where a run before ended")
    parser.add_argument("--each", type=int, default=_EACH, help="up to here every n is tried")
    parser.add_argument("--sample", dest="each", action="store_const", const=0, help="some n, from the start")
    parser.add_argument("--go-on", action="store_true", help="tell of the first failure of each series")
    options = parser.parse_args()
    if ROOT not in os.environ:
        return run("tests.campaigns.faults", *sys.argv[1:])
    return campaign(
        options.seed, options.minutes, options.operation or list(OPERATIONS), options.kind or list(KINDS), options.n,
        first=options.first, each=options.each, go_on=options.go_on,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
