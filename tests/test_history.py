"""What happened is written down with what was done, stays, and stops nothing, whatever a file claims happened to it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from artifactdb import BusyError, CorruptWorkspaceError, Workspace
from artifactdb.cli.app import app
from artifactdb.trust import remembered, team_keys

LAST = (1 << 63) - 1


@pytest.fixture(autouse=True)
def ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    be("ada", tmp_path, monkeypatch)


def be(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTDB_HOME", str(folder / f"home of {name}"))


def put(workspace: Workspace, obj: Any, dataset: str = "wheat", pipeline: str = "0001") -> str:
    return workspace.registry(dataset, pipeline).register_with_chain(obj, "s1.Ridge", "model", 1).artifact_id


def acts(workspace: Workspace, artifact_id: str, dataset: str | None = None) -> list[str]:
    return [event.act for event in workspace.history(artifact_id, dataset)]


def make_up(workspace: Workspace, record_key: int, event_index: int, artifact_id: str | None = None) -> None:
    workspace.database.rows(
        "INSERT INTO history VALUES (?1, ?2, '1999', 1, 'made up', ?3, NULL, "
        "row_check(?1, ?2, '1999', 1, 'made up', ?3, NULL))",
        (record_key, event_index, artifact_id),
    )


class TestHistory:
    def test_what_happened_is_written_down(self, file: Path, ada: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
        with Workspace(file) as workspace:
            registry = workspace.registry("wheat", "0001")
            record = registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
            registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)  # the same: nothing happened
            registry.register_with_chain(fitted["svr"], "s1.Ridge", "model", 1)
            workspace.trust(record.artifact_id)
            registry.delete_pipeline_artifacts("0001")
            registry.register_with_chain(fitted["pls"], "s1.Ridge", "model", 1)
            events = workspace.history(record.artifact_id)
            assert [event.act for event in events] == ["added", "replaced", "trusted", "deleted", "added"]
            assert all(event.host and event.process == str(os.getpid()) for event in events)
            assert events[1].details["content_before"] == record.content_hash
            rows = workspace.query("SELECT act FROM events WHERE artifact_id = ?", (record.artifact_id,)).rows
            assert sorted(act for (act,) in rows) == sorted(event.act for event in events)
            workspace.pack(tmp_path / "packed.sqlite")
        with Workspace(tmp_path / "packed.sqlite") as packed, Workspace(tmp_path / "other.sqlite") as other:
            assert [event.act for event in packed.history(record.artifact_id)] == [event.act for event in events]
            assert packed.history()[0].act == "packed"
            other.merge(packed.path)
            assert [event.act for event in other.history(record.artifact_id)] == ["added", "merged"]
            assert {event.act for event in other.history()} == {"added", "merged"}

    def test_predictions_and_the_library_are_in_it_too(self, workspace: Workspace) -> None:
        workspace.library.save_template(["Ridge"], "baseline")
        workspace.library.delete("baseline")
        workspace.catalog.add(dataset_name="wheat", model_name="ridge", partition="val")
        assert workspace.catalog.delete(dataset_name="wheat") == 1
        assert workspace.catalog.delete(dataset_name="wheat") == 0
        assert [(event.act, event.details) for event in workspace.history()] == [
            ("deleted", {"predictions": 1}),
            ("deleted", {"library": "template", "name": "baseline"}),
            ("saved", {"library": "template", "name": "baseline"}),
        ]

    def test_what_is_taken_back_never_happened(self, file: Path, fitted: dict[str, Any]) -> None:
        with Workspace(file) as workspace:
            with pytest.raises(ZeroDivisionError), workspace.transaction():
                workspace.registry("wheat", "0001").register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
                raise ZeroDivisionError
            assert workspace.history() == []
            record = workspace.registry("wheat", "0001").register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
            assert isinstance(workspace.load(record.artifact_id), Ridge), (
                "signed though the signer's row was taken back"
            )

    def test_no_line_of_ours_changes_it(self) -> None:
        import re

        import artifactdb

        for path in Path(artifactdb.__file__).parent.rglob("*.py"):
            assert not re.search(r"(UPDATE|DELETE FROM|REPLACE INTO)\s+(history|actors)\b", path.read_text()), path


_EVENTS_OF_SCHEMA_4 = """
SELECT h.happened_at, h.act, coalesce(r.artifact_id, h.artifact_id, gone.artifact_id) AS artifact_id,
  a.user, a.host, a.process, a.version, h.details
