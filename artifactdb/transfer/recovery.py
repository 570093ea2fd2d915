"""What came out of a damaged workspace: how much was saved, and what is gone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Gone:
    """An artifact that could not be saved.

    Parameters
    ----------
    artifact_id, dataset : str
        "" where nothing that is left tells.
    reason : str
    content_hash : str
        "" where nothing that is left tells.
    has_record : bool
        Whether what was known of it is left; the history of the new workspace keeps it.
    has_content : bool
        Whether its content is left: in the new workspace, where no record reaches it.
    """

    artifact_id: str
    dataset: str
    reason: str
    content_hash: str = ""
    has_record: bool = False
    has_content: bool = False


@dataclass(frozen=True, slots=True)
class Incomplete:
    """An artifact that was saved, whose object loads as before, and of which something else is gone."""

    artifact_id: str
    dataset: str
    what: str


@dataclass(slots=True)
class Recovery:
    """What came out of a damaged workspace.

    Attributes
    ----------
    saved : dict
        How many there are in the new workspace, by kind.
    gone : list of Gone
        Artifacts that are not.
    incomplete : list of Incomplete
        Artifacts that are, and lack something.
    lost : dict
        How much else is gone, by kind.
    pages : dict
        Numbers of the damaged pages, by table or index.
    doubtful : list of str
        Rows that were saved, and of which a value is not what was written: table and key.
    notes : list of str
        What to know of what was saved.
    """

    path: Path
    saved: dict[str, int] = field(default_factory=dict)
    gone: list[Gone] = field(default_factory=list)
    incomplete: list[Incomplete] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    pages: dict[str, list[int]] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is gone, and all is what was written."""
        return not (self.gone or self.incomplete or self.lost or self.doubtful)

    def count_lost(self, kind: str, number: int) -> None:
        """Add to what is gone."""
        if number:
            self.lost[kind] = self.lost.get(kind, 0) + number

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "saved": dict(self.saved),
            "gone": [asdict(gone) for gone in self.gone],
            "incomplete": [asdict(incomplete) for incomplete in self.incomplete],
            "lost": dict(self.lost),
            "pages": {name: list(numbers) for name, numbers in self.pages.items()},
            "doubtful": list(self.doubtful),
            "notes": list(self.notes),
        }
