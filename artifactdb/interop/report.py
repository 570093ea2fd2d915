"""What an import or an export did, for people and programs. Values only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from artifactdb.results import html_fields

_SHOWN = 20


@dataclass(slots=True)
class ImportReport:
    """What came in, and what did not.

    Attributes
    ----------
    source : str
        What was imported.
    layout : str
        What it was seen to be, in words.
    runs, pipelines, artifacts, predictions, entries : int
        How many came in; ``entries`` of the library.
    present : dict
        How many of each were there already, with the same content.
    refused : list of (str, str)
        What did not come in, and why.
    notes : list of (str, str)
        What was left out or changed on purpose, and why; all is well with it.
    dry_run : bool
        Whether it was only tried: then nothing was written.
    trusted : bool
        Whether the user vouches for what came in, which then loads without a question.
    """

    source: str = ""
    layout: str = ""
    runs: int = 0
    pipelines: int = 0
    artifacts: int = 0
    predictions: int = 0
    entries: int = 0
    present: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    dry_run: bool = False
    trusted: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing was refused."""
        return not self.refused

    def count(self, kind: str, *, new: bool) -> None:
        """Count one more of a kind."""
        if new:
            setattr(self, kind, getattr(self, kind) + 1)
        else:
            self.present[kind] = self.present.get(kind, 0) + 1

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        plain = asdict(self)
        for name in ("refused", "notes"):
            plain[name] = [list(pair) for pair in plain[name]]
        return {"ok": self.ok, **plain}

    def _counts(self) -> dict[str, int]:
        return {kind: getattr(self, kind) for kind in ("runs", "pipelines", "artifacts", "predictions", "entries")}

    def __repr__(self) -> str:
        counted = ", ".join(f"{number} {kind}" for kind, number in self._counts().items() if number) or "nothing new"
        present = ", ".join(f"{number} {kind}" for kind, number in self.present.items())
        lines = [f"<ImportReport {self.layout}: {counted}{' would come' if self.dry_run else ''}"]
        if present:
            lines[0] += f"; there already: {present}"
        lines += [f"  refused {what}: {reason}" for what, reason in self.refused[:_SHOWN]]
        if len(self.refused) > _SHOWN:
            lines.append(f"  and {len(self.refused) - _SHOWN} more")
        return "\n".join(lines) + ">"

    def _repr_html_(self) -> str:
        rows = [(kind, str(number), str(self.present.get(kind, 0))) for kind, number in self._counts().items()]
        head = "<tr><th></th><th>new</th><th>there already</th></tr>"
        body = "".join(f"<tr><th>{kind}</th><td>{new}</td><td>{old}</td></tr>" for kind, new, old in rows)
        refused = "".join(
            f"<tr><td>{escape(what)}</td><td>{escape(reason)}</td></tr>" for what, reason in self.refused[:_SHOWN]
        )
        listed = f"<p>Refused: {len(self.refused)}</p><table>{refused}</table>" if refused else ""
        return f"<p><b>{escape(self.layout)}</b> {escape(self.source)}</p><table>{head}{body}</table>{listed}"


@dataclass(slots=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    path : Path
        The folder.
    runs, pipelines, artifacts, files, size_bytes, predictions, entries : int
        How many; ``files`` of content, each content once, and their bytes.
    """

    path: Path
    layout: str = "v3"
    runs: int = 0
    pipelines: int = 0
    artifacts: int = 0
    files: int = 0
    size_bytes: int = 0
    predictions: int = 0
    entries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {**asdict(self), "path": str(self.path)}

    def __repr__(self) -> str:
        return (
            f"<ExportReport {self.path}: {self.pipelines} pipelines, {self.artifacts} artifacts in {self.files} files "
            f"({self.size_bytes:,} bytes), {self.predictions} predictions>"
        )

    def _repr_html_(self) -> str:
        return html_fields(self.to_dict())
