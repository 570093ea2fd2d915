"""A folder comes into the workspace, whichever of the known layouts it has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from artifactdb.artifacts import history
from artifactdb.artifacts.folder import Folder
from artifactdb.artifacts.parameters import readable
from artifactdb.catalog.catalog import Catalog
from artifactdb.database import Database
from artifactdb.database.opening import FILE_NAME, is_workspace_name
from artifactdb.errors import InvalidValueError, WorkspaceNotFoundError
from artifactdb.interop import objects, predictions
from artifactdb.interop.entering import Entering
from artifactdb.interop.nirs4all_store import FILE as STORE_FILE
from artifactdb.interop.nirs4all_store import import_store
from artifactdb.interop.report import ImportReport
from artifactdb.interop.tree import Tree
from artifactdb.library.folders import import_entries
from artifactdb.trust.home import everything_is_trusted

Progress = Callable[[int, int], None]
_LOOKED_FOR = (
    "Looked for runs/{dataset}/{pipeline}/manifest.yaml and pairs of Parquet files (an export, or nirs4all 0.6), "
    "store.sqlite (nirs4all 1.4), and files named *.joblib, *.pkl or *.pickle."
)


def import_folder(
    workspace_database: Database,
    catalog: Catalog,
    path: Path,
    *,
    dataset: str | None = None,
    trust: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Take in a folder that artifactdb exported, a workspace of nirs4all, or files of fitted objects.

    Nothing of it is executed. What cannot come in is listed in the report, the rest comes; what is there already
    stays as it is, so that importing twice changes nothing. A stranger's record or library entry becomes the
    user's where the user vouches for what comes in, or signed it.

    Parameters
    ----------
    path : Path
    dataset : str, optional
        For plain files, the dataset that they belong to (else the folder's name); of a workspace, only this dataset.
    trust : bool, default False
        Vouch for all of it.
    dry_run : bool, default False
        Only say what would come in.
    progress : callable, optional
        Called with (pipelines done, pipelines in all).

    Raises
    ------
    InvalidValueError
        When the folder is none of these.
    WorkspaceNotFoundError
    """
    source = path.absolute()
    if not source.exists():
        raise WorkspaceNotFoundError(f"{source} is not there.")
    report = ImportReport(source=str(source), dry_run=dry_run, trusted=trust or everything_is_trusted())
    take_in = _layout_of(source, report)
    with workspace_database.transaction(keep=False) if dry_run else nullcontext():
        take_in(workspace_database, catalog, dataset, progress)
        # A folder's name need not be UTF-8.
        details = {"from": readable(source.name), "artifacts": report.artifacts}
        history.note(workspace_database, "imported", details=details)
    return report


_TakeIn = Callable[[Database, Catalog, str | None, Progress | None], None]


def _layout_of(source: Path, report: ImportReport) -> _TakeIn:
    """Find out what a folder is."""
    if source.name == STORE_FILE and source.is_file():
        source = source.parent
    if source.is_dir():
        # People name the folder of a project as well as the workspace in it.
        for folder in (source, source / "workspace"):
            if not Folder(source).holds(folder):
                continue
            store = Folder(folder).has(folder / STORE_FILE)
            tree = bool(Tree(folder, report).pipeline_folders() or predictions.pairs_of(folder))
            tree = tree or any((folder / "runs").glob("*/runs.json"))
            tree = tree or any((folder / "library" / kind).is_dir() for kind in ("templates", "trained"))
            if store or tree:
                return _of_workspace(folder, report, store=store, tree=tree)
        if (source / FILE_NAME).is_file():
            raise InvalidValueError(
                f"{source} is a workspace of artifactdb itself.", hint="Merge it: `artifactdb merge` takes workspaces."
            )
    if objects.files_of(source):
        report.layout = "files of fitted objects"
        return lambda database, _, dataset, progress: objects.import_objects(
            database, source, dataset, report, progress
        )
    # What else bears such a name only a look into the file would tell.
    hint = "If it is a workspace: `artifactdb merge` takes these." if is_workspace_name(source.name) else _LOOKED_FOR
    raise InvalidValueError(f"{source} is nothing that can be imported.", hint=hint)


def _of_workspace(folder: Path, report: ImportReport, *, store: bool, tree: bool) -> _TakeIn:
    names = ["a store of nirs4all 1.4"] * store + ["a tree of manifests"] * tree
    report.layout = " and ".join(names)

    def take_in(database: Database, catalog: Catalog, dataset: str | None, progress: Progress | None) -> None:
        datasets: set[str] = set()
        if store:
            datasets |= import_store(database, catalog, folder, dataset, report, progress)
        if tree:
            datasets |= _import_tree(database, catalog, folder, dataset, report, progress)
        if dataset is not None and datasets and dataset not in datasets:
            raise InvalidValueError(f"{folder} holds no dataset {dataset!r}, but {', '.join(sorted(datasets))}.")

    return take_in


def _import_tree(
    database: Database,
    catalog: Catalog,
    folder: Path,
    dataset: str | None,
    report: ImportReport,
    progress: Progress | None,
) -> set[str]:
    tree = Tree(folder, report, dataset)
    with database.transaction():
        tree.enter_runs(database)
    Entering(database, report).enter(tree.pipelines(), progress, len(tree.pipeline_folders()))
    tree.note_unnamed_files()
    inside = Folder(folder)
    for meta, data in predictions.pairs_of(folder):
        if inside.has(meta) and (inside.has(data) or not data.exists()):
            predictions.import_pair(catalog, meta, data, report, dataset)
        else:
            report.refused.append((meta.name, "it is outside the folder, or no regular file, and was not read."))
    if dataset is None and (folder / "library").is_dir():
        taken, refused = import_entries(database, inside, trust=report.trusted)
        for is_new in taken:
            report.count("entries", new=is_new)
        report.refused += refused
    return tree.datasets
