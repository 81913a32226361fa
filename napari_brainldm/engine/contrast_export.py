"""A contrast as others can use it: a table to look at, and files to keep."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.atlas import nearest_centre
from napari_brainldm.engine.compared_regions import (
    RegionContrast,
    region_contrasts,
    to_tsv,
)
from napari_brainldm.engine.contrast_flags import WORDS, flagged, judge
from napari_brainldm.engine.export import derived_record, marked, write_picture
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.regions import Row, Table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume

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
    """Every map of a contrast, by the name that its file gets."""
    compared = made.compared
    null = made.percentile()
    maps = {
        "A": compared.first,
        "B": compared.second,
        "difference": compared.mean,
        "sd": made.spread,
        "effect": made.effect,
    }
    return maps if null is None else maps | {"percentile": null}


def summary(renderer: Renderer, made: Contrasted) -> dict[str, Any]:
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
        "WholeBrain": judged.to_plain(),
        "Flags": {name: WORDS[name] for name in judged.flags},
        "Connectivity": names,
        "MaskVoxels": int(np.count_nonzero(made.mask)),
        "Smoothing": "none",
    }


def write_contrast(
    renderer: Renderer, made: Contrasted, table: ContrastTable, path: Path
) -> list[Path]:
    """Write maps (NIfTI with sidecars), region table (TSV) and summary (JSON).

    `path` names the folder, and what all files begin with.
    """
    folder, stem = path.parent, path.name.partition(".")[0]
    told = summary(renderer, made)
    written = []
    for name, picture in maps_of(made).items():
        record = derived_record(renderer, made.compared.record, picture)
        notes = record | {"Map": name, "Inference": told["Inference"]}
        written.append(write_picture(picture, notes, folder, f"{stem}_{name}"))
    start = marked(stem)
    texts = {
        f"{start}_regions.tsv": table.to_tsv(),
        f"{start}_summary.json": json.dumps(
            told | {"RegionTable": table.title}, indent=1, sort_keys=True
        ),
    }
    with writing_into(folder):
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
            written.append(folder / name)
    return written
