"""What the documents say is true: examples run, commands exist, help pages carry examples."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from typer.testing import CliRunner

import artifactdb
from artifactdb import PipelineRunner
from artifactdb.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readme_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promised = re.search(r"# (0001_pls\$\w+:4)", README)
    assert promised is not None and printed[0] == promised[1]
    assert len(printed) == 6
    write_what_the_commands_take(names)
    for command in blocks("console")[2].splitlines():
        program, *arguments = shlex.split(command)
        if program == "artifactdb":
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (command, result.output, result.exception)
    names["registry"].close()
    names["loader"].close()
    names["runner"].close()
    promised = re.search(r'runner.predict\("(0001_first_\w+)"', README)
    assert promised is not None
    with PipelineRunner("diabetes.sqlite") as next_month:
        assert np.array_equal(next_month.predict(names["best_model"], names["X"][:10]), names["y_pred"])
        assert len(next_month.predict(promised[1], names["X"])) == len(names["X"])
    assert names["winner"].predict(names["X"]).tolist() == names["search"].predict(names["X"]).tolist()
    named = re.search(r"`(0002_ridge_\w+)`", README)
    assert named is not None
    assert named[1] in {pipeline.pipeline_id for pipeline in names["workspace"].pipelines()}
    names["workspace"].close()
    names["colleague"].close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "as-it-was.catalog", "as-it-was.sqlite", "backups", "diabetes.catalog", "diabetes.sqlite", "new.csv",
        "packed.sqlite", "predictions.csv", "ridge_v1.catalog",
        "ridge_v1.sqlite", "search.joblib", "searches.catalog", "searches.sqlite", "steps.yaml", "study",
        "study-for-the-post.sqlite", "study-monday.catalog", "study-monday.sqlite", "study.catalog", "study.sqlite",
        "wheat.catalog", "wheat.csv", "wheat.sqlite",
    ]  # fmt: skip


STEPS = """
- sklearn.preprocessing.StandardScaler
- {class: sklearn.model_selection.KFold, params: {n_splits: 3}}
- {model: sklearn.cross_decomposition.PLSRegression, params: {n_components: 2}}
"""


def write_what_the_commands_take(names: dict[str, Any]) -> None:
    Path("steps.yaml").write_text(STEPS)
    columns = [f"nm{index}" for index in range(names["X"].shape[1])]
    np.savetxt("new.csv", names["X"][:9], delimiter=",", header=",".join(columns), comments="")
    spectra = np.column_stack([names["y"], names["X"]])
    np.savetxt("wheat.csv", spectra, delimiter=",", header=",".join(["protein", *columns]), comments="")
    joblib.dump(names["search"], "search.joblib")


def test_the_gate_runs_the_readmes_test_command() -> None:
    command = blocks("console")[1].strip().rpartition("&& ")[2]
    assert command in (ROOT / ".ci" / "run").read_text()


def test_every_command_has_help_with_an_example_and_takes_json() -> None:
    commands = {command.name or command.callback.__name__: command for command in app.registered_commands}  # type: ignore[union-attr]
    assert set(commands) == {
        "demo", "init", "ls", "show", "stats", "query", "orphans", "gc", "optimize", "verify", "backup", "backups",
        "restore", "top", "predictions", "sql", "runs", "pack", "merge", "export", "import", "log", "run", "inspect",
        "predict", "trust", "sign", "history", "recover", "protect",
    }  # fmt: skip
    library = [f"library {name}" for name in ("ls", "show", "save", "export", "rm")]
    keys = [f"keys {name}" for name in ("make", "show", "trust", "forget")]
    for name in [*commands, "catalog flush", "catalog compact", "catalog verify", *library, *keys]:
        page = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        assert f"artifactdb {name}" in page and "Example" in page, name
        assert "--json" in page, name


def test_the_changelog_begins_with_this_version() -> None:
    entry = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert entry is not None and entry[1] == artifactdb.__version__


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in artifactdb.__all__:
        value = getattr(artifactdb, name)
        assert name == "__version__" or value.__doc__, name


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_importing_costs_no_heavy_library(in_new_process: Any) -> None:
    code = """
import sys, artifactdb
from artifactdb import ArtifactRegistry, Workspace, ArtifactLoader
print([name for name in ("numpy", "pandas", "sklearn", "duckdb", "dill", "joblib", "rich") if name in sys.modules])
"""
    assert in_new_process(code, anew=True) == "[]"
