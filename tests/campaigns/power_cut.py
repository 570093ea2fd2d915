"""Cuts the power after each thing that reaches the disk in a long random history, and looks what was lost.

    python -m tests.campaigns.power_cut --seed 0 --minutes 60

Everything that is written to the workspace, its log and its catalog, each sync, each name given and taken, is recorded
in order. After each of these the disk is made as a power cut may leave it: what was synced is there; all else is lost,
or kept, or any part of it is, in any order, torn at sectors and pages. The workspace must open, pass its check, and
hold what was acknowledged, or that and all of the one act that was going on; then it must be possible to go on.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.power.disk import EVERYTHING, NOTHING, Acknowledged, Disk, Operation
from tests.campaigns.power.histories import Contents, History, State, make_donor
from tests.campaigns.power.looking import Looker
from tests.campaigns.power.recording import Recording


def record(root: Path, donor: tuple[Path, Contents], name: str, acts: int) -> tuple[History, list[Operation]]:
    """Carry out one history in a folder; give what reached the disk."""
    os.environ["ARTIFACTDB_HOME"] = str(root / "home")  # the user's key is lost or kept like everything else
    with Recording(root) as recording:
        history = History(root, donor, random.Random(name), recording.acknowledge)
        history.run(acts)
    return history, recording.log


def campaign(
    seed: int = 0,
    *,
    acts: int = 30,
    chances: int = 2,
    minutes: float = 1e9,
    cuts: int = sys.maxsize,
    only: tuple[int, int] | None = None,
    report: Callable[[str], None] = print,
) -> int:
    """Cut until the time is over or there were so many; give how many different disks were looked at.

    Parameters
    ----------
    chances : int
        How many disks are left to chance at each place, besides the two where all or nothing is lost.
    only : (int, int), optional
        Number of a history and of a cut: nothing else is looked at.
    """
    root = Path(tempfile.mkdtemp(prefix="artifactdb-power-", dir=_memory()))
    home = os.environ.get("ARTIFACTDB_HOME")
    started, looked, places, number = time.monotonic(), 0, 0, only[0] if only else 0
    report(f"seed {seed}")
    try:
        os.environ["ARTIFACTDB_HOME"] = str(root / "donor-home")
        donor = (root / "donor.sqlite", make_donor(root / "donor.sqlite"))
        while time.monotonic() - started < 60 * minutes and looked < cuts:
            name = f"{seed}/{number}"
            folder = root / f"history-{number}"
            folder.mkdir()
            history, log = record(folder, donor, name, acts)
            shutil.rmtree(folder)
            looker = Looker(root / "disk", history.file)
            disk, before = Disk(), State()
            afters = iter([operation for operation in log if isinstance(operation, Acknowledged)])
            after = next(afters)
            for cut, operation in enumerate(log):
                if isinstance(operation, Acknowledged):
                    before, after = operation.state, next(afters, operation)
                else:
                    disk.do(operation)
                if only and only[1] != cut:
                    continue
                for variant in (NOTHING, EVERYTHING, *(f"{name}/{cut}/{chance}" for chance in range(chances))):
                    try:
                        looker.compare(disk.cut(variant), before, after.state)
                    except BaseException as error:
                        if not isinstance(error, KeyboardInterrupt):
                            report(
                                f"FAILED: --seed {seed} --history {number} --cut {cut}, variant {variant}, while: "
                                f"{after.act}; before it: {log[max(0, cut - 3) : cut + 1]!r:.600}; see {root / 'disk'}"
                            )
                        raise
                places += 1
                if time.monotonic() - started >= 60 * minutes or looked + looker.disks >= cuts:
                    break
            looked += looker.disks
            seconds = time.monotonic() - started
            report(
                f"history {number}: {len(log)} operations; in all {places} places, {looked} different disks, "
                f"{seconds:.0f} s, {looked / seconds:.1f} a second"
            )
            number += 1
            if only:
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
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--cuts", type=int, default=sys.maxsize, help="stop after so many different disks")
    parser.add_argument("--history", type=int, help="with --cut: look at this place alone")
    parser.add_argument("--cut", type=int)
    options = parser.parse_args()
    only = None if options.history is None else (options.history, options.cut)
    campaign(options.seed, minutes=options.minutes, cuts=options.cuts, only=only)


if __name__ == "__main__":
    main()
