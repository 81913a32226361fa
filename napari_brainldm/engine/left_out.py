"""Leave one visit out: predict it from the others, and see how far off that is.

The paper of the LDAE (Lozupone 2025) judges interpolation so, against the real scan and
against what the autoencoder alone makes of it: the second is the best any prediction
can do. What the nearest other visit gives, unchanged, stands beside it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_brainldm.engine.contrast import difference
from napari_brainldm.engine.request import Request
from napari_brainldm.engine.similarity import mse, ssim
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Progress, Renderer
    from napari_brainldm.engine.request import Sampler
    from napari_brainldm.engine.similarity import Mask
    from napari_brainldm.engine.visits import Course


@dataclass(frozen=True)
class Likeness:
    """How like two pictures are.

    Attributes
    ----------
    ssim, mse
        Over the whole grid, as the paper reports them; intensities 0 to about 1.
    ssim_brain
        Mean of the same local SSIM within the brain of the real scan.
    """

    ssim: float
    mse: float
    ssim_brain: float


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A visit that was hidden, and what the others say of it.

    Attributes
    ----------
    age
        Years.
    hidden
        Digest of the scan that was left out.
    request
        Of the prediction: the other visits alone.
    predicted, reconstruction
        From the others; of the hidden scan itself by the autoencoder.
    error
        Prediction minus reconstruction, signed.
    likenesses
        (what, against what, how like): "Prediction" and "Nearest visit", each against
        "the scan" and "its reconstruction". The nearest visit is a reconstruction too.
    """

    age: float
    hidden: str
    request: Request
    predicted: Volume
    reconstruction: Volume
    error: Volume
    likenesses: tuple[tuple[str, str, Likeness], ...]


def likeness(first: Volume, second: Volume, brain: Mask) -> Likeness:
    """How like two pictures on one grid are; `brain` is bool (i, j, k) there."""
    whole, within = ssim(first.data, second.data, brain)
    return Likeness(whole, mse(first.data, second.data), within)


def leave_out(
    renderer: Renderer, course: Course, hidden: int, curve: str, sampler: Sampler
) -> Generator[Progress, None, LeftOut]:
    """Predict visit `hidden` of `course`, counted from 0, at its age from the others.

    Nothing of the hidden scan enters the prediction; its age does.

    Raises
    ------
    EngineError
        If it has no visit on both sides.
    """
    others = course.without(hidden)
    age, digest = course.ages[hidden], course.visits[hidden].scan.digest
    request = renderer.resolve(others.request(renderer.card, age, curve, sampler))
    predicted = yield from renderer.render(request)
    reconstruction = _rebuilt(renderer, digest)
    near = min(others.visits, key=lambda visit: abs(visit.age - age))
    shown = {
        "Prediction": predicted,
        "Nearest visit": _rebuilt(renderer, near.scan.digest),
    }
    real = renderer.conformed(digest)
    truths = {"the scan": real.volume, "its reconstruction": reconstruction}
    return LeftOut(
        age,
        digest,
        request,
        predicted,
        reconstruction,
        difference(predicted, reconstruction),
        tuple(
            (what, truth, likeness(picture, truths[truth], real.brain))
            for what, picture in shown.items()
            for truth in truths
        ),
    )


def _rebuilt(renderer: Renderer, digest: str) -> Volume:
    scan = renderer.conformed(digest).volume
    return Volume(renderer.rebuild(scan.data), scan.affine)
