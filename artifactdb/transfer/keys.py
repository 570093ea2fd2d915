"""Which key of the target stands for each key of the source."""

from __future__ import annotations

from dataclasses import dataclass, field

AT_ONCE = 2000
"""Rows that are read and written together."""


@dataclass(slots=True)
class Keys:
    """Which key of the target stands for each key of the source, by table."""

    datasets: dict[int, int] = field(default_factory=dict)
    pipelines: dict[int, int] = field(default_factory=dict)
    chains: dict[int | None, int | None] = field(default_factory=lambda: {None: None})
    parameter_sets: dict[int, int] = field(default_factory=dict)
    environments: dict[int | None, int | None] = field(default_factory=lambda: {None: None})
    signers: dict[int | None, int | None] = field(default_factory=lambda: {None: None})
    blobs: dict[int, int] = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)
