"""Commands on who wrote a workspace, and what of it may be loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artifactdb.cli import render
from artifactdb.cli.options import DatasetOption, JsonOption, PathArgument, require_file
from artifactdb.errors import ArtifactNotFoundError
from artifactdb.workspace import Workspace

if TYPE_CHECKING:
    from artifactdb.artifacts.signatures import SignatureReport, WorkspaceSignature
    from artifactdb.trust.team_keys import PublicKey

_EVENT = ("happened_at", "act", "artifact_id", "dataset", "user", "host", "details")
_SHOWN = 20
_MAX_LINE_BYTES = 1000

_keys = typer.Typer(help="The keys that sign, and those whose signatures are trusted.", rich_markup_mode="markdown")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(epilog="Example: `artifactdb inspect wheat.sqlite '0001_pls$7f8e9d0c1b2a:0'`")(inspect)
    app.command(epilog="Example: `artifactdb trust wheat.sqlite --artifact '0001_pls$7f8e9d0c1b2a:0'`")(trust)
    app.command(epilog="Example: `artifactdb sign wheat.sqlite`, after `artifactdb keys make ada`")(sign)
    app.command(epilog="Example: `artifactdb history wheat.sqlite '0001_pls$7f8e9d0c1b2a:0'`")(history)
    app.add_typer(_keys, name="keys", invoke_without_command=True)


def inspect(path: PathArgument, artifact_id: str, dataset: DatasetOption = None, as_json: JsonOption = False) -> None:
    """Show what loading an artifact would import and call, without loading it; a report is no guarantee."""
    with Workspace(path, mode="ro") as workspace:
        record, report = workspace.record(artifact_id, dataset), workspace.inspect(artifact_id, dataset)
    if as_json:
        render.as_json({"artifact_id": artifact_id, "class_name": record.class_name, **report.to_dict()})
        return
    print(render.plain(f"{artifact_id}: {record.class_name}, {record.format}"))
    for line in str(report).splitlines():
        print(render.plain(line))
    print("Reading cannot tell everything: load only what you trust.")


def trust(
    path: PathArgument,
    artifact: Annotated[str | None, typer.Option(help="Only this artifact.")] = None,
    dataset: DatasetOption = None,
    with_dependencies: Annotated[
        bool, typer.Option("--with-dependencies", help="And all that the artifact depends on.")
    ] = False,
    content: Annotated[
        str | None, typer.Option(help="Only this content: sha256: and hex digits, as the error that asks names it.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="How that content is read.")] = None,
    signer: Annotated[str | None, typer.Option(help="Id of a key: whatever it signs, here and elsewhere.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call that key.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="The reverse: trust it no longer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let what a stranger wrote be loaded from now on; it is remembered by content."""
    require_file(path)
    with Workspace(path) as workspace:
        done = workspace.trust(
            artifact, dataset, with_dependencies=with_dependencies, content=content, format=format, signer=signer,
            name=name, forget=forget,
        )  # fmt: skip
    if as_json:
        render.as_json(done.to_dict())
    elif done.key_id:
        _show_trusted(done.key_id, done.name, told=bool(name), forget=forget)
    else:
        what = "no longer trusted" if forget else "trusted"
        print(f"{what}: {done.artifacts} contents that run code when they are loaded ({done.new} of them new)")
        if done.own:
            print(f"{done.own} artifacts load in any case: your own key signed them")


