"""Commands on runs, and on workspaces and folders as wholes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactdb.cli import render
from artifactdb.cli.options import (
    DatasetOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    PathArgument,
    opened,
    require_file,
)
from artifactdb.errors import InvalidValueError, RunNotFoundError
from artifactdb.runs.records import STATUSES
from artifactdb.workspace import Workspace

_RUN: tuple[str, ...] = ("run_id", "name", "dataset", "status", "started_at", "pipelines", "artifacts", "tags")
_PIPELINE: tuple[str, ...] = ("pipeline_id", "dataset", "name", "status", "artifacts", "metrics")
_INCOMPLETE = 7


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: `artifactdb runs wheat.sqlite --status interrupted`")(runs)
    app.command(epilog="Example: `artifactdb pack wheat.sqlite wheat-for-the-post.sqlite`")(pack)
    app.command(epilog="Example: `artifactdb protect wheat.sqlite --overhead 0.2`")(protect)
    app.command(epilog="Example: `artifactdb recover damaged.sqlite saved.sqlite`")(recover)
    app.command(epilog="Example: `artifactdb merge all.sqlite colleague.sqlite --on-conflict newer`")(merge)
    app.command(epilog="Example: `artifactdb export wheat.sqlite folder`")(export)
    app.command(name="import", epilog="Example: `artifactdb import wheat.sqlite nirs4all-workspace`")(import_)


def runs(
    path: PathArgument,
    run_id: Annotated[str | None, typer.Argument(help="One run, with its pipelines.")] = None,
    dataset: DatasetOption = None,
    status: Annotated[str | None, typer.Option(help="running, completed, failed or interrupted.")] = None,
    tag: Annotated[str | None, typer.Option(help="A tag.")] = None,
    pipelines: Annotated[bool, typer.Option("--pipelines", help="List pipelines with their metrics.")] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Take the run back: its artifacts, predictions and pipelines.")
    ] = False,
    end: Annotated[
        bool, typer.Option("--end", help="Say that its process, of another machine, is gone: it is interrupted.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """List runs, or the pipelines of one; a run whose process is gone is interrupted."""
    if dry_run and not (clean_up or end):
        raise InvalidValueError("--dry-run belongs to --clean-up or --end.")
    if end or clean_up:
        if run_id is None:
            raise typer.BadParameter("name the run", param_hint="RUN_ID")
        _change_run(path, run_id, end=end, clean_up=clean_up, dry_run=dry_run, as_json=as_json)
        return
    if status is not None and status not in STATUSES:
        raise InvalidValueError(f"a status is one of {', '.join(STATUSES)}, not {status!r}.")
    with Workspace(path, mode="ro") as workspace:
        if run_id is not None:
            _require_run(workspace, run_id)
        if run_id is not None or pipelines:
            columns = _PIPELINE
            found = workspace.pipelines(dataset, run_id=run_id, status=status, tag=tag)
            records = [record.to_dict() for record in found]
        else:
            columns = _RUN
            listed = workspace.runs(dataset, status=status, tag=tag)
            records = [record.to_dict() for record in listed]
    if as_json:
        render.as_json(records)
    else:
        render.table(columns, [[record[name] for name in columns] for record in records])


def _require_run(workspace: Workspace, run_id: str) -> None:
    if not workspace.runs(run_id=run_id):
        raise RunNotFoundError(f"there is no run {run_id!r}.", hint="`artifactdb runs` lists them.")


def _change_run(path: Path, run_id: str, *, end: bool, clean_up: bool, dry_run: bool, as_json: bool) -> None:
    require_file(path)
    answer: dict[str, object] = {}
    with Workspace(path) as workspace:
        _require_run(workspace, run_id)
        if end and not dry_run:
            workspace.end_run(run_id)
        if clean_up:
            answer = {**workspace.clean_up_run(run_id, dry_run=dry_run)}
        else:
            answer = {"run_id": run_id, "status": workspace.runs(run_id=run_id)[0].status}
    if as_json:
        render.as_json(answer)
    elif clean_up:
        said = f"{'would delete' if dry_run else 'deleted'} {answer['artifacts']} artifacts"
        print(f"{said} and {answer['predictions']} predictions")
    else:
        print(f"run {run_id}: {answer['status']}")


def pack(
    path: PathArgument,
    target: Annotated[Path, typer.Argument(help="A new file.")],
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write everything to one file, predictions inside, checked, without what nobody reaches."""
    with Workspace(path, mode="ro") as workspace, render.progress("pack", in_bytes=True) as progress:
        if dry_run:
            made = workspace.pack(target, overwrite=overwrite, dry_run=True)
            stats = workspace.stats()
            answer = {"path": str(made), "would_replace": made.exists(), "artifacts": stats["total_artifacts"]}
            done = f"would write {stats['total_artifacts']} artifacts to {made}"
        else:
            made = workspace.pack(target, overwrite=overwrite, progress=progress)
            answer = {"path": str(made), "size_bytes": made.stat().st_size}
            done = f"{made}: {render.size(made.stat().st_size)}"
    render.as_json(answer) if as_json else print(done)


