"""Figures of a contrast for a paper: glass brain, slices, bars of regions.

They are drawn into files, with no window: matplotlib's figures alone, never pyplot's.
Weak voxels are faded rather than cut off (Taylor 2023,
https://doi.org/10.1016/j.neuroimage.2023.120138), and every figure says what n is.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.compared_regions import SMALL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_brainldm.engine.compared_regions import RegionContrast
    from napari_brainldm.engine.contrast_export import ContrastTable
    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.engine.volume import Volume

KINDS = ("png", "svg")
DPI = 200
MOST = 16
"""Bars of regions: those with the largest effect."""

MORE, LESS, FAINT = "#b2182b", "#2166ac", "#bdbdbd"
"""A above B, A below B, and smaller than the autoencoder's own error."""

DIVERGING = "RdBu_r"
FULL = 99.5
"""Percentile of the absolute difference in the mask that gets full colour."""

SLICES = 7
NOTED = ("Date", "Creator", "Format", "Type")
"""What matplotlib would write into an SVG, with addresses of its own."""

UNIT = "difference in gray matter (A − B)"


def figures(made: Contrasted, table: ContrastTable, threshold: float) -> dict[str, Any]:
    """Matplotlib figures of a contrast by the name that their files get.

    Parameters
    ----------
    table
        Regions, largest effect first.
    threshold
        Effect from which voxels are outlined; 0 for none.
    """
    return {
        "glass-brain": glass_brain(made, threshold),
        "slices": slices(made, threshold),
        "region-bars": region_bars(made, table.contrasts),
    }


def encoded(figure: Any, kind: str) -> bytes:
    """The content of a "png" or "svg" file; the same figure gives the same bytes."""
    import matplotlib as mpl

    stream = io.BytesIO()
    notes = dict.fromkeys(NOTED) if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "brainldm", "svg.fonttype": "path"}):
        figure.savefig(stream, format=kind, dpi=DPI, metadata=notes)
    return stream.getvalue()


def glass_brain(made: Contrasted, threshold: float) -> Any:
    """The difference seen through the head from left, front, right and above."""
    from nilearn.plotting import plot_glass_brain

    figure = _figure(9.2, 3.3)
    change, kept = made.compared.mean, made.beyond(threshold)
    words = "All voxels of the mask."
    shown = change.data * made.mask
    if threshold > 0 and kept.any():
        words = f"Voxels with {made.told_beyond(_effect(made), threshold)}."
        shown = shown * kept
    elif threshold > 0:
        told = made.told_beyond(_effect(made), threshold)
        words = f"No voxel has {told}: all are shown."
    with _quiet():
        plot_glass_brain(
            _nifti(shown, change),
            figure=figure,
            axes=(0.01, 0.2, 0.97, 0.7),
            display_mode="lyrz",
            plot_abs=False,
            symmetric_cbar=True,
            threshold=None,
            vmax=_limit(made),
            cmap=DIVERGING,
            alpha=0.5,
        )
    return _captioned(figure, made, words)


def slices(made: Contrasted, threshold: float) -> Any:
    """The difference over the MNI152 template: faded by effect, outlined beyond."""
    from nilearn.plotting import plot_stat_map

    figure = _figure(11.5, 2.9)
    change, kept = made.compared.mean, made.beyond(threshold)
    size = np.abs(made.effect.data)
    full = threshold if threshold > 0 else float(size.max()) or 1.0
    share = np.clip(size / full, 0, 1)
    share[0, 0, 0] = 1  # nilearn gives full colour to the largest share, whatever it is
    words = f"Full colour from |{_effect(made)}| ≥ {full:.2g}"
    with _quiet():
        display = plot_stat_map(
            _nifti(change.data * made.mask, change),
            figure=figure,
            axes=(0.02, 0.2, 0.95, 0.7),
            display_mode="z",
            cut_coords=_heights(made.mask, change),
            black_bg=False,
            vmax=_limit(made),
            cmap=DIVERGING,
            transparency=_nifti(share, change),
        )
        if threshold > 0 and kept.any():
            outline = _nifti(kept.astype(np.float32), change)
            display.add_contours(outline, levels=[0.5], colors="k", linewidths=0.6)
            words += f", outlined where the difference is above {made.least:.2g} too"
    return _captioned(figure, made, f"{words}; weaker voxels fade.")


