"""A folder of a stranger: what is read lies in it, is a file, and not too much; what is the user's own comes whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifactdb import ArtifactLoader, InvalidValueError, UntrustedArtifactError, Workspace, WorkspaceNotFoundError
from artifactdb.artifacts.reading import MAX_TEXT_BYTES, MAX_VALUES

CHAIN = "s1.MinMaxScaler>s2.Ridge"
MODEL = "0001_ridge"
ENTRY = "library/trained/fullrun/nice"
SECRET = '{"auth": "SECRET"}'

Become = Callable[[str], None]


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Become:
    """Be somebody, with a home of their own."""
    return lambda name: monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / f"home of {name}"))


def study(file: Path, fitted: dict[str, Any], xy: tuple[Any, Any]) -> None:
    """A pipeline of two artifacts, a run, a prediction, and a library."""
    with Workspace(file) as workspace:
        with workspace.run("wheat"):
            registry = workspace.registry("wheat", MODEL)
            scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
            needed = [scaler.artifact_id]
            registry.register_with_chain(fitted["ridge"], CHAIN, "model", 2, fold_id=0, depends_on=needed)
        workspace.catalog.add(
            dataset_name="wheat", model_name="ridge", partition="val", y_true=xy[1][:4], y_pred=xy[1][:4]
        )
        workspace.library.save_fullrun("wheat", "nice", data={"X": xy[0]})
        workspace.library.save_pipeline_full("wheat", MODEL, "good")
        workspace.library.save_template({"alpha": 1}, "plain")


@pytest.fixture(scope="module")
def eves(tmp_path_factory: pytest.TempPathFactory, fitted: dict[str, Any], xy: tuple[Any, Any]) -> Path:
    """What Eve exported."""
    folder = tmp_path_factory.mktemp("eve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTDB_HOME", str(folder / "home"))
        study(folder / "eve.sqlite", fitted, xy)
        with Workspace(folder / "eve.sqlite") as workspace:
            workspace.export(folder / "sent")
    return folder / "sent"


@pytest.fixture
def exported(tmp_path: Path, become: Become, eves: Path) -> Path:
    """What Ada got from Eve; and be Ada from here on."""
    become("ada")
    return Path(shutil.copytree(eves, tmp_path / "sent"))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of Ada's beside the folder that she imports."""
    (tmp_path / "private").mkdir()
    path = tmp_path / "private" / "config.json"
    path.write_text(SECRET)
    return path


