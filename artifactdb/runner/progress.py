"""What a terminal shows while a study is trained: pipelines, folds, and the best score so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from artifactdb.catalog.columns import lower_is_better


class TrainingProgress:
    """A bar on the standard error of a terminal; elsewhere, and with ``verbose=0``, nothing.

    Parameters
    ----------
    total : int
        Pipelines to train.
    """

    def __init__(self, total: int, *, verbose: int, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("pipelines"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[folds]} folds"),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not verbose or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=total, folds=0, best="")
        self._folds = 0
        self._best: tuple[str, float] | None = None

    def __enter__(self) -> TrainingProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, traceback)

    def add(self, models: Sequence[Mapping[str, Any]] | str) -> None:
        """Count a pipeline: its models, best first, or why it failed."""
        if not isinstance(models, str) and models:
            self._folds += len(models[0]["scores"])
            self._take(models[0])
        self._bar.update(self._task, advance=1, folds=self._folds, best=self._said())

    def _take(self, model: Mapping[str, Any]) -> None:
        metric, score = model["metric"], model["score"]
        if score is None:
            return
        if self._best is None or (self._best[0] == metric and _is_better(metric, score, self._best[1])):
            self._best = (metric, score)

    def _said(self) -> str:
        return "" if self._best is None else escape(f"best {self._best[0]} {self._best[1]:.4g}")


def _is_better(metric: str, score: float, than: float) -> bool:
    return score < than if lower_is_better(metric) else score > than
