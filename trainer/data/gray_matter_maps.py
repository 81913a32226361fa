"""Gray-matter maps of every T1 of a BIDS dataset, as derivatives beside it.

What GM-LDM is trained on (Hu 2025, section 4.1 has them from SPM); a site that has
maps of CAT12, SPM or FSL gives those instead, by `data.maps`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import segmenter_at_hand
from trainer.data.bids import read_dataset
from trainer.data.cohort_files import write_json
from trainer.data.cohort_maps import MAPS, MODULATED
from trainer.data.pictures import kept_brain_finder, mapped, model_grid

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Grid
    from trainer.config import DataConfig

SUFFIX = "_T1w"
RIGID = MODULATED.replace("desc-modulated", "desc-rigid")


@dataclass(frozen=True)
class Made:
    """What came of one scan; `problem` is empty if its map was written."""

    name: str
    ml: float = 0.0
    problem: str = ""


def write_maps(data: DataConfig, workers: int) -> Iterator[str]:
    """Write the map of every T1 that has none yet; yields lines.

    Bent onto the template and modulated if `registration` is "nonlinear", placed
    rigidly otherwise. A scan of which no map can be made is told and left out.

    Raises
    ------
    EngineError
        If the dataset holds no T1, or of none a map could be made.
    """
    root = Path(data.dataset)
    bare = replace(data, maps="", covariates=(), held_out=0.0)
    entries = read_dataset(bare).train
    modulated = data.registration == "nonlinear"
    scans = [entry.path for entry in entries]
    left = [p for p in scans if not map_path(root, p, modulated).is_file()]
    yield f"{len(entries) - len(left)} of {len(entries)} maps are there"
    _describe(root)
    work = partial(_one, root=root, grid=model_grid(data), modulated=modulated)
    failed = 0
    for done, made in enumerate(mapped(work, left, workers), start=1):
        failed += bool(made.problem)
        told = made.problem or f"{made.ml:.0f} ml of gray matter"
        yield f"{done} of {len(left)}, {made.name}: {told}"
    if left and failed == len(entries):
        raise EngineError(
            f"Of none of {len(entries)} scans in {root} a map could be made; the "
            "reasons stand above. Give T1-weighted scans of whole heads."
        )
    pattern = f"{MAPS}/**/*_{(MODULATED if modulated else RIGID).split('_', 1)[1]}"
    yield f'{len(entries) - failed} maps: set data.maps = "{pattern}.nii.gz"'


def map_path(root: Path, scan: Path, modulated: bool) -> Path:
    """The map of `scan`, where the scan lies in the dataset."""
    stem = scan.name.partition(".")[0].removesuffix(SUFFIX)
    end = MODULATED if modulated else RIGID
    return root / MAPS / scan.parent.relative_to(root) / f"{stem}_{end}.nii.gz"


def _one(path: Path, root: Path, grid: Grid, modulated: bool) -> Made:
    from napari_brainldm.engine.gray_matter import of_t1, of_t1_modulated
    from napari_brainldm.engine.scan_file import load_volume, save_volume

    name = path.name.partition(".")[0]
    target = map_path(root, path, modulated)
    try:
        make = of_t1_modulated if modulated else of_t1
        made = make(load_volume(path), grid, kept_brain_finder(segmenter_at_hand()))
        told = {
            "Modulated": modulated,
            "GrayMatterMl": round(made.ml, 1),
            "Steps": list(made.steps),
            "Sources": [path.relative_to(root).as_posix()],
        }
        sidecar = target.with_name(target.name.partition(".")[0] + ".json")
        write_json(sidecar, told)
        # the map comes last: where it is, all is
        save_volume(made.volume, target)
    except EngineError as error:
        return Made(name, problem=str(error))
    return Made(name, made.ml)


def _describe(root: Path) -> None:
    path = root / MAPS / "dataset_description.json"
    if path.is_file():
        return
    by = {"Name": "napari-brainldm", "Version": metadata.version("napari-brainldm")}
    told = {
        "Name": "Gray-matter maps",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [by],
    }
    write_json(path, told)
