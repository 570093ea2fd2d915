"""The library: configurations kept under a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from artifactdb import InvalidValueError, LibraryEntryNotFoundError, LibraryManager, Workspace

CONFIG = [{"class": "sklearn.preprocessing.MinMaxScaler"}, {"model": "PLS", "params": {"n_components": 10}}]


def test_a_template_comes_back_in_another_process(tmp_path: Path, in_new_process: Any) -> None:
    library = LibraryManager(tmp_path / "study" / "library")
    library.save_template(pipeline_config=CONFIG, name="baseline_pls", description="PLS with SNV")
    assert (tmp_path / "study" / "workspace.sqlite").exists()
    code = (
        "import json, sys; from artifactdb import LibraryManager; "
        "print(json.dumps(LibraryManager(sys.argv[1]).load_template('baseline_pls')))"
    )
    assert json.loads(in_new_process(code, tmp_path / "study" / "library")) == CONFIG
    library.database.close()


def test_entries_are_listed_and_searched(workspace: Workspace) -> None:
    library = workspace.library
    first = library.save_template(CONFIG, "b", "second", category="calibration", tags=["nir", "pls"])
    library.save_template({}, "a", "first")
    assert [entry["name"] for entry in library.list_templates()] == ["a", "b"]
    assert {"name", "description", "type", "created_at", "source", "n_features", "config"} <= first.keys()
    assert [entry["name"] for entry in library.list_templates(tag="nir")] == ["b"]
    assert [entry["name"] for entry in library.list_templates(category="")] == ["a"]
    found = workspace.sql("SELECT name FROM library WHERE tags LIKE '%pls%'")
    assert found.rows == [("b",)]


def test_saving_again_replaces_and_keeps_when_it_was_made(workspace: Workspace) -> None:
    first = workspace.library.save_template(CONFIG, "a")
    again = workspace.library.save_template({"other": 1}, "a")
    assert workspace.library.load_template("a") == {"other": 1}
    assert again["created_at"] == first["created_at"] <= again["saved_at"]
    assert len(workspace.library.list_templates()) == 1


def test_bad_input_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidValueError, match="cannot be written as JSON"):
        workspace.library.save_template({"model": object()}, "a")
    with pytest.raises(InvalidValueError, match="name"):
        workspace.library.save_template({}, " ")
    with pytest.raises(LibraryEntryNotFoundError, match="none yet"):
        workspace.library.load_template("a")
    workspace.library.save_template({}, "a")
    with pytest.raises(FileNotFoundError, match="It has a"):
        workspace.library.delete_template("b")
    workspace.library.delete_template("a")
    assert workspace.library.list_templates() == []
