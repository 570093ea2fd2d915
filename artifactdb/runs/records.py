"""What is known of a run and of a pipeline. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from artifactdb.results import html_fields

STATUSES = ("running", "completed", "failed", "interrupted")

Metrics = dict[str, dict[str, dict[str, float]]]
"""Partition, then fold ("all" for all together), then metric."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One experiment on one dataset.

    Attributes
    ----------
    run_id : str
        The same in every file.
    status : {"running", "completed", "failed", "interrupted"}
        ``interrupted`` too when the process that ran it is gone without a word.
    started_at, ended_at : str
        ISO 8601, UTC.
    environment : dict
        Versions of Python and of every package at the start.
    """

    run_id: str
    dataset: str
    name: str
    status: str
    started_at: str
    ended_at: str | None = None
    error: str | None = None
    pipeline_id: str = ""
    configuration: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    pipelines: int = 0
    artifacts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)

    def __repr__(self) -> str:
        called = f" {self.name}" if self.name else ""
        return (
            f"<RunRecord {self.run_id}{called} on {self.dataset}: {self.status}, {self.pipelines} pipelines, "
            f"{self.artifacts} artifacts>"
        )

    def _repr_html_(self) -> str:
        return _table(self.to_dict())


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """One trained configuration on one dataset.

    Attributes
    ----------
    metrics : dict
        Partition, then fold ("all" for all together), then metric: ``metrics["val"]["0"]["rmse"]``.
    status : str
        As of a run; ``completed`` for one that was registered without a run.
    """

    pipeline_id: str
    dataset: str
    name: str
    status: str
    started_at: str
    ended_at: str | None = None
    error: str | None = None
    run_id: str | None = None
    configuration: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    metrics: Metrics = field(default_factory=dict)
    artifacts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"<PipelineRecord {self.pipeline_id} on {self.dataset}: {self.status}, {self.artifacts} artifacts>"

    def _repr_html_(self) -> str:
        return _table(self.to_dict())


def _table(values: dict[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    return html_fields(shown)
