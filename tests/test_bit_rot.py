"""Flipped bytes are found: a sample of the campaign, and the columns where each was first missed."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from artifactdb import Workspace
from artifactdb.transfer.repair import repair
from tests.campaigns.bit_rot import campaign
from tests.campaigns.studies import make_study


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study.sqlite", 1, 2)


def change(study: Path, sql: str) -> None:
    """Change what only a flipped bit can, on the disk."""
    connection = apsw.Connection(str(study))
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(sql)
    connection.close()


def problems(study: Path, mode: str = "ro") -> str:
    with Workspace(study, mode=mode) as workspace:
        return str(workspace.verify().problems)


@pytest.mark.campaign
@pytest.mark.parametrize("file", ["packed", "staged"])
def test_a_flip_that_changes_an_answer_is_found(file: str) -> None:
    tally = campaign(0, 1, file, numbers=range(0, 600, 60))
    assert tally.done == 10
    assert not tally.failures


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", ["packed", "staged"])
def test_two_minutes_of_flips_are_found(file: str) -> None:
    assert not campaign(1, 2, file).failures


def test_a_rule_of_the_schema_that_a_row_breaks_is_found_where_nothing_may_be_written(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(study, "UPDATE trained_pipelines SET status = 'cgmpleted' WHERE pipeline_key = 1")
    monkeypatch.setattr("artifactdb.database.structure._READ_THROUGH_BYTES", 0)  # as for a large file
    assert "table trained_pipelines', what=\"1 rows break the rule status IN" in problems(study)


def test_what_a_blob_is_said_to_take_is_compared_and_counted_again(study: Path) -> None:
    change(study, "UPDATE blobs SET stored_bytes = stored_bytes + 64 WHERE blob_key = 2")
    assert "stored bytes where its chunks take" in problems(study)
    assert repair(study).ok
    assert problems(study) == "[]"


def test_a_staged_array_is_compared_with_its_id(study: Path) -> None:
    change(
        study,
        "UPDATE staged_arrays SET data = zeroblob(length(data)) "
        "WHERE array_key = (SELECT max(array_key) FROM staged_arrays)",
    )
    assert "has other content than its id says" in problems(study)


def test_a_filter_that_forgets_an_id_is_found(study: Path) -> None:
    change(study, "UPDATE catalog_files SET id_filter = zeroblob(length(id_filter)) WHERE kind = 'meta'")
    assert "filter of ids" in problems(study)
