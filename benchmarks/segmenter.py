"""Ask whether the segmenter finds structures where they are, as large as they are.

    python -m benchmarks.segmenter [--quick] [--json] [--seed S] [--checkpoint FILE]
        [--labelmaps FOLDER] [--freesurfer SCAN ASEG [NORM]]

Held-out people: simulated from a seed that training never used, segmented as they lie.
Label maps: T1s made from SynthSeg's training maps (`training_seg_*.nii.gz` and priors
in FOLDER), whole heads of known volumes, through the whole road: placed, segmented,
measured. FreeSurfer: a real whole head against its aseg; with NORM (norm.mgz, zero
outside the brain) the brain mask too. The last two only where their files are given.
`--quick` walks the same road with three people and one picture of each map.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.finding import BuiltIn, Finding
from napari_brainldm.engine.measure import measure as measured
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.scan_file import load_volume
from napari_brainldm.engine.volume import Volume
from trainer.config import load_config
from trainer.data.cohort import CohortConfig, participant, write_cohort
from trainer.data.template import NAMES, TISSUE
from trainer.evaluate.segmentation import (
    T1_CLASSES,
    Camera,
    Labels,
    Priors,
    agreement,
    as_structures,
    dice,
    in_cohort,
    label_volumes,
    synthesise_t1,
    volume_of,
)

if TYPE_CHECKING:
    import argparse

SEED = 909_000  # far from the seeds of training
VOLUMES = ("ventricles", "hippocampus", "brain", "icv")
TIMED = 10
ASEG_VENTRICLES = (4, 5, 43, 44)  # without choroid plexus, as often reported


@dataclass(frozen=True)
class Size:
    """How much work: simulated people, pictures of each label map."""

    people: int
    pictures: int


FULL = Size(people=200, pictures=5)
QUICK = Size(people=3, pictures=1)
LIMITS = {
    "ventricles_r": Limit(AT_LEAST, 0.99),
    "ventricles_median_error_percent": Limit(AT_MOST, 5.0),
    "hippocampus_r": Limit(AT_LEAST, 0.9),
    "seconds_per_picture": Limit(AT_MOST, 0.5),
    "megabytes": Limit(AT_MOST, 8.0),
}
LABELMAPS = {
    "labelmaps_refused": Limit(AT_MOST, 0),
    "labelmaps_ventricles_worst_error_percent": Limit(AT_MOST, 15.0),
}
FREESURFER = {
    "freesurfer_ventricles_error_percent": Limit(AT_MOST, 15.0),
    "freesurfer_hippocampus_error_percent": Limit(AT_MOST, 20.0),
}
BRAIN_MASK = {"freesurfer_brain_dice": Limit(AT_LEAST, 0.94)}


@dataclass(frozen=True)
class Compared:
    """One picture: volumes in ml, true and found, and Dice, NaN where both lack it."""

    name: str
    true: dict[str, float]
    found: dict[str, float]
    dice: dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("segmenter", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--labelmaps", type=Path, metavar="FOLDER")
    parser.add_argument("--freesurfer", type=Path, nargs="+", metavar="FILE")
    chosen = parser.parse_args(arguments)
    if chosen.freesurfer and len(chosen.freesurfer) not in (2, 3):
        parser.error("--freesurfer takes SCAN ASEG or SCAN ASEG NORM")
    return finish(chosen, limits(chosen), lambda: figures(chosen))


def limits(chosen: argparse.Namespace) -> dict[str, Limit]:
    """The limits of what was chosen to be measured."""
    found = dict(LIMITS)
    if chosen.labelmaps:
        found |= LABELMAPS
    if chosen.freesurfer:
        found |= FREESURFER | (BRAIN_MASK if len(chosen.freesurfer) == 3 else {})
    return found


def figures(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure that was chosen."""
    path = chosen.checkpoint or bundled_segmenter()
    checkpoint = load_checkpoint(path)
    finder = BuiltIn(checkpoint)
    size = QUICK if chosen.quick else FULL
    found = of_people(finder, checkpoint.card.grid.voxel_size[0], size, chosen.seed)
    found |= {"megabytes": path.stat().st_size / 1e6, "checkpoint": checkpoint.sha256}
    if chosen.labelmaps:
        found |= of_labelmaps(finder, chosen.labelmaps, size, chosen.seed)
    if chosen.freesurfer:
        found |= of_freesurfer(finder, *chosen.freesurfer)
    return found


# Held-out people ----------------------------------------------------------------------


