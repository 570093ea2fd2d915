"""Whom a workspace is from, and what of it may be loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from artifactdb.artifacts import find, history
from artifactdb.artifacts.history import Event
from artifactdb.errors import InvalidValueError
from artifactdb.workspace.opened import Opened

if TYPE_CHECKING:
    from artifactdb.artifacts.allowing import Trusted
    from artifactdb.artifacts.signatures import SignatureReport
    from artifactdb.trust.pickles.report import Report
    from artifactdb.trust.team_keys import PublicKey

# What few ask for is imported when they do: a scanner's tables, key pairs.


class Trusting(Opened):
    """The part of ``Workspace`` that deals with signatures, trust and history."""

    def inspect(self, artifact_id: str, dataset: str | None = None) -> Report:
        """Give what loading an artifact would import and call, read from its bytes; executes nothing.

        A report is no boundary: what it calls known-safe is what it knows, and reading cannot tell everything.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError.
        """
        from artifactdb.artifacts import inspection

        return inspection.inspect(self.database, find.require(self.database, artifact_id, dataset))

    def trust(
        self,
        artifact_id: str | None = None,
        dataset: str | None = None,
        *,
        with_dependencies: bool = False,
        content: str | None = None,
        format: str | None = None,
        signer: str | None = None,
        name: str | None = None,
        forget: bool = False,
    ) -> Trusted:
        """Let what a stranger wrote be loaded from now on: an artifact, all of the file, or all that a key signs.

        What is allowed is remembered for this user by content: in a copy of the file it loads too, and what is changed
        asks again.

        Parameters
        ----------
        artifact_id : str, optional
            Only this one. Without anything: all that is in the file now.
        dataset : str, optional
            That of the artifact; alone: only what is of this dataset now.
        with_dependencies : bool, default False
            And all that it depends on.
        content : str, optional
            Only this one, by its hash, be it an artifact's or kept by the library; the error that asks names it.
        format : str, optional
            How that is read, where it is there in several ways.
        signer : str, optional
            Id of a key pair whose public key the file carries: whatever it signed, here and elsewhere.
        name : str, optional
            What to call that key; default: what it calls itself.
        forget : bool, default False
            The reverse: no longer.

        Returns
        -------
        Trusted
            Counts, and the key if one was named.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError.
        InvalidValueError
            When several of them are given, an option without what it belongs to, or a content that is there in
            several formats; for a signer whose signatures nobody else can check, or that the file does not know.
        """
        from artifactdb.artifacts import allowing

        if sum(given is not None for given in (artifact_id, content, signer)) > 1:
            raise InvalidValueError(
                "an artifact, a content and a signer are several things.", hint="Trust one after the other."
            )
        _require_companions(
            [
                ("with_dependencies", with_dependencies, "an artifact", artifact_id is not None),
                ("format", format is not None, "a content", content is not None),
                ("name", name is not None, "a signer", signer is not None),
                ("dataset", dataset is not None, "neither a content nor a signer", content is None and signer is None),
            ]
        )
        if signer is not None:
            return allowing.allow_signer(self.database, signer, name, forget=forget)
        return allowing.allow(
            self.database, artifact_id, dataset, with_dependencies=with_dependencies, content=content, format=format,
            forget=forget,
        )  # fmt: skip

    def sign(self, key: str | None = None, *, progress: Callable[[int, int], None] | None = None) -> PublicKey:
        """Sign every record, and all of them together, with a key pair, so that colleagues can check who vouches.

        Parameters
        ----------
        key : str, optional
            Name of a key pair that ``artifactdb keys make`` made; default: the only one, or ``default``.
        progress : callable, optional
            Called with (records done, records in all).

        Raises
        ------
        UntrustedArtifactError
            When there is something of a stranger's: it would be vouched for.
        InvalidValueError
            When there is no such key.
        """
        from artifactdb.artifacts import signatures

        return signatures.sign(self.database, key, progress)

    def signatures(self) -> SignatureReport:
        """Say who signed the workspace, and what was added, removed or changed since, and by whom."""
        from artifactdb.artifacts import signatures

        return signatures.compare(self.database)

    def history(self, artifact_id: str | None = None, dataset: str | None = None, *, limit: int = 1000) -> list[Event]:
        """Say what happened: to an artifact, oldest first; or to all, what happened last, newest first.

        Who wrote the file wrote this too: it is a note, and no proof.

        Parameters
        ----------
        artifact_id : str, optional
            Of one that was deleted, too.
        dataset : str, optional
            Only of artifacts in it; default: of all, and each event says of which.
        limit : int, default 1000
            At most so many, without an id.
        """
        if artifact_id is None:
            return history.latest(self.database, limit, dataset)
        events = history.of_artifact(self.database, artifact_id, dataset)
        if not events and (record := find.by_id(self.database, artifact_id, dataset)):  # by an id of an older scheme
            events = history.of_artifact(self.database, record.artifact_id, record.dataset)
        return events


def _require_companions(options: list[tuple[str, bool, str, bool]]) -> None:
    """Refuse an option that means nothing by itself: what it was meant to narrow would be trusted whole."""
    for option, is_given, companion, is_there in options:
        if is_given and not is_there:
            raise InvalidValueError(f"{option} goes with {companion}.", hint="Nothing was trusted.")
