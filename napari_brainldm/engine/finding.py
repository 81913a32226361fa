"""From a scan, or a picture that already lies in MNI space, to its structures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_brainldm.engine.conform import conform
from napari_brainldm.engine.placement import Template, mni_template
from napari_brainldm.engine.quality import Quality
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.segment import Segmentation, Segmenter
from napari_brainldm.engine.synthseg import find_program, segment_with_synthseg
from napari_brainldm.engine.volume import Affine, Volume, mni_grid

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint

METHODS = ("built-in", "mri_synthseg")

_AS_IT_LIES = "Taken as it lies: pictures of this program are in MNI space."


@dataclass(frozen=True, eq=False)
class Finding:
    """The structures of a scan or picture and how they were found.

    Attributes
    ----------
    to_scan
        4 x 4 rigid: mm of the segmentation (MNI) -> mm of the scan.
    quality
        Of the placement; None where nothing was placed.
    steps
        What was done, one sentence each.
    checkpoint
        Name and sha256 of the weights, where they are known.
    """

    segmentation: Segmentation
    to_scan: Affine
    quality: Quality | None
    steps: tuple[str, ...]
    checkpoint: tuple[str, str] | None = None

    @property
    def figure(self) -> float | None:
        """The quality in one number, 0 to 1."""
        return None if self.quality is None else self.quality.figure


class Finder(Protocol):
    """A method of finding structures."""

    def of_scan(self, scan: Volume) -> Finding:
        """Of a scan in its own space."""
        ...

    def of_placed(self, picture: Volume) -> Finding:
        """Of a picture in MNI space."""
        ...


class BuiltIn:
    """The segmentation network of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, device: str = "") -> None:
        self._segmenter = Segmenter(checkpoint, device)
        self._template: Template = mni_template()
        self._weights = (checkpoint.card.name, checkpoint.sha256)

    def of_scan(self, scan: Volume) -> Finding:
        """Of a scan, which is placed in MNI space first."""
        segmenter = self._segmenter
        done = conform(
            scan, segmenter.card.grid, template=self._template, segmenter=segmenter
        )
        assert done.segmentation is not None  # conform was given a segmenter
        return Finding(
            done.segmentation, done.to_scan, done.quality, done.steps, self._weights
        )

    def of_placed(self, picture: Volume) -> Finding:
        """Of a picture in MNI space."""
        found = self._segmenter.segment(picture)
        return Finding(found, np.eye(4), None, (_AS_IT_LIES,), self._weights)


class SynthSeg:
    """FreeSurfer's program."""

    def __init__(self, device: str = "") -> None:
        find_program()  # a missing program speaks before a scan is placed
        self._device = device
        self._template: Template = mni_template()

    def of_scan(self, scan: Volume) -> Finding:
        """Of a scan; the placement tells its quality and where its midline is."""
        done = conform(scan, mni_grid(2.0), template=self._template)
        found = segment_with_synthseg(scan, mni_grid(1.0), done.to_scan, self._device)
        steps = (*done.steps, "Structures found by mri_synthseg in the scan itself.")
        return Finding(found, done.to_scan, done.quality, steps)

    def of_placed(self, picture: Volume) -> Finding:
        """Of a picture in MNI space."""
        found = segment_with_synthseg(picture, mni_grid(1.0), device=self._device)
        return Finding(found, np.eye(4), None, (_AS_IT_LIES,))


def finder(method: str, segmenter: Path | None = None, device: str = "") -> Finder:
    """The finder called `method`; `segmenter` is a checkpoint, None the bundled.

    Raises
    ------
    EngineError
        When the method is unknown, or its program or checkpoint is not there.
    """
    if method not in METHODS:
        raise EngineError(
            f"The method {method!r} was asked for; known are {', '.join(METHODS)}. "
            "Choose one of these."
        )
    if method == "built-in":
        from napari_brainldm.engine.checkpoint import load_checkpoint
        from napari_brainldm.engine.resources import bundled_segmenter

        return BuiltIn(load_checkpoint(segmenter or bundled_segmenter()), device)
    if segmenter is not None:
        raise EngineError(
            f"{segmenter.name} was given for the method {method}, which brings its own "
            "weights. Leave the checkpoint out, or use the method built-in."
        )
    return SynthSeg(device)
