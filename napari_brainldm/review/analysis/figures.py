"""The drawings of a report, as SVG text that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.statistics.psychometric import JND_PER_SIGMA, Fit, chance

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Grid
    from napari_brainldm.review.statistics.interval import Floats, Interval

SIZE = (6.0, 4.0)
"""Inches."""

NOTED = ("Date", "Creator", "Format", "Type")
"""What matplotlib would write into a drawing, with addresses of its own."""


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG."""

    title: str
    svg: str


def _axes(columns: int = 1, size: tuple[float, float] = SIZE) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0], size[1]), layout="constrained")
    every = list(np.ravel(figure.subplots(1, columns, squeeze=False)))
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, every


def _drawing(title: str, figure: Any) -> Drawing:
    import matplotlib as mpl

    stream = io.StringIO()
    # neither a date nor random ids: the same answers give the same report
    with mpl.rc_context({"svg.hashsalt": "brainldm", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(NOTED))
    return Drawing(title, stream.getvalue()[stream.getvalue().index("<svg") :])


def roc_figure(curves: Mapping[str, Floats]) -> Drawing:
    """ROC of each reader (P, 2), with the points between which they can work."""
    figure, (axes,) = _axes(size=(4.6, 4.4))
    axes.plot([0, 1], [0, 1], color="0.8")
    for reader, points in curves.items():
        axes.plot(*points.T, marker=".", lw=1, label=reader)
    axes.set(xlabel="real called synthetic", ylabel="synthetic called synthetic")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize=8)
    return _drawing("ROC by reader", figure)


def curves_figure(
    curves: Mapping[str, tuple[Floats, Floats, Fit]], unit: str
) -> Drawing:
    """Answers binned by level, with the fitted curve."""
    figure, (axes,) = _axes()
    for name, (levels, greater, fit) in curves.items():
        widest = np.abs(levels).max()
        x = np.linspace(-widest, widest, 121)
        sigma = fit.jnd.estimate / JND_PER_SIGMA
        line = axes.plot(
            x, chance(x, fit.pse.estimate, sigma, fit.lapse), lw=1, label=name
        )
        at, share, count = _binned(levels, greater)
        axes.scatter(at, share, s=12 * count, color=line[0].get_color(), alpha=0.5)
    axes.axhline(0.5, color="0.8", lw=0.5)
    axes.set(xlabel=f"second against first ({unit})", ylabel="second called greater")
    axes.legend(fontsize=8)
    return _drawing("Psychometric curves", figure)


def _binned(levels: Floats, greater: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean level, share and number of answers in each of twelve bins."""
    edges = np.linspace(levels.min(), levels.max() + 1e-9, 13)
    which = np.digitize(levels, edges) - 1
    bins = [which == b for b in range(12) if (which == b).any()]
    at = np.array([levels[b].mean() for b in bins])
    share = np.array([greater[b].mean() for b in bins])
    return at, share, np.array([float(b.sum()) for b in bins])


def weber_figure(
    fits: Mapping[str, Sequence[Fit]], sizes: Mapping[str, Sequence[float]], log: bool
) -> Drawing:
    """JND in the quantity's unit over the size of the standard, both logarithmic."""
    figure, (axes,) = _axes()
    every = []
    for standard, found in fits.items():
        at = np.array(sizes[standard])
        scale = at if log else np.ones_like(at)
        jnds = [f.jnd.through(np.expm1) if log else f.jnd for f in found]
        mid, low, high = (
            scale * np.array([getattr(j, name) for j in jnds])
            for name in ("estimate", "low", "high")
        )
        axes.errorbar(at, mid, [mid - low, high - mid], fmt="o", label=standard)
        every += list(zip(at, mid, strict=True))
    x, y = np.array(every).T
    share = np.exp(np.mean(np.log(y / x)))
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, share * ends, color="0.6", label="Weber's law")
    axes.set(xscale="log", yscale="log", ylabel="JND, same unit")
    axes.set(xlabel="size of the standard, S")
    axes.legend(fontsize=8)
    return _drawing("ln JND over ln S", figure)


