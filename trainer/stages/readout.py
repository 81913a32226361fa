"""A linear read-out of the conditions from a latent: ridge regression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
PENALTIES = np.logspace(-1, 5, 13)  # times the mean squared norm of a latent / N

Floats = NDArray[np.float64]


def fit_readout(
    latents: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (n, D) and bias (n,) of vectors ~ weight @ latent + bias.

    Ridge in its dual form (N x N), since a latent has more numbers than there are
    subjects; the penalty is chosen by cross-validation over FOLDS.

    Parameters
    ----------
    latents
        (N, C, i, j, k).
    vectors
        (N, n), condition vectors.
    """
    x: Floats = latents.reshape(len(latents), -1).astype(np.float64)
    centre, y = x.mean(axis=0), vectors.astype(np.float64)
    x -= centre
    kernel = x @ x.T
    unit = np.trace(kernel) / len(x) ** 2
    errors = [_cross_validated(kernel, y, p * unit) for p in PENALTIES]
    best = float(PENALTIES[int(np.argmin(errors))] * unit)
    mean = y.mean(axis=0)
    weight = (x.T @ _dual(kernel, y - mean, best)).T
    bias = mean - weight @ centre
    return weight.astype(np.float32), bias.astype(np.float32)


def _dual(kernel: Floats, y: Floats, penalty: float) -> Floats:
    found = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), y)
    return np.asarray(found, np.float64)


def _cross_validated(kernel: Floats, y: Floats, penalty: float) -> float:
    fold = np.arange(len(y)) % FOLDS
    error = 0.0
    for left_out in range(FOLDS):
        train, test = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
        mean = y[train].mean(axis=0)
        dual = _dual(kernel[np.ix_(train, train)], y[train] - mean, penalty)
        predicted = kernel[np.ix_(test, train)] @ dual + mean
        error += float(((predicted - y[test]) ** 2).sum())
    return error / y.size
