"""Stimuli as they lie on the screen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_brainldm.review.display import frames, mask, montage
from napari_brainldm.review.protocols import protocol

SHAPE = (4, 5, 11)  # (i, j, k): right, front, up
PICTURES = [np.full(SHAPE, n, np.uint16) for n in range(4)]


def test_one_picture_is_seen_with_slices_rows_and_columns():
    picture = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    (frame,) = frames([picture], protocol("P1"))
    assert frame.shape == (11, 5, 4)
    assert frame[7, 3, 2] == picture[2, 3, 7]


def test_the_first_of_two_is_on_the_left_of_every_slice():
    (frame,) = frames(PICTURES[:2], protocol("P5"))
    assert frame.shape == (11, 5, 8)
    assert (frame[:, :, :4] == 0).all()
    assert (frame[:, :, 4:] == 1).all()


def test_four_are_read_as_a_page():
    """Rows of the screen go up: the page's first row is the array's last."""
    (frame,) = frames(PICTURES, protocol("P2"))
    assert frame.shape == (11, 10, 8)
    corners = [[int(frame[0, y, x]) for x in (0, -1)] for y in (-1, 0)]
    assert corners == [[0, 1], [2, 3]]


def test_two_that_take_turns_are_two_frames():
    found = frames(PICTURES[:2], protocol("P5f"))
    assert [int(frame.max()) for frame in found] == [0, 1]


def test_locked_slices_are_one_montage_from_bottom_to_top():
    heights = np.broadcast_to(np.arange(11, dtype=np.uint16), SHAPE)
    (frame,) = frames([heights], protocol("P1t"))
    assert frame.shape == (1, 15, 12)
    page = frame[0, ::5, ::4][::-1]  # rows as they are seen, from the top
    assert page.ravel().tolist() == sorted(page.ravel().tolist())
    assert (page.min(), page.max()) == (2, 8)
    locked = replace(protocol("P1"), slices="locked")
    assert np.array_equal(frames([heights], locked)[0], montage(heights.T))


def test_a_mask_is_as_bright_as_a_picture_and_always_the_same():
    found = mask((1, 50, 50), 4095)
    assert found.dtype == np.uint16
    assert (found.min(), found.max()) < (50, 4096)
    assert found.max() > 4000
    assert np.array_equal(found, mask((1, 50, 50), 4095))
