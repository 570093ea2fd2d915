"""Eight processes write to one file and are killed, again and again; looks whether anything was lost or halved.

    python -m tests.campaigns.kills --kills 1000 --seed 0
    python -m tests.campaigns.kills --minutes 2 --seed 7
    python -m tests.campaigns.kills --kills 200 --processes 1      each failure is then the same each time
    python -m tests.campaigns.kills --act flush --act compact      all of them within these

In each round some processes begin (``acts.py``: artifacts, predictions, deletions, flushes, compactions, collections,
backups), each writing a line before and after each act to a log of its own; what write(2) took a SIGKILL does not take
back. One after another they die: half of them from outside, at a random time; half from within, right before a step
of a chosen act, evenly over all acts and all their steps. A step is a call, made or returned from, in the code of
artifactdb: SQLite statements, writes, syncs, links, removals. The others work on beside the dead. Then the file is
opened, verified, and compared with what was acknowledged: what was in flight is there as a whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from artifactdb import Workspace
from artifactdb.catalog.files import catalog_folder, live_files
from tests.campaigns.acts import ACTS, State, Worker, read_state, require_state

_WATCHED = os.sep + "artifactdb" + os.sep
_LATEST_S = 0.3
"""How long after its chosen act began a process is killed from outside, at the latest."""
_HANG_S = 120


class ViolationError(AssertionError):
    """A promise was broken; says which, and where to look."""


def fork(work: Callable[[], None], log: Path) -> int:
    """Run a function in a process of its own, which exits with 1 and leaves its traceback in a file when it raises."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        with log.open("a") as stream:
            stream.write(traceback.format_exc())
    finally:
        os._exit(code)


# -- in a process that is killed --------------------------------------------------------------------


def work(
    file: Path, slot: str, state: State, seed: str, doom: tuple[str, float, int] | None, log: Path, due: Path
) -> None:
    """Do one act after the other; with ``doom`` (act, share of its steps, steps) die within one of them."""
    chance = random.Random(seed)
    parent = os.getppid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(**line: Any) -> None:
        os.write(descriptor, (json.dumps(line) + "\n").encode())

    last = chance.randrange(4 if doom else 10)
    if not last and not doom:
        due.touch()  # to be killed while it opens the file
    worker = Worker(file, slot, state, chance)
    for number in count():
        if os.getppid() != parent:
            return
        act = doom[0] if doom and number == last else chance.choices(list(ACTS), list(ACTS.values()))[0]
        change, function = worker.plan(act)
        say(act=act, change=change)
        if number == last and not doom:
            due.touch()
        steps = _in_steps(function, int(doom[1] * doom[2])) if doom and number == last else function()
        say(done=act, steps=steps)
        if number == last and doom:
            due.touch()  # it was shorter than the last time
        for name, what in change.items():
            if what is None:
                state.pop(name)
            else:
                state[name] = what


def _in_steps(function: Callable[[], Any], last: int) -> int:
    """Call a function and count its steps; die before step ``last``, if there are as many and it is not 0."""
    taken = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal taken
        # What a watched function calls or returns from; c_call events carry the name of the function in C.
        if _WATCHED in frame.f_code.co_filename:
            taken += 1
            if taken == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return taken


# -- in the process that kills ----------------------------------------------------------------------


