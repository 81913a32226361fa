"""Structures found against the truth: overlap, volumes, and T1s made from label maps.

Label maps hold FreeSurfer indices, with SynthSeg's for what lies around the brain.
Arrays are (i, j, k).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Affine, Array, Volume
from trainer.data.photograph import bias_field
from trainer.data.template import NAMES, most_likely

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.segmenter import Structure
    from napari_brainldm.engine.segment import Segmentation

Labels = NDArray[np.integer]
Floats = NDArray[np.float64]

IN_COHORT = {
    "cerebellar_gray_matter": "cerebellum",
    "cerebellar_white_matter": "cerebellum",
}
"""Structures that the simulated cohort calls by another name."""

CHOROID = (31, 63, 136, 137, 163, 164)  # SynthSeg's maps number it by ventricle
ALSO: Mapping[str, tuple[int, ...]] = {
    "lateral_ventricles": (5, 44, *CHOROID),
    "other_ventricles": (15, 72),
    "white_matter": (25, 57, 77, 78, 79, 251, 252, 253, 254, 255),
    "ventral_diencephalon": (85,),
}
"""FreeSurfer indices of a structure beside its own two: inferior horns, choroid plexus,
fourth and fifth ventricle, lesions, corpus callosum, optic chiasm."""

VENTRICLES = (4, 43, *ALSO["lateral_ventricles"])
HIPPOCAMPUS = (17, 53)
VESSELS = (30, 62)  # within the skull, but no structure's


# Overlap ------------------------------------------------------------------------------


def dice(truth: Labels, found: Labels, count: int) -> Floats:
    """Dice (count,) of the labels 1..count; NaN of a label that neither map holds."""
    same = truth[truth == found]
    both, *sizes = (
        np.bincount(labels.ravel(), minlength=count + 1)[1 : count + 1]
        for labels in (same, truth, found)
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / (sizes[0] + sizes[1]), np.float64)


def in_cohort(segmentation: Segmentation) -> Labels:
    """The likeliest structure, numbered as in the cohort: 0 outside, then `NAMES`."""
    merged = np.zeros((len(NAMES), *segmentation.grid.shape), np.float32)
    pairs = zip(segmentation.structures, segmentation.memberships[1:], strict=True)
    for structure, membership in pairs:
        merged[NAMES.index(IN_COHORT.get(structure.name, structure.name))] += membership
    found: Labels = most_likely(torch.from_numpy(merged)).numpy()
    return found


def as_structures(labels: Labels, structures: Sequence[Structure]) -> Labels:
    """Class numbers of FreeSurfer indices: 0 for the rest, then `structures`."""
    found = np.zeros(labels.shape, np.uint8)
    for number, structure in enumerate(structures, start=1):
        found[np.isin(labels, indices_of(structure))] = number
    return found


def indices_of(structure: Structure) -> tuple[int, ...]:
    """All FreeSurfer indices that belong to `structure`."""
    return (structure.left, structure.right, *ALSO.get(structure.name, ()))


# Volumes ------------------------------------------------------------------------------


def label_volumes(
    labels: Labels, structures: Sequence[Structure], voxel_ml: float
) -> dict[str, float]:
    """Ventricles, hippocampus, brain and icv in ml, as `measure` defines them."""
    tissue = [n for s in structures if s.tissue for n in indices_of(s)]
    known = [n for s in structures for n in indices_of(s)]
    groups: dict[str, Collection[int]] = {
        "ventricles": VENTRICLES,
        "hippocampus": HIPPOCAMPUS,
        "brain": tissue,
        "icv": (*known, *VESSELS),
    }
    return {name: volume_of(labels, which, voxel_ml) for name, which in groups.items()}


def volume_of(labels: Labels, which: Collection[int], voxel_ml: float) -> float:
    """Volume in ml of the voxels whose label is one of `which`."""
    return int(np.isin(labels, list(which)).sum()) * voxel_ml


@dataclass(frozen=True)
class Agreement:
    """How volumes found follow the true ones: found = slope * true + intercept.

    Attributes
    ----------
    r
        Pearson's correlation; 0 where all true or all found volumes are the same.
    median_error
        Median of the absolute error in percent of the true volume; NaN where one is 0.
    mae, intercept
        In ml.
    """

    r: float
    slope: float
    intercept: float
    median_error: float
    mae: float


def agreement(true: Sequence[float], found: Sequence[float]) -> Agreement:
    """Agreement of volumes in ml, or of other values, at least two."""
    x, y = np.asarray(true, float), np.asarray(found, float)
    if min(x.size, y.size) < 2:
        raise EngineError(
            f"Agreement was asked of {x.size} true and {y.size} found volumes. It "
            "needs at least two of each: compare more scans."
        )
    error = np.abs(y - x)
    spread = x.std() * y.std()
    covariance = float(((x - x.mean()) * (y - y.mean())).mean())
    slope = covariance / x.var() if x.var() > 0 else 0.0
    return Agreement(
        covariance / spread if spread > 0 else 0.0,
        float(slope),
        float(y.mean() - slope * x.mean()),
        float(100 * np.median(error / x)) if (x > 0).all() else float("nan"),
        float(error.mean()),
    )


# T1s from label maps ------------------------------------------------------------------

T1_CLASSES: tuple[tuple[int, ...], ...] = (
    (0,),
    (4, 5, 14, 15, 43, 44, 72),
    (2, 41),
    (3, 42),
    (7, 46),
    (8, 47),
    (10, 49),
    (11, 12, 26, 50, 51, 58),
    (13, 52),
    (16,),
    (17, 18, 53, 54),
    (25, 30, 57, 62, *CHOROID),
    (24,),
    (28, 60, 85),
    (502,),
    (506,),
    (507,),
    (508,),
    (509,),
    (511,),
    (512,),
    (514,),
    (515,),
    (516,),
    (530,),
)
"""Which labels share an intensity in SynthSeg's T1 priors, in the order of the priors.

