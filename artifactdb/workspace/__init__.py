"""The workspace: one file and everything that can be asked of it, tied together."""

from __future__ import annotations

from artifactdb.workspace.care import Care
from artifactdb.workspace.exchange import Exchange
from artifactdb.workspace.questions import Questions
from artifactdb.workspace.runs import Runs
from artifactdb.workspace.trusting import Trusting


class Workspace(Questions, Runs, Care, Trusting, Exchange):
    """One SQLite file that keeps fitted objects, made on first use.

    Parameters
    ----------
    path : str or Path
        A directory, which then holds ``workspace.sqlite``, or a file such as ``wheat.sqlite``.
    mode : {"rw", "ro"}, default "rw"
        ``"ro"`` makes nothing and writes nothing of its own; what a writer left in a -wal is folded into the file
        where that can be written.
    timeout_s : float, default 30.0
        How long to wait for another writer, in seconds.

    Raises
    ------
    WorkspaceNotFoundError
        When it is not there and mode is ``"ro"``, or its folder cannot be made.
    NotAWorkspaceError, NewerSchemaError, CorruptWorkspaceError, ReadOnlyError, BusyError
        Nothing of the file is changed then.

    Examples
    --------
    >>> from artifactdb import Workspace
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
    ...     registry = workspace.registry("wheat", pipeline_id="0001_pls")
    ...     scaler = MinMaxScaler().fit([[0.0], [2.0]])
    ...     record = registry.register_with_chain(scaler, "s1.MinMaxScaler", "transformer", step_index=1)
    ...     rows = workspace.query("SELECT class_name, step_index FROM artifacts").to_dicts()
    >>> rows
    [{'class_name': 'MinMaxScaler', 'step_index': 1}]
    """


__all__ = ["Workspace"]
