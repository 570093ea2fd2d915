"""What two workspaces hold under one name with other content, and which of the two stays."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any

from artifactdb.errors import DuplicateError, InvalidValueError

POLICIES = ("ours", "theirs", "newer", "error")


@dataclass(frozen=True, slots=True)
class Conflict:
    """One name, two contents.

    Attributes
    ----------
    kind : {"artifact", "pipeline", "run", "metric", "library entry", "prediction"}
    name : str
    ours, theirs : str
        What each side has, in short.
    kept : {"ours", "theirs"}
    """

    kind: str
    name: str
    ours: str
    theirs: str
    kept: str


@dataclass(slots=True)
class Merge:
    """What a merge took in, and where the two sides differed.

    Attributes
    ----------
    added : dict
        How many of each kind are new here.
    present : dict
        How many were here already, the same.
    conflicts : list of Conflict
    notes : list of str
        Artifacts that depend on one that the other side made: what they compute together, neither side has seen.
    """

    policy: str = "ours"
    added: dict[str, int] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InvalidValueError(f"on_conflict is one of {', '.join(POLICIES)}, not {self.policy!r}.")

    def count(self, kind: str, *, new: int = 0, same: int = 0) -> None:
        """Count what was new and what was there."""
        if new:
            self.added[kind] = self.added.get(kind, 0) + new
        if same:
            self.present[kind] = self.present.get(kind, 0) + same

    def theirs_wins(
        self, kind: str, name: str, ours: tuple[str, str], theirs: tuple[str, str], *, dated: bool = True
    ) -> bool:
        """Note a conflict and decide it.

        Parameters
        ----------
        ours, theirs : (str, str)
            When it was made, ISO 8601, and what it is. At the same time the greater text wins, so that either
            direction of a merge decides alike.
        dated : bool, default True
            Whether it bears a time at all; of what bears none, ``newer`` keeps ours.
        """
        is_newer = is_earlier(ours[0], theirs[0]) or (not is_earlier(theirs[0], ours[0]) and theirs[1] > ours[1])
        wins = self.policy == "theirs" or (self.policy == "newer" and dated and is_newer)
        self.conflicts.append(Conflict(kind, name, _short(ours), _short(theirs), "theirs" if wins else "ours"))
        return wins

    def settle(self) -> None:
        """Refuse the merge when it was to be refused for a conflict.

        Raises
        ------
        DuplicateError
        """
        if self.conflicts and self.policy == "error":
            listed = "; ".join(f"{c.kind} {c.name} (ours {c.ours}, theirs {c.theirs})" for c in self.conflicts[:5])
            raise DuplicateError(
                f"{len(self.conflicts)} names have other content on the two sides: {listed}"
                f"{' …' if len(self.conflicts) > 5 else ''}.",
                hint="Nothing was changed. on_conflict='ours', 'theirs' or 'newer' decides.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {
            "policy": self.policy,
            "added": dict(self.added),
            "present": dict(self.present),
            "conflicts": [
                {"kind": c.kind, "name": c.name, "ours": c.ours, "theirs": c.theirs, "kept": c.kept}
                for c in self.conflicts
            ],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        added = ", ".join(f"{count} {kind}" for kind, count in self.added.items()) or "nothing"
        return f"<Merge: added {added}; {len(self.conflicts)} conflicts>"

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(value)}</td>" for value in (c.kind, c.name, c.ours, c.theirs, c.kept))
            + "</tr>"
            for c in self.conflicts
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        head = "<tr><th>kind</th><th>name</th><th>ours</th><th>theirs</th><th>kept</th></tr>"
        return f"<p>{escape(repr(self))}</p>" + (f"<table>{head}{rows}</table>" if rows else "") + notes


def is_earlier(one: str, other: str) -> bool:
    """Compare two times, by what their zones make of them; one without is UTC, and what is no time is a text.

    Examples
    --------
    >>> is_earlier("2026-01-01T00:30:00+02:00", "2025-12-31T23:00:00+00:00")
    True
    """
    try:
        return _instant(one) < _instant(other)
    except ValueError:
        return one < other


def _instant(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _short(side: tuple[str, str]) -> str:
    when, what = side
    text = what if len(what) <= 60 else f"{what[:57]}..."
    return f"{text} of {when[:19]}" if when else text