def stevens_figure(points: Mapping[str, tuple[Floats, Floats]]) -> Drawing:
    """Estimates over magnitudes, relative to their middle, both logarithmic."""
    figure, (axes,) = _axes()
    for name, (sizes, said) in points.items():
        x, y = (v / np.exp(np.mean(np.log(v))) for v in (sizes, said))
        axes.plot(x, y, ".", ms=3, label=name)
    ends = np.array(axes.get_xlim()).clip(0.05)
    axes.plot(ends, ends, color="0.6", label="exponent 1")
    axes.set(xscale="log", yscale="log", xlabel="true", ylabel="estimated")
    axes.legend(fontsize=8)
    return _drawing("Estimated over true magnitude, both by their middle", figure)


def scale_figure(strengths: Sequence[tuple[str, Interval]]) -> Drawing:
    """Bradley-Terry strengths with their intervals."""
    figure, (axes,) = _axes(size=(6.0, 1.0 + 0.4 * len(strengths)))
    _forest(axes, strengths)
    axes.set(xlabel="strength (logits)")
    return _drawing("Scale of realism", figure)


def _forest(axes: Any, rows: Sequence[tuple[str, Interval]]) -> None:
    for y, (_, one) in enumerate(rows):
        axes.plot([one.low, one.high], [y, y], color="C0")
        axes.plot(one.estimate, y, "o", color="C0")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()


def agreement_figure(rows: Sequence[tuple[str, Interval]]) -> Drawing:
    """Coefficients of agreement with their intervals."""
    figure, (axes,) = _axes(size=(6.0, 1.0 + 0.35 * len(rows)))
    _forest(axes, rows)
    axes.axvline(0, color="0.8")
    return _drawing("Agreement of readers", figure)


def bars_figure(bars: Mapping[str, Mapping[str, Sequence[int]]]) -> Drawing:
    """Shares of levels by arm, one row of bars for each question."""
    figure, axes = _axes(len(bars), (2.6 * len(bars) + 1.5, 3.0))
    for place, (question, arms) in zip(axes, bars.items(), strict=True):
        counts = np.array(list(arms.values()), np.float64)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        left = np.zeros(len(shares))
        for level, share in enumerate(shares.T):
            color = str(0.9 - 0.7 * level / max(shares.shape[1] - 1, 1))
            place.barh(range(len(share)), share, left=left, color=color)
            left += share
        names = list(arms) if place is axes[0] else [""] * len(arms)
        place.set_yticks(range(len(arms)), names)
        place.set(title=question, xlim=(0, 1))
    return _drawing("Levels by arm, the highest darkest", figure)


def faults_figure(maps: Mapping[str, NDArray[np.float32]], grid: Grid) -> Drawing:
    """The slice with most clicks of each arm, over the template."""
    from napari_brainldm.engine.placement import mni_template
    from napari_brainldm.engine.resample import resample

    brain = resample(mni_template().picture, grid)
    figure, axes = _axes(len(maps), (3.2 * len(maps), 3.6))
    for place, (arm, clicks) in zip(axes, maps.items(), strict=True):
        k = int(clicks.sum((0, 1)).argmax())
        place.imshow(brain[:, :, k].T, cmap="gray", origin="lower")
        hot = clicks[:, :, k].T
        place.imshow(
            hot, cmap="hot", origin="lower", alpha=np.clip(hot / hot.max(), 0, 0.8)
        )
        z = grid.matrix[2, 3] + grid.matrix[2, 2] * k
        place.set(title=f"{arm}, z = {z:.0f} mm", xticks=[], yticks=[])
    return _drawing("Where readers clicked on the worst fault", figure)


def metrics_figure(
    points: Mapping[str, tuple[Floats, Floats]], question: str
) -> Drawing:
    """Readers' mean answer over each metric."""
    figure, axes = _axes(len(points), (3.4 * len(points), 3.2))
    for place, (name, (metric, human)) in zip(axes, points.items(), strict=True):
        place.plot(metric, human, ".")
        place.set(xlabel=name, ylabel=f"mean of {question}")
    return _drawing("Readers against metrics", figure)
