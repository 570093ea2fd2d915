"""What comes in by a pipeline: its artifacts, where their bytes are, and what is said of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactdb.interop.classes import type_of
from artifactdb.records import ArtifactRecord


@dataclass(slots=True)
class Item:
    """An artifact on its way in.

    Attributes
    ----------
    record : ArtifactRecord
    file : Path, optional
        Where its bytes are; None when ``problem`` says why they are not to be had.
    parts : dict
        Files of the arrays that it names, by hash (hex).
    problem, note : str
        Why it cannot come in; what was changed that it can.
    """

    record: ArtifactRecord
    file: Path | None = None
    parts: Mapping[str, Path] = field(default_factory=dict)
    problem: str = ""
    note: str = ""


@dataclass(slots=True)
class Pipeline:
    """A pipeline on its way in, with all that belongs to it.

    Attributes
    ----------
    manifest : dict, optional
        What is said of it, as ``runs.manifests.enter_pipeline`` takes it; None where only its artifacts are known.
    """

    dataset: str
    pipeline_id: str
    items: list[Item]
    manifest: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Dataset and id, for people."""
        return f"{self.dataset}/{self.pipeline_id}"


def of_older(values: Mapping[str, Any], pipeline_id: str, position: int, file_class: tuple[str, str]) -> dict[str, Any]:
    """Give the dict of a record of what older programs wrote: an item by hash and step, without an id.

    Parameters
    ----------
    position : int
        Of the item in its manifest; tells those of one step apart.
    file_class : (str, str)
        Module and name of the class that its file holds.
    """
    step, branch = values.get("step") or 0, values.get("branch_id")
    place = f"{step}" if branch is None else f"{branch}:{step}"
    return {
        **values,
        "artifact_id": f"{pipeline_id}:{place}.{position}:all",
        "content_hash": values.get("hash"),
        "pipeline_id": pipeline_id,
        "step_index": step,
        "branch_path": [] if branch is None else [branch],
        "substep_index": position,
        "artifact_type": type_of(*file_class),
        "class_name": file_class[1],
        "custom_name": values.get("name"),
        "created_at": values.get("saved_at"),
    }
