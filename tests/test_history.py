"""What happened to a workspace is written down, and stays as it was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import Ridge

from artifactdb import Workspace


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
            assert [event.act for event in packed.history(record.artifact_id)] == ["added"]
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