def link(path: Path, to: Path) -> None:
    """Put a link where a file or folder was."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def everything_in(workspace: Workspace, scratch: Path) -> bytes:
    workspace.export(scratch)
    return b"".join(path.read_bytes() for path in scratch.rglob("*") if path.is_file())


class TestNothingOutsideIsRead:
    @pytest.mark.parametrize(
        "name",
        [
            f"{ENTRY}/files/readme.txt", f"{ENTRY}/library_metadata.json", f"{ENTRY}/pipeline.json",
            f"{ENTRY}/metrics.json", f"{ENTRY}/content.json", f"{ENTRY}/artifacts.json",
            "library/templates/plain.json", f"runs/wheat/{MODEL}/manifest.yaml", f"runs/wheat/{MODEL}/pipeline.json",
            "runs/wheat/runs.json",
        ],
    )  # fmt: skip
    def test_a_link_to_a_file_of_the_user_is_refused(
        self, name: str, exported: Path, secret: Path, tmp_path: Path
    ) -> None:
        if name.endswith("/pipeline.json") and name.startswith("runs"):
            manifest = exported / name.replace("pipeline.json", "manifest.yaml")
            manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), "pipeline": None}))
        link(exported / name, secret)
        with Workspace(tmp_path / "ada.sqlite") as workspace:
            report = workspace.import_folder(exported)
            assert [what for what, why in report.refused if "outside the folder" in why], report
            assert b"SECRET" not in everything_in(workspace, tmp_path / "again")

    @pytest.mark.parametrize(
        "name", [ENTRY, f"{ENTRY}/files", "library/trained/fullrun", "library", "library/templates"]
    )
    def test_so_is_a_link_to_a_folder(self, name: str, exported: Path, tmp_path: Path) -> None:
        outside = tmp_path / "private"
        shutil.move(exported / name, outside)
        (exported / name).symlink_to(outside)
        with Workspace(tmp_path / "ada.sqlite") as workspace:
            report = workspace.import_folder(exported)
            names = {entry["name"] for entry in workspace.library.search()}
        assert any("outside the folder" in why for _, why in report.refused), report
        assert "nice" not in names or name == "library/templates"
        assert "plain" not in names or "templates" not in name

    def test_a_workspace_beside_the_folder_is_not_taken_for_one_in_it(self, exported: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "workspace").symlink_to(exported)
        with (
            Workspace(tmp_path / "ada.sqlite") as workspace,
            pytest.raises(InvalidValueError, match="nothing that can be imported"),
        ):
            workspace.import_folder(tmp_path / "empty")

    def test_predictions_of_a_folder_lie_in_it(self, exported: Path, tmp_path: Path) -> None:
        (tmp_path / "linked").mkdir()
        for file in (exported / "catalog").iterdir():
            (tmp_path / "linked" / file.name).symlink_to(file)
        with Workspace(tmp_path / "ada.sqlite") as workspace:
            with pytest.raises(InvalidValueError, match="outside the folder"):
                workspace.catalog.import_parquet(tmp_path / "linked")
            assert workspace.catalog.import_parquet(exported / "catalog")

    @pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
    def test_so_does_a_store_with_what_belongs_to_it(self, suffix: str, tmp_path: Path, secret: Path) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "store.sqlite").write_bytes(b"SQLite format 3\0")
        link(tmp_path / "store" / f"store.sqlite{suffix}", secret)
        with (
            Workspace(tmp_path / "ada.sqlite") as workspace,
            pytest.raises(InvalidValueError, match=r"outside the folder|nothing that can be imported"),
        ):
            workspace.import_folder(tmp_path / "store")


PIPES = (
    f"{ENTRY}/files/readme.txt", "library/trained/pipeline/good/pipeline.json", "library/templates/plain.json",
    f"runs/wheat/{MODEL}/metrics.json", "runs/wheat/runs.json", "catalog/predictions_meta.parquet",
)  # fmt: skip


def in_a_process(code: str, *arguments: object) -> str:
    """Run code that could wait for ever, or take all memory."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_not_waited_for(exported: Path, tmp_path: Path) -> None:
    for name in PIPES:
        (exported / name).unlink(missing_ok=True)
        os.mkfifo(exported / name)
    manifest = exported / f"runs/wheat/{MODEL}/manifest.yaml"
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), "metrics": None}))
    code = (
        "import sys; from artifactdb import Workspace\n"
        "with Workspace(sys.argv[1]) as workspace: print(workspace.import_folder(sys.argv[2]))"
    )
    said = in_a_process(code, tmp_path / "ada.sqlite", exported)
    assert said.count("no regular file") == len(PIPES), said


@pytest.mark.campaign
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is Linux that bounds data without what is mapped")
def test_a_large_file_is_not_read_whole(exported: Path, tmp_path: Path) -> None:
    with (exported / ENTRY / "files" / "large").open("wb") as stream:
        stream.truncate(600 << 20)
    code = (
        "import resource, sys; from artifactdb import Workspace\n"
        "with Workspace(sys.argv[1]) as workspace:\n"
        "    workspace.import_folder(sys.argv[3])\n"  # what it takes besides
        "    used = 1024 * int(open('/proc/self/status').read().split('VmData:')[1].split()[0])\n"
        "    resource.setrlimit(resource.RLIMIT_DATA, (used + (300 << 20),) * 2)\n"
        "    print(workspace.import_folder(sys.argv[2]))"
    )
    small = tmp_path / "small"
    shutil.copytree(exported, small, ignore=shutil.ignore_patterns("large", "fullrun"))
    said = in_a_process(code, tmp_path / "ada.sqlite", exported, small)
    assert "1 entries" in said and "refused" not in said, said


MANY_VALUES = "[" + "[]," * MAX_VALUES + "0]"
MANY_BYTES = '"' + "x" * MAX_TEXT_BYTES + '"'


@pytest.mark.parametrize(
    ("text", "bound"), [(MANY_VALUES, MAX_VALUES), (MANY_BYTES, MAX_TEXT_BYTES)], ids=["values", "bytes"]
)
def test_a_text_that_holds_too_much_is_refused_and_the_bound_is_said(
    text: str, bound: int, exported: Path, tmp_path: Path
) -> None:
    names = [f"{ENTRY}/pipeline.json", "library/templates/plain.json", "runs/wheat/runs.json"]
    names += [f"runs/wheat/{MODEL}/manifest.yaml"] if bound == MAX_TEXT_BYTES else []
    for name in names:
        (exported / name).write_text(text)
    with Workspace(tmp_path / "ada.sqlite") as workspace:
        report = workspace.import_folder(exported)
        assert [entry["name"] for entry in workspace.library.search()] == ["good"]
    assert len([why for _, why in report.refused if f"{bound:,}" in why]) == len(names), report


