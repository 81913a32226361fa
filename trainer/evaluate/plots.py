"""Pictures of the tables, for papers and docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.trajectory import crowds
from trainer.evaluate.metrics.fidelity import pearson
from trainer.evaluate.visits import KEYS, by_gap

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.volume import Array
    from trainer.evaluate.metrics.fidelity import Series
    from trainer.evaluate.moved import Moved
    from trainer.evaluate.table import Table
    from trainer.evaluate.visits import Predicted

Floats = NDArray[np.float64]
COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7")
"""Told apart by the colour-blind as well (Okabe and Ito)."""


def lda_plane(
    checkpoint: Checkpoint, codes: Floats, told: Sequence[str], path: Path
) -> None:
    """Held-out codes (N, E) in the plane; the training people as ellipses."""
    from matplotlib.patches import Ellipse

    mean, std = (checkpoint.tensors[f"semantic.{n}"].numpy() for n in ("mean", "std"))
    points = (codes - mean) / std @ checkpoint.tensors["plane.axes"].numpy().T
    figure, axes = _figure(5, 4)
    for crowd, colour in zip(crowds(checkpoint), COLOURS, strict=False):
        kept = np.array(told) == crowd.name
        axes.scatter(
            *points[kept].T, s=14, c=colour, label=f"{crowd.name} (n={kept.sum()})"
        )
        width, height = (2 * radius for radius in crowd.radii)
        ellipse = Ellipse(crowd.centre, width, height, angle=crowd.degrees)
        ellipse.set(fill=False, edgecolor=colour, linewidth=1.5)
        axes.add_patch(ellipse)
    axes.set_xlabel("first axis (SD within groups)")
    axes.set_ylabel("second axis (SD within groups)")
    axes.set_title("Codes of held-out people; ellipses: training people, 1 SD")
    axes.legend(frameon=False)
    _save(figure, path)


def volumes_along(
    found: Sequence[Moved], amounts: Sequence[float], title: str, path: Path
) -> None:
    """Change of measured volumes in percent along a direction: each person, and all."""
    figure, both = _figure(8, 3.4, 2)
    for axes, name in zip(both, ("ventricles", "hippocampus"), strict=True):
        table = np.array([getattr(one, name) for one in found])
        change = 100 * (table / table[:, :1] - 1)
        axes.plot(amounts, change.T, c="#999999", lw=0.4)
        axes.plot(amounts, change.mean(0), c="#d55e00", lw=2.5)
        axes.set_xlabel(f"towards {title} (SD)")
        axes.set_ylabel(f"{name}, change (%)")
    _save(figure, path)


def ssim_by_gap(found: Sequence[Predicted], path: Path) -> None:
    """SSIM against the autoencoder's picture over the prediction gap, per method."""
    from matplotlib.ticker import MaxNLocator

    title = "prediction gap (months)"
    rows = by_gap(found, KEYS[title], title)
    figure, axes = _figure(8, 4)
    for method in dict.fromkeys(one.method for one in found):
        line = [(row[title], row["SSIM"]) for row in rows if row["method"] == method]
        axes.plot(*zip(*line, strict=True), marker="o", ms=4, label=method)
    axes.set_xlabel(title)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 3, 6, 10]))
    axes.set_ylabel("SSIM against the autoencoder's picture")
    figure.legend(frameon=False, loc="outside right center")
    _save(figure, path)


def correlations(values: Mapping[str, Floats], floor: float, path: Path) -> None:
    """Pearson correlations (N,) of people under every row, and the mean map's."""
    figure, axes = _figure(6.5, 3.6)
    axes.boxplot(list(values.values()), tick_labels=list(values), showfliers=False)
    means = [float(np.mean(row)) for row in values.values()]
    axes.plot(range(1, 1 + len(means)), means, "o", c=COLOURS[0], label="mean")
    axes.axhline(floor, c=COLOURS[1], lw=1.5, label="mean map (floor)")
    axes.set_ylabel("Pearson r in gray matter, held-out people")
    axes.legend(frameon=False)
    _save(figure, path)


def strip(
    rows: Mapping[str, Sequence[Array]], titles: Sequence[str], path: Path
) -> None:
    """Rows of pictures (i, j, k): the coronal slice through the hippocampi.

    The right of the head is on the left, as radiologists look at it; `titles` stand
    above the columns.
    """
    figure, grid = _figure(1.6 * len(titles), 2.0 * len(rows), len(titles), len(rows))
    for line, (name, pictures) in zip(np.atleast_2d(grid), rows.items(), strict=True):
        for axes, picture, title in zip(line, pictures, titles, strict=True):
            coronal = picture[:, int(0.45 * picture.shape[1])]
            axes.imshow(coronal[::-1].T, origin="lower", cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(title, fontsize=8)
        line[0].set_ylabel(name, fontsize=8)
    _save(figure, path)


def nearness(tables: Sequence[Table], path: Path) -> None:
    """Fréchet distances of every group by every network, between floor and ceilings."""
    near = [table for table in tables if table.name.startswith("near-")]
    width, height = 2.4 + 3.3 * len(near), 0.45 * len(near[0].rows) + 1.2
    figure, grid = _figure(width, height, len(near))
    for place, (axes, table) in enumerate(zip(np.atleast_1d(grid), near, strict=True)):
        names = [str(row["pictures"]) for row in table.rows]
        values, spread = (
            [float(row[key]) for row in table.rows] for key in ("Fréchet", "Fréchet SD")
        )
        axes.barh(names, values, xerr=spread, color=COLOURS[0])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(f"Fréchet distance, N = {table.rows[0]['N']}")
        axes.set_title(table.title.removeprefix("Nearness "), fontsize=9)
        axes.tick_params(which="both", labelsize=8, labelleft=not place)
    _save(figure, path)


def conditioning(series: Mapping[str, tuple[Series, Series]], path: Path) -> None:
    """Asked against measured of pictures, over what the same tool says of scans."""
    figure, grid = _figure(3.6 * len(series), 3.6, len(series))
    for axes, (name, (made, scans)) in zip(
        np.atleast_1d(grid), series.items(), strict=True
    ):
        if not len(made.asked):
            axes.set_title(f"{name}: no head was found", fontsize=9)
            continue
        axes.scatter(scans.asked, scans.measured, s=8, c="#999999", label="scans")
        axes.scatter(made.asked, made.measured, s=8, c=COLOURS[1], label="pictures")
        ends = [made.asked.min(), made.asked.max()]
        axes.plot(ends, ends, c="black", lw=0.8)
        axes.set_xlabel(f"{name}, asked for or known")
        axes.set_ylabel(f"{name}, measured")
        axes.set_title(f"r = {pearson(made.asked, made.measured):.3f}", fontsize=9)
        axes.legend(frameon=False)
    _save(figure, path)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> Any:
    """Figure and axes, without a window or a global state."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=130)
