"""Stimuli as they lie on the screen, all arms alike.

The screen's axes are (S, A, R), rows from bottom to top: the person's right is on the
right of every picture, whatever the preferences of the program say.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol

Screen = NDArray[np.uint16]
"""(slices, rows, columns), 0..4095."""

MONTAGE = 9
"""Slices of a montage, in rows of three."""

REACH = (0.2, 0.8)
"""From where to where of the grid's height a montage goes."""


def frames(pictures: Sequence[NDArray[Any]], p: Protocol) -> tuple[Screen, ...]:
    """What a trial of `p` puts on the screen: one frame, or two that take turns.

    Parameters
    ----------
    pictures
        By place, each uint16 (i, j, k) in RAS order, of one shape.

    Returns
    -------
    tuple
        (slices, rows, columns) each; one slice where the protocol locks them.
    """
    turned = [np.ascontiguousarray(picture.T) for picture in pictures]
    if p.slices == "locked":
        turned = [montage(picture) for picture in turned]
    return tuple(turned) if p.layout == "flicker" else (tiled(turned),)


def montage(picture: Screen) -> Screen:
    """Slices of `picture` from bottom to top as one, (1, 3 rows, 3 columns)."""
    last = picture.shape[0] - 1
    chosen = np.rint(np.linspace(REACH[0] * last, REACH[1] * last, MONTAGE))
    return tiled([picture[[int(k)]] for k in chosen])


def tiled(pictures: Sequence[Screen]) -> Screen:
    """Two side by side; more in a square, read as a page: (slices, rows, columns)."""
    if len(pictures) <= 2:
        return np.concatenate(pictures, axis=2)
    width = isqrt(len(pictures))
    rows = [
        np.concatenate(pictures[start : start + width], axis=2)
        for start in range(0, len(pictures), width)
    ]
    return np.concatenate(rows[::-1], axis=1)  # rows of the screen go up


def mask(shape: tuple[int, ...], white: int) -> Screen:
    """Noise of `shape`, 0..`white`: what follows a picture shown for a moment."""
    return np.random.default_rng(0).integers(0, white + 1, shape, np.uint16)
