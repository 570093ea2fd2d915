"""Trees of manifests: the seed's layout as artifactdb exports it, and the workspaces of nirs4all 0.6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artifactdb.artifacts.folder import Folder
from artifactdb.artifacts.foreign import record_of
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, InvalidValueError, StorageError
from artifactdb.interop.classes import class_of, read_head
from artifactdb.interop.items import Item, Pipeline, of_older
from artifactdb.interop.report import ImportReport
from artifactdb.interop.texts import parse_yaml
from artifactdb.records import ArtifactRecord
from artifactdb.runs.manifests import enter_run
from artifactdb.runs.store import key_of_run

MANIFEST, CONFIGURATION, METRICS, RUNS = "manifest.yaml", "pipeline.json", "metrics.json", "runs.json"


class Tree:
    """A folder with ``runs/{dataset}/{pipeline}/manifest.yaml``.

    Parameters
    ----------
    path : Path
    report : ImportReport
        Told what cannot be read.
    dataset : str, optional
        Only this one.
    """

    def __init__(self, path: Path, report: ImportReport, dataset: str | None = None) -> None:
        self._folder = Folder(path)
        self._report = report
        self._dataset = dataset
        self._used: set[Path] = set()
        self.datasets: set[str] = set()

    def pipeline_folders(self) -> list[Path]:
        """Give the folders of pipelines, by dataset and name."""
        return [
            inner
            for dataset in self._folder.subfolders(self._folder.path / "runs")
            for inner in self._folder.subfolders(dataset)
            if (inner / MANIFEST).exists() or (inner / CONFIGURATION).exists()
        ]

    # -- runs ---------------------------------------------------------------------------------------

    def enter_runs(self, database: Database) -> None:
        """Enter what ``runs.json`` says of each dataset."""
        for folder in self._folder.subfolders(self._folder.path / "runs"):
            file = folder / RUNS
            if not file.exists():
                continue
            try:
                runs = self._folder.json(file)
                if not isinstance(runs, list):
                    raise InvalidValueError("it holds no list of runs.")
            except (ArtifactDBError, OSError) as error:
                self._refuse(file, error)
                continue
            for run in runs:
                self._enter_run(database, run, file)

    def _enter_run(self, database: Database, run: Any, file: Path) -> None:
        try:
            if not isinstance(run, Mapping):
                raise InvalidValueError(f"{str(run)[:80]!r} is no run.")
            if self._dataset in (None, run.get("dataset")):
                count_run(database, run, self._report)
        except StorageError:
            raise
        except ArtifactDBError as error:
            self._refuse(file, error)

    # -- pipelines ----------------------------------------------------------------------------------

    def pipelines(self) -> Iterator[Pipeline]:
        """Give the pipelines with their items, each read when it is asked for."""
        for folder in self.pipeline_folders():
            try:
                manifest = self._manifest_of(folder)
            except (ArtifactDBError, OSError) as error:
                self._refuse(folder / MANIFEST, error)
                continue
            self.datasets.add(manifest["dataset"])
            if self._dataset in (None, manifest["dataset"]):
                yield self._pipeline(folder, manifest)

    def _manifest_of(self, folder: Path) -> dict[str, Any]:
        manifest: Any = {}
        if (folder / MANIFEST).exists():
            manifest = parse_yaml(self._folder.text(folder / MANIFEST), MANIFEST)
            if not isinstance(manifest, dict) or not all(isinstance(key, str) for key in manifest):
                raise InvalidValueError("it holds no mapping of a pipeline.")
        for key, file in (("pipeline", folder / CONFIGURATION), ("metrics", folder / METRICS)):
            if not manifest.get(key) and file.exists():
                try:
                    value = self._folder.json(file)
                    manifest[key] = {"steps": value} if key == "pipeline" else value
                except (ArtifactDBError, OSError) as error:
                    self._refuse(file, error)
        for key, default in (("dataset", folder.parent.name), ("pipeline_id", folder.name)):
            manifest[key] = manifest.get(key) or default
            if not isinstance(manifest[key], str):
                raise InvalidValueError(f"{key} is text, not {str(manifest[key])[:80]!r}.")
        checked: dict[str, Any] = manifest
        return checked

    def _pipeline(self, folder: Path, manifest: dict[str, Any]) -> Pipeline:
        dataset, pipeline_id = manifest["dataset"], manifest["pipeline_id"]
        listed = manifest.pop("artifacts", None)
        values = listed.get("items") if isinstance(listed, Mapping) else listed
        if values is not None and not isinstance(values, list):
            self._refuse(folder / MANIFEST, "its artifacts are no list.")
            values = None
        places = self._places(folder, dataset)
        items = [self._item(each, position, dataset, pipeline_id, places) for position, each in enumerate(values or [])]
        return Pipeline(dataset, pipeline_id, items, manifest)

    def _places(self, folder: Path, dataset: str) -> list[Path]:
        """Give where files of a pipeline may lie: here, in nirs4all 0.6, and in what came before it."""
        binaries = self._folder.path / "binaries"
        places = [binaries / folder.parent.name]
        # A name that is no folder's, as ``..``, is for the record to be refused for.
        if "/" not in dataset and dataset not in ("", ".", "..") and dataset != folder.parent.name:
            places.append(binaries / dataset)
        return [*places, folder.parent / "_binaries", folder, self._folder.path]

    def _item(self, values: Any, position: int, dataset: str, pipeline_id: str, places: list[Path]) -> Item:
        named = values.get("artifact_id") or values.get("path") if isinstance(values, Mapping) else values
        try:
            if not isinstance(values, Mapping):
                raise InvalidValueError("it is no mapping of a record.")
            if "artifact_id" not in values and "hash" in values:
                found = class_of(read_head(self._folder.find(str(values.get("path")), places)))
                values = of_older(values, pipeline_id, position, found)
            record, note = record_of(values, dataset, pipeline_id)
        except (ArtifactDBError, OSError) as error:
            return Item(ArtifactRecord(artifact_id=str(named)[:200]), problem=str(error))
        item = Item(record, note=note)
        try:
            item.file = self._folder.find(record.path, places)
            item.parts = self._folder.parts(values.get("parts"), places)
            self._used |= {item.file, *item.parts.values()}
        except ArtifactDBError as error:
            item.problem = str(error)
        return item

    # -- what is left -------------------------------------------------------------------------------

    def note_unnamed_files(self) -> None:
        """Say how many files no manifest named."""
        for folder in self._folder.subfolders(self._folder.path / "binaries"):
            unnamed = [file for file in sorted(folder.iterdir()) if file.is_file() and file.resolve() not in self._used]
            if unnamed and self._dataset in (None, folder.name):
                examples = ", ".join(file.name for file in unnamed[:3])
                self._report.notes.append(
                    (self._folder.named(folder), f"{len(unnamed)} files that no manifest names: {examples}.")
                )

    def _refuse(self, file: Path, reason: object) -> None:
        self._report.refused.append((self._folder.named(file), str(reason)))


def count_run(database: Database, run: Mapping[str, Any], report: ImportReport) -> None:
    """Enter a run, and count it as new or as there already."""
    is_new = key_of_run(database, str(run.get("run_id") or ""), str(run.get("dataset") or "")) is None
    if is_new:
        with database.transaction():
            enter_run(database, run)
    report.count("runs", new=is_new)
