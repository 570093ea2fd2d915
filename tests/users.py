"""Who uses artifactdb in a test: each with a folder of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactdb import Workspace

CHAIN = "s1.MinMaxScaler>s2.Ridge"


def as_(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be somebody, from now on; gives the folder."""
    home = folder / f"home of {name}"
    monkeypatch.setenv("ARTIFACTDB_HOME", str(home))
    return home


def model_id(workspace: Workspace) -> str:
    (record,) = workspace.records(class_name="Ridge")
    return record.artifact_id
