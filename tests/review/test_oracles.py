"""The same figures from other packages, where they are installed.

krippendorff, pingouin and psignifit are GPL: nothing of them is shipped or needed.
"""

from __future__ import annotations

import numpy as np
import pytest

from napari_brainldm.review.statistics import agreement
from napari_brainldm.review.statistics.ordinal import proportional_odds
from napari_brainldm.review.statistics.psychometric import JND_PER_SIGMA, chance, fit

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs are not ours to mend


def rated(units: int = 30, readers: int = 4, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    truth = rng.integers(1, 6, units)[:, None]
    ratings = np.clip(truth + rng.integers(-1, 2, (units, readers)), 1, 6).astype(float)
    ratings[rng.random(ratings.shape) < missing] = np.nan
    return ratings


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_alpha_is_that_of_krippendorff(metric):
    oracle = pytest.importorskip("krippendorff")
    ratings = rated(missing=0.2)
    expected = oracle.alpha(ratings.T, level_of_measurement=metric)
    assert agreement.krippendorff(ratings, metric) == pytest.approx(expected)


def test_icc_is_that_of_pingouin():
    oracle = pytest.importorskip("pingouin")
    pandas = pytest.importorskip("pandas")
    ratings = rated()
    rows = [(i, j, r) for (i, j), r in np.ndenumerate(ratings)]
    table = pandas.DataFrame(rows, columns=["unit", "reader", "rating"])
    found = oracle.intraclass_corr(table, "unit", "reader", "rating").set_index("Type")
    name = "ICC(A,1)" if "ICC(A,1)" in found.index else "ICC2"
    assert agreement.icc(ratings) == pytest.approx(found.loc[name, "ICC"])


def test_the_psychometric_curve_is_that_of_psignifit():
    oracle = pytest.importorskip("psignifit")
    rng = np.random.default_rng(1)
    tested = np.array([-0.36, -0.24, -0.12, -0.06, 0.06, 0.12, 0.24, 0.36])
    yes = rng.binomial(100, chance(tested, 0.03, 0.15, 0.02))
    data = np.stack([tested, yes, np.full(8, 100)], 1)
    other = oracle.psignifit(
        data, experiment_type="equal asymptote", sigmoid="norm", stimulus_range=None
    )
    sigma = other.parameter_estimate_mean["width"] / (2 * 1.6449)
    greater = np.concatenate([np.arange(100) < k for k in yes]).astype(float)
    found = fit(np.repeat(tested, 100), greater)
    pse = other.parameter_estimate_mean["threshold"]
    assert found.pse.estimate == pytest.approx(pse, abs=0.01)
    assert found.jnd.estimate == pytest.approx(JND_PER_SIGMA * sigma, rel=0.1)


def test_the_ordinal_model_is_that_of_statsmodels():
    models = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    rng = np.random.default_rng(0)
    design = rng.normal(size=(300, 2))
    levels = np.digitize(design @ [1, -0.5] + rng.logistic(size=300), [-1, 0, 1])
    other = models.OrderedModel(levels, design, distr="logit").fit(
        disp=0, method="bfgs"
    )
    for found, b, error in zip(
        proportional_odds(levels, design), other.params[:2], other.bse[:2], strict=True
    ):
        assert found.estimate == pytest.approx(b, abs=1e-3)
        assert found.high - found.estimate == pytest.approx(1.96 * error, rel=1e-2)
