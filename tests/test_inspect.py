"""What an artifact would do when it is loaded is said without loading it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from artifactdb import ArtifactNotFoundError, Workspace
from artifactdb.cli.app import app


class Evil:
    """Leaves a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.path}",)


@pytest.fixture
def stranger(file: Path, tmp_path: Path, fitted: dict[str, Any]) -> Path:
    """A workspace with a model as usual, and with a file from elsewhere that runs a program when it is loaded."""
    (tmp_path / "binaries").mkdir()
    (tmp_path / "binaries" / "evil.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "canary")))
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", "0001_pls")
        registry.register_with_chain(fitted["forest"], "s1.RandomForestRegressor", "model", 1, fold_id=0)
        item = {"artifact_id": "0001_pls$aaaaaaaaaaaa:0", "path": "evil.pkl", "format": "pickle", "class_name": "PLS"}
        assert registry.import_from_manifest([item], tmp_path / "binaries").refused == []
    return file


def test_a_report_says_what_loading_would_import_and_call(stranger: Path, tmp_path: Path) -> None:
    with Workspace(stranger, mode="ro") as workspace:
        (forest,) = workspace.records(class_name="RandomForestRegressor")
        assert workspace.inspect(forest.artifact_id).verdict == "known-safe"
        report = workspace.inspect("0001_pls$aaaaaaaaaaaa:0")
        assert report.verdict == "dangerous"
        assert [(one.module, one.name) for one in report.imports] == [("posix", "system")]
        with pytest.raises(ArtifactNotFoundError):
            workspace.inspect("0001_pls$bbbbbbbbbbbb:0")
    assert not (tmp_path / "canary").exists()


def test_the_command_line_shows_it(stranger: Path, tmp_path: Path) -> None:
    command = ["inspect", str(stranger), "0001_pls$aaaaaaaaaaaa:0"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "dangerous" in shown.stdout and "posix" in shown.stdout and "system" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert told["verdict"] == "dangerous" and told["class_name"] == "PLS"
    assert not (tmp_path / "canary").exists()
