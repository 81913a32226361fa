"""What a simulated cohort with an illness adds: gray-matter maps and connectivity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.components import components_of, write_components
from napari_brainldm.engine.fnc_file import write_fnc
from trainer.data.cohort_files import (
    UINT8_LEVELS,
    write_json,
    write_nifti,
    write_text,
)
from trainer.data.connectivity import (
    ConnectivityConfig,
    draw_fnc,
    measured,
    on_template,
)

if TYPE_CHECKING:
    from trainer.data.phantom import Simulated

MAPS = "derivatives/gray_matter"
NATIVE = "desc-truth_label-GM_probseg"
MODULATED = "space-MNI152NLin6Asym_desc-modulated_label-GM_probseg"
"""Folder of the maps, and ends of their names."""

TABLE = "derivatives/fnc/fnc.csv"
COMPONENTS = "derivatives/fnc/components.tsv"

_MOST = 2.0
"""Largest modulated value that a byte holds."""

PATIENT_DESCRIPTIONS = {
    "group": {"Levels": {"control": "healthy", "patient": "with the illness"}},
    "severity": {"Description": "Of the illness: what moves FNC and gray matter"},
    "site": {"Description": "Number of the simulated scanner"},
}

README = """
derivatives/fnc/fnc.csv: functional connectivity (Fisher z, upper triangle row by row);
fnc.json says which networks the simulated illness moves.
derivatives/gray_matter: true share of gray matter in the space of the T1 (desc-truth),
and in the template's space, modulated, as a site measures it (desc-modulated).
"""


def write_gray_matter(
    config: ConnectivityConfig,
    root: Path,
    scan: Simulated,
    person: tuple[int, int, int],
    names: Sequence[str],
) -> None:
    """Both maps of one scan; `names` are those of person and session.

    `person` is the cohort's seed, the person's index and the number of the visit.
    """
    affine = scan.picture.affine
    folder, stem = root / MAPS / Path(*names) / "anat", "_".join(names)
    voxel_mm = scan.picture.grid.voxel_size[0]
    truth = on_template(scan)
    seen = measured(config, truth, voxel_mm, person).cpu().numpy()
    total = float(scan.gray.data.sum(dtype=np.float64)) * voxel_mm**3 / 1000
    for end, values, most in (
        (NATIVE, scan.gray.data, 1.0),
        (MODULATED, seen, _MOST),
    ):
        levels = np.rint(np.clip(values / most, 0, 1) * UINT8_LEVELS).astype(np.uint8)
        base = folder / f"{stem}_{end}"
        write_nifti(base, levels, affine, most / UINT8_LEVELS)
        facts = {
            "Simulated": True,
            "Modulated": end == MODULATED,
            "GrayMatterMl": round(total, 3),
        }
        write_json(base.with_name(base.name + ".json"), facts)


def write_connectivity(
    config: ConnectivityConfig, root: Path, seed: int, names: Sequence[str]
) -> None:
    """The table of everybody's connectivity, and what was planted in it."""
    rows = [draw_fnc(config, seed, index, name) for index, name in enumerate(names)]
    known = components_of(config.components)
    write_text(root / TABLE, write_fnc(rows))
    write_text(root / COMPONENTS, write_components(known))
    facts = {
        "Simulated": True,
        "Scale": "z",
        "Unit": "Fisher z",
        "Order": "upper triangle, row by row",
        "Truth": asdict(config),
    }
    write_json((root / TABLE).with_suffix(".json"), facts)
    made_by = [{"Name": "napari-brainldm simulated cohort", "Version": "1"}]
    for folder, title in ((TABLE, "connectivity"), (MAPS + "/x", "gray-matter maps")):
        description = {
            "Name": f"Simulated cohort: {title}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": made_by,
        }
        place = (root / folder).parent / "dataset_description.json"
        write_json(place, description)
