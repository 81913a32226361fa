"""A planted yearly change is found, and rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.request import Conditions, EngineError, Later, Request, Scan
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume, mni_grid
from trainer.config import Column, DataConfig, ForecastConfig
from trainer.data.bids import Entry, read_dataset, subjects_of
from trainer.stages.forecast import (
    age_of,
    check_apart,
    people_followed,
    person_then,
    with_forecast,
)

ENCODER = SemanticEncoderSpec((8, 8), (1, 1), 20)
ASKED = (
    Covariate("age", "Age", "years", low=60.0, high=90.0, reference=75.0),
    Covariate("diagnosis", "Diagnosis", reference="CN", categories=("CN", "MCI", "AD")),
)


def checkpoint() -> Checkpoint:
    return Checkpoint(Card("ldae", "Planted", mni_grid(8.0), encoder=ENCODER), {})


def followed(count: int, tmp_path) -> tuple[list[Entry], np.ndarray]:
    """Three visits each: a year adds 1 to unit 0, and in AD 2 to unit 1."""
    rng = np.random.default_rng(0)
    entries, codes = [], []
    for number in range(count):
        start = rng.normal(0, 3, ENCODER.code_size)
        age, ill = rng.uniform(60, 85), ("CN", "MCI", "AD")[number % 3]
        for visit, years in enumerate((0.0, 1.0, 2.5)):
            told = (("age", age + years), ("diagnosis", ill))
            row = (("age", str(age + years)), ("diagnosis", ill))
            subject = f"sub-{number:02d}"
            entries.append(Entry(subject, f"ses-{visit}", tmp_path, told, row))
            grown = start.copy()
            grown[0] += years
            grown[1] += years * {"CN": 0.0, "MCI": 1.0, "AD": 2.0}[ill]
            codes.append(grown + rng.normal(0, 0.01, len(grown)))
    return entries, np.array(codes)


def test_what_a_year_adds_is_found(tmp_path) -> None:
    entries, codes = followed(40, tmp_path)
    found = with_forecast(checkpoint(), ASKED, entries, codes)
    for diagnosis, more in (("CN", 0.0), ("MCI", 1.0), ("AD", 2.0)):
        person = Conditions.of({"age": 70.0, "diagnosis": diagnosis})
        step = found.yearly(person)
        assert float(step[0]) == pytest.approx(1.0, abs=0.05)
        assert float(step[1]) == pytest.approx(more, abs=0.1)
        assert float(step[2:].abs().max()) < 0.1
    assert found.tensors["forecast.weight"].dtype == torch.float32


def test_nobody_is_followed_by_one_visit(tmp_path) -> None:
    entries, codes = followed(40, tmp_path)
    with pytest.raises(EngineError, match="0 people of the dataset have two visits"):
        with_forecast(checkpoint(), ASKED, entries[::3], codes[::3])


def test_an_age_that_no_table_tells_is_asked_for(tmp_path) -> None:
    with pytest.raises(EngineError, match="sub-01 at ses-2 is not told"):
        age_of(Entry("sub-01", "ses-2", tmp_path, (), (("age", "n/a"),)))


def dated(root, dates: list[str], age: str = "70") -> list[Entry]:
    """Visits of somebody whose age is in participants.tsv alone."""
    table = f"participant_id\tage\nsub-01\t{age}\n"
    (root / "participants.tsv").write_text(table)
    entries = []
    for number, date in enumerate(dates):
        session = f"ses-{number}"
        scan = root / "sub-01" / session / "anat" / f"sub-01_{session}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        if date:
            text = f"filename\tacq_time\nanat/{scan.name}\t{date}\n"
            (root / "sub-01" / session / f"sub-01_{session}_scans.tsv").write_text(text)
        told = (("age", float(age)),)
        entries.append(Entry("sub-01", session, scan, told, (("age", age),)))
    return entries


def test_dates_of_scans_tell_the_ages_of_visits(tmp_path) -> None:
    visits = dated(tmp_path, ["2020-03-01", "2020-09-12", "2022-03-01"])
    found = [age_of(entry) for entry in visits]
    assert found == pytest.approx([70.0, 70.53, 72.0], abs=0.01)
    asked = person_then(visits[2]).as_dict()
    assert asked["age"] == pytest.approx(72.0, abs=0.01)
    check_apart(visits)


def test_two_scans_of_one_visit_are_no_two_visits(tmp_path) -> None:
    visits = dated(tmp_path, ["2020-03-01", "2021-03-01"])
    check_apart([visits[0], visits[0], visits[1]])


def test_visits_that_no_table_tells_apart_are_refused(tmp_path) -> None:
    with pytest.raises(EngineError, match="years old both at ses-0 and at ses-1"):
        check_apart(dated(tmp_path, ["", "", ""]))


def test_what_the_forecast_does_not_ask_is_told(tmp_path) -> None:
    found = with_forecast(checkpoint(), ASKED, *followed(40, tmp_path))
    with pytest.raises(EngineError, match="'apoe' is not a question of the forecast"):
        found.yearly(Conditions.of({"apoe": 4.0}))
    with pytest.raises(EngineError, match="has no forecast"):
        checkpoint().yearly(Conditions())


def test_a_forecast_is_told_in_json_and_back() -> None:
    later = Later(Scan("ab" * 32), Conditions.of({"age": 70.0}), 2.5)
    request = Request(origin=later)
    assert Request.from_json(request.to_json()) == request


def test_the_forecast_never_learns_from_who_is_held_out(tmp_path: Path) -> None:
    """A covariate that some people lack would split the others anew."""
    rows = ["participant_id\tage\tdiagnosis"]
    for number in range(20):
        name = f"sub-{number:02d}"
        told = "n/a" if number % 3 == 0 else "CN"
        rows.append(f"{name}\t{60 + number}\t{told}")
        path = tmp_path / name / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        save_volume(Volume(np.ones((2, 2, 2), np.float32), np.eye(4)), path)
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "dataset_description.json").write_text(
        '{"Name": "Toy", "BIDSVersion": "1.9.0"}'
    )
    data = DataConfig(dataset=str(tmp_path), held_out=0.4)
    asked = (Column("diagnosis", "Diagnosis", "diagnosis", categories=("CN", "AD")),)
    unseen = subjects_of(read_dataset(data).held_out)
    found = people_followed(data, ForecastConfig(covariates=asked), unseen)
    learnt = {entry.subject for entry in found.train}
    assert len(unseen) == 8 and len(learnt) > 4 and not found.held_out
    assert not learnt & unseen


def test_who_is_followed_has_visits_told_apart(tmp_path: Path) -> None:
    other = tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    other.parent.mkdir(parents=True)
    for path in (*(entry.path for entry in dated(tmp_path, ["", ""])), other):
        save_volume(Volume(np.ones((2, 2, 2), np.float32), np.eye(4)), path)
    with (tmp_path / "participants.tsv").open("a") as table:
        table.write("sub-02\t75\n")
    (tmp_path / "dataset_description.json").write_text(
        '{"Name": "Toy", "BIDSVersion": "1.9.0"}'
    )
    data = DataConfig(dataset=str(tmp_path), held_out=0.0)
    with pytest.raises(EngineError, match="years old both at ses-0 and at ses-1"):
        people_followed(data, ForecastConfig(), ())
