"""Statistics against closed forms and published worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from napari_brainldm.review.adaptive import Quest
from napari_brainldm.review.statistics import agreement, detection, maps, ordinal
from napari_brainldm.review.statistics.bootstrap import (
    mean_auc,
    mean_sensitivity,
    two_way,
)
from napari_brainldm.review.statistics.equivalence import equivalence
from napari_brainldm.review.statistics.interval import Interval
from napari_brainldm.review.statistics.magnitude import power
from napari_brainldm.review.statistics.psychometric import (
    Fit,
    chance,
    fit,
    weber_fraction,
    weber_slope,
)
from napari_brainldm.review.statistics.ranking import bradley_terry

NAN = np.nan

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability": four observers,
# twelve units; Gwet 2014 and the irrCAC package use the same table.
TWELVE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def test_wilson_is_newcombes_table():
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = detection.wilson(successes, trials)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_d_prime_is_the_difference_of_the_corrected_rates():
    found = detection.sensitivity(18, 25, 8, 25)
    # (18.5 / 26) and (8.5 / 26) in a table of the normal distribution
    assert found.d.estimate == pytest.approx(0.5580 + 0.4483, abs=2e-3)
    assert found.criterion.estimate == pytest.approx(-(0.5580 - 0.4483) / 2, abs=2e-3)
    perfect = detection.sensitivity(25, 25, 0, 25)
    assert 4 < perfect.d.estimate < 4.5
    assert np.isfinite(perfect.d.high)


def test_the_area_is_hanley_and_mcneils():
    # Hanley & McNeil 1982, Radiology 143:29, table I: 58 normal, 51 abnormal CTs, 0.893
    levels = np.arange(1.0, 6.0)
    normal = np.repeat(levels, [33, 6, 6, 11, 2])
    abnormal = np.repeat(levels, [3, 2, 2, 11, 33])
    area = detection.auc_interval(abnormal, normal)
    assert area.estimate == pytest.approx(0.893, abs=5e-4)
    assert area.low == pytest.approx(0.893 - 1.96 * 0.032, abs=0.02)
    points = detection.roc(abnormal, normal)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(area.estimate)


@pytest.mark.parametrize(
    ("signal", "noise", "area"),
    [
        ((4, 5, 6, 6), (1, 1, 2), 1.0),
        ((1, 1), (3, 4, 5), 0.0),
        ((3,) * 6, (3,) * 8, 0.5),
    ],
)
def test_a_few_ratings_are_never_certainty(signal, noise, area):
    """What does not vary has no variance, but three trials of a class prove little."""
    found = detection.auc_interval(*(np.array(r, np.float64) for r in (signal, noise)))
    fewest = min(len(signal), len(noise))
    oracle = binomtest(round(area * fewest), fewest).proportion_ci(method="wilson")
    assert found.estimate == area
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    assert found.high - found.low > 0.4


def test_agreement_is_that_of_the_published_table():
    alpha = agreement.krippendorff
    # Krippendorff 2011
    assert alpha(TWELVE) == pytest.approx(0.743, abs=5e-4)
    assert alpha(TWELVE, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert alpha(TWELVE, "interval") == pytest.approx(0.849, abs=5e-4)
    # Gwet 2014, chapter 2; irrCAC's cac.raw4raters
    assert agreement.gwet(TWELVE) == pytest.approx(0.77544, abs=5e-6)
    assert agreement.fleiss(TWELVE) == pytest.approx(0.76117, abs=5e-6)
    assert agreement.percent(TWELVE) == pytest.approx(0.81818, abs=5e-6)


def test_two_readers_agree_as_the_abstractors_of_irrcac_do():
    # irrCAC, cont3x3abstractors: AC1 0.8493305, percent agreement 0.89
    table = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    pairs = [(i, j) for i in range(3) for j in range(3) for _ in range(table[i, j])]
    ratings = np.array(pairs, float)
    assert agreement.gwet(ratings) == pytest.approx(0.8493305, abs=5e-8)
    assert agreement.percent(ratings) == pytest.approx(0.89)


def test_fleiss_is_fleiss():
    # the table of ten subjects and fourteen raters of Wikipedia's article: 0.210
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    ratings = np.array([np.repeat(range(5), row) for row in counts], float)
    assert agreement.fleiss(ratings) == pytest.approx(0.210, abs=5e-4)


def test_quadratic_weights_forgive_near_misses():
    near, far = (
        np.array([[1, 2], [3, 3], [5, 5.0]]),
        np.array([[1, 5], [3, 3], [5, 5.0]]),
    )
    assert agreement.gwet(near, agreement.quadratic) > agreement.gwet(near)
    assert agreement.gwet(near, agreement.quadratic) > agreement.gwet(
        far, agreement.quadratic
    )


def test_icc_is_shrout_and_fleiss():
    # Shrout & Fleiss 1979, Psychological Bulletin 86:420, table 2: ICC(2,1) = .29
    judges = np.array(
        [
            [9, 2, 5, 8],
            [6, 1, 3, 2],
            [8, 4, 6, 8],
            [7, 1, 2, 6],
            [10, 5, 6, 9],
            [6, 2, 4, 7],
        ]
    )
    assert agreement.icc(judges.astype(float)) == pytest.approx(0.290, abs=5e-4)


def test_intervals_of_agreement_hold_their_estimates():
    found = agreement.agreement(TWELVE, 200, np.random.default_rng(0))
    assert set(found) == set(agreement.COEFFICIENTS)
    assert all(one.low <= one.estimate <= one.high for one in found.values())


def test_bradley_terry_is_agrestis_baseball():
    # Agresti, Categorical Data Analysis, American League 1987: log strengths against
    # Baltimore 1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],
            [6, 0, 7, 5, 11, 9, 9],
            [4, 6, 0, 7, 7, 8, 12],
            [6, 8, 6, 0, 6, 7, 10],
            [6, 2, 6, 7, 0, 7, 12],
            [4, 4, 5, 6, 6, 0, 6],
            [2, 4, 1, 3, 1, 7, 0],
        ],
        float,
    )
    scale = bradley_terry(wins)
    strengths = np.array([one.estimate for one in scale.strengths])
    expected = [1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0]
    assert strengths - strengths[-1] == pytest.approx(expected, abs=6e-3)
    assert strengths.mean() == pytest.approx(0, abs=1e-9)
    assert not scale.padded


def test_two_arms_differ_by_the_log_odds_and_an_unbeaten_one_stays_finite():
    scale = bradley_terry(np.array([[0, 30.0], [10, 0]]))
    first, second = scale.strengths
    assert first.estimate - second.estimate == pytest.approx(np.log(3))
    # variance of a difference of log odds 1/30 + 1/10, shared by two
    assert first.high - first.estimate == pytest.approx(
        1.96 * np.sqrt(1 / 30 + 1 / 10) / 2, abs=1e-3
    )
    unbeaten = bradley_terry(np.array([[0, 8.0], [0, 0]]))
    assert unbeaten.padded
    assert np.isfinite(unbeaten.strengths[0].high)


def test_proportional_odds_of_two_levels_is_the_log_odds_ratio():
    levels = np.repeat([1, 2, 1, 2], [30, 10, 15, 25])
    design = np.repeat([0.0, 1.0], 40)[:, None]
    (found,) = ordinal.proportional_odds(levels, design)
    assert found.estimate == pytest.approx(np.log(3 * 25 / 15), abs=1e-4)
    error = np.sqrt(1 / 30 + 1 / 10 + 1 / 15 + 1 / 25)
    assert found.high - found.estimate == pytest.approx(1.96 * error, abs=1e-3)


def test_proportional_odds_finds_what_moved_the_levels():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(2000, 2))
    latent = design @ [1.0, -0.5] + rng.logistic(size=2000)
    found = ordinal.proportional_odds(np.digitize(latent, [-1, 0, 1]), design)
    assert found[0].covers(1.0)
    assert found[1].covers(-0.5)


def test_a_curve_is_found_from_many_trials():
    rng = np.random.default_rng(1)
    levels = np.repeat([-0.36, -0.24, -0.12, -0.06, 0.06, 0.12, 0.24, 0.36], 400)
    greater = rng.random(len(levels)) < chance(levels, 0.05, 0.15, 0.02)
    found = fit(levels, greater.astype(float))
    assert found.pse.estimate == pytest.approx(0.05, abs=0.01)
    assert found.jnd.estimate == pytest.approx(0.6745 * 0.15, rel=0.05)
    assert found.lapse == pytest.approx(0.02, abs=0.015)


def test_a_perfect_reader_and_a_guesser_have_intervals_too():
    levels = np.tile([-0.3, -0.1, 0.1, 0.3], 10)
    perfect = fit(levels, (levels > 0).astype(float))
    guessing = fit(levels, np.arange(40) // 4 % 2.0)
    assert perfect.jnd.high < 0.1
    assert guessing.jnd.low > 0.1
    assert np.isfinite(guessing.jnd.high)


def test_quest_chooses_near_the_threshold_and_belief_is_bayes():
    quest = Quest.over(np.linspace(-0.6, 0.6, 61))
    rng = np.random.default_rng(0)
    asked = []
    for _ in range(60):
        level = quest.next_level()
        asked.append(abs(level))
        quest = quest.after(level, bool(rng.random() < chance(level, 0.0, 0.1, 0.02)))
    assert np.median(asked[20:]) < 0.3
    assert quest.weights.sum() == pytest.approx(1)
    likely = quest.grid[:, quest.weights.argmax()]
    assert likely[1] == pytest.approx(0.1, rel=0.6)


def test_webers_law_has_the_slope_one():
    jnd = Interval(0.1, 0.08, 0.12)
    fits = [Fit(Interval(0, 0, 0), jnd, 0.02, 0.1) for _ in range(3)]
    slope = weber_slope(np.array([10.0, 20.0, 40.0]), fits, log=True)
    assert slope.estimate == pytest.approx(1)
    flat = weber_slope(np.array([10.0, 20.0, 40.0]), fits, log=False)
    assert flat.estimate == pytest.approx(0, abs=1e-12)
    assert weber_fraction(jnd).estimate == pytest.approx(np.exp(0.1) - 1)


def test_a_power_law_is_found_exactly_and_a_bend_is_seen():
    sizes = np.geomspace(10, 90, 8)
    exact = power(sizes, 5 * sizes**0.7 * np.exp(0.001 * np.array([1, -1] * 4)))
    assert exact.exponent.estimate == pytest.approx(0.7, abs=1e-3)
    assert exact.scale == pytest.approx(5, rel=0.01)
    rng = np.random.default_rng(0)
    sizes = np.tile(sizes, 6)
    bent = np.exp(0.3 * np.log(sizes / 30) ** 2 + rng.normal(0, 0.05, 48))
    assert power(sizes, bent).curvature_p < 0.001


def test_the_pooled_area_is_the_mean_of_the_readers_and_ignores_missing_ones():
    rng = np.random.default_rng(0)
    signal = np.repeat([True, False], 40)
    ratings = np.rint(signal + rng.normal(size=(3, 80)) + 3)
    area = mean_auc(ratings, signal)
    each = [detection.auc(r[signal], r[~signal]) for r in ratings]
    assert area(np.ones(3), np.ones(80)) == pytest.approx(np.mean(each))
    ratings[0, :5] = NAN
    first = detection.auc(ratings[0, 5:40], ratings[0, 40:])
    expected = np.mean([first, *each[1:]])
    assert mean_auc(ratings, signal)(np.ones(3), np.ones(80)) == pytest.approx(expected)


def test_the_pooled_d_prime_is_the_mean_of_the_readers():
    signal = np.repeat([True, False], 25)
    said = np.zeros((2, 50))
    said[0, :18] = said[0, 25:33] = said[1, :20] = said[1, 25:30] = 1
    expected = [
        detection.sensitivity(h, 25, a, 25).d.estimate for h, a in ((18, 8), (20, 5))
    ]
    found = mean_sensitivity(said, signal)(np.ones(2), np.ones(50))
    assert found == pytest.approx(np.mean(expected))


def test_drawing_readers_anew_widens_the_interval():
    rng = np.random.default_rng(0)
    signal = np.repeat([True, False], 60)
    skill = np.array([0.0, 0.5, 1.5, 2.5])[:, None]
    ratings = skill * signal + rng.normal(size=(4, 120))
    both = two_way(mean_auc(ratings, signal), 4, signal.astype(int), 200, rng)
    alone = two_way(mean_auc(ratings[:1], signal), 1, signal.astype(int), 200, rng)
    assert both.std() > 0.05
    assert np.isfinite(alone).all()


def test_equivalence_is_shown_by_a_narrow_interval_alone():
    rng = np.random.default_rng(0)
    narrow, wide = 0.5 + rng.normal(0, 0.02, 2000), 0.5 + rng.normal(0, 0.1, 2000)
    assert equivalence(0.5, narrow, (0.4, 0.6)).shown
    assert not equivalence(0.5, wide, (0.4, 0.6)).shown
    aside = equivalence(0.62, narrow + 0.12, (0.4, 0.6))
    assert not aside.shown
    assert aside.p_high > 0.5 > aside.p_low


def test_clicks_add_up_to_their_number_per_picture():
    clicks = np.array([[5, 6, 5], [5, 6, 5], [8, 9, 14]])
    found = maps.fault_map(clicks, (14, 16, 20), 1.0, pictures=4)
    assert found.sum() == pytest.approx(3 / 4, abs=1e-3)
    assert np.unravel_index(found.argmax(), found.shape) == (5, 6, 5)


def test_rank_correlation_sees_order_alone():
    rng = np.random.default_rng(0)
    human = np.arange(30.0)
    assert maps.rank_correlation(human, human**3, 100, rng).estimate == pytest.approx(1)
    found = maps.rank_correlation(human, -human, 100, rng)
    assert found.estimate == pytest.approx(-1)
    assert found.high < -0.9
