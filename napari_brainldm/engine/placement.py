"""Rigid placement of a head or a brain in MNI space.

World coordinates are RAS+ mm throughout; ITK's LPS is met only in `to_itk`,
`_starts` and `_matrix_of`. The template is larger than most brains, so one size factor
is fitted along with the six rigid parameters and then left out: the scan is never
scaled.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import covering_grid, on_cubes, resample
from napari_brainldm.engine.volume import Affine, Grid, Volume

Mask = NDArray[np.bool_]

BRAIN_LEVEL = 0.2
"""Share of the template's brightest voxel above which a voxel is brain."""

TYPICAL_SIZE = 0.93
"""Size of an adult brain relative to the MNI152 template, along an edge."""

COARSE_MM, FINE_MM = 8.0, 4.0
TURNED_BY = 0.01
"""Mutual information by which a turned head has to fit better to be believed.

Measured: 8 real scans fit better upright, by 0.002 to 0.3; three of them, upside down
or back to front, fit better turned, by 0.012 to 0.28 (one of 9 not, refused otherwise).
"""

SHELL_MM = 8.0
"""How far around the template brain the two pictures are compared."""


@dataclass(frozen=True, eq=False)
class Template:
    """The MNI152 T1-weighted average brain, without skull.

    Attributes
    ----------
    picture
        0..1, on its own 2 mm grid.
    brain
        bool (i, j, k), on the same grid; about 1.9 l, cerebrospinal fluid included.
    centre
        Centre of mass of the brain, mm.
    """

    picture: Volume
    brain: Mask
    centre: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a scan lies relative to the template.

    Attributes
    ----------
    to_scan
        4 x 4 rigid, MNI mm -> scan mm.
    size
        Fitted size of the brain relative to the template, along an edge.
    metric
        Mattes mutual information reached, negative; lower is better.
    """

    to_scan: Affine
    size: float
    metric: float

    def sized(self, template: Template) -> Affine:
        """4 x 4, template mm -> placed scan mm: the fitted size about the centre."""
        matrix = np.eye(4)
        matrix[:3, :3] *= self.size
        matrix[:3, 3] = (1 - self.size) * template.centre
        return matrix


def mni_template() -> Template:
    """The template that nilearn brings along; nothing is downloaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nilearn's imports
        from nilearn.datasets import load_mni152_template

        image = load_mni152_template(resolution=2)
    data = np.asarray(image.dataobj, np.float32)
    picture = Volume(data, np.asarray(image.affine, np.float64))
    brain = largest_piece(data > BRAIN_LEVEL)
    return Template(picture, brain, centre_of(brain, picture.affine))


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece of `mask` (i, j, k); all False stays so."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def centre_of(weights: NDArray[Any], affine: Affine) -> NDArray[np.float64]:
    """Centre of mass of `weights` (i, j, k) in mm."""
    from scipy import ndimage

    voxel = np.array(ndimage.center_of_mass(weights))
    return np.asarray(affine[:3, :3] @ voxel + affine[:3, 3])


def place(scan: Volume, start: NDArray[np.float64], template: Template) -> Placement:
    """Find the scan's brain, whose middle is near `start` (mm of the scan).

    Starting positions over a range of head tilts are compared at 8 mm; the best ones
    are followed, and the best of these is refined at 4 mm. Nothing is random.

    Raises
    ------
    EngineError
        When the head fits clearly better turned by a right angle or more, or not at
        all.
    """
    coarse = _Pair.of(scan, template, COARSE_MM)
    upright = coarse.ranked(_starts(start, template))
    turned = coarse.ranked(_turned_starts(start, template))
    best = coarse.best(upright[:4])
    # both followed: an upright start that is off by centimetres fits no better than
    # a turned one; the raw figure too, for a long first step may lose a perfect start
    followed = coarse.metric(coarse.best(turned[:1]))
    if min(turned[0][0], followed) < coarse.metric(best) - TURNED_BY:
        raise EngineError(
            "Turned by a right angle or more, the scan fits a brain better than the "
            "way it says it lies. Correct its orientation or convert it anew, and "
            "choose a T1-weighted scan of the whole brain."
        )
    fine = _Pair.of(scan, template, FINE_MM)
    final = fine.follow(fine.follow(best, 80, 2.0), 60, 0.5)
    return _without_size(final, template.centre, fine.metric(final))


def refine(brain: Volume, placement: Placement, template: Template) -> Placement:
    """`placement` made better with a `brain` cut out by means of it, 0 around it."""
    fine = _Pair.of(brain, template, FINE_MM)
    final = fine.follow(_similarity(placement, template), 60, 1.0)
    return _without_size(final, template.centre, fine.metric(final))


def _similarity(placement: Placement, template: Template) -> Any:
    """The ITK transform (MNI LPS -> scan LPS) from which `placement` came."""
    rotation = placement.to_scan[:3, :3]
    middle = rotation @ template.centre + placement.to_scan[:3, 3]
    flip = np.array([-1.0, -1.0, 1.0])
    return _transform(
        placement.size * rotation * np.outer(flip, flip), middle, template
    )


def _starts(start: NDArray[np.float64], template: Template) -> Iterator[Any]:
    """Similarity transforms (MNI LPS -> scan LPS) over tilts and shifts of the head."""
    angles = product((-30, -15, 0, 15, 30), (-12, 0, 12), (-12, 0, 12))
    for (tilt, lean, turn), rise in product(angles, (-15.0, 0.0, 15.0)):
        euler = _euler(tilt, lean, turn)
        yield _start(euler, start + np.array([0.0, 0.0, rise]), template)