class Campaign:
    """Rounds of processes that are killed, and what is known of the file after each."""

    def __init__(self, root: Path, seed: int, processes: int, acts: Sequence[str] = ()) -> None:
        self.root, self.seed, self.processes, self.acts = root, seed, processes, acts
        self.file = root / "study.sqlite"
        self.slots: dict[str, State] = {f"w{number}": {} for number in range(processes)}
        self.steps = dict.fromkeys(ACTS, 0)  # of one act, as counted last
        self.doomed = self.rounds = self.killed = 0
        self.counts: Counter[str] = Counter()

    def round(self) -> None:
        """Let the processes begin, kill them one after another, and look."""
        chance = random.Random(f"{self.seed}/{self.rounds}")
        (self.root / "backups").mkdir(exist_ok=True)
        children: dict[str, int] = {}
        for slot, state in self.slots.items():
            doom = self._doom(chance) if self._dies_within(slot) else None
            seed = f"{self.seed}/{self.rounds}/{slot}"
            given = (self.file, slot, dict(state), seed, doom, self._log(slot), self._due(slot))
            children[slot] = fork(partial(work, *given), self._log(slot))
        self._kill_each(children, {slot: chance.uniform(0.0, _LATEST_S) for slot in children})
        flights = {slot: self._read(slot) for slot in self.slots}
        self._look(flights)
        self.rounds += 1

    def _doom(self, chance: random.Random) -> tuple[str, float, int]:
        acts = self.acts or list(ACTS)
        act = acts[self.doomed % len(acts)]
        self.doomed += 1
        return act, chance.random(), self.steps[act]

    def _dies_within(self, slot: str) -> bool:
        return bool(self.acts) or self.processes == 1 or int(slot[1:]) % 2 == 0

    def _kill_each(self, children: dict[str, int], delays_s: dict[str, float]) -> None:
        began = time.monotonic()
        ends = dict.fromkeys(children, began + _HANG_S)
        try:
            while ends:
                time.sleep(0.005)
                for slot, end in list(ends.items()):
                    is_dead = os.waitid(os.P_PID, children[slot], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
                    if is_dead or time.monotonic() >= end:
                        del ends[slot]
                        self._kill(slot, children[slot])
                    elif self._due(slot).exists():
                        self._due(slot).unlink()
                        ends[slot] = time.monotonic() + delays_s[slot]
        finally:
            for slot in ends:
                os.kill(children[slot], signal.SIGKILL)
                os.waitpid(children[slot], 0)
        if time.monotonic() - began >= _HANG_S:
            raise ViolationError(f"a process did not come to its end in {_HANG_S} s")

    def _kill(self, slot: str, child: int) -> None:
        os.kill(child, signal.SIGKILL)  # which a child that is dead already, and not yet waited for, does not mind
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise ViolationError(f"{slot} failed while others were killed:\n{self._log(slot).read_text()[-3000:]}")
        self.killed += 1

    def _read(self, slot: str) -> tuple[State, State, str]:
        """Give the states before and after the act in flight, and the name of that act, from what was acknowledged."""
        state, flight, act = dict(self.slots[slot]), {}, "opening"
        text = self._log(slot).read_bytes() if self._log(slot).exists() else b""
        for line in text.split(b"\n")[:-1]:
            said = json.loads(line)
            if "done" in said:
                self.counts[said["done"]] += 1
                self.steps[said["done"]] = said["steps"] or self.steps[said["done"]]
                state, flight, act = _after(state, flight), {}, "nothing"
            else:
                flight, act = said["change"], said["act"]
        self.counts[f"killed in {act}"] += 1
        return state, _after(state, flight), act

    def _look(self, flights: dict[str, tuple[State, State, str]]) -> None:
        answer, log = self.root / "answer.json", self.root / "look.log"

        def look() -> None:
            states = look_at(self.file, {slot: flight[:2] for slot, flight in flights.items()}, self.rounds)
            answer.write_text(json.dumps(states))

        child = fork(look, log)
        _, status = os.waitpid(child, 0)
        if status:
            said = log.read_text()[-3000:] if log.exists() else f"wait status {status}"
            acts = ", ".join(f"{slot}: {act}" for slot, (_, _, act) in flights.items())
            raise ViolationError(f"after round {self.rounds} (killed in {acts}):\n{said}")
        self.slots = json.loads(answer.read_text())
        for slot in self.slots:
            self._log(slot).unlink(missing_ok=True)
            self._due(slot).unlink(missing_ok=True)

    def _log(self, slot: str) -> Path:
        return self.root / f"{slot}.log"

    def _due(self, slot: str) -> Path:
        return self.root / f"{slot}.due"


def _after(state: State, change: dict[str, int | None]) -> State:
    return {name: number for name, number in {**state, **change}.items() if number is not None}


# -- in a process that looks ------------------------------------------------------------------------


def look_at(file: Path, possible: dict[str, tuple[State, State]], number: int) -> dict[str, State]:
    """Open what the dead have left; give what is there under the ids of each, or raise."""
    with Workspace(file) as workspace:
        states = {slot: require_state(workspace, slot, *states) for slot, states in possible.items()}
        found = workspace.verify()
        assert found.ok, found.problems
        if number % 3:  # the others find what the dead have left
            catalog = workspace.catalog
            catalog.flush() if number % 3 == 1 else catalog.compact()
            live = sorted(entry.name for entry in live_files(workspace.database))
            there = sorted(path.name for path in catalog.folder.iterdir())
            assert there == live, f"left over in the catalog: {set(there) ^ set(live)}"
            workspace.gc()
            assert not workspace.orphans()
            for slot, state in states.items():
                require_state(workspace, slot, state)
            assert workspace.verify().ok
    allowed = {file.name, catalog_folder(file).name, "backups", "home", "temporary"}
    left = {path.name for path in file.parent.iterdir() if path.suffix not in (".log", ".json", ".due")} - allowed
    assert not left, f"left over beside the file: {left}"
    look_at_backups(file, file.parent / "backups", possible)
    return states


def look_at_backups(file: Path, folder: Path, possible: dict[str, tuple[State, State]]) -> None:
    """Open each backup: one that has its name is whole, what has no name yet goes when the name is asked for again."""
    for made in folder.glob("*.sqlite"):
        with Workspace(made, mode="ro") as workspace:
            assert not (problems := workspace.verify().problems), f"{made}: {problems}"
            for slot in possible:
                read_state(workspace, slot)
    unfinished = {path.name.split(".")[1] for path in folder.glob(".*.unfinished")}
    halves = unfinished | {path.stem for path in folder.glob("*.catalog") if not path.with_suffix(".sqlite").exists()}
    for name in halves:
        shutil.rmtree(folder / f"{name}.catalog", ignore_errors=True)  # as the refusal says that one should
        with Workspace(file, mode="ro") as workspace:
            workspace.backup(folder / f"{name}.sqlite")
    left = [path.name for path in folder.iterdir() if path.suffix not in (".sqlite", ".catalog")]
    assert not left, f"left over beside backups: {left}"
    shutil.rmtree(folder)


# -- the campaign -----------------------------------------------------------------------------------


def campaign(
    kills: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    processes: int = 8,
    report: Callable[[str], None] = print,
    acts: Sequence[str] = (),
) -> None:
    """Kill so many times, or for so long; raise ViolationError for what must not be."""
    root = Path(tempfile.mkdtemp(prefix="artifactdb-kills-"))
    told = Campaign(root, seed, processes, acts)
    started = time.monotonic()
    try:
        while (kills is None or told.killed < kills) and (minutes is None or time.monotonic() - started < 60 * minutes):
            told.round()
            if told.rounds % 10 == 0:
                report(f"{told.killed} killed in {told.rounds} rounds, {time.monotonic() - started:.0f} s")
        seconds = time.monotonic() - started
        acts = ", ".join(f"{act} {told.counts[act]} ({told.counts[f'killed in {act}']})" for act in ACTS)
        report(
            f"seed {seed}: {told.killed} kills in {told.rounds} rounds, {seconds:.0f} s, {told.killed / seconds:.1f} "
            f"kills/s; acts done (killed within): {acts}; killed while opening {told.counts['killed in opening']}, "
            f"between acts {told.counts['killed in nothing']}; nothing lost, halved, doubled or left over"
        )
    except BaseException:
        report(f"FAILED: seed {seed}, round {told.rounds}, {processes} processes; see {root}")
        raise
    shutil.rmtree(root)


def as_command(act: Callable[[], object]) -> None:
    """Run a campaign with a home of its own; say what was violated, and exit with 1."""
    with tempfile.TemporaryDirectory(prefix="artifactdb-home-") as home:
        os.environ["ARTIFACTDB_HOME"] = home
        try:
            act()
        except ViolationError as violation:
            print(violation)
            sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--act", choices=list(ACTS), action="append", default=[], help="die within these alone")
    options = parser.parse_args()
    kills = options.kills or (None if options.minutes else 1000)
    as_command(partial(campaign, kills, options.minutes, options.seed, options.processes, acts=options.act))


if __name__ == "__main__":
    main()
