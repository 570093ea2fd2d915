"""What logging a fitted object gives back. A value only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Logged:
    """Where a fitted object is to be found.

    Attributes
    ----------
    artifact_id : str
        Of the object that was given: ``workspace.load`` gives it back. Of a ``cross_validate``, the first fold's.
    pipeline_id, dataset, run_id : str
        What it was entered as.
    artifact_ids : list of str
        Every record, sources before what is made of them; of a ``cross_validate`` fold after fold, so that each
        fold's whole estimator is the last of the fold.
    prediction_ids : list of str
        Rows of the catalog.
    """

    artifact_id: str
    pipeline_id: str
    dataset: str
    run_id: str
    artifact_ids: list[str] = field(default_factory=list)
    prediction_ids: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)

    def __repr__(self) -> str:
        return (
            f"<Logged {self.artifact_id} on {self.dataset}: {len(self.artifact_ids)} artifacts, "
            f"{len(self.prediction_ids)} predictions>"
        )