def sign(
    path: PathArgument,
    key: Annotated[str | None, typer.Option(help='Name of the key pair; default: the only one, or "default".')] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign every record, and all of them together, so that colleagues can check who vouches for them."""
    require_file(path)
    with Workspace(path) as workspace, render.progress("sign") as progress:
        used = workspace.sign(key, progress=progress)
        count = workspace.stats()["total_artifacts"]
    if as_json:
        render.as_json({"key_id": used.key_id, "name": used.name, "artifacts": count})
    else:
        print(f"{count} artifacts signed with the key {used.key_id}, {used.name}")


def history(
    path: PathArgument,
    artifact_id: Annotated[str | None, typer.Argument(help="One artifact, also one that was deleted.")] = None,
    dataset: DatasetOption = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, without an artifact.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show who added, replaced, deleted, trusted, packed or merged what, and when."""
    with Workspace(path, mode="ro") as workspace:
        events = [event.to_dict() for event in workspace.history(artifact_id, dataset, limit=limit)]
    if artifact_id is not None and not events:
        raise ArtifactNotFoundError(f"nothing is known of {artifact_id!r}.", hint="`artifactdb ls` lists artifacts.")
    if as_json:
        render.as_json(events)
    else:
        render.table(_EVENT, [[event[name] or None for name in _EVENT] for event in events])


@_keys.callback()
def keys(context: typer.Context, as_json: JsonOption = False) -> None:
    """List keys, or make, show, trust and forget one."""
    if context.invoked_subcommand is not None:
        return
    from artifactdb.trust import team_keys
    from artifactdb.trust.home import home
    from artifactdb.trust.own_key import FILE, own_key

    own_pairs = {key.key_id for key in team_keys.all_own()}
    rows = [("own", own_key().key_id, "", str(home() / FILE))]
    for key in team_keys.trusted().values():
        rows.append(("own pair" if key.key_id in own_pairs else "trusted", key.key_id, key.name, str(key)))
    columns = ("kind", "key_id", "name", "what")
    if as_json:
        render.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        render.table(columns, rows)


@_keys.command(epilog="Example: `artifactdb keys make ada`")
def make(
    name: Annotated[str, typer.Argument(help="What to call it.")] = "default", as_json: JsonOption = False
) -> None:
    """Make a key pair to sign with; prints the public key, which colleagues trust."""
    from artifactdb.trust import team_keys

    _show_key(team_keys.make(name), as_json)


@_keys.command(epilog="Example: `artifactdb keys show ada`")
def show(
    name: Annotated[str | None, typer.Argument(help='Name; default: the only one, or "default".')] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the public key of one of your key pairs."""
    from artifactdb.trust import team_keys

    _show_key(team_keys.own(name), as_json)


@_keys.command(name="trust", epilog="Example: `artifactdb keys trust 'artifactdb-ed25519 AAAA...= ada'`")
def trust_key(
    public_key: Annotated[str, typer.Argument(help="The line that `keys show` prints, or a file that holds it.")],
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Trust whatever a colleague's key signs."""
    from artifactdb.trust import team_keys

    key = team_keys.PublicKey.parse(_line_of(public_key), name)
    team_keys.trust(key)
    if as_json:
        _show_key(key, as_json)
    else:
        _show_trusted(key.key_id, key.name, told=bool(name))


def _line_of(given: str) -> str:
    """Give a public key that was given as it is, or in a file."""
    from artifactdb.trust.team_keys import PREFIX

    if given.startswith(f"{PREFIX} "):
        return given  # not the file of that name that somebody put here
    try:
        with Path(given).open("rb") as file:
            return file.read(_MAX_LINE_BYTES).decode("ascii", "replace")
    except (OSError, ValueError):  # not there, too long for a name, a folder
        return given


@_keys.command(epilog="Example: `artifactdb keys forget ada`")
def forget(name: Annotated[str, typer.Argument(help="Name or id.")], as_json: JsonOption = False) -> None:
    """No longer trust a key."""
    from artifactdb.trust import team_keys

    key = team_keys.forget(name)
    if as_json:
        _show_key(key, as_json)
    else:
        _show_trusted(key.key_id, key.name, forget=True)


def _show_key(key: PublicKey, as_json: bool) -> None:
    if as_json:
        render.as_json({"key_id": key.key_id, "name": key.name, "public_key": str(key)})
    else:
        print(key)


def _show_trusted(key_id: str, name: str, *, told: bool = False, forget: bool = False) -> None:
    """Say which key was meant; a name that the user did not tell is only what the key's maker calls it."""
    done = "no longer trusted" if forget else "trusted"
    print(f"{done}: the key {key_id}, {'' if told or forget else 'which says it is '}{name}")


def show_signatures(report: SignatureReport) -> None:
    """Print who signed a workspace, and what became of it since."""
    print(
        f"signatures: {report.own} records are your own, {report.team} signed by keys that you trust, "
        f"{report.unsigned} a stranger's"
    )
    for artifact_id in report.wrong:
        print(render.plain(f"{artifact_id}: bears your key's name, but not your signature: somebody changed it"))
    for what in report.misleading[:_SHOWN]:
        print(render.plain(what))
    if len(report.misleading) > _SHOWN:
        print(f"and {len(report.misleading) - _SHOWN} more (see `artifactdb verify`)")
    for found in report.whole:
        _show_whole(found)
    if report.others:
        print(f"{report.others} more signed it, whom you do not trust")
    print(_verdict(report))


def _show_whole(found: WorkspaceSignature) -> None:
    who = f"{found.name} ({found.key_id})" if found.trusted else f"{found.key_id}, who is not trusted"
    if not found.right:
        print(render.plain(f"the signature of {who} is wrong"))
        return
    count = f"{'more than ' if found.more else ''}{len(found.changes)}"
    same = f"{count} records differ" if found.changes else "nothing was changed since"
    print(render.plain(f"signed by {who} at {found.signed_at[:19]}: {same}"))
    for change in found.changes[:_SHOWN]:
        details = f" ({change.details})" if change.details else ""
        by = f", {change.by}" if change.by else ""
        signed = f", signed with {change.signed_by}" if change.signed_by else ""
        print(render.plain(f"  {change.what}{details}: {change.artifact_id} of {change.dataset}{by}{signed}"))
    if len(found.changes) > _SHOWN:
        print(f"  and {len(found.changes) - _SHOWN}{' or more' if found.more else ' more'}")


def _verdict(report: SignatureReport) -> str:
    if report.misleading:
        return "whoever signed it, what it answers when it is asked is not what it holds"
    if report.complete is None:
        each = report.records and not report.wrong and not report.unsigned
        return (
            f"{'each record is vouched for, but ' if each else ''}nobody whom you trust signed the file as a whole: "
            "what was removed, moved or described anew does not show (see `artifactdb sign`)"
        )
    if not report.complete:
        return "the file is not as it was signed"
    return "signed as a whole" if report.ok else "signed as a whole, but a signature of yours was changed"
