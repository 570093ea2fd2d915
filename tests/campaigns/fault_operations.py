"""What the campaign of faults does: each public operation, and pictures of all that a workspace holds."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from artifactdb import ArtifactRegistry, Workspace
from artifactdb.trust import team_keys
from artifactdb.trust.own_key import _own_key, own_key

CHAIN = "s1.MinMaxScaler>s3.Ridge"
SIGNER = "tester"
_X = np.random.default_rng(0).normal(size=(60, 5))
_Y = _X @ np.arange(5.0)
_SCALER = MinMaxScaler().fit(_X)
_RIDGE = Ridge(alpha=9).fit(_X, _Y)
_TIMEOUT_S = 0.05


@dataclass
class Case:
    """A workspace that something is done to, and a folder for what comes out."""

    root: Path
    workspace: Workspace = field(init=False)
    prepared: Any = None

    @property
    def path(self) -> Path:
        return self.root / "now" / "study.sqlite"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def begin(self) -> None:
        for folder in (self.path.parent, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.root / "whole", self.path.parent)
        self.out.mkdir()
        self.workspace = Workspace(self.path, timeout_s=_TIMEOUT_S)

    def registry(self, pipeline_id: str = "0001_pls") -> ArtifactRegistry:
        return self.workspace.registry("wheat", pipeline_id)


@dataclass(frozen=True)
class Operation:
    """What is done.

    ``prepare`` runs before anything may fail; ``makes`` names what comes to lie in ``Case.out``. What is done
    ``in_parts`` may stop between two of them, or say that it left one out, and is done to its end by doing it again.
    """

    run: Callable[[Case], Any]
    prepare: Callable[[Case], Any] = lambda case: None
    makes: tuple[str, ...] = ()
    in_parts: bool = False


def prediction(number: int) -> dict[str, Any]:
    return {
        "dataset_name": "wheat", "pipeline_uid": "0001_pls", "model_name": "PLS", "fold_id": number,
        "partition": "val", "metric": "rmse", "val_score": number / 7,
        "y_true": np.arange(40.0), "y_pred": np.sin(np.arange(40.0) + number),
    }  # fmt: skip


def make(root: Path) -> None:
    """Make what every case begins with: records that depend on each other, predictions in all places, a library."""
    with Workspace(root / "whole" / "study.sqlite") as workspace:
        fill(workspace, range(6))
        workspace.catalog.compact()
        gone, *_ = workspace.catalog.add_many(prediction(number) for number in (6, 7))
        workspace.catalog.flush()
        workspace.catalog.delete(gone)
        workspace.catalog.add(**prediction(8))
        workspace.registry("wheat", "0002_old").delete_pipeline_artifacts("0002_old")
        workspace.database.close()  # what is staged stays so
    team_keys.make(SIGNER)


def make_other(case: Case) -> None:
    """Make what comes in from elsewhere: a workspace, packed and as a folder too."""
    root = case.root
    if (root / "other").exists():
        return
    with Workspace(root / "other" / "other.sqlite") as workspace:
        fill(workspace, range(4, 12), alpha=2.0)
        workspace.registry("wheat", "0009_new").register_with_chain(forest(9), "s1.RandomForestRegressor", "model", 1)
        workspace.pack(root / "other" / "packed.sqlite")
        workspace.export(root / "other" / "folder")


def fill(workspace: Workspace, predictions: range, alpha: float = 0.5) -> None:
    with workspace.run("wheat", name="baseline") as run, run.pipeline(["Ridge"], pipeline_id="0001_pls") as pipeline:
        scaler = pipeline.registry.register_with_chain(MinMaxScaler().fit(_X), "s1.MinMaxScaler", "transformer", 1)
        for fold in range(2):
            model = Ridge(alpha=alpha + fold).fit(_X, _Y)
            pipeline.registry.register_with_chain(
                model, CHAIN, "model", 3, fold_id=fold, depends_on=[scaler.artifact_id]
            )
        pipeline.log_metrics({"val": {"rmse": alpha}})
    workspace.registry("wheat", "0002_old").register_with_chain(forest(0), "s1.RandomForestRegressor", "model", 1)
    workspace.log(composite(alpha), _X, _Y, dataset="wheat", name="whole")
    workspace.catalog.add_many(prediction(number) for number in predictions)
    workspace.library.save_template(["MinMaxScaler", {"model": "PLS"}], "template")
    workspace.library.save_pipeline_full("wheat", "0001_pls", "full")


def composite(alpha: float) -> Any:
    return make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(_X, _Y)


def forest(seed: int) -> Any:
    """Give an object that is large enough to have several blobs."""
    return RandomForestRegressor(12, random_state=seed).fit(_X, _Y)


def without_warnings() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")


# -- pictures ---------------------------------------------------------------------------------------


def exact(workspace: Workspace) -> dict[str, Any]:
    """Give every row of every table, and the names of the Parquet files."""
    tables = workspace.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    picture: dict[str, Any] = {name: workspace.database.rows(f'SELECT * FROM "{name}"') for (name,) in tables}
    folder = workspace.path.with_name("study.catalog")
    live = {name for (name,) in workspace.database.rows("SELECT name FROM catalog_files")}
    picture["files"] = sorted(path.name for path in folder.iterdir() if path.name in live)
    return picture


def picture(workspace: Workspace) -> dict[str, Any]:
    """Give all that a workspace says it holds, without what is another at each try: times, random ids, places."""
    rows = sorted(workspace.catalog.filter().to_dicts(), key=lambda row: str(row["id"]))
    arrays = workspace.catalog.arrays([row["id"] for row in rows])
    return {
        "records": sorted(
            (r.artifact_id, r.dataset, r.content_hash, r.chain_path, tuple(r.depends_on), str(r.params))
            for r in workspace.records()
        ),
        "orphans": sorted(orphan.content_hash for orphan in workspace.orphans()),
        "predictions": [(row["id"], row["val_score"], row["fold_id"]) for row in rows],
        "arrays": {
            key: {name: array.tobytes() for name, array in found.items() if array is not None}
            for key, found in arrays.items()
        },
        "library": sorted((e["name"], e["type"], str(e.get("config"))) for e in workspace.library.search("")),
        "runs": sorted((run.name, run.status, run.artifacts) for run in workspace.runs()),
        "pipelines": sorted((p.pipeline_id, p.status, str(p.metrics)) for p in workspace.pipelines()),
        "history": sorted((event.act, event.artifact_id or "") for event in workspace.history()),
        "signed": sorted(workspace.database.rows("SELECT hex(statement) FROM signatures")),
    }


# -- operations -------------------------------------------------------------------------------------


def save_small(case: Case) -> Any:
    return case.registry("0003_new").register_with_chain(_SCALER, "s1.New", "transformer", 1).content_hash


def save_large(case: Case) -> Any:
    return case.registry("0003_new").register_with_chain(case.prepared, "s1.Forest", "model", 1).content_hash


def replace(case: Case) -> Any:
    return case.registry().register_with_chain(_RIDGE, CHAIN, "model", 3, fold_id=0).content_hash


def delete_pipeline(case: Case) -> Any:
    return case.registry().delete_pipeline_artifacts("0001_pls", delete_files=True)


def transaction(case: Case) -> Any:
    with case.workspace.transaction():
        save_small(case)
        case.workspace.catalog.add(**prediction(20))
        case.workspace.library.delete_template("template")
        replace(case)


def save_first(case: Case) -> Any:
    """Save as the first thing that a process does: what it signs with is read from the disk."""
    save_small(case)
    return own_key().key_id


def log(case: Case) -> Any:
    return case.workspace.log(composite(3.0), _X, _Y, dataset="wheat", name="logged").pipeline_id


def begin_run(case: Case) -> Any:
    case.workspace.run("wheat", name="second").__enter__()


def prepare_run(case: Case) -> Any:
    run = case.workspace.run("wheat", name="second").__enter__()
    pipeline = run.pipeline(["Ridge"], pipeline_id="0005_run").__enter__()
    return run, pipeline


def end_pipeline(case: Case) -> Any:
    case.prepared[1].__exit__(None, None, None)


def end_run(case: Case) -> Any:
    case.prepared[0].__exit__(None, None, None)


def add_bulk(case: Case) -> Any:
    from artifactdb.catalog import bulk

    return bulk.add_many(case.workspace.catalog._store, [prediction(number) for number in (1, 8, 30, 31)])


def load_all(case: Case) -> Any:
    records = sorted(case.workspace.records(), key=lambda record: record.artifact_id)
    return [np.asarray(_used(case.workspace.load(record.artifact_id))).tobytes() for record in records]


def load_composite(case: Case) -> Any:
    (record,) = case.workspace.records(class_name="Pipeline")
    return np.asarray(case.workspace.load(record.artifact_id).predict(_X)).tobytes()


def _used(loaded: Any) -> Any:
    return loaded.predict(_X) if hasattr(loaded, "predict") else loaded.transform(_X)


def query(case: Case) -> Any:
    return case.workspace.query("SELECT artifact_id, parameters FROM artifacts ORDER BY 1").rows


def sql(case: Case) -> Any:
    statement = "SELECT p.id, a.class_name FROM predictions AS p LEFT JOIN artifacts AS a ON a.class_name = 'Ridge' "
    return case.workspace.sql(statement + "ORDER BY ALL").rows


def verify(case: Case) -> Any:
    return sorted((problem.where, problem.what) for problem in case.workspace.verify().problems)


def pack(case: Case) -> Any:
    case.workspace.pack(case.out / "packed.sqlite")


def merge(case: Case) -> Any:
    case.workspace.merge(case.root / "other" / "other.sqlite")


def merge_packed(case: Case) -> Any:
    case.workspace.merge(case.root / "other" / "packed.sqlite")


def export(case: Case) -> Any:
    case.workspace.export(case.out / "folder")


def import_folder(case: Case) -> Any:
    return case.workspace.import_folder(case.root / "other" / "folder", trust=True).ok


def backup(case: Case) -> Any:
    case.workspace.backup(case.out / "copy.sqlite")


def trust(case: Case) -> Any:
    (record, *_) = case.workspace.records(class_name="MinMaxScaler")
    case.workspace.trust(record.artifact_id)
    noted = case.workspace.query("SELECT count(*) FROM history WHERE act = 'trusted'").rows[0][0]
    return noted > 0  # the user's own memory of it is what counts


def open_existing(case: Case) -> Any:
    with Workspace(case.path, timeout_s=_TIMEOUT_S) as workspace:
        return len(workspace.records())


def open_read_only(case: Case) -> Any:
    with Workspace(case.path, mode="ro", timeout_s=_TIMEOUT_S) as workspace:
        return len(workspace.records())


def open_new(case: Case) -> Any:
    with Workspace(case.out / "new" / "new.sqlite", timeout_s=_TIMEOUT_S) as workspace:
        return len(workspace.records())


def library_export(case: Case) -> Any:
    case.workspace.library.export("full", case.out / "entry.sqlite")


def library_full(case: Case) -> Any:
    case.workspace.library.save_pipeline_full("wheat", "0001_pls", "again")


def delete_run(case: Case) -> Any:
    (run,) = case.workspace.runs(dataset="wheat", run_id=case.prepared)
    return case.workspace.clean_up_run(run.run_id)


def close(case: Case) -> Any:
    with without_warnings():
        case.workspace.close()


def stage_one(case: Case) -> Any:
    case.workspace.catalog.add(**prediction(25))


def first_id(case: Case) -> Any:
    return case.workspace.catalog.filter(fold_id=3).to_dicts()[0]["id"]


OPERATIONS: dict[str, Operation] = {
    "save-small": Operation(save_small),
    "save-first": Operation(save_first, lambda case: _own_key.cache_clear()),
    "save-large": Operation(save_large, lambda case: forest(1)),
    "replace": Operation(replace),
    "delete": Operation(delete_pipeline),
    "purge": Operation(lambda case: case.registry().purge_dataset_artifacts(confirm=True)),
    "transaction": Operation(transaction),
    "log": Operation(log),
    "begin-run": Operation(begin_run),
    "end-pipeline": Operation(end_pipeline, prepare_run),
    "end-run": Operation(end_run, lambda case: (pair := prepare_run(case), pair[1].__exit__(None, None, None))[0]),
    "clean-up-run": Operation(delete_run, lambda case: case.workspace.runs("wheat")[0].run_id),
    "catalog-add": Operation(lambda case: case.workspace.catalog.add(**prediction(20))),
    "catalog-add-many": Operation(
        lambda case: case.workspace.catalog.add_many([prediction(number) for number in (1, 8, 30, 31)])
    ),
    "catalog-add-bulk": Operation(add_bulk),
    "catalog-flush": Operation(lambda case: case.workspace.catalog.flush()),
    "catalog-compact": Operation(lambda case: case.workspace.catalog.compact()),
    "catalog-delete": Operation(lambda case: case.workspace.catalog.delete(fold_id=[1, 8])),
    "catalog-top": Operation(lambda case: case.workspace.catalog.top(5, "rmse").rows),
    "catalog-filter": Operation(lambda case: sorted(case.workspace.catalog.filter(model_name="PLS").rows, key=str)),
    "catalog-get": Operation(lambda case: str(case.workspace.catalog.get(case.prepared)), first_id),
    "catalog-arrays": Operation(lambda case: str(case.workspace.catalog.arrays([case.prepared])), first_id),
    "catalog-verify": Operation(lambda case: [str(problem) for problem in case.workspace.catalog.verify()]),
    "export-csv": Operation(
        lambda case: case.workspace.catalog.export_csv(case.prepared, case.out / "one.csv"),
        first_id, ("one.csv",),
    ),
    "load": Operation(load_all),
    "load-composite": Operation(load_composite),
    "query": Operation(query),
    "sql": Operation(sql),
    "sqlite-utils": Operation(lambda case: case.workspace.sqlite_utils()["records"].count),
    "stats": Operation(lambda case: case.workspace.stats()["orphaned_count"]),
    "history": Operation(lambda case: len(case.workspace.history())),
    "verify": Operation(verify),
    "gc": Operation(lambda case: len(case.workspace.gc())),
    "optimize": Operation(lambda case: case.workspace.optimize().damaged),
    "backup": Operation(backup, makes=("copy.catalog", "copy.sqlite")),
    "pack": Operation(pack, makes=("packed.sqlite",)),
    "merge": Operation(merge, make_other),
    "merge-packed": Operation(merge_packed, make_other),
    "export": Operation(export, makes=("folder",)),
    "import-folder": Operation(import_folder, make_other, in_parts=True),
    "library-template": Operation(lambda case: case.workspace.library.save_template(["X"], "new")["name"]),
    "library-full": Operation(library_full),
    "library-delete": Operation(lambda case: case.workspace.library.delete("full")),
    "library-export": Operation(library_export, makes=("entry.sqlite",)),
    "inspect": Operation(
        lambda case: str(case.workspace.inspect(case.workspace.records(class_name="Ridge")[0].artifact_id))
    ),
    "trust": Operation(trust, in_parts=True),
    "sign": Operation(lambda case: case.workspace.sign(SIGNER) and None),
    "signatures": Operation(lambda case: case.workspace.signatures().own, lambda case: case.workspace.sign(SIGNER)),
    "open": Operation(open_existing, lambda case: case.workspace.close()),
    "open-beside": Operation(open_existing),
    "open-read-only": Operation(open_read_only, lambda case: case.workspace.close()),
    "open-new": Operation(open_new, makes=("new",)),
    "close": Operation(close, stage_one),
}  # fmt: skip
