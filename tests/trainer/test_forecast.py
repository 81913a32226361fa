"""A planted yearly change is found, and rendered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.request import Conditions, EngineError, Later, Request, Scan
from napari_brainldm.engine.volume import mni_grid
from trainer.data.bids import Entry
from trainer.stages.forecast import age_of, with_forecast

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
