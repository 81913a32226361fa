"""The linear read-out is ridge regression, and finds what is planted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from trainer.stages import readout
from trainer.stages.readout import FOLDS, PENALTIES, fit_readout

SHAPE = (2, 3, 4, 3)


def planted(count, noise, seed=0):
    """Latents whose first directions carry two vectors, under noise."""
    rng = np.random.default_rng(seed)
    true = np.random.default_rng(99).standard_normal((2, int(np.prod(SHAPE)))) / 8
    x = rng.standard_normal((count, true.shape[1])).astype(np.float32)
    y = x @ true.T + 0.5 + noise * rng.standard_normal((count, 2))
    return x.reshape(count, *SHAPE), y.astype(np.float32)


def read(weight, bias, latents):
    return latents.reshape(len(latents), -1) @ weight.T + bias


def test_a_planted_map_is_found_on_unseen_latents():
    weight, bias = fit_readout(*planted(200, 0.05))
    assert (weight.shape, bias.shape) == ((2, 72), (2,))
    assert weight.dtype == bias.dtype == np.float32
    unseen, truth = planted(100, 0.0, seed=1)
    for n in range(2):
        r = np.corrcoef(read(weight, bias, unseen)[:, n], truth[:, n])[0, 1]
        assert r > 0.99


def test_fewer_people_than_numbers_still_read():
    weight, bias = fit_readout(*planted(40, 0.0))
    unseen, truth = planted(100, 0.0, seed=1)
    assert np.corrcoef(read(weight, bias, unseen)[:, 0], truth[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize(("count", "noise"), [(40, 0.5), (80, 1.0)])
def test_it_is_ridge_at_the_penalty_of_least_error(count, noise):
    """scikit-learn's Ridge, its primal form where there are fewer numbers."""
    latents, vectors = planted(count, noise)
    x, y = latents.reshape(count, -1).astype(float), vectors.astype(float)
    unit = ((x - x.mean(0)) ** 2).sum() / count**2
    errors = [held_out_error(x - x.mean(0), y, p * unit) for p in PENALTIES]
    best = float(PENALTIES[int(np.argmin(errors))] * unit)
    wanted = Ridge(best).fit(x, y)
    weight, bias = fit_readout(latents, vectors)
    np.testing.assert_allclose(weight, wanted.coef_, atol=1e-5)
    np.testing.assert_allclose(bias, wanted.intercept_, atol=1e-4)


def held_out_error(x, y, penalty):
    """Squared error over folds dealt like cards, predicting departures from a mean."""
    fold = np.arange(len(x)) % FOLDS
    error = 0.0
    for n in range(FOLDS):
        here, there = fold == n, fold != n
        mean = y[there].mean(0)
        ridge = Ridge(penalty, fit_intercept=False).fit(x[there], y[there] - mean)
        error += ((ridge.predict(x[here]) + mean - y[here]) ** 2).sum()
    return error


def test_nothing_to_read_gives_the_mean():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((60, *SHAPE)).astype(np.float32)
    y = rng.standard_normal((60, 1)).astype(np.float32)
    weight, bias = fit_readout(latents, y)
    found = read(weight, bias, latents)
    assert float(found.std()) < 0.5 * float(y.std())


def test_the_latents_are_left_as_they_were():
    latents, y = planted(30, 0.1)
    before = latents.copy()
    readout.fit_readout(latents, y)
    np.testing.assert_array_equal(latents, before)
