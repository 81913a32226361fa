"""Ask whether GM-LDM's difference maps show what is there, and nothing else.

    python -m benchmarks.gmldm [--quick] [--json] [--seed S] [--checkpoint FILE]
                               [--null-checkpoint FILE] [--only planted]

The population is that of `gmldm_demo.toml`; the people are new ones whom no cohort on
disk holds, so nothing but the checkpoint is needed. Maps are made once and studies are
resampled from them.

- Null: pairs of random connectivity under one noise; region maxT.
- Planted: patients against random connectivity matched to the training set, as in the
  paper (Figure 3), and against controls. Regions are ranked by the mean difference,
  and by dz beside it: dz has no scale, so what is smoothed into a neighbour ranks with
  its source there. The map of the AUC is |dz|; that of the mean difference is told
  beside it.
- Strength 0: the same people without what the illness does, through the same model,
  which has learned where to look; that costs maps alone. `--null-checkpoint` asks it
  of a model trained without any illness too (`gmldm_null.toml`, as long as the demo).

`--quick` walks the same road with a few people.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import ttest_1samp

from benchmarks import gm_studies as studies
from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.atlas import bundled
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.compared import Compared, compare
from napari_brainldm.engine.compared_regions import region_contrasts
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_edit import random
from napari_brainldm.engine.inference import dz, paired_t, sign_flip_test
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.renderer import finish as finished
from napari_brainldm.engine.request import Conditions, Derived, Request, Seed
from napari_brainldm.engine.resources import bundled_gm_ldm
from napari_brainldm.engine.saliency import randomised, sanity
from napari_brainldm.engine.volume import Volume
from napari_brainldm.engine.voxelwise import voxel_test
from trainer.config import load_config
from trainer.data.connectivity import ConnectivityConfig

if TYPE_CHECKING:
    from benchmarks.gm_studies import Floats, Pool

DEMO = Path("gmldm_demo.toml")
PERMUTATIONS = 2000  # of the comparison of regions with nilearn
BOX = 20  # side, in voxels, of the part of the maps whose every voxel is compared
LIMITS = {
    "identical_max": Limit(AT_MOST, 0.0),
    "null_fwe_low": Limit(AT_LEAST, 0.02),
    "null_fwe_high": Limit(AT_MOST, 0.085),
    "planted_top3": Limit(AT_LEAST, 0.95),
    "planted_auc_share": Limit(AT_LEAST, 0.95),
    "unplanted_auc_low": Limit(AT_LEAST, 0.45),
    "unplanted_auc_high": Limit(AT_MOST, 0.55),
    "t_off": Limit(AT_MOST, 1e-6),
    "dz_off": Limit(AT_MOST, 1e-6),
    "nilearn_t_off": Limit(AT_MOST, 1e-6),
    "nilearn_p_off": Limit(AT_MOST, 0.04),
    "nilearn_voxel_p_off": Limit(AT_MOST, 0.04),
    "nilearn_tfce_r": Limit(AT_LEAST, 0.999),
    "nilearn_tfce_p_off": Limit(AT_MOST, 0.04),
    "region_means_off": Limit(AT_MOST, 1e-6),
    "regions_lost": Limit(AT_MOST, 0.0),
    "randomised_spearman": Limit(AT_MOST, 0.2),
}
GOOD_AUC = 0.9


@dataclass(frozen=True)
class Sizes:
    """How much is made and resampled.

    Attributes
    ----------
    null, people
        Pairs of maps in the null pool, and in each of the others.
    tests, null_people, flips
        Group tests of the null study, people in each, sign flips.
    studies, study_people
        Planted studies, people in each.
    shown, shuffles
        People of the map that randomised weights are compared by; how many of those.
    permutations
        Of the comparison of voxels with nilearn.
    """

    null: int = 200
    people: int = 120
    tests: int = 200
    null_people: int = 20
    flips: int = 500
    studies: int = 100
    study_people: int = 40
    shown: int = 8
    shuffles: int = 3
    permutations: int = 2000


QUICK = Sizes(6, 6, 8, 4, 40, 6, 4, 2, 1, 50)


@dataclass(frozen=True, eq=False)
class Asked:
    """The model, its population, and how much to make."""

    checkpoint: Checkpoint
    illness: ConnectivityConfig
    cohort_seed: int
    sizes: Sizes
    seed: int

    def renderer(self) -> Renderer:
        """On the CPU in full precision, where equal pictures are equal to the bit."""
        return Renderer(self.checkpoint, "cpu", "float32")

    def group(self, name: str, strength: float | None = None) -> list[Fnc]:
        """New people; of another strength of the illness where one is given."""
        known = self.illness
        if strength is not None:
            known = replace(known, strength=strength)
        return studies.new_people(known, self.cohort_seed, name, self.sizes.people)

    def pool(self, pairs: Sequence[tuple[Fnc, Fnc]]) -> Pool:
        """Maps of `pairs`, made once."""
        _say(f"{len(pairs)} pairs of maps")
        return studies.render_pool(self.renderer(), pairs, self.illness)

    def draws(self, number: int) -> np.random.Generator:
        """What decides who is in a study."""
        return np.random.default_rng([self.seed, number])


def measure(asked: Asked, null: Checkpoint | None) -> dict[str, Any]:
    """Every figure; of a model of strength 0 as well, if there is one."""
    null_pool = asked.pool(_random_pairs(asked))
    found = _identical(asked) | _null(asked, null_pool) | planted(asked)
    found |= _unplanted(asked, "unplanted")
    found |= _agreement(null_pool, asked) | _voxels_agreement(null_pool, asked)
    found |= _regions(null_pool) | _randomised(asked)
    if null is not None:
        found |= _unplanted(replace(asked, checkpoint=null), "null_model")
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _random_pairs(asked: Asked) -> list[tuple[Fnc, Fnc]]:
    law = asked.checkpoint.fnc_law()
    numbers = range(0, 2 * asked.sizes.null, 2)
    return [(random(law, n), random(law, n + 1)) for n in numbers]


def _identical(asked: Asked) -> dict[str, float]:
    """The same request twice, by two renderers and as a pair."""
    renderer = asked.renderer()
    (fnc,) = studies.new_people(asked.illness, asked.cohort_seed, "patient", 1)
    request = Request(Conditions(fnc=renderer.fnc.admit(fnc)), Seed(1))
    made = finished(compare(renderer, [(request, request)], 2))
    other = asked.renderer()
    other.fnc.admit(fnc)
    again = finished(compare(other, [(request, request)], 2))
    most = max(np.abs(made.differences).max(), np.abs(again.differences).max())
    apart = np.abs(made.first.data - again.first.data).max()
    return {"identical_max": float(max(most, apart))}


def _null(asked: Asked, pool: Pool) -> dict[str, float]:
    sizes = asked.sizes
    share = studies.false_alarms(
        pool, sizes.tests, sizes.null_people, sizes.flips, asked.draws(1)
    )
    return {"null_fwe": share, "null_fwe_low": share, "null_fwe_high": share}


def planted(asked: Asked) -> dict[str, float]:
    """Patients against matched random connectivity, and against controls."""
    ill, law = asked.group("patient"), asked.checkpoint.fnc_law()
    others = [random(law, 10**6 + n) for n in range(len(ill))]
    found = _top(asked, list(zip(ill, others, strict=True)), "planted")
    well = asked.group("control")
    return found | _top(asked, list(zip(ill, well, strict=True)), "controls")


def _top(asked: Asked, pairs: Sequence[tuple[Fnc, Fnc]], name: str) -> dict[str, float]:
    sizes = asked.sizes
    found = studies.planted_studies(
        asked.pool(pairs), sizes.studies, sizes.study_people, asked.draws(2)
    )
    return {
        f"{name}_top3": float(np.mean([one.by_difference for one in found])),
        f"{name}_top3_by_dz": float(np.mean([one.by_effect for one in found])),
        f"{name}_auc_share": float(
            np.mean([one.areas.effect >= GOOD_AUC for one in found])
        ),
        **_told(name, studies.mean_areas([one.areas for one in found])),
    }


def _told(name: str, areas: studies.Areas) -> dict[str, float]:
    return {
        f"{name}_auc": areas.effect,
        f"{name}_auc_by_difference": areas.difference,
        f"{name}_auc_by_loss": areas.loss,
    }


def _unplanted(asked: Asked, name: str) -> dict[str, float]:
    """Patients against controls whom no illness tells apart."""
    groups = (asked.group(group, 0.0) for group in ("patient", "control"))
    pool, sizes = asked.pool(list(zip(*groups, strict=True))), asked.sizes
    found = studies.unplanted_areas(
        pool, sizes.studies, sizes.study_people, asked.draws(3)
    )
    ends = {f"{name}_auc_{end}": found.effect for end in ("low", "high")}
    return _told(name, found) | ends


def _agreement(pool: Pool, asked: Asked) -> dict[str, float]:
    """Our statistics of the null maps' regions against scipy's and nilearn's."""
    values = pool.values[: asked.sizes.null_people]
    known = _by_nilearn(values, PERMUTATIONS)
    tested = sign_flip_test(values, PERMUTATIONS, seed=2)
    by_hand = values.mean(0) / values.std(0, ddof=1)
    p = 10 ** -known["logp_max_t"][0]
    return {
        "t_off": _apart(paired_t(values), ttest_1samp(values, 0).statistic),
        "dz_off": _apart(dz(values), by_hand),
        "nilearn_t_off": _apart(tested.t, known["t"][0]),
        "nilearn_p_off": _apart(tested.p_fwe, p),
    }


