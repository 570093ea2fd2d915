"""Cuts the power after each thing that reaches the disk in a long random history, and looks what was lost.

    python -m tests.campaigns.power_cut --seed 0 --minutes 60

Everything that is written to the workspace, its log and its catalog, each sync, each name given and taken, is recorded
in order. After each of these the disk is made as a power cut may leave it: what was synced is there; all else is lost,
or kept, or any part of it is, in any order, torn at sectors and pages. The workspace must open, pass its check, and
hold what was acknowledged, or that and all of the one act that was going on; then it must be possible to go on.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.campaigns.power.disk import EVERYTHING, NOTHING, Acknowledged, Disk, Operation
from tests.campaigns.power.histories import Contents, History, State, make_donor
from tests.campaigns.power.looking import Looker
from tests.campaigns.power.recording import Recording


def record(
    root: Path, donor: tuple[Path, Contents], name: str, acts: int | Sequence[str]
) -> tuple[History, list[Operation]]:
    """Carry out one history in a folder; give what reached the disk."""
    os.environ["ARTIFACTDB_HOME"] = str(root / "home")  # the user's key is lost or kept like everything else
    with Recording(root) as recording:
        history = History(recording, donor, random.Random(name))
        history.run(acts)
    return history, recording.log


def places(log: Sequence[Operation]) -> Iterator[tuple[int, Disk, State, Acknowledged]]:
    """Give each place where the power can be cut: number, disk, what was acknowledged last, and what would be next."""
    disk, before = Disk(), None
    acknowledgements = iter([operation for operation in log if isinstance(operation, Acknowledged)])
    after = next(acknowledgements)
    for number, operation in enumerate(log):
        if isinstance(operation, Acknowledged):
            before, after = operation.state, next(acknowledgements, operation)
        else:
            disk.do(operation)
        if before is not None:
            yield number, disk, before, after


def cut_everywhere(
    looker: Looker, log: Sequence[Operation], name: str, variants: Sequence[str], only: int | None
) -> Iterator[int]:
    """Cut the power at each place, and give how many disks came of it that were not seen before."""
    for place, disk, before, after in places(log):
        if only not in (None, place):
            continue
        new = 0
        for variant in variants:
            chosen = variant if variant in (NOTHING, EVERYTHING) else f"{name} {place} {variant}"
            try:
                new += looker.compare(disk.cut(chosen), before, after.state)
            except Exception as error:
                error.add_note(
                    f"FAILED: {name} --place {place} of {len(log)}, variant {variant}, in the act {after.act}, "
                    f"after {log[place]!r:.200}. The disk after it was opened is in {looker.folder}."
                )
                raise
        yield new


def campaign(
    seed: int = 0,
    *,
    acts: int | Sequence[str] = 20,
    variants: Sequence[str] = (NOTHING, EVERYTHING, "0", "1"),
    minutes: float = math.inf,
    cuts: float = math.inf,
    histories: Iterable[int] | None = None,
    only: int | None = None,
    report: Callable[[str], None] = print,
) -> int:
    """Cut until the time is over or there were so many; give how many different disks were looked at.

    Parameters
    ----------
    acts : int or sequence of str
        Of each history: how many, or which.
    variants : sequence of str
        What is done at each place; what is neither nothing nor everything is left to chance.
    histories : iterable of int, optional
        Their numbers; one after another without end, if not given.
    only : int, optional
        Number of the only place to look at.

    Raises
    ------
    LostError
        With a note of what shows it again.
    """
    root = Path(tempfile.mkdtemp(prefix="artifactdb-power-", dir=_memory()))
    home = os.environ.get("ARTIFACTDB_HOME")
    started, busy, looked, cut = time.monotonic(), time.process_time(), 0, 0
    report(f"seed {seed}")

    def is_over() -> bool:
        return time.monotonic() - started >= 60 * minutes or looked >= cuts

    try:
        os.environ["ARTIFACTDB_HOME"] = str(root / "donor-home")
        donor = (root / "donor.sqlite", make_donor(root / "donor.sqlite"))
        for number in count() if histories is None else histories:
            name, folder = f"--seed {seed} --history {number}", root / f"history-{number}"
            folder.mkdir()
            history, log = record(folder, donor, name, acts)
            shutil.rmtree(folder)
            for new in cut_everywhere(Looker(root / "disk", history.file), log, name, variants, only):
                cut, looked = cut + 1, looked + new
                if is_over():
                    break
            each = 1000 * (time.process_time() - busy) / max(1, looked)
            report(
                f"history {number}: {len(log)} places; in all {cut} places, {looked} different disks, "
                f"{time.monotonic() - started:.0f} s, of which the processor took {each:.0f} ms for each disk"
            )
            if is_over():
                break
        report(f"{looked} power cuts: nothing lost, nothing half there, nothing left over")
        return looked
    finally:
        os.environ.pop("ARTIFACTDB_HOME") if home is None else os.environ.update(ARTIFACTDB_HOME=home)
        if sys.exc_info()[0] is None:
            shutil.rmtree(root)


def _memory() -> str | None:
    """Give a folder that lies in memory, if there is one."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so long")
    parser.add_argument("--cuts", type=float, default=math.inf, help="stop after so many different disks")
    parser.add_argument("--history", type=int, help="carry out this one alone")
    parser.add_argument("--place", type=int, help="look at this place of it alone")
    options = parser.parse_args()
    histories = None if options.history is None else [options.history]
    try:
        campaign(options.seed, minutes=options.minutes, cuts=options.cuts, histories=histories, only=options.place)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main()
