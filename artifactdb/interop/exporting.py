"""A workspace goes out as the folders of the seed, which nirs4all reads and ``importing`` takes back.

All is written to a folder of another name, which gets its own when it is whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from artifactdb.artifacts.find import StoredRecord, filtered
from artifactdb.blobs import store as blobs
from artifactdb.catalog.asking import ask
from artifactdb.catalog.catalog import Catalog
from artifactdb.catalog.engine import literal
from artifactdb.catalog.files import catalog_folder, device_errors
from artifactdb.catalog.pairs import write_pair
from artifactdb.catalog.views import state_of
from artifactdb.database import Database, disk
from artifactdb.database.translate import interprets
from artifactdb.errors import InvalidValueError
from artifactdb.interop.best import export_best
from artifactdb.interop.report import ExportReport
from artifactdb.interop.texts import write_json
from artifactdb.interop.tree import CONFIGURATION, MANIFEST, METRICS, RUNS
from artifactdb.library import entries
from artifactdb.library.folders import export_entries
from artifactdb.runs import store as runs
from artifactdb.runs.manifests import manifest_of, run_dict
from artifactdb.runs.naming import FolderNames

Progress = Callable[[int, int], None]

_LAYOUTS = ("v3",)
_FOLDERS = ("runs", "binaries", "exports", "library", "catalog")
_PARTS = """
SELECT bp.part_key, lower(hex(b.content_hash)) FROM blob_parts AS bp JOIN blobs AS b ON b.blob_key = bp.part_key
WHERE bp.blob_key = ? ORDER BY bp.position
"""
_COUNT = """
SELECT count(*) FROM records WHERE ?1 IS NULL OR dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?1)
"""
_COUNT_FILES = """
WITH held AS (
  SELECT r.dataset_key, r.blob_key FROM records AS r
  UNION SELECT r.dataset_key, bp.part_key FROM records AS r JOIN blob_parts AS bp ON bp.blob_key = r.blob_key)
SELECT count(*), coalesce(sum(b.size_bytes), 0) FROM held JOIN blobs AS b ON b.blob_key = held.blob_key
WHERE ?1 IS NULL OR held.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?1)
"""
"""Each dataset has its own files, and each content in it is one."""
_SHORT_HASH = 12


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes plain values, each in full: a reader who allows no aliases can read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@interprets
def export(
    database: Database,
    catalog: Catalog,
    path: Path,
    *,
    layout: str = "v3",
    dataset: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write ``runs/``, ``binaries/``, ``exports/``, ``library/`` and ``catalog/``, all of one state.

    Parameters
    ----------
    path : Path
        A folder that is not there, or empty.
    layout : {"v3"}
    dataset : str, optional
        Only this one; the library is left out then.
    overwrite : bool, default False
        Replace an earlier export.
    dry_run : bool, default False
        Only count.
    progress : callable, optional
        Called with (artifacts done, artifacts in all).

    Raises
    ------
    InvalidValueError
        When the target is there, or holds something else than an export.
    StorageFullError
        When the disk is full; nothing is left behind then.
    """
    if layout not in _LAYOUTS:
        raise InvalidValueError(f"layout is one of {', '.join(_LAYOUTS)}, not {layout!r}.")
    target = path.absolute()
    _require_free(target, database, overwrite=overwrite)
    report = ExportReport(target, layout)
    if dry_run:
        _count(database, catalog, dataset, report)
        return report
    with device_errors(target.parent), _unfinished(target) as folder, catalog.one_state():
        writer = _Writer(database, folder, report, progress, dataset)
        for name in _datasets(database, dataset):
            writer.write_dataset(name)
            export_best(catalog, folder / "exports", name, writer.names)
        _export_predictions(catalog, folder / "catalog", dataset, report)
        if dataset is None:
            report.entries = export_entries(database, folder / "library")
    return report


def _datasets(database: Database, dataset: str | None) -> list[str]:
    names = [name for (name,) in database.rows("SELECT name FROM datasets ORDER BY name")]
    if dataset is not None and dataset not in names:
        raise InvalidValueError(f"there is no dataset {dataset!r}.", hint=f"There are {', '.join(names)}.")
    return names if dataset is None else [dataset]


@interprets
def _count(database: Database, catalog: Catalog, dataset: str | None, report: ExportReport) -> None:
    """Count what would be written."""
    with database.reading():
        for name in _datasets(database, dataset):
            report.runs += len(runs.runs(database, name))
            report.pipelines += len(runs.pipelines(database, name))
        report.artifacts = database.value(_COUNT, (dataset,))
        ((report.files, report.size_bytes),) = database.rows(_COUNT_FILES, (dataset,))
        report.entries = 0 if dataset else len(entries.found(database))
    counted = "SELECT count(*) FROM predictions WHERE ? IS NULL OR dataset_name = ?"
    report.predictions = ask(catalog._store, counted, [dataset, dataset])[0][0]


# -- the target -------------------------------------------------------------------------------------