FROM history AS h JOIN actors AS a ON a.actor_key = h.actor_key
LEFT JOIN records AS r ON r.record_key = h.record_key
LEFT JOIN history AS gone ON gone.record_key = h.record_key AND gone.artifact_id IS NOT NULL
"""


def test_the_view_of_events_has_the_rows_it_always_had(file: Path, fitted: dict[str, Any]) -> None:
    with Workspace(file) as workspace:
        put(workspace, fitted["ridge"])
        put(workspace, fitted["svr"], pipeline="0002")
        workspace.trust()
        workspace.registry("wheat", "0001").delete_pipeline_artifacts("0001")
        expected = workspace.query(_EVENTS_OF_SCHEMA_4).rows
        assert sorted(workspace.query("SELECT * FROM events").rows, key=repr) == sorted(expected, key=repr)
        assert {row[1] for row in expected} >= {"added", "trusted", "deleted"}


class TestMadeUpRows:
    @pytest.mark.parametrize(
        ("record_key", "event_index"),
        [(0, LAST), (1, LAST), (0, LAST - 1), (2, 0), (2, LAST), (3, 7), (LAST, 0), (LAST, LAST), (LAST - 1, 3)],
    )
    def test_they_stop_nothing_and_are_nobody_elses(
        self, file: Path, tmp_path: Path, fitted: dict[str, Any], record_key: int, event_index: int
    ) -> None:
        team_keys.make("ada")
        with Workspace(file) as workspace:
            first = put(workspace, fitted["ridge"])
            make_up(workspace, record_key, event_index)
            for _ in range(3):  # not once only
                workspace.trust()
                workspace.trust(first)
                workspace.sign()
            put(workspace, fitted["svr"])
            others = [put(workspace, fitted["pls"], pipeline=f"000{number}") for number in (2, 3, 4)]
            assert [acts(workspace, other) for other in others] == [["added"]] * 3
            workspace.registry("wheat", "0001").delete_pipeline_artifacts("0001")
            assert acts(workspace, first).count("deleted") == 1
            with Workspace(tmp_path / "other.sqlite") as other:
                put(other, fitted["forest"], pipeline="0005")
                make_up(other, 3, 0)
                assert other.merge(workspace).added["artifacts"] == 3
                assert acts(other, others[2]) == ["added", "merged"]
            assert workspace.merge(tmp_path / "other.sqlite").added["artifacts"] == 1
            workspace.pack(tmp_path / "packed.sqlite")
            assert workspace.verify().ok

    def test_a_merge_counts_the_events_of_a_record_anew(self, file: Path, tmp_path: Path, fitted: Any) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
            make_up(workspace, 1, LAST)
        with Workspace(tmp_path / "other.sqlite") as other:
            other.merge(file)
            rows = other.query("SELECT event_index FROM history WHERE record_key > 0 ORDER BY 1").rows
            assert rows == [(0,), (1,), (2,)]
            assert acts(other, artifact_id) == ["added", "made up", "merged"]

    def test_events_of_the_workspace_are_not_those_of_a_record_with_its_number(
        self, file: Path, tmp_path: Path, fitted: Any
    ) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
            workspace.trust()
            workspace.database.rows("UPDATE records SET record_key = 0")
            assert acts(workspace, artifact_id) == []
            assert workspace.history()[0].artifact_id == ""
            workspace.pack(tmp_path / "packed.sqlite")
        with Workspace(tmp_path / "packed.sqlite") as packed:
            assert acts(packed, artifact_id) == []

    def test_a_row_that_bears_the_id_of_another_record_is_not_its_past(self, file: Path, fitted: Any) -> None:
        with Workspace(file) as workspace:
            one, other = put(workspace, fitted["ridge"]), put(workspace, fitted["ridge"], pipeline="0002")
            make_up(workspace, 2, 5, one)
            assert acts(workspace, one) == ["added"] and acts(workspace, other) == ["added", "made up"]

    def test_keys_that_are_used_up_are_said_to_be(self, file: Path, tmp_path: Path, fitted: Any) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
            workspace.database.rows("UPDATE records SET record_key = ?", (LAST,))
            with pytest.raises(CorruptWorkspaceError, match=r"no number left for another record.*`artifactdb pack`"):
                put(workspace, fitted["svr"], pipeline="0002")
            workspace.pack(tmp_path / "packed.sqlite")
        with Workspace(tmp_path / "packed.sqlite") as packed:
            put(packed, fitted["svr"], pipeline="0002")
            assert isinstance(packed.load(artifact_id), Ridge)


class TestWhatIsWrittenDown:
    def test_datasets_are_told_apart(self, file: Path, fitted: dict[str, Any]) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"], "wheat")
            assert put(workspace, fitted["ridge"], "rye") == artifact_id
            put(workspace, fitted["svr"], "rye")
            assert acts(workspace, artifact_id, "wheat") == ["added"]
            assert acts(workspace, artifact_id, "rye") == ["added", "replaced"]
            workspace.registry("rye", "0001").delete_pipeline_artifacts("0001")
            assert acts(workspace, artifact_id, "rye") == ["added", "replaced", "deleted"], "also what is gone"
            assert acts(workspace, artifact_id, "wheat") == ["added"]
            assert [event.dataset for event in workspace.history(artifact_id)] == ["wheat", "rye", "rye", "rye"]
            assert {event.dataset for event in workspace.history()} == {"wheat", "rye"}
            assert [event.dataset for event in workspace.history(dataset="wheat")] == ["wheat"]
        shown = CliRunner().invoke(app, ["history", str(file), artifact_id, "--dataset", "wheat", "--json"])
        assert [(event["act"], event["dataset"]) for event in json.loads(shown.output)] == [("added", "wheat")]

    def test_a_packed_file_knows_what_was_deleted_and_gives_it_to_nobody(self, file: Path, tmp_path: Path) -> None:
        model = Ridge().fit(np.eye(3), np.arange(3.0))
        with Workspace(file) as workspace:
            gone = put(workspace, model)
            stays = put(workspace, model, pipeline="0002")
            workspace.trust()
            workspace.registry("wheat", "0001").delete_pipeline_artifacts("0001")
            workspace.pack(tmp_path / "packed.sqlite")
        with Workspace(tmp_path / "packed.sqlite") as packed:
            assert acts(packed, gone) == ["added", "deleted"]
            assert packed.history(gone)[-1].dataset == "wheat"
            assert acts(packed, stays) == ["added"]
            assert {event.act for event in packed.history() if not event.artifact_id} == {"packed", "trusted"}
            new = put(packed, model, pipeline="0003")
            assert acts(packed, new) == ["added"] and acts(packed, gone) == ["added", "deleted"]
            packed.pack(tmp_path / "again.sqlite")
        with Workspace(tmp_path / "again.sqlite") as again:
            assert acts(again, gone) == ["added", "deleted"]
            assert [event.act for event in again.history() if not event.artifact_id].count("packed") == 2

    def test_who_makes_a_strangers_record_their_own_is_written_down(
        self, file: Path, tmp_path: Path, fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
        be("bob", tmp_path, monkeypatch)
        with Workspace(file) as workspace:
            put(workspace, fitted["ridge"])
            put(workspace, fitted["ridge"])
            assert acts(workspace, artifact_id) == ["added", "replaced"]

    def test_a_signer_who_is_forgotten_is_written_down(
        self, file: Path, tmp_path: Path, fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = team_keys.make("ada")
        with Workspace(file) as workspace:
            put(workspace, fitted["ridge"])
            workspace.sign()
        be("bob", tmp_path, monkeypatch)
        with Workspace(file) as workspace:
            workspace.trust(signer=key.key_id)
            workspace.trust(signer=key.key_id, forget=True)
            last = workspace.history()[0]
        assert (last.act, last.details) == ("distrusted", {"key": key.key_id})

    def test_a_signature_that_a_merge_takes_in_is_written_down(
        self, file: Path, tmp_path: Path, fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
        be("bob", tmp_path, monkeypatch)
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            put(workspace, fitted["ridge"])
        with Workspace(file) as workspace:
            workspace.merge(tmp_path / "bobs.sqlite")
            last = workspace.history(artifact_id)[-1]
            assert (last.act, last.details) == ("signed", {"from": "bobs.sqlite"})
            workspace.merge(tmp_path / "bobs.sqlite")
            assert acts(workspace, artifact_id) == ["added", "signed"], "once"

    def test_what_cannot_be_written_down_is_not_remembered(
        self, file: Path, tmp_path: Path, fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = team_keys.make("ada")
        with Workspace(file) as workspace:
            artifact_id = put(workspace, fitted["ridge"])
            workspace.sign()
            record = workspace.record(artifact_id)
        be("bob", tmp_path, monkeypatch)
        with Workspace(file, timeout_s=0.05) as workspace, Workspace(file) as writing:
            with writing.transaction():
                with pytest.raises(BusyError):
                    workspace.trust(artifact_id)
                with pytest.raises(BusyError):
                    workspace.trust(signer=key.key_id)
            assert not remembered.is_allowed(record.content_hash, record.format)
            assert team_keys.trusted() == {}
