"""Planted shading is found again and taken out."""

from __future__ import annotations

import numpy as np
import pytest

from napari_brainldm.engine.bias import log_bias, without_bias
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Volume

BACKGROUND = -20.0


@pytest.fixture(scope="module")
def shaded() -> tuple[Volume, np.ndarray, np.ndarray]:
    """The template, shaded by half from ear to ear; ln of the shading; the brain."""
    template = mni_template()
    i, j, k = (
        n / size - 0.5
        for n, size in zip(
            np.indices(template.brain.shape), template.brain.shape, strict=True
        )
    )
    shading = 0.9 * i + 0.5 * j**2 - 0.7 * k * j
    data = 1000 * template.picture.data * np.exp(shading) * template.brain
    scan = Volume((data + BACKGROUND).astype(np.float32), template.picture.affine)
    return scan, shading, template.brain


def test_planted_shading_is_found(shaded):
    scan, shading, brain = shaded
    field = log_bias(scan, BACKGROUND)
    found = resample(field, scan.grid)[brain]
    assert np.corrcoef(found, shading[brain])[0, 1] > 0.93
    assert np.std(shading[brain] - found) < 0.4 * np.std(shading[brain])


def test_the_unit_and_the_background_stay(shaded):
    scan, _, brain = shaded
    clean = without_bias(scan, BACKGROUND)
    assert clean.grid == scan.grid
    assert np.allclose(clean.data[~brain], BACKGROUND)
    before, after = (np.median(v.data[brain]) for v in (scan, clean))
    assert after == pytest.approx(before, rel=0.1)


def test_an_empty_scan_has_no_field():
    empty = Volume(np.zeros((9, 8, 7), np.float32), np.diag([5.0, 5, 5, 1]))
    assert not log_bias(empty, 0.0).data.any()
