"""A workspace full of attacks: everything but loading works on it, nothing of it runs, and loading is refused."""

from __future__ import annotations

import copyreg
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from artifactdb import ArtifactDBError, UntrustedArtifactError, Workspace
from artifactdb.artifacts.place import Place
from artifactdb.artifacts.save import Payload, save_content
from artifactdb.cli.app import app
from artifactdb.content import Content, Segment
from artifactdb.formats.container import pack
from artifactdb.trust.pickles.restricted import FORMATS as RESTRICTED
from tests.pickle_attacks import ATTACKS, FURTHER
from tests.test_trust_scan import HARMLESS

FORMATS = ("pickle", "joblib", "pickle5", "dill", "cloudpickle")


@pytest.fixture(autouse=True)
def registered_extension() -> Iterator[None]:
    copyreg.add_extension("posix", "system", 0xF7)
    yield
    copyreg.remove_extension("posix", "system", 0xF7)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def strangers(tmp_path: Path, canary: Path) -> Path:
    """Every attack in every format, and in the library."""
    path = tmp_path / "post" / "stranger.sqlite"
    attacks = {name: write(canary) for name, (_, write) in ATTACKS.items()} | FURTHER
    with Workspace(path) as workspace, workspace.transaction():
        for number, (name, data) in enumerate(sorted(attacks.items())):
            for position, format in enumerate(FORMATS):
                content = pack(data, []) if format in ("pickle5", "dill") else Content([Segment(data)])
                payload = Payload(content, format, {"python": "3.11"}, vouched=False)
                place = Place(
                    dataset="wheat", pipeline_id=f"{number:04}_attack", artifact_type="model", step_index=1,
                    artifact_id=f"{number:04}_attack${position:012x}:all", chain_path=f"s1.A{number}x{position}",
                )  # fmt: skip
                save_content(workspace.database, payload, place, {"attack": name}, "PLSRegression")
        workspace.library.save_pipeline_full("wheat", "0000_attack", "kept")
    return path


LOOKS: dict[str, Callable[[Workspace, Path], Any]] = {
    "records": lambda workspace, _: [repr(record) + record._repr_html_() for record in workspace.records()],
    "query": lambda workspace, _: workspace.query("SELECT * FROM artifacts")._repr_html_(),
    "sql": lambda workspace, _: workspace.sql("SELECT class_name, count(*) FROM artifacts GROUP BY 1"),
    "stats": lambda workspace, _: workspace._repr_html_(),
    "verify": lambda workspace, _: workspace.verify(),
    "signatures": lambda workspace, _: workspace.signatures(),
    "history": lambda workspace, _: workspace.history(),
    "inspect": lambda workspace, _: [workspace.inspect(record.artifact_id) for record in workspace.records()],
    "backup": lambda workspace, folder: workspace.backup(folder / "backup.sqlite"),
    "pack": lambda workspace, folder: workspace.pack(folder / "packed.sqlite"),
    "sqlite-utils": lambda workspace, _: list(workspace.sqlite_utils()["records"].rows),
    "library": lambda workspace, folder: [
        workspace.library.get("kept"), workspace.library.records("kept"),
        workspace.library.export("kept", folder / "cut.sqlite"),
    ],
}  # fmt: skip


@pytest.mark.campaign
def test_looking_runs_nothing(strangers: Path, canary: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with Workspace(strangers, mode="ro") as workspace:
        for name, look in LOOKS.items():
            assert look(workspace, tmp_path / "out") is not None
            assert not canary.exists(), name
        assert workspace.export(tmp_path / "tree").artifacts == len(workspace.records())
    with Workspace(tmp_path / "bobs.sqlite") as workspace:
        assert workspace.merge(strangers).added["artifacts"] == len(workspace.records())
    with Workspace(tmp_path / "imported.sqlite") as workspace:
        workspace.import_folder(tmp_path / "tree")
        assert workspace.records()
    for command in ("ls", "stats", "history", "runs", "orphans"):
        assert CliRunner().invoke(app, [command, str(strangers)]).exit_code == 0, command
    assert not canary.exists()


@pytest.mark.campaign
def test_loading_is_refused_whatever_the_way(
    strangers: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "team.toml").write_text('allow = ["sklearn.*", "numpy.*"]')
    for config in ("", str(tmp_path / "team.toml")):
        if config:
            monkeypatch.setenv("ARTIFACTDB_CONFIG", config)
        with Workspace(strangers, mode="ro") as workspace:
            loader = workspace.loader("wheat")
            for record in workspace.records():
                within_list = config and record.format in RESTRICTED
                try:
                    loader.load_by_id(record.artifact_id)
                except ArtifactDBError as error:
                    assert within_list or isinstance(error, UntrustedArtifactError)
                else:
                    assert within_list and record.params["attack"] in HARMLESS, (record.params, record.format)
                assert not canary.exists(), (record.params, record.format)
            with pytest.raises(UntrustedArtifactError):
                workspace.library.load("kept")
        assert not canary.exists()


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_the_pages_of_a_data_viewer_run_nothing(strangers: Path, canary: Path) -> None:
    """Datasette shows the file in a process of its own; texts of a stranger are shown, and are no part of the page."""
    with Workspace(strangers) as workspace:
        tables = [row[0] for row in workspace.query("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        with workspace.transaction():
            workspace.database.rows(
                "UPDATE records SET custom_name = '<script>alert(1)</script>', class_name = custom_name"
            )
        workspace.library.save_template(["Ridge"], "baseline", "<img src=x onerror=alert(1)>")
    pages = [
        "/stranger", "/stranger/artifacts?_size=max", "/stranger/library",
        *(f"/stranger/{table}" for table in tables if not table.startswith("sqlite_")), "/stranger/records/1",
        "/stranger/events", "/stranger.json?sql=SELECT+custom_name,payload+FROM+records,chunks+LIMIT+1",
    ]  # fmt: skip
    for page in pages:
        got = subprocess.run(
            [sys.executable, "-m", "datasette", "--get", page, "-i", str(strangers)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert got.returncode == 0 and got.stdout, (page, got.stderr[-500:])
        assert "<script>alert" not in got.stdout or page.split("?")[0].endswith(".json"), page
        assert "<img src=x" not in got.stdout, page
        assert not canary.exists(), page
