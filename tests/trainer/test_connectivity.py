"""What the simulated illness does, and that nothing else ties FNC to anatomy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_brainldm.engine.components import components_of
from napari_brainldm.engine.fnc import join
from napari_brainldm.engine.fnc_edit import between
from napari_brainldm.engine.fnc_file import read_fnc
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.table import read_rows
from trainer.data.cohort import CohortConfig, write_cohort
from trainer.data.connectivity import (
    ConnectivityConfig,
    Loss,
    common_of,
    draw_fnc,
    draw_patient,
    growth,
    measured,
    on_template,
)
from trainer.data.flow import push, warp
from trainer.data.phantom import Looks, simulate
from trainer.data.population import PopulationConfig, draw_subject, visits

if TYPE_CHECKING:
    from trainer.data.template import TemplatePack

ILL = ConnectivityConfig()
HEALTHY = replace(ILL, strength=0.0)
PLAIN = CohortConfig(
    seed=3, subjects=3, voxel_mm=8.0, population=PopulationConfig(oldest=50.0)
)


@pytest.fixture(scope="module")
def pack(template_of: Callable[[float], TemplatePack]) -> TemplatePack:
    return template_of(8.0)


def written(config: CohortConfig, pack: TemplatePack, folder: Path) -> Path:
    list(write_cohort(config, folder, workers=1, template=pack))
    return folder


@pytest.fixture(scope="module")
def cohort(pack: TemplatePack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ill")
    return written(replace(PLAIN, connectivity=ILL), pack, folder)


def test_pushing_is_the_adjoint_of_warping() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 7, 6, 5)
    a, b = (torch.randn(shape, generator=generator).double() for _ in "ab")
    ends = torch.tensor([6.0, 5.0, 4.0]).double().view(3, 1, 1, 1)
    places = ends * torch.rand((3, *shape[1:]), generator=generator).double()
    there, back = (warp(a, places) * b).sum(), (a * push(b, places)).sum()
    torch.testing.assert_close(there, back)
    torch.testing.assert_close(push(b, places).sum(), b.sum())


def test_connectivity_changes_between_the_named_networks_alone() -> None:
    known = components_of(53)
    index = next(n for n in range(9) if draw_patient(ILL, 5, n).group == "patient")
    severity = draw_patient(ILL, 5, index).severity
    ill, healthy = (draw_fnc(c, 5, index, "x").vector for c in (ILL, HEALTHY))
    expected = np.zeros(1378)
    for shift in ILL.shifts:
        expected[between(known, shift.first, shift.second)] += shift.z
    np.testing.assert_allclose(ill - healthy, severity * expected, atol=1e-6)


def test_people_come_from_sites_and_differ_for_reasons_of_their_own() -> None:
    vectors = np.stack([draw_fnc(HEALTHY, 5, n, "x").vector for n in range(60)])
    people = [draw_patient(HEALTHY, 5, n) for n in range(60)]
    share = np.mean([p.group == "patient" for p in people])
    assert 0.3 < share < 0.7 and {p.site for p in people} == {0, 1, 2, 3}
    spread = np.sqrt(ILL.factor_sd**2 + ILL.noise**2 + ILL.site_sd**2)
    assert vectors.std(0, ddof=1).mean() == pytest.approx(spread, rel=0.1)
    common = common_of(HEALTHY, 5)
    own = vectors - vectors.mean(0)
    for site in range(4):
        mine = own[[p.site == site for p in people]].mean(0)
        assert np.corrcoef(mine, common.sites[site])[0, 1] > 0.3


def test_the_illness_shrinks_its_structures_and_no_others(
    template_of: Callable[[float], TemplatePack],
) -> None:
    fine = template_of(4.0)
    subject = draw_subject(PLAIN.population, 3, 1)
    visit = visits(subject, (0.0,))[0]
    ill = ILL, replace(draw_patient(ILL, 3, 1), severity=1.5)
    changed = simulate(fine, subject, visit, 3, Looks(), growth(*ill))
    plain = simulate(fine, subject, visit, 3, Looks())
    loss = {
        name: np.log(changed.structures_ml[name] / volume)
        for name, volume in plain.structures_ml.items()
    }
    for planted in ILL.losses:
        assert loss[planted.structure] < -0.1, planted.structure
    for name in ("thalamus", "cortical_gray_matter", "white_matter", "hippocampus"):
        assert abs(loss[name]) < 0.05, name
    assert changed.volumes.icv_ml == pytest.approx(plain.volumes.icv_ml, rel=0.04)


def test_the_modulated_map_holds_the_persons_gray_matter(pack: TemplatePack) -> None:
    subject = draw_subject(PLAIN.population, 3, 0)
    scan = simulate(pack, subject, visits(subject, (0.0,))[0], 3)
    truth = on_template(scan)
    assert float(truth.sum()) == pytest.approx(scan.gray.data.sum(), rel=1e-4)
    # where the template has gray matter, whatever the head is
    tissue = 1 - pack.white.numpy()
    known = tissue * (pack.mask.numpy() - pack.structures[0].numpy())
    assert np.corrcoef(truth.numpy().ravel(), known.ravel())[0, 1] > 0.8
    quiet = replace(ILL, gray_noise=0.0, gray_site=0.0, smooth_mm=0.0)
    torch.testing.assert_close(
        measured(quiet, truth, 8.0, (3, 0, 0)), truth, atol=1e-5, rtol=1e-5
    )


def test_without_strength_everybody_is_as_without_an_illness(
    pack: TemplatePack, tmp_path: Path
) -> None:
    plain = written(PLAIN, pack, tmp_path / "plain")
    config = replace(PLAIN, connectivity=HEALTHY)
    healthy = written(config, pack, tmp_path / "healthy")
    for path in plain.rglob("*.nii.gz"):
        other = healthy / path.relative_to(plain)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_cohort_without_connectivity_says_nothing_of_it(
    pack: TemplatePack, tmp_path: Path
) -> None:
    folder = written(PLAIN, pack, tmp_path)
    derived = {path.name for path in (folder / "derivatives").iterdir()}
    assert derived == {"labels", "noisefree", "records"}
    told = json.loads((folder / "cohort.json").read_text())
    assert (
        "connectivity" not in told
        and "group" not in read_rows(folder / "participants.tsv")[0]
    )


def test_the_cohort_brings_maps_and_a_table_that_join(cohort: Path) -> None:
    found = read_fnc(
        cohort / "derivatives/fnc/fnc.csv",
        components=cohort / "derivatives/fnc/components.tsv",
    )
    rows = read_rows(cohort / "participants.tsv")
    names = [row["participant_id"] for row in rows]
    assert join(found, names).rows == ((0, 0), (1, 1), (2, 2))
    assert found.components == components_of(53)
    assert {row["group"] for row in rows} <= {"patient", "control"}
    assert float(rows[0]["severity"]) == draw_patient(ILL, 3, 0).severity
    truth = json.loads((cohort / "derivatives/fnc/fnc.json").read_text())
    assert truth["Simulated"] and truth["Truth"] == json.loads(json.dumps(asdict(ILL)))
    stem = cohort / "derivatives/gray_matter/sub-0002/anat/sub-0002"
    maps = {
        end: nib.load(f"{stem}_{end}_probseg.nii.gz")
        for end in (
            "desc-truth_label-GM",
            "space-MNI152NLin6Asym_desc-modulated_label-GM",
        )
    }
    sums = [float(m.get_fdata().sum()) * 0.512 for m in maps.values()]
    facts = json.loads(Path(f"{stem}_desc-truth_label-GM_probseg.json").read_text())
    np.testing.assert_allclose(sums, facts["GrayMatterMl"], rtol=0.05)


def test_two_workers_write_the_same_maps(
    cohort: Path, pack: TemplatePack, tmp_path: Path
) -> None:
    config = replace(PLAIN, connectivity=ILL)
    list(write_cohort(config, tmp_path, workers=2, template=pack))
    for path in sorted(p for p in cohort.rglob("*") if p.is_file()):
        other = tmp_path / path.relative_to(cohort)
        assert path.read_bytes() == other.read_bytes(), path.name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"losses": (Loss("pineal", -0.1),)}, "names 'pineal'"),
        ({"patients": 1.5}, "0 to 1 are possible"),
        ({"sites": 0}, "At least 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(settings, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        ConnectivityConfig(**settings)
