"""Statistics of differences, against scipy and nilearn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from napari_brainldm.engine.inference import (
    dz,
    false_discovery,
    hedges,
    interval,
    paired_t,
    sign_consistency,
    sign_flip_test,
)
from napari_brainldm.engine.request import EngineError


def differences(people: int = 14, regions: int = 9, effect: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(people)
    found = rng.standard_normal((people, regions)) * np.linspace(0.5, 2, regions)
    found[:, 0] += effect
    return found


def test_t_dz_and_interval_are_scipys() -> None:
    held = differences(effect=1.0)
    known = stats.ttest_1samp(held, 0)
    np.testing.assert_allclose(paired_t(held), known.statistic, rtol=1e-10)
    by_hand = held.mean(0) / held.std(0, ddof=1)
    np.testing.assert_allclose(dz(held), by_hand, rtol=1e-10)
    low, high = known.confidence_interval(0.95)
    np.testing.assert_allclose(interval(held), (low, high), rtol=1e-10)
    # J = 1 - 3 / (4 df - 1), df = 13
    np.testing.assert_allclose(hedges(dz(held), 14), by_hand * (1 - 3 / 51))


def test_equal_pictures_have_no_effect() -> None:
    held = np.zeros((5, 3))
    assert not paired_t(held).any()
    assert (sign_flip_test(held, 50).p_fwe == 1).all()


def test_sign_consistency_counts_subjects() -> None:
    held = np.array([[1.0, -1], [2, -3], [-0.5, -2], [4, 1]])
    np.testing.assert_array_equal(sign_consistency(held), [0.75, 0.75])


def test_false_discovery_is_scipys() -> None:
    p = np.random.default_rng(0).uniform(0, 1, 30) ** 2
    known = stats.false_discovery_control(p, method="bh")
    np.testing.assert_allclose(false_discovery(p), known, rtol=1e-12)


def test_the_flips_agree_with_nilearns() -> None:
    from nilearn.mass_univariate import permuted_ols

    held = differences(effect=1.2)
    known = permuted_ols(
        np.ones((len(held), 1)),
        held,
        model_intercept=False,
        n_perm=2000,
        two_sided_test=True,
        random_state=1,
        output_type="dict",
    )
    found = sign_flip_test(held, 2000, seed=2)
    np.testing.assert_allclose(found.t, known["t"][0], rtol=1e-6)
    corrected = 10 ** -known["logp_max_t"][0]
    np.testing.assert_allclose(found.p_fwe, corrected, atol=0.04)


def test_a_flip_is_a_flip() -> None:
    held = differences(5, 4)
    flips = np.array(np.meshgrid(*[(-1, 1)] * 5)).reshape(5, -1).T
    every = np.array([paired_t(f[:, None] * held) for f in flips])
    share = (np.abs(every) >= np.abs(paired_t(held)) - 1e-9).mean(0)
    np.testing.assert_allclose(sign_flip_test(held, 4000).p, share, atol=0.03)


def test_the_family_wise_error_is_held() -> None:
    wrong = [
        (sign_flip_test(differences(12 + n, 6), 200, n).p_fwe <= 0.05).any()
        for n in range(200)
    ]
    assert 0.01 <= np.mean(wrong) <= 0.1


@pytest.mark.parametrize(("people", "dz"), [(3, 2.0), (3, 8.0), (5, 8.0)])
def test_few_subjects_never_get_a_small_p(people: int, dz: float) -> None:
    """Flipping nobody, or everybody, is as large: p is at least 2 / 2^N."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        held = rng.standard_normal((people, 40)) + dz
        found.append(sign_flip_test(held, 150, seed).p_fwe.min())
    assert np.mean(found) >= 0.8 * 2 / 2**people
    assert min(found) > 1 / 151


def test_one_subject_never_gets_a_p_value() -> None:
    with pytest.raises(EngineError, match="several subjects"):
        sign_flip_test(differences(1))
