"""Proportional odds: what moves ratings on an ordered scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    normal_interval,
)


def proportional_odds(
    levels: NDArray[np.int64], design: Floats
) -> tuple[Interval, ...]:
    """Log odds ratios of the columns of `design` (N, P) for higher `levels` (N,).

    Maximum likelihood of logit P(level > j) = x b - threshold_j (McCullagh 1980), with
    intervals from the observed information.
    """
    from scipy.optimize import minimize

    codes = np.unique(levels, return_inverse=True)[1]
    cuts = int(codes.max())
    share = np.array([(codes <= j).mean() for j in range(cuts)])
    start = np.concatenate([np.log(share / (1 - share)), np.zeros(design.shape[1])])
    found = minimize(
        _loss, start, (codes, design, cuts), jac=True, method="BFGS", tol=1e-9
    )
    covariance = np.linalg.pinv(_hessian(found.x, codes, design, cuts))
    errors = np.sqrt(np.maximum(np.diag(covariance), 0))
    return tuple(
        normal_interval(float(b), float(e))
        for b, e in zip(found.x[cuts:], errors[cuts:], strict=True)
    )


def _loss(
    parameters: Floats, codes: NDArray[np.int64], design: Floats, cuts: int
) -> tuple[float, Floats]:
    """Negative log likelihood and its gradient."""
    rows = np.arange(len(codes))
    below = parameters[:cuts][None, :] - (design @ parameters[cuts:])[:, None]
    p = np.pad(1 / (1 + np.exp(-below)), ((0, 0), (1, 1)), constant_values=(0, 1))
    chance = np.maximum(p[rows, codes + 1] - p[rows, codes], 1e-12)
    slope = p * (1 - p) / chance[:, None]
    upper, lower = slope[rows, codes + 1], slope[rows, codes]
    gradient = np.zeros((len(codes), cuts + 2))
    gradient[rows, codes + 1] += upper
    gradient[rows, codes] -= lower
    by_cut = gradient[:, 1:-1].sum(0)
    by_slope = -((upper - lower)[:, None] * design).sum(0)
    return -float(np.log(chance).sum()), -np.concatenate([by_cut, by_slope])


def _hessian(
    at: Floats, codes: NDArray[np.int64], design: Floats, cuts: int, step: float = 1e-5
) -> Floats:
    """Second derivatives by differences of the gradient."""
    rows = [
        (
            _loss(at + step * unit, codes, design, cuts)[1]
            - _loss(at - step * unit, codes, design, cuts)[1]
        )
        / (2 * step)
        for unit in np.eye(len(at))
    ]
    matrix = np.array(rows)
    return np.asarray((matrix + matrix.T) / 2, np.float64)
