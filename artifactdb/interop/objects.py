"""Plain files of fitted objects, ``*.joblib`` and ``*.pkl``: one artifact each, its chain made from the path."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from artifactdb.artifacts.folder import Folder
from artifactdb.chain import OperatorChain, OperatorNode
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError
from artifactdb.ids import artifact_id_of_hash, validate_pipeline_id
from artifactdb.interop.classes import class_of, is_compressed, read_head, type_of
from artifactdb.interop.entering import Entering
from artifactdb.interop.items import Item, Pipeline
from artifactdb.interop.report import ImportReport
from artifactdb.records import ArtifactRecord
from artifactdb.runs.naming import require_dataset_name

Progress = Callable[[int, int], None]

SUFFIXES = (".joblib", ".pkl", ".pickle")
_FOLD = re.compile(r"(?:^|(?<=[^a-zA-Z]))fold[_\-. ]?(\d{1,9})$", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[\s>+\[\],=$\x00-\x1f\x7f-\x9f]+")
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Named:
    """What the path of a file says: its pipeline, the parts of its chain, its fold, and the folder as it is called."""

    pipeline: tuple[str, ...]
    parts: tuple[str, ...]
    fold_id: int | None
    folder: tuple[str, ...]


def files_of(source: Path) -> list[Path]:
    """Give the files of fitted objects at a path, itself or below it; hidden folders are not looked into."""
    if source.is_file():
        return [source] if source.suffix.lower() in SUFFIXES else []
    found = []
    for folder, inner, names in os.walk(source):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if Path(name).suffix.lower() in SUFFIXES]
    return found


def name_of(relative: Path, root: str) -> Named:
    """Read the path of a file within the folder that is imported.

    Parameters
    ----------
    root : str
        The folder's name, for files that are named by nothing but a fold.

    Examples
    --------
    >>> name_of(Path("study/pls/fold_3.joblib"), "models")
    Named(pipeline=('study', 'pls'), parts=('study', 'pls'), fold_id=3, folder=('study', 'pls'))
    >>> name_of(Path("alpha=0.1-fold0.pkl"), "models")
    Named(pipeline=('alpha_0.1',), parts=('alpha_0.1',), fold_id=0, folder=('alpha=0.1',))
    """
    fold_id = None
    kept = []
    texts = [*relative.parts[:-1], relative.name[: -len(relative.suffix)] if relative.suffix else relative.name]
    for position, text in enumerate(texts):
        match = _FOLD.search(text)
        if match:
            fold_id = int(match[1])
            text = text[: match.start()].rstrip("_-. ")
        if text:
            kept.append((position, text))
    raw = tuple(text for _, text in kept) or (root or "object",)
    folder = tuple(text for position, text in kept if position < len(texts) - 1) or raw
    parts = tuple(_NOT_IN_NAMES.sub("_", text)[:_MAX_NAME] for text in raw)
    return Named(parts[: len(folder)], parts, fold_id, folder)


def import_objects(
    database: Database, source: Path, dataset: str | None, report: ImportReport, progress: Progress | None
) -> None:
    """Enter each file as an artifact."""
    folder = source if source.is_dir() else source.parent
    name = require_dataset_name(dataset if dataset is not None else folder.resolve().name or "objects")
    pipelines = _pipelines(Folder(folder), files_of(source), name, report)
    Entering(database, report).enter(pipelines, progress, len(pipelines))


def _pipelines(folder: Folder, files: Iterable[Path], dataset: str, report: ImportReport) -> list[Pipeline]:
    pipelines: dict[tuple[str, ...], Pipeline] = {}
    ids: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for file in files:
        try:
            relative = file.relative_to(folder.path)
            named = name_of(relative, folder.root.name)
            if named.folder not in pipelines:
                pipelines[named.folder] = Pipeline(dataset, _pipeline_id(named, ids), [])
            pipeline = pipelines[named.folder]
            found = folder.find(file.name, [file.parent])
            pipeline.items.append(_item(found, relative, named, pipeline, taken))
        except (ArtifactDBError, OSError) as error:
            report.refused.append((folder.named(file), str(error)))
    return [pipeline for pipeline in pipelines.values() if pipeline.items]


def _pipeline_id(named: Named, ids: dict[str, tuple[str, ...]]) -> str:
    """Join the names of folders; where several folders come to the same, all but the first are told apart by a hash."""
    joined = "_".join(named.pipeline)
    short = joined[:_MAX_NAME]
    # What is cleaned and cut may be alike; the names as they are, are not.
    choices = [joined] * (joined == short)
    choices += [f"{short}_{_hash(named.pipeline, 6)}", f"{short}_{_hash(named.folder, 12)}"]
    pipeline_id = next((choice for choice in choices if ids.get(choice, named.folder) == named.folder), choices[-1])
    ids[pipeline_id] = named.folder
    return validate_pipeline_id(pipeline_id)


def _item(file: Path, relative: Path, named: Named, pipeline: Pipeline, taken: set[str]) -> Item:
    head = read_head(file)
    *folders, last = named.parts
    beside = f"{last}{_NOT_IN_NAMES.sub('_', relative.name)}"  # model.joblib beside model.pkl
    for name in (last, beside, f"{beside}_{_hash(relative.parts, 12)}"):
        chain = _chain((*folders, name))
        artifact_id = artifact_id_of_hash(pipeline.pipeline_id, chain.to_hash(), named.fold_id)
        if artifact_id not in taken:
            break
    taken.add(artifact_id)
    module, class_name = class_of(head)
    record = ArtifactRecord(
        artifact_id=artifact_id,
        chain_path=chain.to_path(),
        pipeline_id=pipeline.pipeline_id,
        step_index=len(chain),
        fold_id=named.fold_id,
        artifact_type=type_of(module, class_name),
        class_name=class_name,
        custom_name=named.parts[-1],
        format=_format_of(file, head),
        created_at=datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(),
        dataset=pipeline.dataset,
    )
    return Item(record, file)


def _chain(parts: tuple[str, ...]) -> OperatorChain:
    return OperatorChain([OperatorNode(step, part) for step, part in enumerate(parts, start=1)])


def _hash(parts: Iterable[str], length: int) -> str:
    # Names of files need not be UTF-8, and Python has surrogates for what is not.
    return hashlib.sha256("/".join(parts).encode(errors="surrogatepass")).hexdigest()[:length]


def _format_of(file: Path, head: bytes) -> str:
    """Tell joblib's files from bare pickles; people give either extension to either."""
    joblib = file.suffix.lower() == ".joblib" or is_compressed(head) or b"joblib.numpy_pickle" in head
    return "joblib" if joblib else "pickle"