class TestWhatTheUserVouchesForComesWhole:
    @pytest.fixture
    def forged(self, tmp_path: Path, become: Become, fitted: dict[str, Any], xy: tuple[Any, Any]) -> Path:
        """Ada's own study as an export, and one that Eve made of it: the same content, but else hers."""
        become("ada")
        study(tmp_path / "ada.sqlite", fitted, xy)
        with Workspace(tmp_path / "ada.sqlite") as workspace:
            workspace.export(tmp_path / "own")
        eves = tmp_path / "eves"
        shutil.copytree(tmp_path / "own", eves)
        shutil.rmtree(eves / "runs")
        (eves / "runs").mkdir()
        entry = eves / "library/trained/pipeline/good"
        edit(entry / "artifacts.json", lambda items: [{**item, **EVES} for item in items])
        edit(
            entry / "library_metadata.json", lambda described: {**described, "description": "EVE", "created_at": "EVE"}
        )
        edit(entry / "pipeline.json", lambda _: {"steps": ["EVE"]})
        return eves

    @pytest.mark.parametrize("trust", [True, False], ids=["with trust", "as it is signed"])
    def test_an_import_takes_the_place_of_a_strangers_entry(self, trust: bool, forged: Path, tmp_path: Path) -> None:
        with Workspace(tmp_path / "other.sqlite") as workspace:
            workspace.import_folder(forged)
            with pytest.raises(UntrustedArtifactError):
                workspace.library.load("good")
            workspace.import_folder(tmp_path / "own", trust=trust)
            assert "EVE" not in told(workspace)
            assert len(workspace.library.load("good")) == 2
            before = workspace.library.search()
            assert workspace.import_folder(tmp_path / "own", trust=trust).entries == 0
            workspace.import_folder(forged)  # and hers takes no place of Ada's
            assert workspace.library.search() == before and "EVE" not in told(workspace)

    def test_so_does_a_merge(self, forged: Path, tmp_path: Path) -> None:
        with Workspace(tmp_path / "other.sqlite") as workspace:
            workspace.import_folder(forged)
            merged = workspace.merge(tmp_path / "ada.sqlite")
            assert not [conflict for conflict in merged.conflicts if conflict.name == "good"]
            assert "EVE" not in told(workspace)
            assert len(workspace.library.load("good")) == 2

    def test_an_entry_without_the_users_signature_takes_no_place(self, forged: Path, tmp_path: Path) -> None:
        with Workspace(tmp_path / "other.sqlite") as workspace:
            workspace.import_folder(forged)
            edit(forged / "library/trained/pipeline/good/library_metadata.json", lambda it: {**it, "description": "2"})
            assert workspace.import_folder(forged).entries == 0
            assert workspace.library.get("good")["description"] == "EVE"


EVES = {"signature": "", "params": {"alpha": "EVE"}, "custom_name": "EVE", "depends_on": []}


def told(workspace: Workspace) -> str:
    records = [record.to_dict() for record in workspace.library.records("good")]
    return json.dumps([workspace.library.get("good"), records])


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


class TestAManifest:
    VALUES = (5, -1, 1.5, True, [[]], [1, "a", {}], {"a": []}, "\0", "\ud800", 10**30, float("nan"), b"x", "x" * 10**5)

    @pytest.mark.parametrize(
        "name",
        ["artifact_id", "content_hash", "path", "branch_path", "depends_on", "format_version", "nirs4all_version",
         "params", "dataset", "environment", "signature", "step_index", "chain_path", "meta_config", "created_at"],
    )  # fmt: skip
    def test_an_item_with_a_value_of_another_kind_is_refused_and_the_rest_comes(
        self, name: str, fitted: dict[str, Any], tmp_path: Path
    ) -> None:
        import joblib

        joblib.dump(fitted["ridge"], tmp_path / "ridge.joblib")
        good = {"artifact_id": f"{MODEL}$abcdefabcdef:all", "path": "ridge.joblib", "dataset": "wheat"}
        for number, value in enumerate(self.VALUES):
            bad = {**good, "artifact_id": f"{MODEL}$abcdefabcdef:{number}", name: value}
            with closing(ArtifactLoader.from_manifest([good, bad], tmp_path)) as loader:
                assert good["artifact_id"] in [record.artifact_id for record in loader.get_all_records()]

    @pytest.mark.parametrize(
        "manifest",
        [5, None, "x", [5], {"items": 5}, {"artifacts": 5}, {"dataset": [], "items": [5]},
         {"dataset": "\0", "items": []}, {"dataset": ["wheat"], "items": []}],
    )  # fmt: skip
    def test_what_is_no_manifest_is_an_invalid_value(self, manifest: Any, tmp_path: Path) -> None:
        with pytest.raises(InvalidValueError):
            ArtifactLoader.from_manifest(manifest, tmp_path)


def test_a_folder_of_predictions_without_files_is_told(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ada.sqlite") as workspace, pytest.raises(WorkspaceNotFoundError):
        workspace.catalog.import_parquet(tmp_path)