The table that belongs to the priors is not among the files; this one was found from
the priors' means, which follow the order of the labels and agree with the intensities
of a real T1 under its FreeSurfer labels.
"""


@dataclass(frozen=True, eq=False)
class Priors:
    """What intensities tissues have in T1-weighted scans.

    Attributes
    ----------
    classes
        Labels that share an intensity.
    means, deviations
        float64 (2, classes): the mean intensity of a class and the SD within it are
        drawn from normal distributions; row 0 their means, row 1 their SDs.
    """

    classes: tuple[tuple[int, ...], ...]
    means: Floats
    deviations: Floats


@dataclass(frozen=True)
class Camera:
    """How a synthetic scan is taken.

    Attributes
    ----------
    blur
        SD of the point spread in voxels; 0.45 is a width of about one voxel.
    bias
        SD of the log of the bias field.
    noise
        SD of the complex noise, relative to the 99th percentile of the picture.
    """

    blur: float = 0.45
    bias: float = 0.1
    noise: float = 0.02


def synthesise_t1(
    labels: Labels, affine: Affine, priors: Priors, seed: int, camera: Camera
) -> Volume:
    """A T1-weighted scan of the head of which `labels` is the map.

    As SynthSeg makes them: every class has a normal distribution of intensities, drawn
    from the priors; then blur, bias field and Rician noise.
    """
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    means, deviations = draw_intensities(priors, rng)
    classes = class_map(labels, priors.classes)
    grain = rng.standard_normal(labels.shape, np.float32)
    picture = np.maximum(means[classes] + deviations[classes] * grain, 0)
    if camera.blur > 0:
        picture = ndimage.gaussian_filter(picture, camera.blur)
    picture = picture * np.exp(camera.bias * _shading(labels.shape, seed))
    return Volume(_noisy(picture, camera.noise, rng), affine)


def draw_intensities(priors: Priors, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mean and SD of every class, float32 (classes,), none below 0."""
    means, deviations = (
        np.maximum(rng.normal(*prior), 0).astype(np.float32)
        for prior in (priors.means, priors.deviations)
    )
    return means, deviations


def class_map(labels: Labels, classes: Sequence[Collection[int]]) -> NDArray[np.intp]:
    """Position in `classes` of every label; EngineError for a label of none."""
    unique, places = np.unique(labels, return_inverse=True)
    home = {n: position for position, group in enumerate(classes) for n in group}
    strange = [int(n) for n in unique if int(n) not in home]
    if strange:
        raise EngineError(
            f"The label map holds {', '.join(map(str, strange))}, of which the "
            "intensity priors know nothing. Use a label map of SynthSeg's training set."
        )
    table = np.array([home[int(n)] for n in unique])
    return table[places].reshape(labels.shape)


def _shading(shape: tuple[int, ...], seed: int) -> Array:
    """Smooth field (i, j, k) with mean 0 and SD 1."""
    generator = torch.Generator().manual_seed(seed)
    field: Array = bias_field(torch.Size(shape), generator).numpy()
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _noisy(picture: Array, noise: float, rng: np.random.Generator) -> Array:
    """`picture` with Rician noise."""
    if noise <= 0:
        return picture
    sd = np.float32(noise * np.percentile(picture, 99))
    real, imaginary = (
        sd * rng.standard_normal(picture.shape, np.float32) for _ in range(2)
    )
    return np.asarray(np.hypot(picture + real, imaginary), np.float32)