def of_people(
    finder: BuiltIn, voxel_mm: float, size: Size, seed: int
) -> dict[str, Any]:
    """Agreement, Dice and speed on freshly simulated people."""
    cohort = replace(
        load_config(Path("demo.toml")).cohort,
        seed=SEED + seed,
        subjects=size.people,
        voxel_mm=voxel_mm,
        visits=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for _ in write_cohort(cohort, root, workers=1 if size is QUICK else 2):
            pass
        rows = list(people(finder, root, cohort))
        seconds = seconds_per_picture(finder, _scan(root, participant(0)))
    means = mean_dice(rows)
    return {
        "people": len(rows),
        **agreements(rows),
        "dice": means,
        "dice_mean": float(np.mean([v for v in means.values() if v is not None])),
        "seconds_per_picture": seconds,
    }


def people(finder: BuiltIn, root: Path, cohort: CohortConfig) -> Iterator[Compared]:
    """Every person of a cohort on disk, segmented as the picture lies."""
    for index in range(cohort.subjects):
        name = participant(index)
        folder = root / "derivatives" / "labels" / name / "anat"
        labels = _labels(folder / f"{name}_dseg.nii.gz")
        facts = json.loads((folder / f"{name}_dseg.json").read_text())
        segmentation = finder.of_placed(_scan(root, name)).segmentation
        overlap = dice(labels, in_cohort(segmentation), len(NAMES)).tolist()
        yield Compared(
            name,
            _cohort_volumes(facts["VolumesMl"]),
            _plain(segmentation),
            dict(zip(NAMES, overlap, strict=True)),
        )


def seconds_per_picture(finder: BuiltIn, picture: Volume) -> float:
    """Median time of ten segmentations of one picture on the card's grid."""
    taken = []
    for _ in range(TIMED):
        start = time.perf_counter()
        finder.of_placed(picture)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _cohort_volumes(structures: dict[str, float]) -> dict[str, float]:
    """Soft volumes in ml of a sidecar as the four that are measured."""
    return {
        "ventricles": structures["lateral_ventricles"],
        "hippocampus": structures["hippocampus"],
        "brain": sum(structures[name] for name in TISSUE),
        "icv": sum(structures[name] for name in NAMES),
    }


# Label maps ---------------------------------------------------------------------------


def of_labelmaps(
    finder: BuiltIn, folder: Path, size: Size, seed: int
) -> dict[str, Any]:
    """Agreement and error per map of T1s made from label maps."""
    rows: list[Compared] = []
    refused: list[str] = []
    for path in _maps(folder):
        for number in range(size.pictures):
            try:
                rows.append(of_map(finder, path, _priors(folder), seed + number))
            except EngineError as error:
                refused.append(f"{path.name}, picture {number}: {error}")
    result = {"labelmaps_refused": len(refused), "labelmaps_refusals": refused}
    if len(rows) < 2:  # nothing found is an error of all there is
        return result | {"labelmaps_ventricles_worst_error_percent": 100.0}
    ratios = {name: _ratios(rows, name) for name in VOLUMES}
    worst = max(abs(float(np.median(r)) - 1) for r in ratios["ventricles"].values())
    return result | {
        "labelmaps_pictures": len(rows),
        **{f"labelmaps_{k}": v for k, v in agreements(rows).items()},
        "labelmaps_true_ml": {row.name: row.true for row in rows},
        "labelmaps_ratios": ratios,
        "labelmaps_ventricles_worst_error_percent": 100 * worst,
        "labelmaps_dice": mean_dice(rows),
    }


def of_map(finder: BuiltIn, path: Path, priors: Priors, seed: int) -> Compared:
    """One T1 of the label map at `path` through the whole road, against the map."""
    labels, affine = _label_volume(path)
    scan = synthesise_t1(labels, affine, priors, seed, Camera())
    return compared(path.name, finder.of_scan(scan), labels, affine)


def compared(name: str, finding: Finding, labels: Labels, affine: Any) -> Compared:
    """A finding against FreeSurfer indices in the scan's own space."""
    structures = finding.segmentation.structures
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    truth = as_structures(_on_grid(labels, affine, finding), structures)
    found = finding.segmentation.memberships.argmax(0).astype(np.uint8)
    overlap = dice(truth, found, len(structures)).tolist()
    return Compared(
        name,
        label_volumes(labels, structures, voxel_ml),
        _plain(finding.segmentation),
        {s.name: value for s, value in zip(structures, overlap, strict=True)},
    )


def _on_grid(labels: Labels, affine: Any, finding: Finding) -> Labels:
    """Labels at the voxels of the segmentation, nearest neighbour."""
    volume = Volume(labels.astype(np.float32), affine)
    placed = resample(volume, finding.segmentation.grid, finding.to_scan, order=0)
    return placed.astype(np.int32)


def _ratios(rows: Sequence[Compared], volume: str) -> dict[str, list[float]]:
    """Found over true `volume` of every picture, by map."""
    found: dict[str, list[float]] = {}
    for row in rows:
        ratio = row.found[volume] / row.true[volume]
        found.setdefault(row.name, []).append(round(ratio, 4))
    return found


def _maps(folder: Path) -> list[Path]:
    maps = sorted(folder.glob("training_seg_*.nii.gz"))
    if not maps:
        raise EngineError(
            f"{folder} holds no training_seg_*.nii.gz. Name a folder with label maps "
            "and T1 priors of SynthSeg."
        )
    return maps


def _priors(folder: Path) -> Priors:
    return Priors(
        T1_CLASSES,
        np.load(folder / "prior_means_t1.npy"),
        np.load(folder / "prior_stds_t1.npy"),
    )


# FreeSurfer ---------------------------------------------------------------------------


def of_freesurfer(
    finder: BuiltIn, scan: Path, aseg: Path, norm: Path | None = None
) -> dict[str, Any]:
    """A real whole head against FreeSurfer's segmentation of it."""
    labels, affine = _label_volume(aseg)
    finding = finder.of_scan(load_volume(scan))
    row = compared(scan.name, finding, labels, affine)
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    fluid = volume_of(labels, ASEG_VENTRICLES, voxel_ml)
    true = {"ventricles": fluid, "hippocampus": row.true["hippocampus"]}
    overlap = mean_dice([row])
    del overlap["csf"]  # aseg labels a small part of it
    result = {
        "freesurfer_quality": finding.figure,
        "freesurfer_true_ml": {**row.true, "ventricles_without_choroid": fluid},
        "freesurfer_found_ml": row.found,
        **{
            f"freesurfer_{k}_error_percent": 100 * abs(row.found[k] / true[k] - 1)
            for k in true
        },
        "freesurfer_dice": overlap,
    }
    if norm is None:
        return result
    return result | {"freesurfer_brain_dice": brain_dice(finding, load_volume(norm))}


def brain_dice(finding: Finding, norm: Volume) -> float:
    """Dice of the brain found and of `norm` above 0, on the segmentation's grid."""
    inside = Volume((norm.data > 0).astype(np.float32), norm.affine)
    grid = finding.segmentation.grid
    truth = (resample(inside, grid, finding.to_scan) > 0.5).astype(np.uint8)
    return float(dice(truth, finding.segmentation.brain().astype(np.uint8), 1)[0])


# Shared -------------------------------------------------------------------------------


def agreements(rows: Sequence[Compared]) -> dict[str, float]:
    """Agreement of each volume, one figure a name."""
    found: dict[str, float] = {}
    for name in VOLUMES:
        fit = agreement([r.true[name] for r in rows], [r.found[name] for r in rows])
        for part, value in asdict(fit).items():
            found[f"{name}_{part}{_UNITS.get(part, '')}"] = value
    return found


_UNITS = {"intercept": "_ml", "mae": "_ml", "median_error": "_percent"}


def _plain(segmentation: Any) -> dict[str, float]:
    volumes = measured(segmentation)
    return {name: float(getattr(volumes, name)) for name in VOLUMES}


def mean_dice(rows: Sequence[Compared]) -> dict[str, float | None]:
    """Mean Dice of each structure over the pictures that hold it; None if none does."""
    found: dict[str, float | None] = {}
    for name in rows[0].dice:
        known = [r.dice[name] for r in rows if not np.isnan(r.dice[name])]
        found[name] = float(np.mean(known)) if known else None
    return found


def _scan(root: Path, name: str) -> Volume:
    return load_volume(root / name / "anat" / f"{name}_T1w.nii.gz")


def _labels(path: Path) -> Labels:
    return _label_volume(path)[0]


def _label_volume(path: Path) -> tuple[Labels, Any]:
    """Integers (i, j, k) and affine of a label file."""
    volume = load_volume(path)
    return np.rint(volume.data).astype(np.int32), volume.affine


if __name__ == "__main__":
    sys.exit(main())
