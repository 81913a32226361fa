"""A contrast as others can use it: a table to look at, and files to keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.atlas import Atlas, nearest_centre
from napari_brainldm.engine.cluster_table import cluster_table
from napari_brainldm.engine.compared_regions import (
    RegionContrast,
    region_contrasts,
    to_tsv,
)
from napari_brainldm.engine.contrast_figures import KINDS, encoded, figures
from napari_brainldm.engine.contrast_flags import WORDS, flagged, judge
from napari_brainldm.engine.export import derived_record, marked, write_picture
from napari_brainldm.engine.files import stem_of, write_whole, writing_into
from napari_brainldm.engine.fnc_contrast import SHOWN
from napari_brainldm.engine.inference import interval, sign_consistency
from napari_brainldm.engine.regions import Row, Table
from napari_brainldm.engine.volume import Volume
from napari_brainldm.engine.voxelwise import VoxelTested

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Derived

OF_MANY = {
    "diff": "difference",
    "diff_pct": "%",
    "g": "g",
    "ci_lo": "CI from",
    "ci_hi": "to",
    "t": "t",
    "p_fwe": "p (FWE)",
    "q_fdr": "q",
    "sign_consistency": "same sign",
    "null95": "null 95 %",
}
OF_ONE = {
    "diff": "difference",
    "diff_pct": "%",
    "sd_seed": "SD of seeds",
    "null95": "null 95 %",
}
COMMON = {"mean_A": "A", "mean_B": "B", "n_vox": "voxels", "flags": "flags"}
"""Fields of a `RegionContrast` and their heads on screen; the file has all fields."""

INTENSITIES = {
    "difference": "A minus B",
    "adjusted": "A minus B, less its mean within the mask",
    "sd": "SD of A minus B",
    "effect": "Hedges' g of pairs; of one subject, mean / SD over seeds",
    "percentile": "percent of the null below |A minus B|",
    "mask": "1 within the mask, 0 outside",
    "sd-seeds": "SD of A minus B over seeds, mean over subjects",
    "ci-low": "lower end of the 95 % interval of A minus B",
    "ci-high": "upper end of the 95 % interval of A minus B",
    "same-sign": "share of subjects whose difference has the sign of the mean",
    "t": "t",
    "tfce": "TFCE of t",
    "q": "q (false discovery rate)",
    "logp-max-t": "-log10 p (family-wise)",
    "logp-max-tfce": "-log10 p (family-wise)",
}
"""Map -> what its voxels hold; those of A and B are pictures."""

MASK = f"voxels in which the mean of A or of B is above {SHOWN:g}"


@dataclass(frozen=True)
class ContrastTable(Table):
    """As shown, and `contrasts`, every field of which is written."""

    contrasts: tuple[RegionContrast, ...] = ()

    def to_tsv(self) -> str:
        """All columns of `RegionContrast`."""
        return to_tsv(self.contrasts)


def contrast_table(made: Contrasted, atlas: Atlas) -> ContrastTable:
    """The regions of `atlas` under `made`, largest effect first."""
    null = made.null if len(made.null) else None
    found = region_contrasts(atlas, made.compared, made.mask, null)
    rows = sorted(flagged(found, atlas, made), key=lambda row: row.rank or len(found))
    fields = (OF_MANY if made.compared.people > 1 else OF_ONE) | COMMON
    labels = atlas.on(made.compared.first.grid).labels
    shown = tuple(_shown(row, fields, labels, made) for row in rows)
    title = f"{atlas.name} ({atlas.licence}). {made.compared.sentence()}"
    return ContrastTable(title, ("region", *fields.values()), shown, tuple(rows))


def _shown(
    row: RegionContrast, fields: dict[str, str], labels: Any, made: Contrasted
) -> Row:
    values = [getattr(row, name) for name in fields]
    told = tuple(", ".join(v) if isinstance(v, tuple) else v for v in values)
    here = labels == row.roi_id
    grid = made.compared.first.grid
    return Row(row.name, told, nearest_centre(here, grid) if here.any() else None)


def maps_of(made: Contrasted) -> dict[str, Volume]:
    """The maps of a contrast that are shown, by the name that its file gets.

    Where nearly all of the brain changes in one direction, "adjusted" is the
    difference less its mean in the mask, to be seen beside the raw one.
    """
    compared = made.compared
    null = made.percentile()
    maps = {
        "A": compared.first,
        "B": compared.second,
        "difference": compared.mean,
    }
    if compared.spreads:
        maps |= {"sd": made.spread, "effect": made.effect}
    if "global" in judge(made).flags:
        maps["adjusted"] = made.adjusted
    return maps if null is None else maps | {"percentile": null}


def map_record(
    renderer: Renderer, derived: Derived, picture: Volume, name: str
) -> dict[str, Any]:
    """What the map called `name` is saved with, and what its voxels hold."""
    notes = derived_record(renderer, derived, picture) | {"Map": name}
    held = INTENSITIES.get(name)
    return notes if held is None else notes | {"Intensity": held}


def _further_maps(
    made: Contrasted, tested: VoxelTested | None
) -> dict[str, NDArray[np.floating]]:
    """Maps (i, j, k) for files alone: what further statistics need."""
    compared = made.compared
    found: dict[str, NDArray[np.floating]] = {"mask": made.mask.astype(np.float32)}
    if compared.people > 1:
        low, high = interval(compared.differences.astype(np.float64))
        found |= {
            "ci-low": low,
            "ci-high": high,
            "same-sign": sign_consistency(compared.differences.astype(np.float64)),
        }
        if compared.seeds > 1:
            found["sd-seeds"] = compared.seed_sd.mean(0)
    return found if tested is None else found | tested.maps()


@dataclass(frozen=True, eq=False)
class Reading:
    """How a contrast is read.

    Attributes
    ----------
    atlas
        Names its places; in MNI space, on its own grid.
    threshold
        Effect from which voxels are outlined, and are clusters; 0 for none.
    tested
        The test of every voxel; None where there was none.
    clusters
        Atlas that names the places of clusters; None for `atlas`.
    """

    atlas: Atlas
    threshold: float = 0.8
    tested: VoxelTested | None = None
    clusters: Atlas | None = None


def summary(renderer: Renderer, made: Contrasted, reading: Reading) -> dict[str, Any]:
    """The whole of a contrast in numbers, plain values."""
    compared, judged = made.compared, judge(made)
    requests = compared.record.requests
    names = {r.conditions.fnc: renderer.fnc.of(r.conditions.fnc).name for r in requests}
    effect = "Hedges' g of pairs" if compared.people > 1 else "mean / SD over seeds"
    return {
        "Synthetic": True,
        "Inference": compared.sentence(),
        "Subjects": compared.people,
        "Seeds": compared.seeds,
        "NullPairs": len(made.null),
        "Against": dict(compared.record.parameters)["against"],
        "SD": "over subjects" if compared.people > 1 else "over seeds",
        "Effect": effect,
        "Threshold": reading.threshold or None,
        "VoxelTest": None if reading.tested is None else reading.tested.told(),
        "WholeBrain": judged.to_plain(),
        "Flags": {name: WORDS[name] for name in judged.flags},
        "Connectivity": names,
        "Mask": MASK,
        "MaskVoxels": int(np.count_nonzero(made.mask)),
        "Smoothing": "none",
        "Atlas": reading.atlas.told(),
        "AtlasOfClusters": (reading.clusters or reading.atlas).told(),
    }


def write_contrast(
    renderer: Renderer, made: Contrasted, reading: Reading, path: Path
) -> list[Path]:
    """Write maps (NIfTI with sidecars), tables (TSV), figures, and summary (JSON).

    `path` names the folder, and what all files begin with.
    """
    folder, stem = path.parent, stem_of(path)
    told = summary(renderer, made, reading)
    affine = made.compared.first.affine
    maps = maps_of(made) | {
        name: Volume(np.asarray(data, np.float32), affine)
        for name, data in _further_maps(made, reading.tested).items()
    }
    common = {key: told[key] for key in ("Inference", "Mask", "Smoothing", "Atlas")}
    written = []
    for name, picture in maps.items():
        notes = map_record(renderer, made.compared.record, picture, name) | common
        written.append(write_picture(picture, notes, folder, f"{stem}_{name}"))
    with writing_into(folder):
        for name, content in _files(made, reading, told).items():
            path = folder / f"{marked(stem)}_{name}"
            write_whole(path, content)
            written.append(path)
    return written


def _files(
    made: Contrasted, reading: Reading, told: dict[str, Any]
) -> dict[str, bytes]:
    """Content of every file beside the maps, by the end of its name."""
    table = contrast_table(made, reading.atlas)
    places = reading.clusters or reading.atlas
    clusters = cluster_table(made, places, reading.threshold)
    titles = {"RegionTable": table.title, "ClusterTable": clusters.title}
    drawn = figures(made, table, reading.threshold)
    return {
        "regions.tsv": table.to_tsv().encode(),
        "clusters.tsv": clusters.to_tsv().encode(),
        "summary.json": json.dumps(told | titles, indent=1, sort_keys=True).encode(),
        **{
            f"{name}.{kind}": encoded(figure, kind)
            for name, figure in drawn.items()
            for kind in KINDS
        },
    }
