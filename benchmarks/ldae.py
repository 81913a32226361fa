"""Ask whether the LDAE demo checkpoint does what the paper's does, on simulated people.

    python -m benchmarks.ldae [--quick] [--json] [--seed S] [--checkpoint FILE]

The tables of `python -m trainer evaluate ldae` on the held-out people of
`ldae_demo.toml` and on the visits of `ldae_visits.toml`, whom no stage saw; both are
simulated again where they are not there (their seeds are in the configs, so `--seed`
changes nothing), and settings other than those in FROZEN are missed. A simulated
disease is easier to see than a real one, so the paper's figures stand beside as marks,
not as rivals. `--quick` walks the same road with a few people.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.resources import bundled_ldae
from trainer.config import load_config
from trainer.data.cohort import CohortConfig, write_cohort
from trainer.evaluate import reconstruction, visits
from trainer.evaluate.ldae import tables
from trainer.evaluate.ldae_bench import STEPS

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.evaluate.table import Row, Table

SEEN, VISITS = Path("ldae_demo.toml"), Path("ldae_visits.toml")
N = 100
QUICK_PEOPLE, QUICK_VISITS, QUICK_N = 32, 2, 2
FROZEN = {
    "ldae_demo.toml": (
        "8bbb7b9975da66ae4e2524d19003e6034c5694d55fbf57cca4899cb64c30742b"
    ),
    "ldae_visits.toml": (
        "da531c0fb5521a5d62542b2c013bea86cea02f0d69f3d34595ee35194954e8a4"
    ),
    "ldae_followed.toml": (
        "62a4c07cf239fc660ed27fdf95e2d1847dba132bf7cd75cbc3060bf5aacfea1f"
    ),
}
"""Digests of the cohorts' settings, written down after the bundled model's training."""

LIMITS = {
    "cohorts_as_frozen": Limit(AT_LEAST, 1.0),
    "ad_auc_lost": Limit(AT_MOST, 0.03),
    "age_mae_ratio": Limit(AT_MOST, 1.25),
    "ssim_6_months": Limit(AT_LEAST, 0.969),
    "ssim_24_months": Limit(AT_LEAST, 0.93),
    "better_than_nearest": Limit(AT_LEAST, 0.0),
    "better_than_nearest_p": Limit(AT_MOST, 0.05),
    "better_than_blend": Limit(AT_LEAST, 0.0),
    "better_than_blend_p": Limit(AT_MOST, 0.05),
    "rebuilt_ssim_lost": Limit(AT_MOST, 0.002),
    "own_code_share": Limit(AT_LEAST, 0.95),
    "monotone_share": Limit(AT_LEAST, 0.95),
    "times_faster": Limit(AT_LEAST, 20.0),
    "parameters_off": Limit(AT_MOST, 0.1),
}


def measure(path: Path, quick: bool) -> dict[str, Any]:
    """Every figure of the checkpoint at `path`."""
    with tempfile.TemporaryDirectory() as folder:
        config, longitudinal, n = _setting(quick, Path(folder))
        found = _printed(config, path, n, longitudinal)
    told = {table.name: table for table in found}
    return figures(told) | frozen()


def frozen() -> dict[str, Any]:
    """Digests of the shipped cohorts' settings; whether they are those of FROZEN."""
    here = {name: digest(load_config(Path(name)).cohort) for name in FROZEN}
    return {"cohorts_as_frozen": float(here == FROZEN), "cohorts_sha256": here}


def _setting(quick: bool, folder: Path) -> tuple[RunConfig, Path, int]:
    """Config, dataset of visits, people to move; data simulated where missing."""
    config, later = load_config(SEEN), load_config(VISITS)
    cohorts, n = [config.cohort, later.cohort], N
    places = [Path(config.data.dataset), Path(later.data.dataset)]
    if quick:
        cohorts = [
            replace(cohorts[0], subjects=QUICK_PEOPLE),
            replace(cohorts[1], subjects=QUICK_VISITS),
        ]
        places, n = [folder / "seen", folder / "visits"], QUICK_N
        data = replace(config.data, dataset=str(places[0]))
        config = replace(config, data=data, out=str(folder / "run"))
    for cohort, place in zip(cohorts, places, strict=True):
        for _ in write_cohort(cohort, place):
            pass
    return config, places[1], n


def _printed(config: RunConfig, path: Path, n: int, longitudinal: Path) -> list[Table]:
    """The tables; what they say on the way goes to the error stream."""
    run = tables(config, path, n, longitudinal, {})
    while True:
        try:
            print(next(run), file=sys.stderr, flush=True)
        except StopIteration as end:
            found: list[Table] = end.value
            return found


def digest(cohort: CohortConfig) -> str:
    """Names the settings of a simulated cohort."""
    return hashlib.sha256(repr(cohort).encode()).hexdigest()


def figures(told: Mapping[str, Table]) -> dict[str, float]:
    """What is promised, out of the tables."""
    auc, age = (_by(told[f"probe-{name}"], "encoder") for name in ("AD", "age"))
    rows = told["reconstruction"].rows
    alone = _row(rows, model=reconstruction.AUTOENCODER)
    coded = _row(rows, model=reconstruction.CODED, T=str(STEPS))
    tests = _by(told["visits-tests"], "better than")
    race = told["throughput"].rows[0]
    return {
        "ad_auc": _number(auc["LDAE"], "ROC-AUC"),
        "ad_auc_volumes": _number(auc["true volumes"], "ROC-AUC"),
        "ad_auc_lost": _number(auc["true volumes"], "ROC-AUC")
        - _number(auc["LDAE"], "ROC-AUC"),
        "age_mae": _number(age["LDAE"], "MAE"),
        "age_mae_volumes": _number(age["true volumes"], "MAE"),
        "age_mae_ratio": _number(age["LDAE"], "MAE")
        / _number(age["true volumes"], "MAE"),
        **{f"ssim_{m}_months": _at_gap(told, m) for m in (6, 12, 24)},
        "better_than_nearest": _number(tests[visits.NEAREST], "difference"),
        "better_than_nearest_p": _number(tests[visits.NEAREST], "p"),
        "better_than_blend": _number(tests[visits.BLEND], "difference"),
        "better_than_blend_p": _number(tests[visits.BLEND], "p"),
        "rebuilt_ssim": _number(coded, "SSIM"),
        "rebuilt_ssim_lost": _number(alone, "SSIM") - _number(coded, "SSIM"),
        "own_code_share": _number(
            told["own-code"].rows[0], "own code is nearer, share of pairs"
        ),
        "monotone_share": _number(told["monotone"].rows[0], "both"),
        "times_faster": _number(race, "times faster"),
        "parameters_off": abs(_number(race, "parameters ratio") - 1),
    }


def _by(table: Table, column: str) -> dict[str, Row]:
    return {str(row[column]): row for row in table.rows}


def _row(rows: Sequence[Row], **wanted: str) -> Row:
    return next(row for row in rows if all(row[k] == v for k, v in wanted.items()))


def _number(row: Row, column: str) -> float:
    return float(row[column])


def _at_gap(told: Mapping[str, Table], months: int) -> float:
    """SSIM of LDAE's pictures at a prediction gap."""
    rows = told["visits-prediction-gap"].rows
    column = "prediction gap (months)"
    found = [r for r in rows if r["method"] == visits.LDAE and r[column] == months]
    return _number(found[0], "SSIM")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("ldae", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    chosen = parser.parse_args(arguments)
    path = chosen.checkpoint or bundled_ldae()
    return finish(chosen, LIMITS, lambda: measure(path, chosen.quick))


if __name__ == "__main__":
    sys.exit(main())