def _turned_starts(start: NDArray[np.float64], template: Template) -> Iterator[Any]:
    """The same for heads that lie, or stand on their top, or face backwards."""
    for turn, tilt, rise in product(_quarter_turns(), (-20, 0, 20), (-40.0, 0.0)):
        shifted = start + np.array([0.0, 0.0, rise])
        yield _start(turn @ _euler(tilt, 0, 0), shifted, template)


def _quarter_turns() -> list[NDArray[np.float64]]:
    """The 23 rotations by right angles that change something."""
    turns = [
        np.eye(3)[list(axes)] * np.array(signs)[:, None]
        for axes, signs in product(
            permutations(range(3)), product((1.0, -1.0), repeat=3)
        )
    ]
    return [m for m in turns if np.linalg.det(m) > 0 and not np.allclose(m, np.eye(3))]


def _euler(tilt: float, lean: float, turn: float) -> NDArray[np.float64]:
    """3 x 3 in LPS: degrees about the left-right, front-back and long axis."""
    angles = (float(np.radians(angle)) for angle in (tilt, lean, turn))
    euler = itk().Euler3DTransform((0.0, 0.0, 0.0), *angles)
    return np.array(euler.GetMatrix()).reshape(3, 3)


def _start(
    rotation: NDArray[np.float64], middle: NDArray[np.float64], template: Template
) -> Any:
    """ITK transform of typical size; the template's centre goes to `middle` (mm)."""
    return _transform(TYPICAL_SIZE * rotation, middle, template)


def _transform(
    matrix: NDArray[np.float64], middle: NDArray[np.float64], template: Template
) -> Any:
    flip = np.array([-1.0, -1.0, 1.0])
    transform = itk().Similarity3DTransform()
    transform.SetCenter((template.centre * flip).tolist())
    transform.SetMatrix(matrix.ravel().tolist())
    transform.SetTranslation(((middle - template.centre) * flip).tolist())
    return transform


@dataclass(frozen=True, eq=False)
class _Pair:
    """Template and scan at one resolution, as ITK images."""

    fixed: Any
    moving: Any
    where: Any

    @classmethod
    def of(cls, scan: Volume, template: Template, voxel_mm: float) -> _Pair:
        from scipy import ndimage

        picture, brain = template.picture, template.brain
        shell = ndimage.distance_transform_edt(~brain, picture.grid.voxel_size)
        near = Volume((shell <= SHELL_MM).astype(np.float32), picture.affine)
        grid = covering_grid(picture, voxel_mm)
        where = (resample(near, grid) > 0.5).astype(np.uint8)
        return cls(
            to_itk(resample(picture, grid), grid),
            to_itk(*on_cubes(scan, voxel_mm)),
            to_itk(where, grid),
        )

    def metric(self, transform: Any) -> float:
        """Negative mutual information under `transform`."""
        method = self._method(transform)
        return float(method.MetricEvaluate(self.fixed, self.moving))

    def ranked(self, starts: Iterator[Any]) -> list[tuple[float, int, Any]]:
        """(metric, number, transform) of `starts`, best first."""
        rows = [(self.metric(start), n, start) for n, start in enumerate(starts)]
        return sorted(rows, key=lambda row: row[:2])

    def best(self, ranked: list[tuple[float, int, Any]]) -> Any:
        """The best transform reached from these starts."""
        return min((self.follow(s, 60, 4.0) for *_, s in ranked), key=self.metric)

    def follow(self, transform: Any, steps: int, step_mm: float) -> Any:
        """The transform reached from `transform` by gradient descent."""
        sitk = itk()
        start = sitk.Similarity3DTransform(transform)
        method = self._method(start)
        method.SetOptimizerAsRegularStepGradientDescent(
            step_mm, 0.01, steps, relaxationFactor=0.6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError as error:
            raise EngineError(
                "The scan could not be placed: nothing in it matches a brain. Choose a "
                "T1-weighted scan of the whole brain."
            ) from error
        return start

    def _method(self, transform: Any) -> Any:
        sitk = itk()
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)  # sums in one order: the same result each time
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricFixedMask(self.where)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(transform, inPlace=True)
        return method


def itk() -> Any:
    """SimpleITK, imported when needed; without types."""
    import SimpleITK

    return SimpleITK


def to_itk(data: NDArray[Any], grid: Grid) -> Any:
    """An ITK image (LPS) of `data` on a straight RAS `grid`."""
    sitk = itk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    x, y, z = grid.matrix[:3, 3]
    image.SetSpacing(grid.voxel_size)
    image.SetOrigin((-x, -y, z))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def _matrix_of(transform: Any) -> Affine:
    """4 x 4 in RAS+ mm of an ITK transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    shift = np.array(transform.GetTranslation())
    matrix[:3, 3] = shift + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.asarray(flip @ matrix @ flip)


def _without_size(
    transform: Any, centre: NDArray[np.float64], metric: float
) -> Placement:
    """The rigid part of a similarity; the middle of the brain stays in its place."""
    matrix = _matrix_of(transform)
    size = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    rigid = np.eye(4)
    rigid[:3, :3] = matrix[:3, :3] / size
    middle = matrix[:3, :3] @ centre + matrix[:3, 3]
    rigid[:3, 3] = middle - rigid[:3, :3] @ centre
    return Placement(rigid, size, metric)