def region_bars(made: Contrasted, rows: Sequence[RegionContrast]) -> Any:
    """Bars of the regions with the largest effect, and how sure they are."""
    told = [row for row in rows if row.n_vox >= SMALL][:MOST]
    figure = _figure(7.2, 1.6 + 0.27 * len(told))
    high = figure.get_figheight()
    axes = figure.add_axes((0.42, 1.25 / high, 0.54, 1 - 1.4 / high))
    places = np.arange(len(told))[::-1]
    values = np.array([row.diff for row in told], float)
    colours = [_colour(row) for row in told]
    axes.barh(places, values, color=colours, height=0.72, zorder=2)
    axes.errorbar(
        *(values, places),
        xerr=_errors(made, told, values),
        fmt="none",
        ecolor="0.25",
        elinewidth=1,
        capsize=2,
        zorder=3,
    )
    axes.axvline(0, color="0.3", lw=0.8)
    axes.grid(axis="x", color="0.9", zorder=0)
    axes.set_yticks(places, [_label(row) for row in told], fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel(UNIT, fontsize=9)
    axes.margins(y=0.02)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    bars = "95 % CI" if made.compared.people > 1 else "SD over seeds"
    lines = f"Lines: {bars}. " if made.compared.spreads else ""
    words = (
        f"{lines}Gray: less than the autoencoder's own error. Regions under "
        f"{SMALL} voxels are left out."
    )
    if made.compared.people > 1:
        words += " * p < 0.05, family-wise over regions."
    return _captioned(figure, made, words, width=105)


def _colour(row: RegionContrast) -> str:
    if "decoder" in row.flags:
        return FAINT
    return MORE if (row.diff or 0.0) > 0 else LESS


def _label(row: RegionContrast) -> str:
    sure = row.p_fwe is not None and row.p_fwe < 0.05
    return f"{row.name} *" if sure else row.name


def _errors(
    made: Contrasted, rows: Sequence[RegionContrast], values: NDArray[Any]
) -> NDArray[Any]:
    """Lengths (2, R) of the lines below and above the ends of the bars."""
    if made.compared.people == 1:
        return np.tile([row.sd_seed or 0.0 for row in rows], (2, 1))
    ends = np.array([(row.ci_lo, row.ci_hi) for row in rows], float).reshape(-1, 2)
    lengths: NDArray[Any] = np.abs(ends - values[:, None]).T
    return lengths


def _effect(made: Contrasted) -> str:
    return "g" if made.compared.people > 1 else "mean / SD over seeds"


def _limit(made: Contrasted) -> float:
    size = np.abs(made.compared.mean.data[made.mask])
    return float(np.percentile(size, FULL)) or 1.0 if len(size) else 1.0


def _heights(mask: NDArray[np.bool_], picture: Volume) -> list[float]:
    """Heights z in mm of slices between the ends of the mask."""
    found = np.argwhere(mask)
    if not len(found):
        found = np.argwhere(np.ones_like(mask))
    matrix = picture.affine
    z = found @ matrix[2, :3] + matrix[2, 3]
    inner = np.linspace(z.min(), z.max(), SLICES + 2)[1:-1]
    return [float(round(one)) for one in inner]


def _nifti(data: NDArray[Any], picture: Volume) -> Any:
    import nibabel as nib

    make: Any = nib.Nifti1Image  # nibabel is typed in part
    return make(np.asarray(data, np.float32), picture.affine)


def _figure(wide: float, high: float) -> Any:
    """An empty white figure, `wide` x `high` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, high), facecolor="white")


def _captioned(figure: Any, made: Contrasted, words: str, width: int = 150) -> Any:
    against = dict(made.compared.record.parameters)["against"]
    told = f"Synthetic maps, A − B; B: {against}. {words} {made.compared.sentence()}"
    place = {"x": 0.02, "y": 0.06 / figure.get_figheight() * 2, "va": "bottom"}
    figure.text(**place, s=fill(told, width), fontsize=7.5, color="0.25")
    return figure


@contextmanager
def _quiet() -> Iterator[None]:
    """What nilearn says of imports, and of maps that are 0 everywhere, is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
