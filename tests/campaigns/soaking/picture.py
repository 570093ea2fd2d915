"""The picture of a long life: one small panel for each measure, and the line through its last half."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from tests.campaigns.soaking.watching import LATENCIES, Judgement, Series

PANELS: dict[str, dict[str, str]] = {
    "file [MB]": {"file": "without history", "whole": "with history"},
    "-wal [MB]": {"wal": ""},
    "catalog folder [MB]": {"catalog": ""},
    "three backups [MB]": {"backups": "without history", "whole backups": "with history"},
    "memory, RSS [MB]": {"memory, first": "first process", "memory, second": "second process"},
    "open descriptors": {"descriptors, first": "first process", "descriptors, second": "second process"},
    "temporary files": {"temporary": ""},
    "acts per second": {"acts": "both processes"},
    **{f"{act} [ms]": {f"{act}, median": "median", f"{act}, p99": "p99"} for act in LATENCIES},
}
_COLOURS = ("#1f5fa8", "#c4622d")


def draw(
    file: Path, title: str, until: float, samples: Mapping[str, Series], windows: Mapping[str, Series],
    judged: Mapping[str, Judgement],
) -> None:  # fmt: skip
    """Draw what was sampled (thin), its medians (dots) and the line that was judged."""
    with matplotlib.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 8.2), layout="constrained")
        axes = figure.subplots(3, 4).flat
        for ax, (label, names) in zip(axes, PANELS.items(), strict=True):
            for colour, (name, part) in zip(_COLOURS, names.items(), strict=False):
                sampled = samples.get(name) if name != "acts" else None  # which are counted up
                _line(ax, colour, part, until, sampled, windows[name], judged.get(name))
            ax.axvspan(0, until / 120, color="0.93", zorder=0)
            ax.set_title(label, loc="left", fontweight="bold")
            ax.set_xlim(0, until / 60)
            if label.endswith("[ms]"):
                ax.set_yscale("log")
                ax.margins(y=0.25)
            else:
                ax.set_ylim(bottom=0, top=ax.get_ylim()[1] * 1.3)
            ax.legend(loc="upper left", frameon=False, fontsize=7, handletextpad=0.2)
        for ax in figure.axes[-4:]:
            ax.set_xlabel("minutes")
        figure.suptitle(title, fontsize=10)
        drawn = FigureCanvasAgg(figure)
        figure.set_dpi(90)
        drawn.draw()
        # Few colours: a fraction of the bytes.
        Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB").quantize(48).save(file, optimize=True)


def _line(
    ax: Axes, colour: str, part: str, until: float, sampled: Series | None, windows: Series, judged: Judgement | None
) -> None:
    if sampled is not None:
        ax.plot([time / 60 for time in sampled.times], sampled.values, color=colour, alpha=0.25, lw=0.7)
    if judged is not None:
        part = f"{part} {judged.level:.3g} {judged.growth:+.2g}{' GROWS' if judged.grows else ''}".strip()
        slope, intercept = judged.line
        ends = (until / 2, until)
        ax.plot([end / 60 for end in ends], [intercept + slope * end for end in ends], color=colour, lw=2)
    ax.plot([time / 60 for time in windows.times], windows.values, ".", color=colour, ms=3, label=part or None)