def _voxels_agreement(pool: Pool, asked: Asked) -> dict[str, float]:
    """Our tests of the voxels of gray matter in a box about the middle, likewise."""
    from nibabel import Nifti1Image
    from nilearn.maskers import NiftiMasker

    corner = [side // 2 - BOX // 2 for side in pool.reference.shape]
    box = tuple(slice(start, start + BOX) for start in corner)
    there = pool.reference[box] >= studies.GRAY_VOXEL
    maps = pool.differences[: asked.sizes.null_people, *box]
    image = Nifti1Image(there.astype(np.uint8), pool.atlas.grid.matrix)
    values, flips = maps[:, there].astype(np.float64), asked.sizes.permutations
    known = _by_nilearn(values, flips, masker=NiftiMasker(image).fit(), tfce=True)
    tested = finished(voxel_test(maps, there, flips, seed=2))
    assert tested.tfce is not None and tested.p_tfce is not None
    scores = np.corrcoef(tested.tfce[there], known["tfce"][0])
    p, p_tfce = (10 ** -known[f"logp_max_{name}"][0] for name in ("t", "tfce"))
    return {
        "nilearn_voxel_p_off": _apart(tested.p_max[there], p),
        "nilearn_tfce_r": float(scores[0, 1]),
        "nilearn_tfce_p_off": _apart(tested.p_tfce[there], p_tfce),
    }


def _by_nilearn(values: Floats, permutations: int, **more: Any) -> dict[str, Any]:
    """What nilearn says of paired differences (N, V) against 0."""
    from nilearn.mass_univariate import permuted_ols

    found: dict[str, Any] = permuted_ols(
        np.ones((len(values), 1)),
        values,
        model_intercept=False,
        n_perm=permutations,
        two_sided_test=True,
        random_state=1,
        output_type="dict",
        **more,
    )
    return found


def _apart(first: Any, second: Any) -> float:
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())


