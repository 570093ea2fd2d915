"""Power cuts: what a call returned from is on the disk, and of what had not returned all is there or nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifactdb.catalog import merging, parquet
from artifactdb.database import Database, disk, opening
from tests.campaigns.power.disk import EVERYTHING, FOLDER, NOTHING, Disk, Name, Sync, SyncFolder, Truncate, Write
from tests.campaigns.power.looking import LostError
from tests.campaigns.power_cut import campaign

SHORT = ("add", "transaction", "flush", "delete_predictions", "compact")


@pytest.mark.campaign
def test_a_power_cut_at_any_place_of_a_short_history_loses_nothing() -> None:
    assert campaign(0, acts=SHORT, variants=(NOTHING, "0"), histories=[0]) > 300


@pytest.mark.campaign
def test_nor_does_one_while_a_backup_gets_its_names() -> None:
    assert campaign(0, acts=("add", "flush", "backup"), variants=(NOTHING, "0"), histories=[0]) > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_minutes_of_power_cuts_lose_nothing() -> None:
    campaign(1, minutes=2)


def never_sync(*_: Any) -> None:
    """Stand where something is synced, and do nothing."""


FORGETFUL = {
    "commits": (opening, "_make_ready", lambda connection: connection.pragma("synchronous", "NORMAL")),
    "Parquet files": (parquet, "disk", SimpleNamespace(sync=never_sync)),
    "the catalog's folder": (merging, "disk", SimpleNamespace(**{**vars(disk), "sync": never_sync})),
    "new folders": (disk, "make_folder", lambda folder, mode=0o777: folder.mkdir(mode, parents=True, exist_ok=True)),
}


@pytest.mark.campaign
@pytest.mark.parametrize("what", FORGETFUL)
def test_the_campaign_finds_out_when_something_is_not_synced(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*FORGETFUL[what])
    with pytest.raises(LostError):
        campaign(0, acts=("add", "flush", "save"), variants=[NOTHING], histories=[0], report=never_sync)


class TestTheDisk:
    def cuts(self, *operations: Any) -> list[dict[str, bytes | None]]:
        """Give everything that many cuts after these operations leave."""
        made = Disk()
        for operation in operations:
            made.do(operation)
        found = [made.cut(variant) for variant in (NOTHING, EVERYTHING, *map(str, range(300)))]
        return [tree for number, tree in enumerate(found) if tree not in found[:number]]

    def test_what_was_synced_is_there_under_its_name(self) -> None:
        synced = (Name("", (("a", 1),)), SyncFolder(""), Write(1, 0, b"one"), Sync(1))
        assert self.cuts(*synced) == [{"a": b"one"}]

    def test_a_name_and_what_it_names_are_lost_apart(self) -> None:
        left = self.cuts(Name("", (("a", 1),)), Write(1, 0, b"one"), Sync(1), Name("", (("a", None), ("b", 1))))
        assert left in ([{}, {"a": b"one"}, {"b": b"one"}], [{}, {"b": b"one"}, {"a": b"one"}])
        assert {"a": b""} in self.cuts(Name("", (("a", 1),)), SyncFolder(""), Write(1, 0, b"one"))

    def test_unsynced_writes_are_lost_kept_or_torn_in_any_order(self) -> None:
        before, after = b"-" * 1536, b"+" * 1536
        left = self.cuts(Name("", (("a", 1),)), SyncFolder(""), Write(1, 0, before), Sync(1), Write(1, 0, after))
        sectors = {tuple(tree["a"][place] for place in (0, 512, 1024)) for tree in left if tree["a"]}
        assert {bytes(found) for found in sectors} >= {b"---", b"+++", b"+--", b"++-", b"--+"}
        two = self.cuts(Name("", (("a", 1),)), SyncFolder(""), Write(1, 0, b"1"), Write(1, 1, b"2"), Truncate(1, 1))
        assert {"a": b"\0" + b"2"} in two, "the later one without the earlier"
        assert {"a": b"12"} in two and {"a": b"1"} in two

    def test_nothing_lies_in_a_folder_that_is_lost(self) -> None:
        left = self.cuts(Name("", (("f", FOLDER),)), Name("f", (("f/a", 1),)), SyncFolder("f"))
        assert left == [{}, {"f": None, "f/a": b""}]


def test_a_workspace_that_was_taken_out_of_wal_mode_goes_back_when_it_is_opened_to_write(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    Database(file).close()
    taken_out = opening.connect(file, writable=True, sealed=False)
    assert taken_out.pragma("journal_mode", "DELETE") == "delete"
    taken_out.close()
    database = Database(file)
    assert database.value("PRAGMA journal_mode") == "wal"
    database.close()
