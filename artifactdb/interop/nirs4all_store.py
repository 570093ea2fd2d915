"""The store of nirs4all 1.4: ``store.sqlite``, ``artifacts/`` by content hash, ``arrays/{dataset}.parquet``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifactdb.artifacts.folder import Folder
from artifactdb.artifacts.foreign import record_of
from artifactdb.artifacts.reading import parse_json
from artifactdb.catalog.catalog import Catalog
from artifactdb.catalog.columns import lower_is_better
from artifactdb.database import Database
from artifactdb.database.foreign import ForeignFile, open_foreign
from artifactdb.errors import ArtifactDBError, InvalidValueError, StorageError
from artifactdb.ids import is_v3_artifact_id, parse_artifact_id_v3
from artifactdb.interop.chain_search import ChainSearch
from artifactdb.interop.entering import Entering, Progress
from artifactdb.interop.items import Item, Pipeline
from artifactdb.interop.predictions import enter
from artifactdb.interop.report import ImportReport
from artifactdb.interop.store_predictions import Arrays, predictions
from artifactdb.interop.store_records import Artifacts, Chain
from artifactdb.interop.tree import count_run
from artifactdb.records import ArtifactRecord

FILE = "store.sqlite"
_NEEDED = {
    "runs": ("run_id", "name"),
    "pipelines": ("pipeline_id", "name", "dataset_name"),
    "artifacts": ("artifact_id", "artifact_path", "content_hash"),
    "predictions": ("prediction_id", "pipeline_id", "dataset_name", "model_name", "fold_id", "partition"),
}
_READ = ("runs", "projects", "pipelines", "chains", "artifacts", "predictions")
_TIMES = ("created_at", "completed_at", "updated_at")
_JSON_SHAPED = ("{", "[")

Row = dict[str, Any]


def import_store(
    database: Database,
    catalog: Catalog,
    path: Path,
    dataset: str | None,
    report: ImportReport,
    progress: Progress | None,
) -> set[str]:
    """Enter everything that a store holds; give the names of its datasets."""
    folder = Folder(path)
    for suffix in ("", "-wal", "-shm", "-journal"):  # which are copied, or read with it
        folder.within(path / f"{FILE}{suffix}")
    with open_foreign(path / FILE) as file:
        file.require(_NEEDED, "a store of nirs4all 1.4")
        tables = Tables.of(file)
        store = _Store(folder, tables, report, dataset)
        with database.transaction():
            store.enter_runs(database)
        Entering(database, report).enter(store.pipelines(), progress, len(tables.pipelines))
        rows = {
            str(row["prediction_id"]): row for row in file.rows("predictions") if dataset in (None, row["dataset_name"])
        }
    store.enter_predictions(catalog, rows)
    return {str(row["dataset_name"]) for row in tables.pipelines.values()}


@dataclass(slots=True)
class Tables:
    """The tables of a store but its predictions, JSON parsed and times in ISO 8601.

    Attributes
    ----------
    chains, artifacts : dict
        By pipeline; artifacts whose pipeline nobody knows under "".
    others : dict
        Rows of further tables, by run or pipeline, then by table.
    """

    runs: dict[str, Row] = field(default_factory=dict)
    projects: dict[str, Row] = field(default_factory=dict)
    pipelines: dict[str, Row] = field(default_factory=dict)
    chains: dict[str, list[Row]] = field(default_factory=dict)
    artifacts: dict[str, list[Row]] = field(default_factory=dict)
    others: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    ownerless: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, file: ForeignFile) -> Tables:
        """Read the tables."""
        tables = cls()
        for name, kept, key in (
            ("runs", tables.runs, "run_id"),
            ("projects", tables.projects, "project_id"),
            ("pipelines", tables.pipelines, "pipeline_id"),
        ):
            kept.update({str(row.get(key)): _plain(row) for row in file.rows(name)})
        for row in file.rows("chains"):
            tables.chains.setdefault(str(row.get("pipeline_id")), []).append(_plain(row))
        owners = tables._owners()
        for row in file.rows("artifacts"):
            for pipeline_id in owners.get(str(row["artifact_id"]), [_pipeline_of(row["artifact_id"])]):
                tables.artifacts.setdefault(pipeline_id, []).append(_plain(row))
        for name in file.columns:
            if name not in _READ and not name.startswith("sqlite_"):
                for row in file.rows(name):
                    tables._keep(name, _plain(row))
        return tables

    def _owners(self) -> dict[str, list[str]]:
        """Give the pipelines of artifacts whose id does not say it: those whose chains name them."""
        owners: dict[str, list[str]] = {}
        for pipeline_id, chains in self.chains.items():
            for chain in chains:
                for artifact_id in Chain.of(chain).steps:
                    named = owners.setdefault(artifact_id, [])
                    if not is_v3_artifact_id(artifact_id) and pipeline_id not in named:
                        named.append(pipeline_id)
        return {artifact_id: named for artifact_id, named in owners.items() if named}

    def _keep(self, table: str, row: Row) -> None:
        owner = str(row.get("pipeline_id") or row.get("run_id") or "")
        if owner in self.pipelines or owner in self.runs:
            self.others.setdefault(owner, {}).setdefault(table, []).append(row)
        else:
            self.ownerless[table] = self.ownerless.get(table, 0) + 1


class _Store:
    """Turns the tables of a store into what enters a workspace."""

    def __init__(self, folder: Folder, tables: Tables, report: ImportReport, dataset: str | None) -> None:
        self._folder = folder
        self._tables = tables
        self._report = report
        self._dataset = dataset
        self._chains = {str(row.get("chain_id")): Chain.of(row) for chains in tables.chains.values() for row in chains}

    # -- runs ---------------------------------------------------------------------------------------

    def enter_runs(self, database: Database) -> None:
        """Enter runs, one for each dataset that a run is about."""
        about: dict[str, dict[str, Any]] = {}
        for row in self._tables.pipelines.values():
            about.setdefault(str(row.get("run_id")), {}).setdefault(str(row["dataset_name"]), None)
        for run_id, row in self._tables.runs.items():
            named = row.get("datasets")
            listed = [item for item in named if isinstance(item, dict)] if isinstance(named, list) else []
            datasets = {str(item["name"]): item for item in listed if item.get("name")}
            datasets = {**about.get(run_id, {}), **datasets}
            if not datasets:
                self._report.refused.append((f"run {run_id}", "it names no dataset."))
            for dataset, described in datasets.items():
                if self._dataset in (None, dataset):
                    self._enter_run(database, row, dataset, described)

    def _enter_run(self, database: Database, row: Row, dataset: str, described: Any) -> None:
        run_id = str(row["run_id"])
        known = ("run_id", "name", "config", "datasets", "status", "created_at", "completed_at", "error")
        metadata = {name: value for name, value in row.items() if name not in known and value is not None}
        project = self._tables.projects.get(str(row.get("project_id")))
        metadata |= {"project": project} if project else {}
        metadata |= {"dataset": described} if described else {}
        metadata |= self._tables.others.get(run_id, {})
        entry = {
            "run_id": run_id, "dataset": dataset, "name": row.get("name"), "status": row.get("status"),
            "started_at": row.get("created_at"), "ended_at": row.get("completed_at"), "error": row.get("error"),
            "configuration": row.get("config"), "metadata": metadata,
        }  # fmt: skip
        try:
            count_run(database, entry, self._report)
        except StorageError:
            raise
        except ArtifactDBError as error:
            self._report.refused.append((f"run {run_id}", str(error)))

    # -- pipelines ----------------------------------------------------------------------------------

    def pipelines(self) -> Iterator[Pipeline]:
        """Give the pipelines with their artifacts."""
        search = ChainSearch()
        for table, count in self._tables.ownerless.items():
            self._report.notes.append(
                (f"table {table}", f"{count} rows that belong to no run or pipeline were left out.")
            )
        for pipeline_id in self._tables.artifacts.keys() - self._tables.pipelines.keys():
            for row in self._tables.artifacts[pipeline_id]:
                self._report.refused.append((str(row["artifact_id"]), "its pipeline is not there."))
        for pipeline_id, row in self._tables.pipelines.items():
            dataset = str(row["dataset_name"])
            if self._dataset not in (None, dataset):
                continue
            chains = self._tables.chains.get(pipeline_id, [])
            rows = self._tables.artifacts.get(pipeline_id, [])
            artifacts = Artifacts(rows, [self._chains[str(chain.get("chain_id"))] for chain in chains])
            records = artifacts.records(search, row.get("expanded_config"))
            items = [self._item(record, dataset, pipeline_id) for record in records]
            yield Pipeline(dataset, pipeline_id, items, self._manifest(row, chains))

    def _manifest(self, row: Row, chains: list[Row]) -> dict[str, Any]:
        pipeline_id = str(row["pipeline_id"])
        known = ("pipeline_id", "name", "dataset_name", "run_id", "status", "created_at", "completed_at", "error",
                 "expanded_config")  # fmt: skip
        rest = {name: value for name, value in row.items() if name not in known and value is not None}
        kept = [{name: value for name, value in chain.items() if value is not None} for chain in chains]
        return {
            **rest,
            **self._tables.others.get(pipeline_id, {}),
            "chains": kept,
            "pipeline_id": pipeline_id,
            "name": str(row.get("name") or ""),
            "dataset": str(row["dataset_name"]),
            "run_id": row.get("run_id"),
            "status": row.get("status"),
            "created_at": row.get("created_at"),
            "ended_at": row.get("completed_at"),
            "error": row.get("error"),
            "pipeline": {"steps": row.get("expanded_config")},
            "metrics": _metrics(chains),
        }

    def _item(self, values: dict[str, Any], dataset: str, pipeline_id: str) -> Item:
        try:
            record, note = record_of({**values, "pipeline_id": pipeline_id}, dataset, pipeline_id)
        except ArtifactDBError as error:
            return Item(ArtifactRecord(artifact_id=str(values["artifact_id"])[:200]), problem=str(error))
        if not record.chain_path and is_v3_artifact_id(record.artifact_id):
            note = note or "no chain was found that its id could have been made of; it has none."
        item = Item(record, note=note)
        try:
            item.file = self._folder.find(record.path, [self._folder.path / "artifacts", self._folder.path])
        except ArtifactDBError as error:
            item.problem = str(error)
        return item

    # -- predictions --------------------------------------------------------------------------------

    def enter_predictions(self, catalog: Catalog, rows: Mapping[str, Row]) -> None:
        """Enter predictions with their arrays; those that are in the tables still, deletions notwithstanding."""
        folder = self._folder.path / "arrays"
        arrays = Arrays(sorted(file for file in folder.glob("*.parquet") if self._folder.has(file)))
        timed = {key: {**row, "created_at": _time(row.get("created_at"))} for key, row in rows.items()}
        enter(catalog, lambda refuse: predictions(timed, arrays, self._place_of, refuse), self._report)
        for name, count in arrays.left_out.items():
            self._report.notes.append(
                (f"arrays {name}", f"{count} predictions have them; the catalog does not keep them.")
            )

    def _place_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        pipeline = self._tables.pipelines.get(str(row.get("pipeline_id")))
        chain = self._chains.get(str(row.get("chain_id")))
        name = str(pipeline["name"]) if pipeline else None
        return {
            "config_name": name,
            "config_path": f"{row['dataset_name']}/{name}" if name else None,
            "step_idx": chain.model_step if chain else None,
            "model_artifact_id": chain.folds.get(str(row.get("fold_id"))) if chain else None,
        }


def _pipeline_of(artifact_id: Any) -> str:
    return parse_artifact_id_v3(artifact_id)[0] if is_v3_artifact_id(artifact_id) else ""


def _metrics(chains: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Give the scores of the best chain: means over the folds as of all, those of the refitted model as of "final"."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for column, fold, rank in (("cv_scores", "all", "cv_val_score"), ("final_scores", "final", "final_test_score")):
        scored = [chain for chain in chains if isinstance(chain.get(column), dict)]
        if not scored:
            continue
        for partition, values in _best(scored, rank)[column].items():
            numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
            if numbers:
                metrics.setdefault(str(partition), {})[fold] = numbers
    return metrics


def _best(chains: list[Row], rank: str) -> Row:
    ranked = [chain for chain in chains if isinstance(chain.get(rank), int | float)]
    try:
        lower = lower_is_better(str(ranked[0].get("metric"))) if ranked else True
    except InvalidValueError:
        return chains[0]
    choose: Callable[..., Row] = min if lower else max
    return choose(ranked, key=lambda chain: chain[rank]) if ranked else chains[0]


def _plain(row: Row) -> Row:
    """Parse the columns that hold JSON, and bring times into one form."""
    return {name: _time(value) if name in _TIMES else _parsed(value) for name, value in row.items()}


def _parsed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, str) or not value.startswith(_JSON_SHAPED):
        return value
    try:
        return parse_json(value, "value")
    except InvalidValueError:
        return value


def _time(value: Any) -> Any:
    """Give a time in ISO 8601 with its offset; SQLite writes UTC without saying so.

    Examples
    --------
    >>> _time("2026-11-23 21:35:36")
    '2026-11-23T21:35:36+00:00'
    """
    try:
        time = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return value
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