def _require_free(target: Path, database: Database, *, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise InvalidValueError(f"{target} is there, and is no folder.", hint="Name a new one.")
    present = sorted(inner.name for inner in target.iterdir())
    if not present:
        return
    if not overwrite:
        raise InvalidValueError(
            f"{target} is not empty.", hint="Name a new folder, or pass overwrite=True (--overwrite)."
        )
    others = [name for name in present if name not in _FOLDERS]
    holds = [file for file in (database.path, catalog_folder(database.path)) if file.is_relative_to(target.resolve())]
    if others or holds:
        named = ", ".join(others[:3]) or holds[0].name
        raise InvalidValueError(
            f"{target} holds more than an export ({named}), and is not overwritten.", hint="Name a new folder."
        )


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Give a folder to write to, which becomes the target when the block ends well, and else goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f"{target.name}.unfinished")
    replaced = target.with_name(f"{target.name}.replaced")
    _remove(folder)
    try:
        folder.mkdir()
        yield folder
        if hasattr(os, "sync"):
            os.sync()  # thousands of files at once, rather than one by one
        if target.exists():
            _remove(replaced)
            target.rename(replaced)
        folder.rename(target)
        disk.sync(target.parent)
    except BaseException:
        _remove(folder)
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    _remove(replaced)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


# -- what is written --------------------------------------------------------------------------------


class _Writer:
    """Writes runs, pipelines and the bytes of artifacts.

    Attributes
    ----------
    names : FolderNames
        Of datasets and pipelines.
    """

    def __init__(
        self, database: Database, folder: Path, report: ExportReport, progress: Progress | None, dataset: str | None
    ) -> None:
        self._database = database
        self._folder = folder
        self._report = report
        self._progress = progress
        self._total = database.value(_COUNT, (dataset,))
        self.names = FolderNames()

    def write_dataset(self, dataset: str) -> None:
        """Write everything of a dataset but its predictions."""
        folder = self._folder / "runs" / self.names.of(dataset)
        folder.mkdir(parents=True)
        entries = [run_dict(run) for run in runs.runs(self._database, dataset)]
        if entries:
            write_json(folder / RUNS, entries)
            self._report.runs += len(entries)
        binaries = _Binaries(self._database, self._folder / "binaries" / folder.name, self._report)
        names = FolderNames()
        for pipeline in runs.pipelines(self._database, dataset):
            records = filtered(self._database, dataset=dataset, pipeline_id=pipeline.pipeline_id)
            manifest = manifest_of(pipeline, records)
            manifest["artifacts"]["items"] = [self._item(record, binaries) for record in records]
            inner = folder / names.of(pipeline.pipeline_id)
            inner.mkdir()
            with (inner / MANIFEST).open("w", encoding="utf-8") as stream:
                yaml.dump(manifest, stream, _Dumper, sort_keys=False, allow_unicode=True)
            if pipeline.configuration is not None:
                write_json(inner / CONFIGURATION, pipeline.configuration)
            write_json(inner / METRICS, pipeline.metrics)
            self._report.pipelines += 1

    def _item(self, record: StoredRecord, binaries: _Binaries) -> dict[str, Any]:
        item = {**record.to_dict(), **binaries.write(record)}
        self._report.artifacts += 1
        if self._progress:
            self._progress(self._report.artifacts, self._total)
        return item


class _Binaries:
    """The files of one dataset: each content once, under the name of the record that came first."""

    def __init__(self, database: Database, folder: Path, report: ExportReport) -> None:
        self._database = database
        self._folder = folder
        self._report = report
        self._names = FolderNames()
        self._given: dict[str, str] = {}
        """Content hash by name."""

    def write(self, record: StoredRecord) -> dict[str, Any]:
        """Write the bytes of a record unless they are there; give what its manifest says of the files."""
        digest = record.content_hash.removeprefix("sha256:")
        stem, _, extension = record.path.rpartition(".")
        name = self._write(record.blob_key, digest, stem.removesuffix(digest[:_SHORT_HASH]), extension)
        parts = [
            {"content_hash": f"sha256:{part}", "path": self._write(key, part, "array_", "bin")}
            for key, part in self._database.rows(_PARTS, (record.blob_key,))
        ]
        return {"path": name, "parts": parts} if parts else {"path": name}

    def _write(self, blob_key: int, digest: str, stem: str, extension: str) -> str:
        name = self._names.of(f"{stem}{digest[:_SHORT_HASH]}.{extension}")
        if self._given.get(name, digest) != digest:
            name = self._names.of(f"{stem}{digest}.{extension}")
        if name not in self._given:
            self._given[name] = digest
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / name).open("wb") as stream:
                stream.writelines(blobs.pieces(self._database, blob_key))
                self._report.size_bytes += stream.tell()
            self._report.files += 1
        return name


def _export_predictions(catalog: Catalog, folder: Path, dataset: str | None, report: ExportReport) -> None:
    where = "true" if dataset is None else f"dataset_name = {literal(dataset)}"
    store = catalog._store
    folder.mkdir()
    with state_of(catalog.database, store.inspector) as state:
        written = write_pair(store, state, folder, where)
    if "meta" in written:
        report.predictions = written["meta"][1].rows
