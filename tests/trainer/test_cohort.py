"""Claims about a cohort on disk. 8 mm, a handful of people."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from trainer.data import cohort as cohort_
from trainer.data.cohort import CohortConfig, write_cohort
from trainer.data.population import PopulationConfig
from trainer.data.template import NAMES, TemplatePack

CONFIG = CohortConfig(
    seed=11,
    subjects=3,
    voxel_mm=8.0,
    visits=2,
    population=PopulationConfig(youngest=60.0),
)


@pytest.fixture(scope="module")
def pack(template_of: Callable[[float], TemplatePack]) -> TemplatePack:
    return template_of(8.0)


@pytest.fixture(scope="module")
def cohort(pack: TemplatePack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    progress = list(write_cohort(CONFIG, folder, workers=1, template=pack))
    assert [p.done for p in progress] == [0, 1, 2, 3]
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_layout_is_bids_and_says_simulated(cohort: Path) -> None:
    facts = json.loads((cohort / "dataset_description.json").read_text())
    assert "imulated" in facts["Name"]
    assert "simulated" in facts["GeneratedBy"][0]["Name"]
    stem = "sub-0002/ses-02/anat/sub-0002_ses-02"
    sidecar = json.loads((cohort / f"{stem}_T1w.json").read_text())
    assert sidecar["Simulated"] is True
    assert (cohort / f"{stem}_T1w.nii.gz").exists()
    derived = cohort / "derivatives"
    assert (derived / "labels" / f"{stem}_dseg.nii.gz").exists()
    assert (derived / "noisefree" / f"{stem}_desc-noisefree_T1w.nii.gz").exists()
    assert not list(cohort.rglob("*.part"))
    assert not list(cohort.rglob("*.tmp"))


def test_the_table_holds_the_realised_volumes(cohort: Path) -> None:
    rows = table(cohort / "participants.tsv")
    assert [row["participant_id"] for row in rows] == [
        "sub-0001",
        "sub-0002",
        "sub-0003",
    ]
    units = json.loads((cohort / "participants.json").read_text())
    assert units["brain_ml"]["Units"] == "ml"
    for row in rows:
        name = row["participant_id"]
        image = nib.load(
            cohort
            / "derivatives/labels"
            / name
            / "ses-01/anat"
            / f"{name}_ses-01_dseg.nii.gz"
        )
        counted = (np.asarray(image.dataobj) > 0).sum() * 0.512  # 8 mm voxels
        assert counted == pytest.approx(float(row["icv_ml"]), rel=0.05)


def test_sessions_are_told(cohort: Path) -> None:
    rows = table(cohort / "sub-0001/sub-0001_sessions.tsv")
    assert [row["session_id"] for row in rows] == ["ses-01", "ses-02"]
    assert float(rows[1]["age"]) == pytest.approx(float(rows[0]["age"]) + 1)
    first = table(cohort / "participants.tsv")[0]
    assert rows[0]["brain_ml"] == first["brain_ml"]


def test_labels_are_named(cohort: Path) -> None:
    rows = table(cohort / "derivatives/labels/dseg.tsv")
    assert [row["name"] for row in rows] == list(NAMES)
    assert [int(row["index"]) for row in rows] == list(range(1, len(NAMES) + 1))


def test_pictures_lie_on_the_grid_with_intensities_from_0_to_1(cohort: Path) -> None:
    image = nib.load(cohort / "sub-0001/ses-01/anat/sub-0001_ses-01_T1w.nii.gz")
    assert np.allclose(image.affine, mni_grid(8.0).matrix)
    picture = image.get_fdata()
    assert picture.min() == 0
    assert 0.6 < picture.max() <= 1


def test_two_workers_write_the_same_bytes(
    cohort: Path, pack: TemplatePack, tmp_path: Path
) -> None:
    list(write_cohort(CONFIG, tmp_path, workers=2, template=pack))
    assert contents(tmp_path) == contents(cohort)


def test_one_process_computes_as_workers_do(
    pack: TemplatePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one thread: two add up in another order, and voxels differ."""
    threads = []

    def seen(config: CohortConfig, *words: Any) -> None:
        threads.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort_, "write_subject", seen)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(write_cohort(CONFIG, tmp_path, workers=1, template=pack))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_an_interrupted_cohort_goes_on(pack: TemplatePack, tmp_path: Path) -> None:
    config = replace(CONFIG, visits=1)
    run = write_cohort(config, tmp_path, workers=1, template=pack)
    next(run), next(run)
    run.close()
    path = tmp_path / "sub-0001/anat/sub-0001_T1w.nii.gz"
    before = path.stat().st_mtime_ns
    progress = list(write_cohort(config, tmp_path, workers=1, template=pack))
    assert progress[0].done == 1
    assert path.stat().st_mtime_ns == before
    assert len(table(tmp_path / "participants.tsv")) == 3


def test_another_cohort_is_not_mixed_in(cohort: Path, pack: TemplatePack) -> None:
    other = write_cohort(replace(CONFIG, seed=12), cohort, template=pack)
    with pytest.raises(EngineError, match="other settings"):
        next(other)


def test_visits_may_come_at_any_years(pack: TemplatePack, tmp_path: Path) -> None:
    config = replace(CONFIG, subjects=1, at_years=(0.0, 0.5, 2.0))
    list(write_cohort(config, tmp_path, workers=1, template=pack))
    rows = table(tmp_path / "sub-0001/sub-0001_sessions.tsv")
    ages = [float(row["age"]) for row in rows]
    np.testing.assert_allclose(np.diff(ages), [0.5, 1.5])


@pytest.mark.parametrize("times", [(0.5, 1.0), (0.0, 1.0, 1.0), (0.0, 2.0, 1.0)])
def test_visits_that_do_not_follow_each_other_are_refused(
    pack: TemplatePack, tmp_path: Path, times: tuple[float, ...]
) -> None:
    run = write_cohort(replace(CONFIG, at_years=times), tmp_path, template=pack)
    with pytest.raises(EngineError, match="later than the one before"):
        next(run)


def test_a_cohort_written_before_an_option_was_there_goes_on(
    pack: TemplatePack, tmp_path: Path
) -> None:
    config = replace(CONFIG, visits=1, subjects=1)
    list(write_cohort(config, tmp_path, workers=1, template=pack))
    settings = tmp_path / "cohort.json"
    plain = json.loads(settings.read_text())
    del plain["at_years"]
    settings.write_text(json.dumps(plain))
    progress = list(write_cohort(config, tmp_path, workers=1, template=pack))
    assert [p.done for p in progress] == [1]


def test_a_dataset_of_scans_is_never_written_into(
    pack: TemplatePack, tmp_path: Path
) -> None:
    mine = tmp_path / "sub-0001" / "anat" / "sub-0001_T1w.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"scanned")
    with pytest.raises(EngineError, match="holds sub-0001 and 0 more"):
        next(write_cohort(CONFIG, tmp_path, template=pack))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [mine]
    assert mine.read_bytes() == b"scanned"
