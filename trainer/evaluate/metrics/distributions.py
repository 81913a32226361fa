"""How far two sets of feature vectors lie apart: Fréchet, KID, PRDC."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEIGHBOUR = 5
"""k of precision, recall, density and coverage (Naeem 2020)."""


def frechet_distance(x: Floats, y: Floats) -> float:
    """Fréchet distance of Gaussians fitted to features (N, D) and (M, D).

    |mean difference|^2 + tr(S + T - 2 (S T)^(1/2)) in float64 (Heusel 2017), with
    covariances over N - 1. The trace of the root is the sum of the singular values of
    X Y^T / sqrt((N - 1) (M - 1)), X and Y the centred features: the eigenvalues of S T
    are their squares. No root of a singular matrix is taken, so it holds for fewer
    vectors than dimensions too; the value is then biased upwards, and has to be read
    beside that of two real sets of the same N.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    shift = x.mean(0) - y.mean(0)
    a, b = (_half(features) for features in (x, y))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    distance = shift @ shift + (a**2).sum() + (b**2).sum() - 2 * root
    return float(max(distance, 0.0))  # rounding can leave a little less than nothing


def _half(features: Floats) -> Floats:
    """(min(N, D), D): its product with itself is the covariance (D, D)."""
    centred = features - features.mean(0)
    factor: Floats = np.linalg.qr(centred / np.sqrt(len(features) - 1)).R
    return factor


def kernel_distance(x: Floats, y: Floats) -> float:
    """KID of features (N, D) and (M, D): unbiased squared MMD (Binkowski 2018).

    Kernel (x . y / D + 1)^3 over all pairs; an estimate of 0 may fall below 0.
    """
    within = [_off_diagonal_mean(_kernel(one, one)) for one in (x, y)]
    return sum(within) - 2 * float(_kernel(x, y).mean())


def _kernel(x: Floats, y: Floats) -> Floats:
    found: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return found


def _off_diagonal_mean(kernel: Floats) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))


def prdc(real: Floats, generated: Floats, k: int = NEIGHBOUR) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi 2019), density, coverage (Naeem 2020).

    Parameters
    ----------
    real, generated
        Features (N, D) and (M, D).
    k
        The ball around a vector reaches to its k-th neighbour within its own set.
    """
    between = distances(generated, real)  # (M, N)
    real_radius, own_radius = (_radius(one, k) for one in (real, generated))
    inside = between < real_radius
    return {
        "precision": float(inside.any(1).mean()),
        "recall": float((between < own_radius[:, None]).any(0).mean()),
        "density": float(inside.sum(1).mean() / k),
        "coverage": float((between.min(0) < real_radius).mean()),
    }


def distances(x: Floats, y: Floats) -> Floats:
    """Euclidean distances (N, M) of vectors (N, D) to others (M, D)."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    found: Floats = np.sqrt(np.maximum(squares - 2 * x @ y.T, 0))
    return found


def _radius(features: Floats, k: int) -> Floats:
    """Distance (N,) to the k-th neighbour; the vector itself is the 0-th."""
    own = distances(features, features)
    np.fill_diagonal(own, 0.0)
    radius: Floats = np.partition(own, k, axis=1)[:, k]
    return radius


def standardised(features: Floats, reference: Floats) -> Floats:
    """`features` (N, D) in SD of `reference` from its mean, constant columns 0.

    Pooled features of a network differ in size by orders of magnitude; a distance of
    the raw ones looks at the largest few alone.
    """
    spread = reference.std(0)
    unit = np.where(spread > 1e-12 * np.abs(reference).max(0), spread, np.inf)
    found: Floats = (features - reference.mean(0)) / unit
    return found
