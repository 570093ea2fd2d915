"""What a registry registers belongs to a run: one that it begins itself, else the one that it was made for."""

from __future__ import annotations

from artifactdb.database import Database
from artifactdb.runs import store
from artifactdb.runs.store import RunKey


class Tracking:
    """The run that keeps track of what a registry registers.

    The file is asked each time which state it is in: the transaction that began or ended it may have been taken back.

    Parameters
    ----------
    database : Database
    dataset : str
    pipeline_id : str
        Of the registry; "" for none.
    """

    def __init__(self, database: Database, dataset: str, pipeline_id: str) -> None:
        self._database = database
        self._dataset = dataset
        self._pipeline_id = pipeline_id
        self._begun: RunKey | None = None
        self.around: RunKey | None = None

    @property
    def key(self) -> int | None:
        """The key of the run that is going on, or None."""
        begun = self._key_of_begun()
        if begun is None and self.around is not None:
            return store.present_key(self._database, self.around)
        return begun

    def begin(self) -> None:
        """Begin a run; one that was begun before and not ended has failed, and what it registered stays."""
        with self._database.transaction():
            self.end("failed", "another was begun before its end")
            begun = store.start_run(self._database, self._dataset, pipeline_id=self._pipeline_id, of_registry=True)
        self._begun = begun

    def end(self, status: str = "completed", error: str | None = None) -> None:
        """Say how the run that was begun has ended, if one is going on."""
        with self._database.transaction():
            key = self._key_of_begun()
            if key is not None:
                store.end_run(self._database, key, status, error)

    def take_back(self) -> int:
        """Delete what the run that was begun has registered, else what those have whose process died; give how many."""
        with self._database.transaction():
            begun = self._key_of_begun()
            keys = store.unfinished(self._database, self._dataset, self._pipeline_id) if begun is None else [begun]
            count = store.take_back(self._database, keys)
            for key in keys:
                store.end_run(self._database, key, "failed", "taken back")
        return count

    def _key_of_begun(self) -> int | None:
        return None if self._begun is None else store.present_key(self._database, self._begun, "running")