def _regions(pool: Pool) -> dict[str, float]:
    """Region means against a loop; regions of the whole atlas that no row tells of."""
    labels, some = pool.atlas.labels, pool.differences[:3].astype(np.float64)
    loop = [[one[labels == r.index].mean() for r in pool.atlas.regions] for one in some]
    atlas = bundled()
    volume = Volume(pool.reference, pool.atlas.grid.matrix)
    compared = Compared(
        volume,
        volume,
        pool.differences[:3],
        np.zeros_like(pool.differences[:3]),
        1,
        Derived("paired contrast", (), ()),
    )
    rows = region_contrasts(atlas, compared, pool.reference > 0, flips=10)
    told = {r.roi_id for r in rows if r.n_vox > 0 or "dropped" in r.flags}
    return {
        "region_means_off": _apart(pool.values[:3], loop),
        "regions_lost": float(len({r.index for r in atlas.regions} - told)),
        "regions_flagged_dropped": float(sum("dropped" in r.flags for r in rows)),
    }


def _randomised(asked: Asked) -> dict[str, float]:
    """The patients' map of trained and of randomised weights, in gray matter."""
    people = asked.group("patient")[: asked.sizes.shown]
    mean = Fnc(asked.checkpoint.fnc_law().mean, "training mean")
    pairs = [(fnc, mean) for fnc in people]
    pool = asked.pool(pairs)
    found = []
    for seed in range(asked.sizes.shuffles):
        other = replace(asked, checkpoint=randomised(asked.checkpoint, seed))
        maps = other.pool(pairs).differences[:, pool.reference >= studies.GRAY_VOXEL]
        found.append(abs(sanity(pool.inside.mean(0), maps.mean(0)).spearman))
    return {"randomised_spearman": max(found)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("gmldm", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument(
        "--null-checkpoint", type=Path, help="a model of gmldm_null.toml; default: none"
    )
    parser.add_argument("--only", choices=("planted",), help="one study alone")
    chosen = parser.parse_args(arguments)
    limits: Mapping[str, Limit] = LIMITS
    null = None
    if chosen.null_checkpoint:
        null = load_checkpoint(chosen.null_checkpoint)
        limits = LIMITS | {
            f"null_model_auc_{side}": LIMITS[f"unplanted_auc_{side}"]
            for side in ("low", "high")
        }
    checkpoint = load_checkpoint(chosen.checkpoint or bundled_gm_ldm())
    asked = _asked(checkpoint, chosen.quick, chosen.seed)
    if chosen.only:
        limits = {n: limit for n, limit in LIMITS.items() if n.startswith("planted")}
        return finish(chosen, limits, lambda: planted(asked))
    return finish(chosen, limits, lambda: measure(asked, null))


def _asked(checkpoint: Checkpoint, quick: bool, seed: int) -> Asked:
    cohort = load_config(DEMO).cohort
    assert cohort.connectivity is not None
    sizes = QUICK if quick else Sizes()
    return Asked(checkpoint, cohort.connectivity, cohort.seed, sizes, seed)


if __name__ == "__main__":
    sys.exit(main())