def merge(
    path: PathArgument,
    other: Annotated[Path, typer.Argument(help="The workspace to take in.")],
    on_conflict: Annotated[
        str, typer.Option(help="What stays where both differ: ours, theirs, newer; or error.")
    ] = "ours",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take in another workspace; where both hold something else under one name, say so."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("merge", in_bytes=True) as progress:
        merged = workspace.merge(other, on_conflict=on_conflict, dry_run=dry_run, progress=progress)
    if as_json:
        render.as_json(merged.to_dict())
        return
    added = ", ".join(f"{count} {kind}" for kind, count in merged.added.items()) or "nothing"
    present = ", ".join(f"{count} {kind}" for kind, count in merged.present.items()) or "nothing"
    print(f"{'would add' if dry_run else 'added'} {added}; there already: {present}")
    if merged.conflicts:
        print(f"{len(merged.conflicts)} conflicts:")
        render.table(
            ("kind", "name", "ours", "theirs", "kept"),
            [(found.kind, found.name, found.ours, found.theirs, found.kept) for found in merged.conflicts],
        )
    for note in merged.notes:
        print(render.plain(f"note: {note}"))


def recover(
    source: Annotated[Path, typer.Argument(help="The damaged file, or its directory; it is not changed.")],
    target: Annotated[Path, typer.Argument(help="A new file.")],
    as_json: JsonOption = False,
) -> None:
    """Save what is still right of a damaged workspace, and list what is gone; exit code 7 when anything is."""
    from artifactdb.transfer.recover import recover as save

    with render.progress("recover") as progress:
        found = save(source, target, progress=progress)
    if as_json:
        render.as_json(found.to_dict())
    else:
        for gone in found.gone:
            left = "its record is in the history" if gone.has_record else "its record is gone"
            left += ", its content is there" if gone.has_content else ""
            print(render.plain(f"gone: {gone.artifact_id} of {gone.dataset or '?'}: {gone.reason} ({left})"))
        for incomplete in found.incomplete:
            print(render.plain(f"incomplete: {incomplete.artifact_id} of {incomplete.dataset}: {incomplete.what}"))
        for row in found.doubtful:
            print(render.plain(f"doubtful: {row}: a value of it is not what was written"))
        for kind, count in found.lost.items():
            print(f"gone: {count} {kind}")
        for note in found.notes:
            print(render.plain(f"note: {note}"))
        listed = ", ".join(f"{count} {kind}" for kind, count in found.saved.items() if count) or "nothing"
        print(f"{found.path}: {listed}")
    if not found.ok:
        raise typer.Exit(_INCOMPLETE)


def repair(path: Path, as_json: bool, *, as_protected: bool = False) -> None:
    """Repair in place, and say what was done and what is left."""
    from artifactdb.transfer.repair import repair as make_whole

    with render.progress("repair") as progress:
        found = make_whole(path, as_protected=as_protected, progress=progress)
    if as_json:
        render.as_json(found.to_dict())
    else:
        for kept in found.kept:
            print(f"kept as it was: {kept}")
        for done in found.done:
            print(render.plain(f"done: {done}"))
        for problem in found.problems:
            print(render.plain(f"left: {problem.where}: {problem.what}"))
        print("all is well" if found.ok else f"{len(found.problems)} problems are left")
    if not found.ok:
        raise typer.Exit(_INCOMPLETE)


def protect(
    path: PathArgument,
    overhead: Annotated[
        float, typer.Option(help="Size of what protects, as a share of the workspace; so much of it may be damaged.")
    ] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Write a file beside the workspace from which `verify --repair` restores damaged blocks, until the next change."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("protect") as progress:
        made = workspace.protect(overhead, progress=progress)
    answer = {"path": str(made), "size_bytes": made.stat().st_size}
    render.as_json(answer) if as_json else print(f"{made}: {render.size(made.stat().st_size)}")


def export(
    path: PathArgument,
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    layout: Annotated[str, typer.Option(help="v3: the folders of nirs4all's guide.")] = "v3",
    dataset: DatasetOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write runs, artifacts, library and predictions as folders and files."""
    with Workspace(path, mode="ro") as workspace, render.progress("export") as progress:
        report = workspace.export(
            target, layout=layout, dataset=dataset, overwrite=overwrite, dry_run=dry_run, progress=progress
        )
    answer = {**report.to_dict(), **({"would_replace": report.path.exists()} if dry_run else {})}
    render.as_json(answer) if as_json else render.fields(answer)


def import_(
    path: PathArgument,
    folder: Annotated[Path, typer.Argument(help="A folder, or a file of one fitted object.")],
    dataset: DatasetOption = None,
    trust: Annotated[bool, typer.Option("--trust", help="Vouch for all of it, as for your own.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take in an exported folder, a workspace of nirs4all, or files of joblib; exit code 7 when a part was refused."""
    with opened(path) as workspace, render.progress("import") as progress:
        report = workspace.import_folder(folder, dataset=dataset, trust=trust, dry_run=dry_run, progress=progress)
    if as_json:
        render.as_json(report.to_dict())
    else:
        counts = {kind: getattr(report, kind) for kind in ("runs", "pipelines", "artifacts", "predictions", "entries")}
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing new"
        print(f"{report.layout}: {'would take in' if dry_run else 'took in'} {listed}")
        if report.present:
            print("there already: " + ", ".join(f"{count} {kind}" for kind, count in report.present.items()))
        for what, reason in report.refused:
            print(f"refused {render.cell(what)}: {render.cell(reason)}")
        for what, reason in report.notes:
            print(f"note on {render.cell(what)}: {render.cell(reason)}")
    if not report.ok:
        raise typer.Exit(_INCOMPLETE)
