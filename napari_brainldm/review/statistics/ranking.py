"""Bradley-Terry: a scale from choices between two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    normal_interval,
)


@dataclass(frozen=True)
class Scale:
    """Strengths in logits, their mean 0.

    Attributes
    ----------
    strengths
        One of each thing compared, in the order of `wins`.
    padded
        Half a win was added to each side of every pair compared, because somebody won
        or lost all: without it, that strength would be infinite.
    """

    strengths: tuple[Interval, ...]
    padded: bool


def bradley_terry(wins: Floats) -> Scale:
    """Maximum likelihood of `wins` (K, K): times row was chosen over column.

    Source: Bradley & Terry 1952; intervals from the information matrix.
    """
    from scipy.sparse.csgraph import connected_components

    padded = connected_components(wins > 0, connection="strong")[0] > 1
    if padded:
        wins = wins + 0.5 * ((wins + wins.T) > 0)
    strengths = _solved(wins)
    errors = np.sqrt(np.diag(_covariance(wins, strengths)))
    found = (normal_interval(*pair) for pair in zip(strengths, errors, strict=True))
    return Scale(tuple(found), bool(padded))


def _solved(wins: Floats) -> Floats:
    """Newton's steps; the information's null space, a common shift, is left alone."""
    strengths = np.zeros(len(wins))
    for _ in range(100):
        gradient = wins.sum(1) - (_chances(strengths) * (wins + wins.T)).sum(1)
        step = _covariance(wins, strengths) @ gradient
        strengths = strengths + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(strengths - strengths.mean(), np.float64)


def _chances(strengths: Floats) -> Floats:
    """Chance that row is chosen over column."""
    apart = strengths[:, None] - strengths[None, :]
    return np.asarray(1 / (1 + np.exp(-apart)), np.float64)


def _covariance(wins: Floats, strengths: Floats) -> Floats:
    p = _chances(strengths)
    information = -(wins + wins.T) * p * (1 - p)
    np.fill_diagonal(information, 0)
    np.fill_diagonal(information, -information.sum(1))
    return np.asarray(np.linalg.pinv(information), np.float64)
